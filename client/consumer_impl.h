// The inside of a Consumer: leases, settles on their way, and the stream that both go over.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "client/connector.h"
#include "client/consumer.h"
#include "client/core.h"
#include "client/leases.h"
#include "client/sync.h"
#include "client/wire.h"

namespace trireme::client {

// A settle stays here until a receipt says that it is durable: before that it may be lost with its connection. So a
// session that resumes names as held what it holds and what it has settled without a receipt, and then settles the
// latter again; a lease that is lost already was settled by the first try. A receipt is asked for only now and then:
// the broker handles the settles of a stream in order, so one stands for all before it.
class ConsumerImpl : public std::enable_shared_from_this<ConsumerImpl>, private Connector::Owner {
 public:
  ConsumerImpl(std::shared_ptr<Core> core, ConsumerOptions options, std::string session);

  // From any thread.
  // `consumer` is what the callbacks get.
  void Start(Consumer& consumer);
  // Returns the core, so that the caller lets go of it on its own thread.
  std::shared_ptr<Core> Close();
  absl::Status WaitOpen(std::chrono::milliseconds timeout);
  absl::StatusOr<std::vector<Delivery>> Next(size_t max, std::chrono::milliseconds timeout);
  void Settle(std::span<const Delivery> deliveries, v1::Disposition disposition,
              std::optional<std::chrono::milliseconds> delay = std::nullopt);
  absl::Status Flush(std::chrono::milliseconds timeout);
  void SetLimits(uint32_t max_outstanding_messages, uint64_t max_outstanding_bytes);
  absl::Status closed() const;
  bool standby() const;
  std::string queue() const;
  uint64_t held() const;
  uint64_t leases_lost() const;
  const Connector& connector() const { return connector_; }

 private:
  // What the settles gathered wait for.
  enum class Due { kNothing, kTimer, kNow };

  struct SettleFrame {
    uint64_t id = 0;
    v1::SettleRuns runs;
    // It may have arrived before.
    bool again = false;
  };

  // Connector::Owner, on the loop's thread.
  void OnStarted() override;
  void OnWritable() override { Pump(); }
  void OnFrame(grpc::ByteBuffer& frame) override;
  void OnLost() override;
  void OnGivenUp(const absl::Status& status) override;

  // The loop's thread.
  void Pump();
  void WriteOpen();
  void WriteSettle(SettleFrame frame);
  bool ReceiptDue() const;
  // Makes frames of what was settled.
  void GatherSettles();
  void ArmSettleTimer();
  void ArmReceiptTimer();
  void OnOpened(const v1::OpenedConsume& opened);
  void OnDeliver(const std::shared_ptr<const Frame>& frame);
  void OnReceipt(const v1::Receipt& receipt);
  void OnStanding(bool standby);
  void LoseRuns(const std::vector<LeaseRun>& lost);
  // All that is held.
  void LoseLeases();
  // The session ended: beside its leases, what was settled and may not have arrived. It goes on in `group`.
  void LoseSession(uint64_t group);
  std::vector<LeaseRun> TakeLeases() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Tell(const std::vector<LeaseRun>& lost);
  void End(const absl::Status& status);
  void Tick();
  void CloseOnLoop(bool now);

  bool Silent() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  const std::shared_ptr<Core> core_;
  ConsumerOptions options_;  // the outstanding limits under mutex_
  const std::string session_;
  const uint64_t settle_threshold_;

  // Set by Start, constant from then on.
  Consumer* facade_ = nullptr;

  // The loop's own.
  Connector connector_;
  bool accepted_ = false;
  bool opening_ = false;
  bool flow_due_ = false;
  bool limits_due_ = false;
  bool closing_ = false;
  bool half_closed_ = false;
  bool ended_ = false;
  bool receipt_timer_ = false;
  Time last_write_;
  Time last_receipt_asked_;
  uint64_t next_settle_ = 1;
  // Of the frame whose receipt is awaited; 0 = none.
  uint64_t receipt_awaited_ = 0;
  uint64_t flush_through_ = 0;
  std::deque<SettleFrame> to_send_;
  // Sent, and not known to be durable.
  std::deque<SettleFrame> unreceipted_;
  v1::ConsumeResponse response_;
  Delivered delivered_;

  mutable Mutex mutex_;
  CondVar changed_;
  // The queue for good (Safety rule 4), as the broker said when the stream was opened; 0 before. All leases and settles
  // here are of this one.
  uint64_t group_ ABSL_GUARDED_BY(mutex_) = 0;
  // Empty: a temporary queue that is not made yet.
  std::string queue_name_ ABSL_GUARDED_BY(mutex_);
  Leases leases_ ABSL_GUARDED_BY(mutex_);
  SettleBuffer settles_ ABSL_GUARDED_BY(mutex_);
  Due settles_due_ ABSL_GUARDED_BY(mutex_) = Due::kNothing;
  // Delivered and not handed out by Next; all of them leased.
  std::deque<Delivery> queue_ ABSL_GUARDED_BY(mutex_);
  Time heard_ ABSL_GUARDED_BY(mutex_);
  bool opened_ ABSL_GUARDED_BY(mutex_) = false;
  bool standby_ ABSL_GUARDED_BY(mutex_) = false;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t durable_through_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t leases_lost_ ABSL_GUARDED_BY(mutex_) = 0;
  // Messages that were settled and are among these; since the last Flush that said so.
  uint64_t settles_lost_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme::client
