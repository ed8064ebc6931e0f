#include "raft/core/membership.h"

#include <algorithm>

#include "raft/core/coding.h"

namespace trireme::raft {
namespace {

constexpr uint8_t kVersion = 1;

}  // namespace

const Member* Membership::Find(ReplicaId replica) const {
  for (const Member& member : members) {
    if (member.replica == replica) return &member;
  }
  return nullptr;
}

bool Membership::Votes(ReplicaId replica) const {
  const Member* member = Find(replica);
  return member != nullptr && raft::Votes(member->standing);
}

bool Membership::joint() const {
  return std::any_of(members.begin(), members.end(), [](const Member& m) { return OnlyJoint(m.standing); });
}

bool Membership::Sound() const {
  if (members.size() > kMembersMax) return false;
  std::vector<ReplicaId> ids;
  bool old_half = false, new_half = false;
  for (const Member& member : members) {
    ids.push_back(member.replica);
    old_half |= CountsIn(member.standing, Half::kOld);
    new_half |= CountsIn(member.standing, Half::kNew);
  }
  std::sort(ids.begin(), ids.end());
  const bool distinct = std::adjacent_find(ids.begin(), ids.end()) == ids.end();
  return old_half && new_half && distinct && ids.front() != ReplicaId();
}

Membership VotersOnly(const std::vector<ReplicaId>& replicas) {
  Membership membership;
  for (ReplicaId replica : replicas) membership.members.push_back({.replica = replica});
  return membership;
}

Membership StepTowards(const Membership& now, const Membership& target) {
  Membership step = target;
  for (Member& member : step.members) {
    const bool voted = now.Votes(member.replica);
    if (member.standing == Standing::kVoter && !voted) member.standing = Standing::kJoining;
    if (member.standing == Standing::kLearner && voted) member.standing = Standing::kDemoted;
  }
  for (Member member : now.members) {
    if (!Votes(member.standing) || target.Find(member.replica) != nullptr) continue;
    member.standing = Standing::kLeaving;
    step.members.push_back(member);
  }
  return step;
}

Membership AfterJoint(const Membership& joint) {
  Membership after;
  for (Member member : joint.members) {
    if (member.standing == Standing::kLeaving) continue;
    if (member.standing == Standing::kJoining) member.standing = Standing::kVoter;
    if (member.standing == Standing::kDemoted) member.standing = Standing::kLearner;
    after.members.push_back(member);
  }
  return after;
}

Bytes EncodeMembership(const Membership& membership) {
  Writer out;
  out.Byte(kVersion);
  out.Varint(membership.members.size());
  for (const Member& member : membership.members) {
    out.Varint(member.replica.value());
    out.Varint(member.node.value());
    out.Byte(static_cast<uint8_t>(member.standing));
  }
  return Bytes::Take(out.Take());
}

std::optional<Membership> DecodeMembership(std::string_view bytes) {
  Reader in(bytes);
  if (in.Byte() != kVersion) return std::nullopt;
  Membership membership;
  membership.members.resize(in.Count(3));
  for (Member& member : membership.members) {
    member.replica = ReplicaId(in.Varint());
    member.node = NodeId(in.Varint());
    member.standing = static_cast<Standing>(in.Byte());
    if (member.standing < Standing::kVoter || member.standing > Standing::kLeaving) return std::nullopt;
  }
  if (!in.done() || !membership.Sound()) return std::nullopt;
  return membership;
}

}  // namespace trireme::raft
