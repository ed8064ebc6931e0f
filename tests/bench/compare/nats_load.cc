// Loads NATS JetStream over NATS's text protocol, spoken here: a send carries many messages.
#include <array>
#include <charconv>

#include "tests/bench/compare/load.h"
#include "tests/bench/compare/socket.h"

namespace trireme::compare {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

class Connection {
 public:
  explicit Connection(uint16_t port)
      : socket_(port), inbox_("_INBOX.compare." + std::to_string(reinterpret_cast<uintptr_t>(this))) {
    socket_.out() = R"(CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true})"
                    "\r\n";
    Subscribe(inbox_);
    Settle();
  }

  const std::string& inbox() const { return inbox_; }
  Socket& socket() { return socket_; }
  void Subscribe(std::string_view subject) {
    socket_.out().append("SUB ").append(subject).append(" ").append(std::to_string(++subscriptions_)).append("\r\n");
  }
  void Publish(std::string_view subject, std::string_view reply, std::string_view body) {
    std::string& out = socket_.out();
    out.append("PUB ").append(subject).append(" ");
    if (!reply.empty()) out.append(reply).append(" ");
    out.append(std::to_string(body.size())).append("\r\n").append(body).append("\r\n");
  }
  // When it returns, the server has taken in all that was sent.
  void Settle() {
    socket_.out() += "PING\r\n";
    socket_.Send();
    ponged_ = false;
    for (Message message; !ponged_;) {
      if (!Next(message) && !ponged_ && !socket_.Receive(seconds(60))) Die("the server does not answer");
    }
  }

  struct Message {
    std::string_view reply;
    std::string_view body;
    bool headers = false;  // here: only of an error, "no responders"
  };
  // The next message that is here whole. Valid until the next Receive.
  bool Next(Message& message) {
    for (;;) {
      const std::string_view in = socket_.in();
      const size_t end = in.find("\r\n");
      if (end == std::string_view::npos) return false;
      const std::string_view line = in.substr(0, end);
      if (line.starts_with("MSG ") || line.starts_with("HMSG ")) {
        // MSG subject id [reply] bytes; HMSG subject id [reply] header-bytes bytes
        std::array<std::string_view, 6> words;
        size_t count = 0;
        for (size_t at = 0; at < line.size() && count < words.size();) {
          const size_t stop = std::min(line.find(' ', at), line.size());
          words[count++] = line.substr(at, stop - at);
          at = stop + 1;
        }
        message.headers = line.front() == 'H';
        const size_t plain = message.headers ? 5 : 4;
        if (count < plain) Die("a line of the server cannot be read: " + std::string(line));
        size_t bytes = 0, header_bytes = 0;
        Number(words[count - 1], bytes);
        if (message.headers) Number(words[count - 2], header_bytes);
        if (in.size() < end + 2 + bytes + 2) return false;
        message.reply = count > plain ? words[3] : std::string_view();
        message.body = in.substr(end + 2 + header_bytes, bytes - header_bytes);
        socket_.PassOver(end + 2 + bytes + 2);
        return true;
      }
      if (line == "PING") {
        socket_.out() += "PONG\r\n";
      } else if (line == "PONG") {
        ponged_ = true;
      } else if (line.starts_with("-ERR")) {
        Die("the server says " + std::string(line));
      }
      socket_.PassOver(end + 2);
      if (ponged_) return false;
    }
  }

  std::string Request(const std::string& subject, const std::string& body) {
    Publish(subject, inbox_, body);
    socket_.Send();
    Message message;
    while (!Next(message)) {
      if (!socket_.Receive(seconds(60))) Die(subject + " is not answered");
    }
    if (message.headers || message.body.find("\"error\"") != std::string_view::npos)
      Die(subject + " is answered with " + std::string(message.body));
    return std::string(message.body);
  }

 private:
  static void Number(std::string_view text, size_t& number) {
    if (std::from_chars(text.data(), text.data() + text.size(), number).ec != std::errc())
      Die("the server's line has no number where one should be");
  }

