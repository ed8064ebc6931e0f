// The log's old end: snapshots of the machine, what may go behind them, and those that other replicas send.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "raft/host/host_core.h"

namespace trireme::raft {
namespace {

// More would say nothing that matters.
constexpr size_t kLagMarksMax = 64;
// On a disk that is nearly full, so much more of the log is kept for a replica that gets a snapshot, or has one and
// follows, than for one that is away.
constexpr uint64_t kBehindSnapshot = 8;

}  // namespace

// ---- of this replica

void HostCore::MaybeSnapshot(const GroupPtr& group) {
  // One that is being installed is ahead of what could be saved.
  if (group->saving || group->installing) return;
  if (group->applied_bytes < options_.snapshot_bytes && group->applied_entries < options_.snapshot_entries) return;
  Index index = group->replica.applied_index();
  // A snapshot must not claim what this replica may still lose.
  if (index <= group->snapshot_index || group->replica.persisted_index() < index) return;
  Term term = group->replica.TermAt(index);
  TRIREME_CHECK(term > Term()) << "group " << group->id() << " does not know the term of " << index;
  group->saving = true;
  group->applied_bytes = 0;
  group->applied_entries = 0;
  group->lag.Mark(index);
  store_->SaveSnapshot(group->id(), index, term, group->machine->Snapshot(),
                       OnShard(group, [this, index](HostedGroup* saved) {
                         saved->saving = false;
                         // Another replica's may have taken its place.
                         if (!saved->live() || index <= saved->snapshot_index) return;
                         saved->last_snapshot_index = std::exchange(saved->snapshot_index, index);
                         saved->replica.SnapshotSaved(index);
                         Compact(saved);
                         MarkDirty(saved);
                       }));
}

// An entry may go once it is settled, covered by a durable snapshot of ours, and held by every replica, but for those
// that have fallen too far behind: they get a snapshot. What goes over behind one has to stay.
Index HostCore::CompactTo(const HostedGroup& group) const {
  const Index all_match = group.replica.all_match();
  if (all_match >= group.snapshot_index) return group.snapshot_index;
  Index upto = all_match;
  if (staging_ != nullptr && group.replica.role() == Role::kLeader) {
    upto = group.snapshot_index;
    for (const Member& member : group.replica.membership().members) {
      if (member.replica == group.replica.id()) continue;
      const Index match = group.replica.MatchOf(member.replica).value_or(Index());
      if (TooFar(group, match)) continue;
      // One less: what is deleted cannot tell the term that the next entry is joined to.
      upto = std::min(upto, match == Index() ? Index() : match - 1);
    }
    if (std::optional<Index> needed = sends_.NeededAbove(group.id())) {
      // However long it grows, or one that is deep would be sent for ever: what the replica has would be of no use
      // before it could follow. It ends: a send that does not move is given up, and publishing stops on a low disk.
      if (!DiskLow() || group.lag.BytesBehind(*needed) <= options_.lag_bytes * kBehindSnapshot) {
        upto = std::min(upto, *needed);
      }
    }
  } else if (staging_ != nullptr && TooFar(group, all_match)) {
    // Who else is behind is not known here: a little more is kept, for whoever follows closely when this one leads.
    upto = std::max(upto, group.last_snapshot_index);
  }
  return std::max(upto, group.compacted);
}

bool HostCore::TooFar(const HostedGroup& group, Index match) const {
  const Index base = std::max(match, group.lag_base);
  const Index applied = group.replica.applied_index();
  return (applied > base && applied.value() - base.value() > options_.lag_entries) ||
         group.lag.BytesBehind(base) > options_.lag_bytes;
}

// What the machine says now is right for entries below a snapshot of earlier, too: what has settled them since is
// committed, so whoever reads bodies (a leader, after all that was committed before its term) has applied it.
void HostCore::Compact(HostedGroup* group) {
  const Index upto = CompactTo(*group);
  if (upto == Index() || group->installing) return;
  StateMachine::Liveness liveness = group->machine->Live();
  std::vector<IndexRange> live;
  for (IndexRange range : liveness.live) {
    range.last = std::min({range.last, upto, liveness.floor});
    if (!range.empty()) live.push_back(range);
  }
  if (liveness.floor < upto) live.push_back({liveness.floor + 1, upto});
  group->compacted = upto;
  group->replica.Compacted(upto);
  store_->Compact(group->id(), upto, std::move(live));
}

void LagMarks::Mark(Index index) {
  if (marks.size() == kLagMarksMax) {
    // The one goes whose neighbours are closest to each other, as seen from here: so an answer is off by a part of
    // what it is, whether that is much or little.
    size_t least = 1;
    double closest = std::numeric_limits<double>::infinity();
    for (size_t i = 1; i + 1 < marks.size(); ++i) {
      const auto gap = static_cast<double>(marks[i + 1].second - marks[i - 1].second);
      const double part = gap / (static_cast<double>(applied_bytes - marks[i - 1].second) + 1);
      if (part < closest) {
        closest = part;
        least = i;
      }
    }
    marks.erase(marks.begin() + static_cast<ptrdiff_t>(least));
  }
  marks.emplace_back(index, applied_bytes);
}

uint64_t LagMarks::BytesBehind(Index index) const {
  uint64_t there = 0;
  for (const auto& [marked, bytes] : marks) {
    if (marked <= index) there = bytes;
  }
  return applied_bytes - there;
}

// ---- from another replica

void HostCore::SubmitInstalls() {
  for (Install& install : std::exchange(installs_, {})) {
    HostedGroup* group = install.group.get();
    if (!group->live()) continue;
    const Bytes* state = receipts_.BeginInstall(group->id(), install.snapshot);
    if (state == nullptr) {
      group->replica.SnapshotRefused(install.snapshot.index);
      MarkDirty(group);
      continue;
    }
    group->installing = true;
    staging_->Install(group->id(), install.hard_state, install.snapshot, *state,
                      OnShard(install.group, [this, snapshot = install.snapshot, state = *state](HostedGroup* g) {
                        Installed(g, snapshot, state);
                      }));
  }
}

void HostCore::Installed(HostedGroup* group, const SnapshotMeta& snapshot, const Bytes& state) {
  group->installing = false;
  receipts_.Installed(group->id());
  if (!group->live()) return;
  absl::Status status = group->machine->Restore(state, snapshot.index);
  if (!status.ok()) {
    return Halt(group,
                absl::Status(status.code(), absl::StrCat("the snapshot of group ", group->id().value(), " as of ",
                                                         snapshot.index.value(), ": ", status.message())));
  }
  spdlog::info("group {}: installed a snapshot as of {}", group->id().value(), snapshot.index.value());
  ++snapshots_installed_;
  group->snapshot_index = group->last_snapshot_index = group->compacted = snapshot.index;
  group->applied_bytes = 0;
  group->applied_entries = 0;
  group->lag.Mark(snapshot.index);
  group->replica.SnapshotInstalled(snapshot.index);
  CountTail(group);
  if (!group->applied) {
    group->applied = true;
    applied_.push_back(Shared(group));
  }
  Stirred(group);
}

}  // namespace trireme::raft
