// Loads RabbitMQ's quorum queues over AMQP 0-9-1, spoken here: frames are encoded once, and a send carries many.
#include <set>

#include "tests/bench/compare/load.h"
#include "tests/bench/compare/socket.h"

namespace trireme::compare {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

// Class and method, as they stand at the beginning of a method frame.
constexpr uint32_t Method(uint32_t of_class, uint32_t method) {
  return of_class << 16 | method;
}
constexpr uint32_t kStart = Method(10, 10), kStartOk = Method(10, 11), kTune = Method(10, 30), kTuneOk = Method(10, 31),
                   kOpen = Method(10, 40), kOpenOk = Method(10, 41), kChannelOpen = Method(20, 10),
                   kChannelOpenOk = Method(20, 11), kDeclare = Method(50, 10), kDeclareOk = Method(50, 11),
                   kQos = Method(60, 10), kQosOk = Method(60, 11), kConsume = Method(60, 20),
                   kConsumeOk = Method(60, 21), kPublish = Method(60, 40), kDeliver = Method(60, 60),
                   kAck = Method(60, 80), kConfirmSelect = Method(85, 10), kConfirmSelectOk = Method(85, 11);
enum FrameType : uint8_t { kMethodFrame = 1, kHeaderFrame = 2, kBodyFrame = 3 };
constexpr char kFrameEnd = '\xce';
constexpr size_t kFrameOverhead = 8;
// The broker's default, and what a body must fit into here.
constexpr uint32_t kMaxFrame = 131'072;

void Put(std::string& out, uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}
void PutShort(std::string& out, std::string_view text) {
  Put(out, text.size(), 1);
  out += text;
}
void PutLong(std::string& out, std::string_view text) {
  Put(out, text.size(), 4);
  out += text;
}
uint64_t Get(std::string_view in, size_t at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = at; i < at + bytes && i < in.size(); ++i) value = value << 8 | static_cast<unsigned char>(in[i]);
  return value;
}

class Connection {
 public:
  explicit Connection(uint16_t port) : socket_(port) {
    socket_.out() = std::string("AMQP\0\0\x09\x01", 8);
    Expect(kStart);
    std::string start;
    Put(start, 0, 4);  // no properties
    PutShort(start, "PLAIN");
    PutLong(start, std::string_view("\0guest\0guest", 12));
    PutShort(start, "en_US");
    Call(0, kStartOk, start, kTune);
    std::string tune;
    Put(tune, 1, 2);
    Put(tune, kMaxFrame, 4);
    Put(tune, 0, 2);  // no heartbeats
    AddMethod(0, kTuneOk, tune);
    std::string open;
    PutShort(open, "/");
    Put(open, 0, 2);
    Call(0, kOpen, open, kOpenOk);
    Call(1, kChannelOpen, std::string(1, '\0'), kChannelOpenOk);
  }

  struct Frame {
    uint8_t type = 0;
    uint32_t method = 0;
    std::string_view payload;  // of a method: after its number
  };
  // The next frame that is here whole. Valid until the next Receive.
  bool Next(Frame& frame) {
    const std::string_view in = socket_.in();
    if (in.size() < kFrameOverhead) return false;
    const size_t length = Get(in, 3, 4);
    if (in.size() < length + kFrameOverhead) return false;
    frame = {static_cast<uint8_t>(in[0]), 0, in.substr(7, length)};
    if (in[7 + length] != kFrameEnd) Die("a frame does not end where it says");
    socket_.PassOver(length + kFrameOverhead);
    if (frame.type != kMethodFrame) return true;
    frame.method = static_cast<uint32_t>(Get(frame.payload, 0, 4));
    frame.payload.remove_prefix(4);
    return true;
  }

  static void AddFrame(std::string& out, FrameType type, uint16_t channel, std::string_view payload) {
    Put(out, type, 1);
    Put(out, channel, 2);
    PutLong(out, payload);
    out.push_back(kFrameEnd);
  }
  static std::string MethodOf(uint32_t method, std::string_view arguments) {
    std::string payload;
    Put(payload, method, 4);
    payload += arguments;
    return payload;
  }
  void AddMethod(uint16_t channel, uint32_t method, std::string_view arguments) {
    AddFrame(socket_.out(), kMethodFrame, channel, MethodOf(method, arguments));
  }
  void Call(uint16_t channel, uint32_t method, std::string_view arguments, uint32_t answer) {
    AddMethod(channel, method, arguments);
    Expect(answer);
  }

  Socket& socket() { return socket_; }

 private:
  void Expect(uint32_t method) {
    socket_.Send();
    Frame frame;
    while (!Next(frame)) {
      if (!socket_.Receive(seconds(60))) Die("the broker does not answer");
    }
    if (frame.method != method)
      Die("the broker answers with method " + std::to_string(frame.method >> 16) + "." +
          std::to_string(frame.method & 0xffff) + ": " + std::string(frame.payload));
  }

  Socket socket_;
};

std::string NameOf(uint32_t queue) {
  return "compare-" + std::to_string(queue);
}

