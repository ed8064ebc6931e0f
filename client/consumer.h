// Takes messages from one subscription of a queue, and settles them.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/delivery.h"
#include "trireme/v1/broker.pb.h"

namespace trireme::client {

class Consumer;
class ConsumerImpl;

struct ConsumerOptions {
  std::string queue = {};
  // Instead of a queue: a temporary one of this consumer's own, in the memory of one node; Consumer::queue says what it
  // is called. It goes with this consumer, and with its node's process: then this ends with NOT_FOUND.
  bool temporary = false;
  // Empty: "default".
  std::string subscription = {};
  // A label for status output, at most 255 bytes.
  std::string label = {};
  // How much may be delivered and not settled. 1 to 100,000 messages; bytes at least 1.
  uint32_t max_outstanding_messages = 1'024;
  uint64_t max_outstanding_bytes = 16 << 20;
  // How long the leases outlive a broken connection. 1 s to 1 h.
  std::chrono::milliseconds session_timeout{30'000};
  // Settles are gathered for at most this long, 0 to 100 ms, or until a quarter of max_outstanding_messages waits.
  std::chrono::milliseconds settle_delay{2};
  // Called with what arrived, in the queue's order, on the client's thread; must not block. The views in it are good
  // while a copy of a Delivery exists. Null: Next hands the messages out.
  absl::AnyInvocable<void(Consumer&, std::span<const Delivery>)> on_delivery = {};
  // The leases of these are gone (others may get the messages): stop working on them. On the client's thread.
  absl::AnyInvocable<void(std::span<const v1::HeldRun>)> on_lease_lost = {};
  // Where the subscription has a single active consumer: this one stands by from now on, or is it. On the client's
  // thread.
  absl::AnyInvocable<void(bool standby)> on_standing = {};
  // It ended for good, and why (NOT_FOUND: no such queue; ...). On the client's thread, at most once.
  absl::AnyInvocable<void(const absl::Status&)> on_closed = {};
};

// Thread-safe. On the loss of a connection or a leader it resumes its session by itself: leases stay, what was settled
// and may not have arrived is settled again. When the broker has been silent for the session's timeout, everything
// held is reported as lost (Safety rule 5).
class Consumer {
 public:
  explicit Consumer(std::shared_ptr<ConsumerImpl> impl);
  // Sends what is settled, then closes the stream; what is still held returns to the queue when the session times out.
  // Waits at most one second. Not from a callback.
  ~Consumer();

  Consumer(const Consumer&) = delete;
  Consumer& operator=(const Consumer&) = delete;

  // Waits until the session is open on a leader. The errors of closed(); DEADLINE_EXCEEDED.
  absl::Status WaitOpen(std::chrono::milliseconds timeout);

  // What has arrived, at least one and at most `max` messages; empty when `timeout` passed first. The errors of
  // closed(). FAILED_PRECONDITION: on_delivery is set. Messages whose lease was lost in the meantime are left out.
  absl::StatusOr<std::vector<Delivery>> Next(size_t max, std::chrono::milliseconds timeout);

  // Done: never delivered again. Sent within settle_delay; never fails here (on_lease_lost tells what came too late).
  void Acknowledge(const Delivery& delivery) { Settle({&delivery, 1}, v1::DISPOSITION_ACKNOWLEDGE); }
  void Acknowledge(std::span<const Delivery> deliveries) { Settle(deliveries, v1::DISPOSITION_ACKNOWLEDGE); }
  // Back to the queue, ahead of what waits; after the subscription's back-off, if it has one.
  void Requeue(const Delivery& delivery) { Settle({&delivery, 1}, v1::DISPOSITION_REQUEUE); }
  // The same, not before `delay` has passed: 0 to 12 hours, whatever the subscription's back-off is.
  void Requeue(const Delivery& delivery, std::chrono::milliseconds delay);
  // Refused: dropped.
  void Reject(const Delivery& delivery) { Settle({&delivery, 1}, v1::DISPOSITION_REJECT); }
  void Settle(std::span<const Delivery> deliveries, v1::Disposition disposition);

  // Sends what is settled and waits until it is on the disks of a majority. ABORTED: all but some, whose leases had
  // ended; on_lease_lost has told which, and others may get them. One loss is answered once. DEADLINE_EXCEEDED: some
  // may not be yet; the errors of closed(). All losses of what was settled before the call are told before it returns.
  absl::Status Flush(std::chrono::milliseconds timeout);

  // Changes how much may be delivered and not settled, from now on.
  void SetLimits(uint32_t max_outstanding_messages, uint64_t max_outstanding_bytes);

  // The queue's name; of a temporary one empty before WaitOpen was OK.
  std::string queue() const;

  // Another one is the subscription's single active consumer, as far as was told: nothing comes until it is gone.
  bool standby() const;

  // Why it ended; OK while it runs.
  absl::Status closed() const;

  // Delivered and not settled by the caller.
  uint64_t held() const;
  // Messages reported as on_lease_lost does.
  uint64_t leases_lost() const;
  // Connections opened after the first one.
  uint64_t reconnects() const;
  // The node that the stream goes to now; empty while there is none.
  std::string server() const;

 private:
  const std::shared_ptr<ConsumerImpl> impl_;
};

}  // namespace trireme::client
