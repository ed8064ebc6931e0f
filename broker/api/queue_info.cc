#include "broker/api/queue_info.h"

#include <memory>
#include <utility>

#include "broker/routing/leaders.h"

namespace trireme::broker {

v1::QueueInfo InfoOf(ShardApi& api, const QueueInfo& queue) {
  const MetadataView& view = api.node()->cluster().view(api.shard()->id());
  return PublicInfo(queue, [&view](raft::NodeId node) { return view.AddressOf(node); });
}

void InfosOf(ShardApi* api, std::vector<QueuePtr> queues, InfosDone done) {
  struct Gathered {
    std::vector<v1::QueueInfo> infos;
    size_t waiting = 0;  // shards that have not answered
    InfosDone done;
  };
  auto gathered = std::make_shared<Gathered>();
  gathered->done = std::move(done);
  // By the shard that owns the group, which knows its leader: (place in the answer, queue).
  absl::flat_hash_map<ShardApi*, std::vector<std::pair<size_t, QueuePtr>>> by_shard;
  for (QueuePtr& queue : queues) {
    by_shard[api->of(queue->group)].emplace_back(gathered->infos.size(), queue);
    gathered->infos.push_back(InfoOf(*api, *queue));
  }
  gathered->waiting = by_shard.size();
  if (by_shard.empty()) return gathered->done({});
  for (auto& [owner, asked] : by_shard) {
    owner->shard()->Post([api, owner = owner, asked = std::move(asked), gathered] {
      std::vector<std::pair<size_t, uint64_t>> known;
      if (Leaders* leaders = api->node()->leaders(owner->shard()->id())) {
        for (const auto& [place, queue] : asked) known.emplace_back(place, leaders->Known(*queue).node_id());
      }
      api->shard()->Post([gathered, known = std::move(known)] {
        for (const auto& [place, leader] : known) gathered->infos[place].set_leader_node_id(leader);
        if (--gathered->waiting == 0) gathered->done(std::move(gathered->infos));
      });
    });
  }
}

}  // namespace trireme::broker
