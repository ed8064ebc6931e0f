// Carries messages from a queue's leader here into other queues, over the links that exchanges use, too.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "broker/api/shard_api.h"
#include "broker/replica/carrier.h"
#include "broker/routing/queue_feed.h"

namespace trireme::broker {

// On its shard's thread only.
class LinkCarrier final : public Carrier {
 public:
  // `api` outlives this object.
  explicit LinkCarrier(ShardApi* api) : api_(api) {}

  void Carry(Load load, Done done) override;

 private:
  void Put(Load load, Done done, const QueuePtr& queue);
  // From the loop.
  void Tell(std::shared_ptr<Done> done, Outcome outcome, std::string reason);

  ShardApi* const api_;
  // By producer and target. Those that could not deliver begin anew.
  std::map<std::pair<std::string, raft::GroupId>, std::shared_ptr<QueueFeed>> feeds_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
