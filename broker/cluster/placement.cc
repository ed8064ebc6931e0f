#include "broker/cluster/placement.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "broker/ops/error.h"

namespace trireme::broker {

absl::StatusOr<std::vector<raft::NodeId>> PlaceReplicas(const MetadataState& state, uint32_t replicas,
                                                        const std::function<bool(raft::NodeId)>& up) {
  size_t nodes = state.nodes().size();
  size_t wanted = replicas == 0 ? std::min<size_t>(kDefaultReplicas, nodes) : replicas;
  if (wanted > nodes) {
    const std::string limit = absl::StrCat(nodes, nodes == 1 ? " node" : " nodes");
    return Error(absl::StatusCode::kFailedPrecondition,
                 {.reason = "TOO_MANY_REPLICAS", .name = "replicas", .limit = limit},
                 absl::StrCat(wanted, " replicas were asked for, but the cluster has ", limit, "; ask for ", nodes,
                              " or fewer"));
  }

  struct Load {
    raft::NodeId node;
    bool away = false;
    uint64_t replicas = 0, leads = 0;
  };
  std::vector<Load> order;
  for (const NodeRecord& node : state.nodes()) {
    const MetadataState::Load load = state.LoadOf(node.id);
    order.push_back({node.id, node.directory_id.empty() || !up(node.id), load.replicas, load.leads});
  }
  std::sort(order.begin(), order.end(), [](const Load& a, const Load& b) {
    return std::tie(a.away, a.replicas, a.leads, a.node) < std::tie(b.away, b.replicas, b.leads, b.node);
  });
  order.resize(wanted);
  std::sort(order.begin(), order.end(), [](const Load& a, const Load& b) {
    return std::tie(a.away, a.leads, a.replicas, a.node) < std::tie(b.away, b.leads, b.replicas, b.node);
  });
  std::vector<raft::NodeId> out;
  for (const Load& load : order) out.push_back(load.node);
  return out;
}

}  // namespace trireme::broker
