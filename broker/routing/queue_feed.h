// What an exchange's publisher has for one queue: kept until the queue has answered, over as many links as that takes.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "broker/routing/distribution.h"
#include "broker/routing/queue_link.h"
#include "broker/routing/split.h"

namespace trireme::broker {

// One batch that was published to an exchange, on its way.
struct SpreadBatch {
  Distribution distribution;
  // Of the batch's first message; 0 for a producer without a name.
  uint64_t first_sequence = 0;
  // Called once, when every queue has answered for every message. Null afterwards.
  absl::AnyInvocable<void(const Distribution&)> done;

  void Settle(SlotRun messages, const std::string& queue, QueueOutcome outcome, const std::string& reason);
};

// On one thread. With sequences, what a broken link leaves unanswered is sent again on the next, as it was: the queue
// knows what it has (Safety rule 6). Without, its outcome is unknown.
class QueueFeed final : public QueueLink::Owner, public std::enable_shared_from_this<QueueFeed> {
 public:
  struct Options {
    bool sequences = true;
    bool join = false;
    // After this long without an answer a message's outcome is unknown, or refused if it was never sent.
    std::chrono::milliseconds patience{10'000};
  };

  QueueFeed(raft::Shard* shard, std::shared_ptr<QueueLinks> links, QueuePtr queue, Options options)
      : shard_(shard), links_(std::move(links)), queue_(std::move(queue)), options_(options) {}
  ~QueueFeed() override { CloseLink(); }

  void Put(Piece piece, std::shared_ptr<SpreadBatch> batch);
  // Nothing is owed, and nothing ever will be: the queue is gone.
  bool over() const { return gone_ && pending_.empty(); }

 private:
  struct Pending {
    Piece piece;
    std::shared_ptr<SpreadBatch> batch;
    raft::MonotonicTime deadline;
    // On the link of now, if sent there.
    uint64_t number = 0;
    // On any link.
    uint32_t sends = 0;
    // Of the piece, what has no answer yet.
    std::vector<SlotRun> open;
  };

  struct Settled {
    std::shared_ptr<SpreadBatch> batch;
    SlotRun run;
    QueueOutcome outcome;
  };

  void OnBound(uint64_t epoch) override;
  void OnAnswer(const QueueLink::Answer& answer) override;
  void OnEnd(QueueLink::End how, const std::string& reason) override;

  void OpenLink();
  void OpenLater();
  void CloseLink();
  void Send(Pending& pending);
  // What the answer says of it.
  std::vector<Settled> Take(Pending& pending, const QueueLink::Answer& answer);
  // What is open of it.
  static void SettleAll(const Pending& pending, const std::string& queue, QueueOutcome outcome,
                        const std::string& reason);
  // Whatever an earlier link did with it is not known.
  static QueueOutcome Careful(const Pending& pending, QueueOutcome outcome);
  void SetTimer();
  void Expire();

  raft::Shard* const shard_;
  const std::shared_ptr<QueueLinks> links_;
  const QueuePtr queue_;
  const Options options_;
  std::shared_ptr<QueueLink> link_;
  bool bound_ = false;
  bool opening_later_ = false;
  bool gone_ = false;
  bool timer_set_ = false;
  uint64_t epoch_ = 0;
  uint64_t sent_on_link_ = 0;
  std::string why_not_ = "no leader was found";
  // In the order put; the first one is open. Deadlines ascend. Without sequences numbers do, too, without a gap.
  std::deque<Pending> pending_;
};

}  // namespace trireme::broker
