#include "broker/api/link_carrier.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "broker/api/publish_links.h"
#include "broker/routing/distribution.h"

namespace trireme::broker {
namespace {

constexpr std::chrono::seconds kPatience{10};
// Links that are kept open with nothing to send.
constexpr size_t kMaxFeeds = 64;

// What the queue said of all of a load.
std::pair<Carrier::Outcome, std::string> OutcomeOf(const Distribution& distribution) {
  for (const Verdict& verdict : distribution.Verdicts()) {
    // What of it was stored is told as a duplicate when all of it is sent again.
    if (verdict.kind != Verdict::Kind::kStored && verdict.kind != Verdict::Kind::kDuplicate)
      return {Carrier::Outcome::kUnknown, verdict.reason};
  }
  return {Carrier::Outcome::kStored, ""};
}

}  // namespace

void LinkCarrier::Tell(std::shared_ptr<Done> done, Outcome outcome, std::string reason) {
  api_->shard()->Post(
      [done = std::move(done), outcome, reason = std::move(reason), alive = std::weak_ptr<bool>(alive_)] {
        if (!alive.expired()) (*done)(outcome, reason);
      });
}

void LinkCarrier::Carry(Load load, Done done) {
  Cluster& cluster = api_->node()->cluster();
  const raft::ShardId shard = api_->shard()->id();
  if (QueuePtr queue = cluster.view(shard).FindGroup(load.target)) return Put(std::move(load), std::move(done), queue);
  // Safety rule 21: that it is gone is said only after a read of the metadata that began now.
  cluster.Refresh(Asked{api_->shard(), api_->shard()->Now() + kPatience},
                  [this, shard, load = std::move(load), done = std::move(done),
                   alive = std::weak_ptr<bool>(alive_)](absl::StatusOr<raft::Index> index) mutable {
                    if (alive.expired()) return;
                    auto shared = std::make_shared<Done>(std::move(done));
                    if (!index.ok())
                      return Tell(std::move(shared), Outcome::kUnknown, std::string(index.status().message()));
                    QueuePtr queue = api_->node()->cluster().view(shard).FindGroup(load.target);
                    if (queue == nullptr) return Tell(std::move(shared), Outcome::kGone, "the queue was deleted");
                    Put(std::move(load), std::move(*shared), queue);
                  });
}

void LinkCarrier::Put(Load load, Done done, const QueuePtr& queue) {
  const auto key = std::make_pair(load.producer, load.target);
  std::shared_ptr<QueueFeed>& feed = feeds_[key];
  if (feed == nullptr) {
    feed = std::make_shared<QueueFeed>(api_->shard(), std::make_shared<PublishLinks>(api_, load.producer), queue,
                                       // Fencing nobody: what two leaders send under one sequence is the same message.
                                       QueueFeed::Options{.sequences = true, .join = true, .patience = kPatience});
  }
  auto batch = std::make_shared<SpreadBatch>(
      SpreadBatch{.distribution = Distribution(std::vector<uint32_t>(load.count, 1), /*mandatory=*/true),
                  .first_sequence = load.first_sequence,
                  .done = [this, key, shared = std::make_shared<Done>(std::move(done)),
                           alive = std::weak_ptr<bool>(alive_)](const Distribution& distribution) {
                    if (alive.expired()) return;
                    auto [outcome, reason] = OutcomeOf(distribution);
                    // Not from within its own call.
                    if (outcome != Outcome::kStored || feeds_.size() > kMaxFeeds) {
                      if (auto spent = feeds_.extract(key); !spent.empty())
                        api_->shard()->Post([end = std::move(spent.mapped())] {});
                    }
                    Tell(shared, outcome, std::move(reason));
                  }});
  feed->Put({.runs = {{0, load.count}}, .batch = std::move(load.batch)}, std::move(batch));
}

}  // namespace trireme::broker
