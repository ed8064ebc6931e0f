#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "raft/core/coding.h"
#include "raft/host/host.h"

namespace trireme::raft {
namespace {

constexpr uint8_t kMembersVersion = 1;

}  // namespace

Bytes EncodeMembers(const std::vector<Member>& members) {
  Writer out;
  out.Byte(kMembersVersion);
  out.Varint(members.size());
  for (const Member& member : members) {
    out.Varint(member.replica.value());
    out.Varint(member.node.value());
  }
  return Bytes::Take(out.Take());
}

absl::StatusOr<std::vector<Member>> DecodeMembers(const Bytes& bytes) {
  Reader in(bytes.view());
  uint8_t version = in.Byte();
  if (in.ok() && version != kMembersVersion) {
    return absl::DataLossError("members of version " + std::to_string(version) + " are not known here");
  }
  std::vector<Member> members(in.Count(2));
  for (Member& member : members) {
    member.replica = ReplicaId(in.Varint());
    member.node = NodeId(in.Varint());
  }
  if (!in.done()) return absl::DataLossError("the stored members of a group are damaged");
  return members;
}

}  // namespace trireme::raft