  Socket socket_;
  const std::string inbox_;
  int subscriptions_ = 0;
  bool ponged_ = false;
};

std::string NameOf(const char* what, uint32_t queue) {
  return std::string("compare-") + what + "-" + std::to_string(queue);
}

class NatsProducer final : public Producer {
 public:
  NatsProducer(uint16_t port, uint32_t queue) : connection_(port), subject_(NameOf("subject", queue)) {}

  void Add(std::string_view body) override { connection_.Publish(subject_, connection_.inbox(), body); }
  void Send() override { connection_.socket().Send(); }
  uint64_t Confirmed(nanoseconds wait) override {
    uint64_t confirmed = TakeConfirms();
    if (confirmed == 0 && connection_.socket().Receive(wait)) confirmed = TakeConfirms();
    return confirmed;
  }

 private:
  uint64_t TakeConfirms() {
    uint64_t confirmed = 0;
    for (Connection::Message message; connection_.Next(message); ++confirmed) {
      if (message.headers || message.body.find("\"error\"") != std::string_view::npos)
        Die("a publish is answered with " + std::string(message.body));
    }
    return confirmed;
  }

  Connection connection_;
  const std::string subject_;
};

class NatsConsumer final : public Consumer {
 public:
  NatsConsumer(uint16_t port, uint32_t queue) : connection_(port) {
    connection_.Subscribe(NameOf("deliver", queue));
    connection_.Settle();
  }

  void Take(nanoseconds wait, const std::function<void(std::string_view)>& got) override {
    if (!connection_.socket().Receive(wait)) return;
    for (Connection::Message message; connection_.Next(message);) {
      got(message.body);
      connection_.Publish(message.reply, "", "+ACK");
    }
    connection_.socket().Send();
  }

 private:
  Connection connection_;
};

class Nats final : public Peer {
 public:
  explicit Nats(const Options& options) : options_(options) {}

  // A stream in files on three nodes that keeps what is acknowledged, which costs the server least, and a push consumer
  // that wants each message acknowledged.
  void MakeQueue(uint32_t queue) override {
    Connection connection(options_.ports.front());
    const std::string stream = NameOf("stream", queue);
    stream_port_.push_back(LeaderOf(connection.Request(
        "$JS.API.STREAM.CREATE." + stream,
        R"({"name":")" + stream + R"(","subjects":[")" + NameOf("subject", queue) +
            R"("],"retention":"limits","storage":"file","num_replicas":3,"max_consumers":-1,"max_msgs":-1,"max_bytes":-1})")));
    consumer_port_.push_back(LeaderOf(connection.Request(
        "$JS.API.CONSUMER.DURABLE.CREATE." + stream + ".c",
        R"({"stream_name":")" + stream + R"(","config":{"durable_name":"c","deliver_subject":")" +
            NameOf("deliver", queue) + R"(","deliver_policy":"all","ack_policy":"explicit","max_ack_pending":)" +
            std::to_string(options_.outstanding) + "}}")));
  }
  std::unique_ptr<Producer> Produce(uint32_t queue) override {
    return std::make_unique<NatsProducer>(stream_port_[queue], queue);
  }
  std::unique_ptr<Consumer> Consume(uint32_t queue) override {
    return std::make_unique<NatsConsumer>(consumer_port_[queue], queue);
  }

 private:
  // Servers are named node0, node1, ... in the order of their ports.
  uint16_t LeaderOf(const std::string& answer) const {
    constexpr std::string_view kBefore = "\"leader\":\"node";
    const size_t at = answer.find(kBefore);
    if (at == std::string::npos) Die("the server names no leader: " + answer);
    return options_.ports.at(static_cast<size_t>(answer[at + kBefore.size()] - '0'));
  }

  const Options& options_;
  std::vector<uint16_t> stream_port_, consumer_port_;
};

}  // namespace
}  // namespace trireme::compare

int main(int argc, char** argv) {
  using namespace trireme::compare;
  return Main(argc, argv, [](const Options& options) { return std::make_unique<Nats>(options); });
}
