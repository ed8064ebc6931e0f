// The HTTP port for metrics and health, on a free port of the loopback.
#include "broker/ops/ops_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <atomic>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <csignal>
#include <future>
#include <string>
#include <vector>

namespace trireme::broker {
namespace {

using boost::asio::ip::tcp;
using testing::HasSubstr;
using testing::StartsWith;

class OpsServerTest : public testing::Test {
 protected:
  void Start(OpsServer::Options options = {}) {
    options.metrics_listen = "127.0.0.1:0";
    OpsServer::Handlers handlers;
    handlers.signalled = [this](int number) { signalled_.set_value(number); };
    handlers.healthy = [this] { return healthy_.load(); };
    handlers.unready = [this] { return ready_.load() ? "" : "no leader"; };
    auto server = OpsServer::Start(options, &registry_, handlers);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  tcp::socket Connect() {
    tcp::socket socket(loop_);
    socket.connect(tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), server_->port()));
    return socket;
  }
  // All that comes back until the server ends the connection.
  std::string Say(const std::string& text) {
    tcp::socket socket = Connect();
    boost::system::error_code ignored;
    boost::asio::write(socket, boost::asio::buffer(text), ignored);
    std::string answer;
    boost::asio::read(socket, boost::asio::dynamic_buffer(answer), ignored);
    return answer;
  }
  std::string Get(const std::string& path) { return Say("GET " + path + " HTTP/1.0\r\n\r\n"); }

  prometheus::Registry registry_;
  std::atomic<bool> healthy_{true}, ready_{true};
  std::promise<int> signalled_;
  boost::asio::io_context loop_;
  std::unique_ptr<OpsServer> server_;
};

TEST_F(OpsServerTest, ServesMetricsAndHealth) {
  Start();
  prometheus::BuildGauge().Name("trireme_some").Help("Some.").Register(registry_).Add({{"shard", "1"}}).Set(7);
  std::string metrics = Get("/metrics");
  EXPECT_THAT(metrics, StartsWith("HTTP/1.0 200 OK"));
  EXPECT_THAT(metrics, HasSubstr("trireme_some{shard=\"1\"} 7"));
  EXPECT_THAT(metrics, HasSubstr("text/plain; version=0.0.4"));
  EXPECT_THAT(Get("/metrics?x=y"), HasSubstr("trireme_some"));
  EXPECT_THAT(Get("/healthz"), testing::AllOf(StartsWith("HTTP/1.0 200"), HasSubstr("ok")));
  healthy_ = false;
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.0 503"));
  EXPECT_THAT(Get("/readyz"), testing::AllOf(StartsWith("HTTP/1.0 200"), HasSubstr("ok")));
  ready_ = false;
  EXPECT_THAT(Get("/readyz"), testing::AllOf(StartsWith("HTTP/1.0 503"), HasSubstr("no leader\n")));
}

TEST_F(OpsServerTest, RefusesTheRest) {
  Start();
  EXPECT_THAT(Get("/other"), StartsWith("HTTP/1.0 404"));
  EXPECT_THAT(Say("POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n"), StartsWith("HTTP/1.0 405"));
  EXPECT_EQ(Say("nonsense\r\n\r\n"), "");
  EXPECT_EQ(Say("GET /" + std::string(20'000, 'x') + " HTTP/1.0\r\n\r\n"), "");
  EXPECT_THAT(Say("HEAD /healthz HTTP/1.0\r\n\r\n"),
              testing::AllOf(StartsWith("HTTP/1.0 200"), testing::EndsWith("\r\n\r\n")));
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.0 200")) << "still served";
}

TEST_F(OpsServerTest, ConnectionsAreBoundedInNumberAndTime) {
  OpsServer::Options options;
  options.max_connections = 2;
  options.idle = std::chrono::seconds(1);
  Start(options);
  std::vector<tcp::socket> silent;
  for (int i = 0; i < 2; ++i) silent.push_back(Connect());
  // A third is closed at once, the silent ones in time; then there is room again.
  std::string answer;
  for (int i = 0; i < 500 && answer.empty(); ++i) answer = Get("/healthz");
  char byte;
  boost::system::error_code error;
  silent[0].read_some(boost::asio::buffer(&byte, 1), error);
  EXPECT_TRUE(error) << "closed by the server";
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.0 200"));
}

TEST_F(OpsServerTest, AnAddressInUseIsAnError) {
  Start();
  OpsServer::Options options;
  options.metrics_listen = "127.0.0.1:" + std::to_string(server_->port());
  auto second = OpsServer::Start(options, &registry_, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(options.metrics_listen));
}

TEST_F(OpsServerTest, SignalsAreHandedOver) {
  Start();
  raise(SIGTERM);
  auto number = signalled_.get_future();
  ASSERT_EQ(number.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_EQ(number.get(), SIGTERM);
}

}  // namespace
}  // namespace trireme::broker
