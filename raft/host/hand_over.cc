// Leadership handed to other nodes, group by group, before this one stops.
#include <algorithm>
#include <utility>

#include "raft/host/host_core.h"

namespace trireme::raft {
namespace {

// Between looks at how far it is. A transfer takes some round trips and writes.
constexpr std::chrono::milliseconds kLook{5};
// Groups that have no leader at a time, so that the others' disks and queues are not flooded with elections.
constexpr size_t kUnderWayMax = 256;

}  // namespace

std::optional<TransferError> HostedGroup::HandOver() {
  if (!live()) return TransferError::kNotLeader;
  if (replica.transferring()) return std::nullopt;
  host_->Wake(this);
  const ReplicaId target = replica.BestSuccessor();
  if (target == ReplicaId()) {
    return replica.role() == Role::kLeader ? TransferError::kNotCaughtUp : TransferError::kNotLeader;
  }
  const std::optional<TransferError> error = replica.TransferLeadership(target);
  if (error.has_value()) return error;
  handed_to = target;
  handed_in = replica.term();
  host_->MarkDirty(this);
  return std::nullopt;
}

void HostCore::HandOverAll(std::chrono::milliseconds patience, absl::AnyInvocable<void(size_t)> done) {
  HandOverSome(shard_->Now() + patience, std::make_shared<absl::AnyInvocable<void(size_t)>>(std::move(done)));
}

void HostCore::HandOverSome(MonotonicTime deadline, std::shared_ptr<absl::AnyInvocable<void(size_t)>> done) {
  size_t left = 0, under_way = 0;
  for (auto& [id, group] : groups_) {
    if (!group->live() || group->replica.role() != Role::kLeader) continue;
    if (!group->replica.MayHaveSuccessor()) continue;
    ++left;
    if (under_way < kUnderWayMax && !group->HandOver().has_value()) ++under_way;
  }
  if (left == 0 || shard_->Now() >= deadline) return (*done)(left);
  shard_->After(std::min(kLook, std::chrono::ceil<std::chrono::milliseconds>(deadline - shard_->Now())),
                [this, alive = std::weak_ptr<bool>(alive_), deadline, done = std::move(done)] {
                  if (!alive.expired()) HandOverSome(deadline, done);
                });
}

}  // namespace trireme::raft
