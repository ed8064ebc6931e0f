// A load for brokers that are not Trireme, driven, checked and measured as `trireme bench` does it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::compare {

struct Options {
  std::vector<uint16_t> ports;  // of the nodes, on loopback
  std::vector<pid_t> pids;
  uint32_t queues = 1;
  uint32_t size = 1'024;         // of a body, in bytes, at least 16
  uint32_t in_flight = 256;      // unconfirmed messages of a queue's one producer
  uint32_t outstanding = 1'024;  // delivered to a queue's one consumer and not acknowledged
  double duration_s = 4;
  double rate = 0;  // messages per second in all; 0: as fast as in_flight allows
};

// A producer's connection to one queue. For one thread; ends the process when the connection breaks.
class Producer {
 public:
  virtual ~Producer() = default;
  // One more message, to leave with the next Send.
  virtual void Add(std::string_view body) = 0;
  virtual void Send() = 0;
  // Waits up to `wait` for the first confirm and takes all that are here: how many messages they confirm.
  virtual uint64_t Confirmed(std::chrono::nanoseconds wait) = 0;
};

// A consumer's connection to one queue. For one thread; ends the process when the connection breaks.
class Consumer {
 public:
  virtual ~Consumer() = default;
  // Waits up to `wait` for the first message, hands over all that are here, and acknowledges them.
  virtual void Take(std::chrono::nanoseconds wait, const std::function<void(std::string_view body)>& got) = 0;
};

class Peer {
 public:
  virtual ~Peer() = default;
  // A fresh queue on three nodes, whose leader is queue % nodes where that can be chosen.
  virtual void MakeQueue(uint32_t queue) = 0;
  virtual std::unique_ptr<Producer> Produce(uint32_t queue) = 0;
  // When it returns, the broker knows the consumer.
  virtual std::unique_ptr<Consumer> Consume(uint32_t queue) = 0;
};

[[noreturn]] void Die(const std::string& why);

// The program: reads the options, runs the load, prints one JSON object with the names that `trireme bench` uses.
int Main(int argc, char** argv, const std::function<std::unique_ptr<Peer>(const Options&)>& make);

}  // namespace trireme::compare
