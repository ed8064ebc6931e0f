// The ways from an exchange's publisher to the leaders of queues: to the replica here, or over a stream to its node.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "broker/api/shard_api.h"
#include "broker/routing/queue_link.h"
#include "raft/grpc/raw_client.h"

namespace trireme::broker {

// For one producer; empty: without a name. On its shard's thread only. One stream per other node, an alias per link.
class PublishLinks final : public QueueLinks, public std::enable_shared_from_this<PublishLinks> {
 public:
  PublishLinks(ShardApi* api, std::string producer) : api_(api), producer_(std::move(producer)) {}
  ~PublishLinks() override;

  std::shared_ptr<QueueLink> Open(const Wanted& wanted, std::weak_ptr<QueueLink::Owner> owner) override;

 private:
  class Link;
  class Upstream;
  class UpstreamHandler;

  std::shared_ptr<Upstream> UpstreamTo(const trireme::v1::Leader& leader);
  uint32_t FreeAlias(const Upstream& upstream);

  ShardApi* const api_;
  const std::string producer_;
  absl::flat_hash_map<uint64_t, std::shared_ptr<Upstream>> upstreams_;  // by node
  uint32_t last_alias_ = 0;
};

}  // namespace trireme::broker
