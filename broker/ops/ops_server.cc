#include "broker/ops/ops_server.h"

#include <prometheus/metric_family.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <pthread.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/ops/config.h"
#include "broker/ops/log.h"

namespace trireme::broker {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

constexpr char kPrometheusText[] = "text/plain; version=0.0.4; charset=utf-8";

class Server;

// One HTTP connection, kept alive from request to request.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, Server* server);
  ~Connection();
  void Read();

 private:
  void Answer();

  Server* const server_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::empty_body>> parser_;
  http::response<http::string_body> response_;
};

class Server final : public OpsServer {
 public:
  Server(Options options, prometheus::Registry* registry, Handlers handlers)
      : options_(std::move(options)),
        registry_(registry),
        handlers_(std::move(handlers)),
        signals_(loop_),
        timer_(loop_),
        acceptor_(loop_) {}

  ~Server() override {
    asio::post(loop_, [this] {
      boost::system::error_code ignored;
      signals_.cancel(ignored);
      timer_.cancel();
      acceptor_.close(ignored);
      loop_.stop();
    });
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Begin() {
    if (!options_.metrics_listen.empty()) {
      absl::Status status = Listen();
      if (!status.ok()) return status;
      Accept();
    }
    signals_.add(SIGTERM);
    signals_.add(SIGINT);
    Wait();
    Tick();
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "ops");
      loop_.run();
    });
    return absl::OkStatus();
  }

  uint16_t port() const override { return port_; }
  const Options& options() const { return options_; }
  const Handlers& handlers() const { return handlers_; }
  prometheus::Registry* registry() const { return registry_; }
  void ConnectionEnded() { --connections_; }

 private:
  absl::Status Listen() {
    absl::StatusOr<HostPort> address = ParseHostPort(options_.metrics_listen, /*lowest=*/0);
    if (!address.ok()) return address.status();
    boost::system::error_code error;
    tcp::resolver resolver(loop_);
    std::string host = address->host;
    if (host.front() == '[') host = host.substr(1, host.size() - 2);
    auto found = resolver.resolve(host, absl::StrCat(address->port), error);
    if (!error) {
      tcp::endpoint endpoint = found.begin()->endpoint();
      acceptor_.open(endpoint.protocol(), error);
      if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
      if (!error) acceptor_.bind(endpoint, error);
      if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    }
    if (error) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", options_.metrics_listen, " for metrics: ", error.message()));
    }
    port_ = acceptor_.local_endpoint().port();
    return absl::OkStatus();
  }

  void Accept() {
    acceptor_.async_accept([this](boost::system::error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (!error && connections_ < options_.max_connections) {
        ++connections_;
        std::make_shared<Connection>(std::move(socket), this)->Read();
      }
      if (!error) return Accept();
      // Out of descriptors, say: not at once again.
      auto pause = std::make_shared<asio::steady_timer>(loop_, std::chrono::milliseconds(100));
      pause->async_wait([this, pause](boost::system::error_code stopped) {
        if (!stopped) Accept();
      });
    });
  }

  void Wait() {
    signals_.async_wait([this](boost::system::error_code error, int number) {
      if (error) return;
      handlers_.signalled(number);
      Wait();
    });
  }

  void Tick() {
    timer_.expires_after(std::chrono::seconds(1));
    timer_.async_wait([this](boost::system::error_code error) {
      if (error) return;
      if (handlers_.each_second) handlers_.each_second();
      Tick();
    });
  }

  const Options options_;
  prometheus::Registry* const registry_;
  const Handlers handlers_;
  uint16_t port_ = 0;
  int connections_ = 0;
  asio::io_context loop_{1};
  asio::signal_set signals_;
  asio::steady_timer timer_;
  tcp::acceptor acceptor_;
  std::thread thread_;
};

Connection::Connection(tcp::socket socket, Server* server) : server_(server), stream_(std::move(socket)) {}

Connection::~Connection() {
  server_->ConnectionEnded();
}

void Connection::Read() {
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(server_->options().max_request_bytes));
  parser_->body_limit(server_->options().max_request_bytes);
  stream_.expires_after(server_->options().idle);
  http::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](beast::error_code error, size_t) {
    if (!error) self->Answer();
  });
}

void Connection::Answer() {
  const auto& request = parser_->get();
  std::string target(request.target().data(), request.target().size());
  target = target.substr(0, target.find('?'));
  response_ = {};
  response_.version(request.version());
  response_.keep_alive(request.keep_alive());
  response_.set(http::field::content_type, "text/plain; charset=utf-8");
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    response_.result(http::status::method_not_allowed);
    response_.set(http::field::allow, "GET, HEAD");
  } else if (target == "/metrics") {
    response_.set(http::field::content_type, kPrometheusText);
    response_.body() = prometheus::TextSerializer().Serialize(server_->registry()->Collect());
  } else if (target == "/metrics/queues" && server_->handlers().queues) {
    if (std::optional<std::vector<prometheus::MetricFamily>> families = server_->handlers().queues()) {
      response_.set(http::field::content_type, kPrometheusText);
      response_.body() = prometheus::TextSerializer().Serialize(*families);
    } else {
      response_.result(http::status::service_unavailable);
      response_.body() = "the queues' figures could not be had in time; try again\n";
    }
  } else if (target == "/healthz") {
    bool healthy = server_->handlers().healthy();
    response_.result(healthy ? http::status::ok : http::status::service_unavailable);
    response_.body() = healthy ? "ok\n" : "not ready\n";
  } else if (target == "/readyz") {
    const std::string why = server_->handlers().unready();
    response_.result(why.empty() ? http::status::ok : http::status::service_unavailable);
    response_.body() = why.empty() ? "ok\n" : why + "\n";
  } else {
    response_.result(http::status::not_found);
    response_.body() = "GET /metrics, /metrics/queues, /healthz or /readyz\n";
  }
  response_.prepare_payload();
  if (request.method() == http::verb::head) response_.body().clear();
  stream_.expires_after(server_->options().idle);
  http::async_write(stream_, response_, [self = shared_from_this()](beast::error_code error, size_t) {
    if (error) return;
    if (self->response_.keep_alive()) return self->Read();
    beast::error_code ignored;
    self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<OpsServer>> OpsServer::Start(Options options, prometheus::Registry* registry,
                                                            Handlers handlers) {
  auto server = std::make_unique<Server>(std::move(options), registry, std::move(handlers));
  absl::Status status = server->Begin();
  if (!status.ok()) return status;
  return server;
}

}  // namespace trireme::broker
