// What stands against an init: nodes that have promised themselves to another one (Safety rule 23).
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "trireme/meta/v1/meta.pb.h"
#include "trireme/peer/v1/peer.pb.h"

namespace trireme::broker {

// A pledge is to one cluster id, and to the one initiator, on its present data directory, that decides on its members.
template <typename A, typename B>
bool SamePledge(const A& a, const B& b) {
  return a.cluster_id() == b.cluster_id() && a.initiator() == b.initiator() &&
         a.initiator_directory_id() == b.initiator_directory_id();
}

// FAILED_PRECONDITION for an init that `initiator` runs: names each of the nodes that answered with another pledge, to
// whom, and what an operator can do. A pledge is never changed by the nodes themselves. One that was never a member may
// lose it with its data directory, as long as nobody can decide by it any more: so its initiator goes first.
absl::Status PledgedElsewhere(const trireme::meta::v1::Identity& initiator,
                              const std::vector<trireme::peer::v1::PledgeResponse>& others);

}  // namespace trireme::broker
