#include "broker/api/queue_info.h"

namespace trireme::broker {

void FillQueueInfo(ShardApi& api, const QueueInfo& queue, v1::QueueInfo* info) {
  const MetadataView& view = api.node()->cluster().view(api.shard()->id());
  info->set_name(queue.name);
  info->set_group_id(queue.group.value());
  *info->mutable_settings() = queue.settings;
  info->set_created_at_ms(queue.created_at_ms);
  for (const raft::Member& member : queue.replicas) {
    v1::ReplicaPlace* place = info->add_replicas();
    place->set_node_id(member.node.value());
    place->set_replica_id(member.replica.value());
    place->set_address(std::string(view.AddressOf(member.node)));
  }
}

}  // namespace trireme::broker
