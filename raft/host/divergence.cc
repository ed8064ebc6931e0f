// Whether the replicas of a group have the same state (Safety rule 25). A follower tells its leader its digest; the
// leader tells those that differ from the majority, who stop.
#include <spdlog/spdlog.h>

#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "raft/host/host_core.h"

namespace trireme::raft {

void HostCore::TakeDigest(HostedGroup* group, Index index) {
  const uint64_t digest = group->machine->Digest();
  const ReplicaId self = group->replica.id();
  group->digests.Own(self, index, digest);
  if (group->replica.role() == Role::kLeader) {
    group->digests.Heard(self, index, digest);
    JudgeDigests(group);
  } else if (const ReplicaId leader = group->replica.leader(); leader != ReplicaId()) {
    Queue(group->NodeOf(leader), {group->id(), self, leader, index, digest, false});
  }
}

// To a leader that has just become known: it may not have heard them.
void HostCore::SayDigests(HostedGroup* group) {
  const ReplicaId leader = group->replica.leader();
  const ReplicaId self = group->replica.id();
  if (leader == ReplicaId()) return;
  for (const auto& [index, digest] : group->digests.own()) {
    if (leader == self) {
      group->digests.Heard(self, index, digest);
    } else {
      Queue(group->NodeOf(leader), {group->id(), self, leader, index, digest, false});
    }
  }
}

void HostCore::ReceiveDigest(const StateDigest& digest) {
  HostedGroup* group = Find(digest.group);
  if (digest.differs) {
    // Only who leads says so; and only of what this replica has said.
    if (group->replica.leader() != digest.from || group->digests.OwnAt(digest.index) != digest.digest) return;
    return StopDiverged(group, digest.index, "its leader compared it with the others");
  }
  if (group->replica.role() != Role::kLeader || digest.index.value() % options_.digest_entries != 0 ||
      digest.index > group->replica.last_index()) {
    return;
  }
  group->digests.Heard(digest.from, digest.index, digest.digest);
  JudgeDigests(group);
}

void HostCore::JudgeDigests(HostedGroup* group) {
  const ReplicaId self = group->replica.id();
  for (const DigestCheck::Verdict& verdict : group->digests.Judge(group->replica.membership(), self)) {
    ++digests_compared_;
    if (verdict.stop.empty()) continue;
    ++digests_differed_;
    spdlog::error("group {}: the states of its replicas differ at index {} ({}); stopping {} of them",
                  group->id().value(), verdict.index.value(), verdict.said, verdict.stop.size());
    bool own = false;
    for (const DigestCheck::Stop& stop : verdict.stop) {
      own |= stop.replica == self;
      if (stop.replica != self) SendStop(*group, stop);
    }
    telling_.insert(group->id());
    if (own) return StopDiverged(group, verdict.index, verdict.said);
  }
}

void HostCore::SendStop(const HostedGroup& group, const DigestCheck::Stop& stop) {
  Queue(group.NodeOf(stop.replica), {group.id(), group.replica.id(), stop.replica, stop.index, stop.digest, true});
}

void HostCore::RepeatStops() {
  for (auto it = telling_.begin(); it != telling_.end();) {
    HostedGroup* group = Find(*it);
    if (group == nullptr || !group->digests.repeats() || group->replica.role() != Role::kLeader) {
      it = telling_.erase(it);
      continue;
    }
    for (const DigestCheck::Stop& stop : group->digests.Repeat()) SendStop(*group, stop);
    ++it;
  }
}

void HostCore::StopDiverged(HostedGroup* group, Index index, const std::string& why) {
  const absl::Status stopped = absl::DataLossError(absl::StrCat(
      "the state of this replica is not that of a majority at index ", index.value(), " (", why,
      "); `trireme queue replicas` shows the replicas side by side; keep a copy of the data directory for the "
      "developers"));
  // Durable before anything else: what was found must not be forgotten by a restart.
  if (options_.stopped) options_.stopped(group->id(), group->replica.id(), stopped);
  Halt(group, stopped);
}

}  // namespace trireme::raft
