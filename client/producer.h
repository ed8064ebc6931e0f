// Publishes messages to one queue, or to an exchange: in batches, pipelined, and without duplicates when it has to send
// again.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trireme/v1/broker.pb.h"
#include "trireme/v1/message.pb.h"

namespace trireme::client {

class Core;
class Producer;
class ProducerImpl;

// What became of consecutive messages. Outcomes:
//   OK, DUPLICATE   on the disks of a majority (DUPLICATE: since an earlier try)
//   UNKNOWN         may or may not be stored; sending it as a new message may store it twice
//   REFUSED         not stored; `reason` says why
//   FENCED          not stored; another producer of the same name has taken over, this one is closed
//   UNROUTABLE      not stored; at an exchange, with `mandatory`: no queue is bound for it
struct Confirmation {
  // Tickets first_ticket .. first_ticket + count - 1, as Publish gave them.
  uint64_t first_ticket = 0;
  uint32_t count = 0;
  v1::Outcome outcome = v1::OUTCOME_UNSPECIFIED;
  // Of the first message; the others follow it, slot by slot. 0 unless OK or DUPLICATE, and at an exchange.
  uint64_t first_position = 0;
  // Valid during the callback. Empty when stored.
  std::string_view reason;
  // With REFUSED: which of the queue's limits did it, and how much that is.
  v1::RefusedBy refused_by = v1::REFUSED_BY_UNSPECIFIED;
  uint64_t limit = 0;

  bool stored() const { return outcome == v1::OUTCOME_OK || outcome == v1::OUTCOME_DUPLICATE; }
};

struct ProducerOptions {
  // Where to: one of the two. An empty exchange is the default one, which knows each queue by its name as routing key.
  std::string queue = {};
  std::optional<std::string> exchange = {};
  // At an exchange: a message that no queue is bound for is UNROUTABLE; otherwise it is dropped, and OK.
  bool mandatory = false;
  // The name under which the queue removes duplicates, at most 255 bytes. Empty: one is made, good for the life of this
  // object. A name of one's own lets a restarted process go on after the last sequence stored (see WaitOpen). At an
  // exchange it goes on from the clock, in microseconds, which must not have been set back meanwhile.
  std::string name = {};
  // The sequence of the first message, which names a message for good: one published under a sequence that the queue
  // remembers of this name is answered DUPLICATE. 0: the one after the last that the queue has stored. Wants a name.
  uint64_t first_sequence = 0;
  // False: no name and no sequences; what was under way when a connection broke is then reported as UNKNOWN, never sent
  // again.
  bool deduplicate = true;
  // A frame is sent when it is this full, or earlier when little is under way. 1 to 65,535 messages; 1 to 256 KiB (a
  // larger message has a frame of its own). At an exchange at most 250 messages.
  uint32_t max_batch_messages = 4'096;
  uint32_t max_batch_bytes = 256 * 1024;
  // Published and not resolved yet; Publish waits and TryPublish refuses beyond it. 1 to 65,536 messages; bytes of
  // encoded messages, at least 1 (one message always fits). At an exchange at most 1,000 messages are sent and not
  // resolved.
  uint32_t max_in_flight_messages = 8'192;
  uint64_t max_in_flight_bytes = 16 << 20;
  // After this long without a confirm a message's outcome is UNKNOWN, or REFUSED if it was never sent.
  std::chrono::milliseconds delivery_timeout{120'000};
  // The largest message that Publish accepts, in encoded bytes; the broker's own limit applies, too.
  uint64_t max_message_bytes = 64 << 20;
  // Called for every message published without a callback of its own, in ranges, on the client's thread; must not
  // block. May call TryPublish.
  absl::AnyInvocable<void(Producer&, const Confirmation&)> on_confirm = {};
};

// Thread-safe. On the loss of a connection or a leader it reconnects by itself and sends again what is unconfirmed, in
// order, under the same sequences.
class Producer {
 public:
  using Callback = absl::AnyInvocable<void(const Confirmation&)>;

  explicit Producer(std::shared_ptr<ProducerImpl> impl);
  // Closes at once: what is unresolved is reported as UNKNOWN, or REFUSED if never sent, before this returns. Flush
  // first. Not from a callback.
  ~Producer();

  Producer(const Producer&) = delete;
  Producer& operator=(const Producer&) = delete;

  // Waits until the queue is bound and gives the highest sequence that it has stored for this producer's name: messages
  // are numbered on from there; 0 at an exchange. NOT_FOUND, FAILED_PRECONDITION, ...: see closed(). DEADLINE_EXCEEDED.
  absl::StatusOr<uint64_t> WaitOpen(std::chrono::milliseconds timeout);

  // Takes the message for sending and returns its ticket: 1, 2, 3, ... in the order taken. Waits while the limits in
  // flight are reached; so not from a callback. INVALID_ARGUMENT: too large (nothing was taken); the status of closed()
  // once closed.
  absl::StatusOr<uint64_t> Publish(const v1::Message& message, Callback done = nullptr);
  // A message that has a body only, the cheapest way.
  absl::StatusOr<uint64_t> PublishBody(std::string_view body);

  // The same without waiting; RESOURCE_EXHAUSTED: the limits in flight are reached, nothing was taken.
  absl::StatusOr<uint64_t> TryPublish(const v1::Message& message, Callback done = nullptr);
  absl::StatusOr<uint64_t> TryPublishBody(std::string_view body);

  // Publishes one message and waits for what became of it. `reason` is empty in the result; the status has it for
  // REFUSED (FAILED_PRECONDITION), FENCED (ABORTED), UNROUTABLE (NOT_FOUND) and UNKNOWN (UNKNOWN).
  absl::StatusOr<Confirmation> PublishAndWait(const v1::Message& message);

  // Waits until everything published before it is resolved. DEADLINE_EXCEEDED: the message has the number left.
  absl::Status Flush(std::chrono::milliseconds timeout);

  // Why nothing can be published any more; OK while it can: NOT_FOUND or FAILED_PRECONDITION (the queue cannot be
  // bound), ABORTED (fenced), or a status that the broker ended the stream with.
  absl::Status closed() const;

  // Published and not resolved yet.
  uint64_t in_flight() const;
  // Connections opened after the first one.
  uint64_t reconnects() const;
  // The node that the stream goes to now; empty while there is none.
  std::string server() const;

 private:
  const std::shared_ptr<ProducerImpl> impl_;
};

}  // namespace trireme::client
