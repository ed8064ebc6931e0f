// Who belongs to a group, and who of them counts in which majority.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "raft/core/bytes.h"
#include "raft/core/types.h"

namespace trireme::raft {

// A change of voters goes through a joint membership, in which all is decided by a majority of the old voters and a
// majority of the new ones (dissertation 4.3). The last three exist only in one.
enum class Standing : uint8_t {
  kVoter = 1,    // in both halves
  kLearner = 2,  // gets the log, counts in no majority, never campaigns
  kJoining = 3,  // in the new half; a voter afterwards
  kDemoted = 4,  // in the old half; a learner afterwards
  kLeaving = 5,  // in the old half; gone afterwards
};

enum class Half : uint8_t { kOld, kNew };

constexpr bool CountsIn(Standing standing, Half half) {
  return standing == Standing::kVoter ||
         (half == Half::kNew ? standing == Standing::kJoining
                             : standing == Standing::kDemoted || standing == Standing::kLeaving);
}
constexpr bool Votes(Standing standing) {
  return standing != Standing::kLearner;
}
constexpr bool OnlyJoint(Standing standing) {
  return standing > Standing::kLearner;
}

struct Member {
  ReplicaId replica{};
  NodeId node{};  // where the replica lives, for whoever sends to it; consensus does not look at it
  Standing standing = Standing::kVoter;

  friend bool operator==(const Member&, const Member&) = default;
};

// A group is never larger; the metadata group has a replica on every node.
constexpr size_t kMembersMax = 1024;

// In order of preference: the first voter is the preferred leader.
struct Membership {
  std::vector<Member> members{};

  // Null if it is no member.
  const Member* Find(ReplicaId replica) const;
  bool Votes(ReplicaId replica) const;
  bool joint() const;
  // Whether a group can live with it: every half has a voter, ids are given and distinct, and not too many.
  bool Sound() const;

  friend bool operator==(const Membership&, const Membership&) = default;
};

// In force from the entry at `index` on; 0: from the group's birth.
struct MembershipAt {
  Index index{};
  Membership membership{};

  friend bool operator==(const MembershipAt&, const MembershipAt&) = default;
};

// What consensus knows of a state machine's snapshot: the last entry that it covers, and the members as of then.
struct SnapshotMeta {
  Index index{};
  Term term{};
  Membership membership{};

  friend bool operator==(const SnapshotMeta&, const SnapshotMeta&) = default;
};

// All vote; nodes are not said.
Membership VotersOnly(const std::vector<ReplicaId>& replicas);

// What is to be appended on the way from `now` (not joint) to `target` (no joint standings): `target` itself when it
// has the same voters, else the joint membership that it takes.
Membership StepTowards(const Membership& now, const Membership& target);
// What follows a joint membership once it is committed.
Membership AfterJoint(const Membership& joint);

// As the data of an entry of type kConfig, and wherever else a membership is stored or sent.
Bytes EncodeMembership(const Membership& membership);
// Nothing for bytes that EncodeMembership does not write.
std::optional<Membership> DecodeMembership(std::string_view bytes);

}  // namespace trireme::raft
