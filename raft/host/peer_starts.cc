#include "raft/host/peer_starts.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace trireme::raft {
namespace {

// Older ones are known to be old by their number.
constexpr size_t kStartsKept = 16;

}  // namespace

absl::Status PeerStarts::Check(NodeId node, const std::string& directory_id, NodeStart start) {
  SeenStarts& seen = seen_[node];
  // A node's directory changes only by what the cluster's metadata says, which was asked before.
  if (seen.directory_id != directory_id) seen = {directory_id, {}, false};
  auto at = std::lower_bound(seen.starts.begin(), seen.starts.end(), start.incarnation,
                             [](const NodeStart& a, uint64_t incarnation) { return a.incarnation < incarnation; });
  const bool known = at != seen.starts.end() && at->incarnation == start.incarnation;
  seen.twice |= known && at->nonce != start.nonce && at->nonce != 0 && start.nonce != 0;
  if (seen.twice) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the data directory of node ", node.value(), " exists twice: start ", start.incarnation,
        " or one near it was seen of two processes. It was copied, or restored from an older copy, so that it may have "
        "forgotten votes and messages. Take the node out of the cluster, and let it join with an empty data "
        "directory"));
  }
  if (!seen.starts.empty() && start.incarnation < seen.starts.back().incarnation) {
    return absl::FailedPreconditionError(absl::StrCat("the incarnation of node ", node.value(), " is ",
                                                      start.incarnation, ", expected ", seen.starts.back().incarnation,
                                                      " or later"));
  }
  if (known) {
    if (at->nonce == 0) at->nonce = start.nonce;
    return absl::OkStatus();
  }
  if (seen.starts.size() == kStartsKept) seen.starts.erase(seen.starts.begin());
  seen.starts.push_back(start);
  return absl::OkStatus();
}

}  // namespace trireme::raft
