// The words of a history. What an event's fields are is said here and nowhere else; codec.cc reads and writes them in
// the order of Fields(). Times are microseconds since the run began, by the machine's monotonic clock.
//
// Producers, consumers and queues have small numbers, given in the run. A message is named by its producer and its
// sequence there, from 1, which its body carries; so a delivery is known without trust in the broker.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

namespace trireme::failover {

// How the run was made: "seed", "scenario", "command", a version, ... One of a name counts.
struct Setting {
  static constexpr std::string_view kWord = "setting";
  std::string name, value;
  template <class F>
  void Fields(F&& f) {
    f(name), f(value);
  }
};

// ---------------------------------------------------------------- who takes part

struct QueueMade {
  static constexpr std::string_view kWord = "queue";
  uint32_t queue = 0;
  std::string name;
  template <class F>
  void Fields(F&& f) {
    f(queue), f(name);
  }
};

struct ProducerMade {
  static constexpr std::string_view kWord = "producer";
  uint32_t producer = 0;
  uint32_t queue = 0;
  // It numbers its messages for the broker, so that none may be stored twice.
  bool sequenced = false;
  // It publishes one message at a time, without pause but its own: its gaps are the unavailability.
  bool prober = false;
  std::string label;
  template <class F>
  void Fields(F&& f) {
    f(producer), f(queue), f(sequenced), f(prober), f(label);
  }
};

struct ConsumerMade {
  static constexpr std::string_view kWord = "consumer";
  uint32_t consumer = 0;
  uint32_t queue = 0;
  // The process that it lives in.
  uint32_t worker = 0;
  // Of a stream's session; 0 = a consumer of single receives.
  uint64_t session_timeout_us = 0;
  std::string label;
  template <class F>
  void Fields(F&& f) {
    f(consumer), f(queue), f(worker), f(session_timeout_us), f(label);
  }
};

// It holds nothing any more.
struct ConsumerGone {
  static constexpr std::string_view kWord = "gone";
  uint32_t consumer = 0;
  template <class F>
  void Fields(F&& f) {
    f(consumer);
  }
};

// All consumers of the process are gone.
struct WorkerKilled {
  static constexpr std::string_view kWord = "worker-killed";
  uint32_t worker = 0;
  template <class F>
  void Fields(F&& f) {
    f(worker);
  }
};

// A process that does not run cannot know that its leases end.
struct WorkerPaused {
  static constexpr std::string_view kWord = "worker-paused";
  uint32_t worker = 0;
  template <class F>
  void Fields(F&& f) {
    f(worker);
  }
};
struct WorkerResumed {
  static constexpr std::string_view kWord = "worker-resumed";
  uint32_t worker = 0;
  template <class F>
  void Fields(F&& f) {
    f(worker);
  }
};

// ---------------------------------------------------------------- publishing

enum class Stored : uint8_t { kStored, kDuplicate, kRefused, kUnknown };

// Invoked: sequences first .. first + count - 1. A message that is invoked twice was tried again by the application.
struct Publish {
  static constexpr std::string_view kWord = "publish";
  uint32_t producer = 0;
  uint64_t first = 0;
  uint32_t count = 0;
  template <class F>
  void Fields(F&& f) {
    f(producer), f(first), f(count);
  }
};

// Completed. The position is the first message's, the others follow it one by one; 0 unless stored.
struct Published {
  static constexpr std::string_view kWord = "published";
  uint32_t producer = 0;
  uint64_t first = 0;
  uint32_t count = 0;
  Stored outcome = Stored::kUnknown;
  uint64_t position = 0;
  template <class F>
  void Fields(F&& f) {
    f(producer), f(first), f(count), f(outcome), f(position);
  }
};

// ---------------------------------------------------------------- consuming

// A run of consecutive positions under one token came into a consumer's hands. Messages first .. of one producer.
struct Delivered {
  static constexpr std::string_view kWord = "delivered";
  uint32_t consumer = 0;
  uint64_t position = 0;
  // Names the delivery, with the position. On streams it is the checkout's index and grows; for single receives it
  // is a digest of the opaque token.
  uint64_t token = 0;
  uint32_t count = 0;
  // How often the broker says it has delivered these, this time included.
  uint32_t deliveries = 0;
  uint32_t producer = 0;
  uint64_t first = 0;
  // When the lease ends unless it is extended; 0 = with the session.
  uint64_t until_us = 0;
  template <class F>
  void Fields(F&& f) {
    f(consumer), f(position), f(token), f(count), f(deliveries), f(producer), f(first), f(until_us);
  }
};

// A message came whose body is none that a producer made.
struct Corrupt {
  static constexpr std::string_view kWord = "corrupt";
  uint32_t consumer = 0;
  uint64_t position = 0;
  std::string what;
  template <class F>
  void Fields(F&& f) {
    f(consumer), f(position), f(what);
  }
};

enum class Disposition : uint8_t { kAcknowledge, kRequeue, kReject };

// Invoked. Serials grow by one per consumer; a settled message is the consumer's no more.
struct Settle {
  static constexpr std::string_view kWord = "settle";
  uint32_t consumer = 0;
  uint64_t serial = 0;
  Disposition disposition = Disposition::kAcknowledge;
  uint64_t position = 0;
  uint64_t token = 0;
  uint32_t count = 0;
  template <class F>
  void Fields(F&& f) {
    f(consumer), f(serial), f(disposition), f(position), f(token), f(count);
  }
};

enum class Settling : uint8_t { kOk, kLost, kUnknown };

// Completed, for one serial; or, with `through`, for that one and all before it that have not completed.
struct Settled {
  static constexpr std::string_view kWord = "settled";
  uint32_t consumer = 0;
  uint64_t serial = 0;
  Settling outcome = Settling::kUnknown;
  bool through = false;
  template <class F>
  void Fields(F&& f) {
    f(consumer), f(serial), f(outcome), f(through);
  }
};

// The consumer was told that these are not its own any more, settled or not.
struct LeaseLost {
  static constexpr std::string_view kWord = "lost";
  uint32_t consumer = 0;
  uint64_t position = 0;
  uint64_t token = 0;
  uint32_t count = 0;
  template <class F>
  void Fields(F&& f) {
    f(consumer), f(position), f(token), f(count);
  }
};

// A receive's lease was extended, as far as its consumer may count on.
struct Extended {
  static constexpr std::string_view kWord = "extended";
  uint32_t consumer = 0;
  uint64_t position = 0;
  uint64_t token = 0;
  uint64_t until_us = 0;
  template <class F>
  void Fields(F&& f) {
    f(consumer), f(position), f(token), f(until_us);
  }
};

// ---------------------------------------------------------------- what was done to the cluster

// Who led a queue just before a fault, as the cluster said. Nodes are numbered from 1.
struct Leads {
  static constexpr std::string_view kWord = "leads";
  uint32_t queue = 0;
  uint32_t node = 0;
  template <class F>
  void Fields(F&& f) {
    f(queue), f(node);
  }
};

struct FaultBegan {
  static constexpr std::string_view kWord = "fault";
  uint32_t fault = 0;
  std::string kind;
  // The node that it is aimed at; 0 = several or none.
  uint32_t node = 0;
  // In words, for people.
  std::string what;
  template <class F>
  void Fields(F&& f) {
    f(fault), f(kind), f(node), f(what);
  }
};

struct FaultEnded {
  static constexpr std::string_view kWord = "fault-end";
  uint32_t fault = 0;
  template <class F>
  void Fields(F&& f) {
    f(fault);
  }
};

// Nothing is broken from here to the next fault: every queue has to make progress soon.
struct Healed {
  static constexpr std::string_view kWord = "healed";
  template <class F>
  void Fields(F&&) {}
};

// What became of a node's process: started, serves, killed, stopped, ended by itself (with how).
struct NodeChanged {
  static constexpr std::string_view kWord = "node";
  uint32_t node = 0;
  // Nothing that was done to it explains this.
  bool unexpected = false;
  std::string what;
  template <class F>
  void Fields(F&& f) {
    f(node), f(unexpected), f(what);
  }
};

// Anything else that a reader may want to know.
struct Note {
  static constexpr std::string_view kWord = "note";
  std::string text;
  template <class F>
  void Fields(F&& f) {
    f(text);
  }
};

// ---------------------------------------------------------------- the end

// The producers have stopped; consumers go on until the queues are empty.
struct PublishingStopped {
  static constexpr std::string_view kWord = "publishing-stopped";
  template <class F>
  void Fields(F&&) {}
};

// What the broker says of a queue, after everything has come to rest.
struct Figures {
  static constexpr std::string_view kWord = "figures";
  uint32_t queue = 0;
  uint64_t published = 0, waiting = 0, in_flight = 0, acknowledged = 0;
  template <class F>
  void Fields(F&& f) {
    f(queue), f(published), f(waiting), f(in_flight), f(acknowledged);
  }
};

// What a node says of its own replica of a queue, after everything has come to rest. Index 0: it has not answered.
struct Replica {
  static constexpr std::string_view kWord = "replica";
  uint32_t queue = 0;
  uint32_t node = 0;
  // The last log index that its state has taken in, and a digest of that state.
  uint64_t index = 0;
  uint32_t digest = 0;
  template <class F>
  void Fields(F&& f) {
    f(queue), f(node), f(index), f(digest);
  }
};

// The last event of a run that was not broken off. Drained: every queue was seen empty, by its figures.
struct Ended {
  static constexpr std::string_view kWord = "ended";
  bool drained = false;
  template <class F>
  void Fields(F&& f) {
    f(drained);
  }
};

using Event =
    std::variant<Setting, QueueMade, ProducerMade, ConsumerMade, ConsumerGone, WorkerKilled, WorkerPaused,
                 WorkerResumed, Publish, Published, Delivered, Corrupt, Settle, Settled, LeaseLost, Extended, Leads,
                 FaultBegan, FaultEnded, Healed, NodeChanged, Note, PublishingStopped, Figures, Replica, Ended>;

}  // namespace trireme::failover
