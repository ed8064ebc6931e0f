// The inside of a Producer: a buffer that publishers fill, and a stream that empties it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "client/connector.h"
#include "client/core.h"
#include "client/producer.h"
#include "client/send_window.h"
#include "client/sync.h"

namespace trireme::client {

// Publishers append records to the open batch under a mutex. The loop's thread takes full batches, and the open one
// when little is under way, as frames into the send window and onto the stream. It is told of new messages only when it
// has said that it waits for them.
class ProducerImpl : public std::enable_shared_from_this<ProducerImpl>, private Connector::Owner {
 public:
  ProducerImpl(std::shared_ptr<Core> core, ProducerOptions options);

  // From any thread.
  // `producer` is what the callbacks get.
  void Start(Producer& producer);
  // Returns the core, so that the caller lets go of it on its own thread.
  std::shared_ptr<Core> Close();
  absl::StatusOr<uint64_t> WaitOpen(std::chrono::milliseconds timeout);
  absl::StatusOr<uint64_t> Publish(const v1::Message& message, Producer::Callback done, bool wait);
  absl::StatusOr<uint64_t> PublishBody(std::string_view body, bool wait);
  absl::Status Flush(std::chrono::milliseconds timeout);
  absl::Status closed() const;
  uint64_t in_flight() const;
  const Connector& connector() const { return connector_; }

 private:
  // What the loop waits for before it looks at the buffer again.
  enum class Want { kNothing, kFullBatch, kAnything };

  struct Open {
    std::string bytes;
    uint64_t first_ticket = 0;
    uint32_t count = 0;
    Time published;
    std::vector<std::pair<uint32_t, Producer::Callback>> callbacks;
  };

  template <typename Append>
  absl::StatusOr<uint64_t> Take(size_t message_bytes, Producer::Callback done, bool wait, Append append);
  bool HasRoom(size_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Seal() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // For messages about it: "queue orders".
  std::string TargetText() const;

  // Connector::Owner, on the loop's thread.
  void OnStarted() override;
  void OnWritable() override { SchedulePump(); }
  void OnFrame(grpc::ByteBuffer& frame) override;
  void OnLost() override;
  void OnGivenUp(const absl::Status& status) override;

  // The loop's thread.
  void SchedulePump();
  void Pump();
  // Takes the next frames of the window that may go out now: one, or as many small ones as leave together.
  void TakeFrames();
  // Moves batches from the buffer into the window, as far as they may go now.
  void Refill();
  void OnBound(const v1::Bound& bound);
  void OnDraining();
  void Report(std::vector<Resolved>& resolved);
  void Fail(const absl::Status& status, v1::Outcome unsent);
  void Tick();

  // Constant after construction, but for core_, which Close takes.
  std::shared_ptr<Core> core_;
  ProducerOptions options_;

  // Set by Start, constant from then on.
  Producer* facade_ = nullptr;

  // The loop's own.
  Connector connector_;
  SendWindow window_;
  v1::PublishResponse response_;
  uint32_t alias_ = 0;
  uint64_t epoch_ = 0;
  uint64_t window_bytes_ = 0;
  // Sent, as far as the window knows, and to be written. Only the end of the stream takes any out again: those before
  // the last were written with the promise of another.
  std::deque<grpc::ByteBuffer> outgoing_;
  enum class Handshake { kOpen, kBind, kWait, kBound } handshake_ = Handshake::kOpen;
  bool first_binding_ = true;
  bool draining_ = false;
  bool pump_scheduled_ = false;
  bool ended_ = false;

  mutable Mutex mutex_;
  CondVar changed_;
  Open open_ ABSL_GUARDED_BY(mutex_);
  std::deque<Batch> sealed_ ABSL_GUARDED_BY(mutex_);
  Want want_ ABSL_GUARDED_BY(mutex_) = Want::kNothing;
  uint64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  // The callbacks of all messages up to this ticket have returned, and of those in these ranges: first to end.
  uint64_t reported_through_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, uint64_t> reported_beyond_ ABSL_GUARDED_BY(mutex_);
  uint64_t in_flight_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t message_limit_ ABSL_GUARDED_BY(mutex_);
  // Publishers that wait for room, and callers of Flush.
  uint32_t waiters_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t flushers_ ABSL_GUARDED_BY(mutex_) = 0;
  bool opened_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t stored_before_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme::client
