// One producer's way into an exchange, and from there into queues.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "broker/queue/batch.h"
#include "broker/routing/exchanges.h"
#include "broker/routing/queue_feed.h"

namespace trireme::broker {

// Each message goes to the queues that it is routed to when its turn has come, and is answered when all of them have
// stored it (Safety rule 22). Batches are routed in the order in which they came. On its shard's thread only.
class ExchangePublisher : public std::enable_shared_from_this<ExchangePublisher> {
 public:
  // A producer with sequences has at most so many messages past its oldest unanswered one: a queue that gets every
  // other message of an exchange remembers 1,024 separate ranges of sequences (queue::ProducerWindow::kRanges), and all
  // that may be sent again must be among them.
  static constexpr uint64_t kMaxAhead = 1'000;

  struct Options {
    std::string exchange;
    // Unroutable is an outcome of its own; else such a message is dropped, counted, and as good as stored.
    bool mandatory = false;
    queue::BatchLimits limits = {};
    QueueFeed::Options feed = {};
  };
  // In order, for all messages of the batch.
  using Done = absl::AnyInvocable<void(std::vector<Verdict>)>;
  // This node cannot route, for it does not reach the metadata. What is not answered by now never will be. Called once,
  // from the loop.
  using Failed = absl::AnyInvocable<void(absl::Status)>;

  // `shard` and `exchanges` outlive this object.
  ExchangePublisher(raft::Shard* shard, Exchanges* exchanges, std::shared_ptr<QueueLinks> links, Options options,
                    Failed failed);

  // `first_sequence` is 0 for a producer without a name. `done` may be called before this returns.
  void Publish(uint64_t first_sequence, raft::Bytes batch, Done done);

 private:
  struct Waiting {
    uint64_t first_sequence = 0;
    uint32_t count = 0;
    raft::Bytes batch;
    // When it came: only a renewal after that can say that it is unroutable.
    Exchanges::Moment came = 0;
    Done done;
  };

  absl::Status Check(uint64_t first_sequence, const raft::Bytes& batch, uint32_t* count) const;
  void Pump();
  // Whether it is routed, and not to wait for a renewal.
  bool Route(Waiting& batch);
  void Spread(Waiting& batch, Split split);
  void Renew();
  QueueFeed& FeedOf(const QueuePtr& queue);

  raft::Shard* const shard_;
  Exchanges* const exchanges_;
  const std::shared_ptr<QueueLinks> links_;
  const Options options_;
  Failed failed_;
  absl::flat_hash_map<raft::GroupId, std::shared_ptr<QueueFeed>> feeds_;
  size_t prune_at_ = 64;
  std::deque<Waiting> waiting_;
  bool renewing_ = false;
  // First sequences of what is unanswered.
  std::multiset<uint64_t> unanswered_;
};

}  // namespace trireme::broker
