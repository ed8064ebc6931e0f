#include "broker/cluster/pledges.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "broker/cluster/identity.h"
#include "broker/ops/error.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;
namespace peer = trireme::peer::v1;

std::string Described(const meta::Identity& initiator, const peer::PledgeResponse& other) {
  const std::string id = ToHex(other.cluster_id());
  if (other.members_size() != 0) return absl::StrCat("the node at ", other.address(), " belongs to cluster ", id);
  const bool wiped = other.cluster_id() == initiator.cluster_id() && other.initiator() == initiator.initiator();
  return absl::StrCat("the node at ", other.address(), " is pledged to cluster ", id, ", begun at ", other.initiator(),
                      wiped ? " on another data directory" : "");
}

}  // namespace

absl::Status PledgedElsewhere(const meta::Identity& initiator, const std::vector<peer::PledgeResponse>& others) {
  std::vector<std::string> described;
  std::vector<std::string> members;
  // Those that may be freed, by who would decide on them.
  std::map<std::string, std::vector<std::string>> pledged;
  for (const peer::PledgeResponse& other : others) {
    described.push_back(Described(initiator, other));
    if (other.members_size() != 0) {
      members.push_back(other.address());
    } else {
      pledged[other.initiator()].push_back(other.address());
    }
  }
  std::string message = absl::StrCat("init of cluster ", ToHex(initiator.cluster_id()), ", begun at ",
                                     initiator.address(), ", cannot go on: ", absl::StrJoin(described, "; "),
                                     ". A pledge is never changed, so either end what was begun there, or");
  if (!members.empty()) {
    absl::StrAppend(&message, " start the nodes with join lists without ", absl::StrJoin(members, ", "), ";");
  }
  for (auto& [decider, nodes] : pledged) {
    std::stable_partition(nodes.begin(), nodes.end(), [&](const std::string& node) { return node == decider; });
    if (nodes.front() != decider && decider != initiator.address()) {
      absl::StrAppend(&message, " make sure that no cluster was born at ", decider,
                      " (trireme cluster status --server ", decider, " says so), empty its data directory,");
    }
    absl::StrAppend(&message, " stop ", absl::StrJoin(nodes, ", then "),
                    nodes.size() == 1 ? ", empty its data directory and start it again;"
                                      : ", empty their data directories and start them again;");
  }
  absl::StrAppend(&message, " then repeat init at ", initiator.address(), " with --cluster-id ",
                  ToHex(initiator.cluster_id()));
  return Error(absl::StatusCode::kFailedPrecondition, {.reason = "PLEDGED_ELSEWHERE", .name = others.front().address()},
               message);
}

}  // namespace trireme::broker