class RabbitProducer final : public Producer {
 public:
  RabbitProducer(uint16_t port, const std::string& queue, uint32_t size) : connection_(port) {
    connection_.Call(1, kConfirmSelect, std::string(1, '\0'), kConfirmSelectOk);
    std::string publish, header;
    Put(publish, 0, 2);
    PutShort(publish, "");  // the default exchange
    PutShort(publish, queue);
    Put(publish, 0, 1);
    Put(header, 60, 2);
    Put(header, 0, 2);
    Put(header, size, 8);
    Put(header, 0x1000, 2);  // only a delivery mode:
    Put(header, 2, 1);       // persistent
    Connection::AddFrame(front_, kMethodFrame, 1, Connection::MethodOf(kPublish, publish));
    Connection::AddFrame(front_, kHeaderFrame, 1, header);
  }

  void Add(std::string_view body) override {
    connection_.socket().out() += front_;
    Connection::AddFrame(connection_.socket().out(), kBodyFrame, 1, body);
  }
  void Send() override { connection_.socket().Send(); }
  uint64_t Confirmed(nanoseconds wait) override {
    uint64_t confirmed = TakeConfirms();
    if (confirmed == 0 && connection_.socket().Receive(wait)) confirmed = TakeConfirms();
    return confirmed;
  }

 private:
  uint64_t TakeConfirms() {
    uint64_t confirmed = 0;
    for (Connection::Frame frame; connection_.Next(frame);) {
      if (frame.method != kAck) Die("the broker answers a publish with something other than an ack");
      const uint64_t tag = Get(frame.payload, 0, 8);
      const bool multiple = Get(frame.payload, 8, 1) != 0;
      if (!multiple) early_.insert(tag);
      confirmed += multiple ? 0 : 1;
      // Singly they come in any order; up to a tag they count once.
      for (; multiple ? next_ <= tag : early_.contains(next_); ++next_) confirmed += early_.erase(next_) == 0 ? 1 : 0;
    }
    return confirmed;
  }

  Connection connection_;
  std::string front_;  // the frames before a body
  uint64_t next_ = 1;  // all below are confirmed
  std::set<uint64_t> early_;
};

class RabbitConsumer final : public Consumer {
 public:
  RabbitConsumer(uint16_t port, const std::string& queue, uint32_t prefetch)
      : connection_(port), ack_at_(std::max(1u, prefetch / 8)) {
    std::string qos, consume;
    Put(qos, 0, 4);
    Put(qos, prefetch, 2);
    Put(qos, 0, 1);
    connection_.Call(1, kQos, qos, kQosOk);
    Put(consume, 0, 2);
    PutShort(consume, queue);
    PutShort(consume, "");
    Put(consume, 0, 1);
    Put(consume, 0, 4);
    connection_.Call(1, kConsume, consume, kConsumeOk);
  }

  void Take(nanoseconds wait, const std::function<void(std::string_view)>& got) override {
    if (!connection_.socket().Receive(wait)) return;
    for (Connection::Frame frame; connection_.Next(frame);) {
      if (frame.type == kBodyFrame) {
        got(frame.payload);
        if (++unsettled_ >= ack_at_) Acknowledge();
      } else if (frame.type == kMethodFrame) {
        if (frame.method != kDeliver) Die("the broker sends a consumer something other than a delivery");
        tag_ = Get(frame.payload, 1 + Get(frame.payload, 0, 1), 8);
      }
    }
    if (unsettled_ > 0) Acknowledge();
    connection_.socket().Send();
  }

 private:
  // Up to the last message, with one frame.
  void Acknowledge() {
    std::string ack;
    Put(ack, tag_, 8);
    Put(ack, 1, 1);
    connection_.AddMethod(1, kAck, ack);
    unsettled_ = 0;
  }

  Connection connection_;
  const uint32_t ack_at_;
  uint64_t tag_ = 0;
  uint32_t unsettled_ = 0;
};

class Rabbit final : public Peer {
 public:
  explicit Rabbit(const Options& options) : options_(options) {}

  // A quorum queue's first leader is the node that it is declared through.
  void MakeQueue(uint32_t queue) override {
    Connection connection(PortOf(queue));
    std::string type, declare;
    PutShort(type, "x-queue-type");
    type.push_back('S');
    PutLong(type, "quorum");
    Put(declare, 0, 2);
    PutShort(declare, NameOf(queue));
    Put(declare, 2, 1);  // durable
    PutLong(declare, type);
    connection.Call(1, kDeclare, declare, kDeclareOk);
  }
  std::unique_ptr<Producer> Produce(uint32_t queue) override {
    return std::make_unique<RabbitProducer>(PortOf(queue), NameOf(queue), options_.size);
  }
  std::unique_ptr<Consumer> Consume(uint32_t queue) override {
    return std::make_unique<RabbitConsumer>(PortOf(queue), NameOf(queue), options_.outstanding);
  }

 private:
  uint16_t PortOf(uint32_t queue) const { return options_.ports[queue % options_.ports.size()]; }

  const Options& options_;
};

}  // namespace
}  // namespace trireme::compare

int main(int argc, char** argv) {
  using namespace trireme::compare;
  return Main(argc, argv, [](const Options& options) { return std::make_unique<Rabbit>(options); });
}
