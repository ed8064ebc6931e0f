// Where a new queue's replicas go.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/cluster/metadata.h"

namespace trireme::broker {

inline constexpr uint32_t kDefaultReplicas = 3;

// The nodes that get a replica, the preferred leader first: those with the fewest replicas, and among these the one
// that is the preferred leader of the fewest queues leads. Nodes that have joined and that `up` says are heard from
// come before the others. `replicas` 0 means three, or as many as there are nodes. FAILED_PRECONDITION: more asked for
// than there are nodes (both numbers are named). A leader's decision, so it need not be the same elsewhere.
absl::StatusOr<std::vector<raft::NodeId>> PlaceReplicas(const MetadataState& state, uint32_t replicas,
                                                        const std::function<bool(raft::NodeId)>& up);

}  // namespace trireme::broker
