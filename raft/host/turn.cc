// The work of a turn: outputs are taken and become one write, one frame per node, applies and answers.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "raft/host/host_core.h"

namespace trireme::raft {
namespace {

// Applying may bring about proposals, and so more output. Past this many rounds the rest waits for the next turn.
constexpr int kRoundsMax = 64;
// In a row, of entries to be applied. The core asks again at each tick.
constexpr int kFailedApplyReadsMax = 20;
// Between two times that a group is left because of damage.
constexpr uint64_t kLeaveAgainTicks = 600;

}  // namespace

void HostCore::WantTurn() {
  if (turn_wanted_ || in_turn_) return;
  turn_wanted_ = true;
  shard_->AtTurnEnd([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) Turn();
  });
}

void HostCore::Turn() {
  turn_wanted_ = false;
  in_turn_ = true;
  std::vector<GroupPtr> now;
  for (int round = 0; round < kRoundsMax; ++round) {
    if (dirty_.empty()) {
      now.swap(applied_);
      for (const GroupPtr& group : now) {
        group->applied = false;
        if (group->live()) group->machine->AppliedBatch();
      }
      now.clear();
      if (dirty_.empty()) break;
    }
    now.swap(dirty_);
    for (const GroupPtr& group : now) Process(group);
    now.clear();
  }
  // The disk takes longest, so it is asked first.
  Submit();
  SubmitInstalls();
  SendFrames();
  now.swap(touched_);
  for (const GroupPtr& group : now) {
    group->touched = false;
    if (!group->live()) continue;
    CountTail(group.get());
    MaybeSnapshot(group);
  }
  if (tail_bytes_ > trim_above_) TrimTails();
  in_turn_ = false;
  std::vector<GroupPtr> dead;
  dead.swap(graveyard_);
  dead.clear();
  if (!dirty_.empty() || !applied_.empty()) {
    // Not at this turn's end again: others want to live, too.
    shard_->Post([this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) WantTurn();
    });
  }
}

void HostCore::Process(const GroupPtr& group) {
  group->dirty = false;
  if (!group->live()) return;
  if (!group->touched) {
    group->touched = true;
    touched_.push_back(group);
  }
  TellClock(group.get());
  ServeByLease(group.get());
  if (!group->live()) return;
  if (!group->new_barriers.empty()) {
    // One question for all that came in this turn.
    uint64_t context = ++group->last_read_context;
    group->asked_barriers[context] = std::exchange(group->new_barriers, {});
    group->replica.ReadIndex(context);
  }
  for (int round = 0; group->replica.HasOutput(); ++round) {
    if (round == kRoundsMax) return MarkDirty(group.get());
    Output output = group->replica.TakeOutput();
    // Before anything that may stop here: a write that was handed out must be made.
    if (output.install.has_value()) {
      installs_.push_back({group, *std::move(output.install), *output.hard_state});
    } else if (output.hard_state.has_value() || !output.entries.empty()) {
      AddWrite(group, &output);
    }
    if (output.membership.has_value()) TrackNeighbours(group.get());
    for (Message& message : output.send_now) Queue(*group, std::move(message));
    for (Message& message : output.send_after_persist) SendAfterPersist(group, std::move(message));
    for (const EntryRead& read : output.reads) StartRead(group, read);
    for (const SnapshotNeeded& needed : output.snapshots) sends_.Start(group, needed.follower);
    if (output.role.has_value()) TakeRole(group.get(), *output.role);
    if (!group->live()) return;
    Apply(group.get(), output.committed);
    if (!group->live()) return;
    AnswerReads(group.get(), output.read_ready);
    FireBarriers(group.get());
    if (!group->live()) return;
    if (!group->said_leading && group->replica.leading()) {
      // Safety rule 2: only now is the state current, so only now may anything be decided on it.
      SayLeading(group.get(), true);
      group->machine->RoleChanged({Role::kLeader, group->replica.term(), group->replica.id()}, true);
      if (!group->live()) return;
    }
  }
}

void HostCore::TakeRole(HostedGroup* group, const RoleChange& change) {
  SayLeading(group, false);
  sends_.Drop(group->id());
  group->digests.Reset();
  SayDigests(group);
  if (change.role == Role::kCandidate || (change.role == Role::kLeader && group->alone())) {
    ++elections_;
  }
  if (change.leader != ReplicaId()) {
    group->campaigns_left = 0;
    group->elections_lost = 0;
    group->waited_turn = false;
    group->resigned = ReplicaId();
    EndElection(group);
    election_queue_.Remove(group->id());
  } else if (change.role == Role::kFollower && group->electing) {
    LostElection(group);
  }
  if (change.role == Role::kLeader) {
    group->lag_base = group->replica.applied_index();
    group->lag.Mark(group->lag_base);
    spdlog::debug("group {}: leads in term {}", group->id().value(), change.term.value());
    if (!ClockAllows(group)) group->replica.StepDown();
  }
  group->machine->RoleChanged(change, false);
}

void HostCore::AddWrite(const GroupPtr& group, Output* output) {
  if (!gathering_.has_value()) {
    gathering_.emplace();
    gathering_->number = ++last_batch_;
  }
  Batch& batch = *gathering_;
  if (group->last_batch != batch.number) {
    group->last_batch = batch.number;
    group->slot_in_batch = batch.writes.size();
    batch.writes.push_back({group->id(), std::nullopt, {}});
  }
  LogWrite& write = batch.writes[group->slot_in_batch];
  Batch::Handed handed{group, Index(), Term()};
  if (!output->entries.empty()) {
    handed.last = output->entries.back().index;
    handed.term = output->entries.back().term;
    // A later output of the same turn may overwrite what an earlier one had.
    Index first = output->entries.front().index;
    while (!write.entries.empty() && write.entries.back().index >= first) {
      batch.bytes -= write.entries.back().data.size();
      held_bytes_ -= write.entries.back().data.size();
      write.entries.pop_back();
    }
    TRIREME_CHECK(write.entries.empty() || write.entries.back().index + 1 == first)
        << "group " << group->id() << " writes " << first << " behind " << write.entries.back().index;
    for (Entry& entry : output->entries) {
      batch.bytes += entry.data.size();
      held_bytes_ += entry.data.size();
      write.entries.push_back(std::move(entry));
    }
  }
  if (output->hard_state.has_value()) write.hard_state = output->hard_state;
  batch.handed.push_back(std::move(handed));
}

void HostCore::SendAfterPersist(const GroupPtr& group, Message message) {
  if (gathering_.has_value() && group->last_batch == gathering_->number) {
    gathering_->after.push_back({group, std::move(message)});
  } else if (!under_way_.empty() && group->last_batch >= under_way_.front().number) {
    under_way_[group->last_batch - under_way_.front().number].after.push_back({group, std::move(message)});
  } else {
    Queue(*group, std::move(message));
  }
}

void HostCore::Queue(const HostedGroup& group, Message message) {
  NodeId node = group.NodeOf(message.to);
  if (node == NodeId()) {
    ++dropped_;
    return;
  }
  outgoing_[node].messages.push_back({group.id(), std::move(message)});
}

void HostCore::Queue(NodeId to, SnapshotChunk chunk) {
  outgoing_[to].chunks.push_back(std::move(chunk));
  WantTurn();
}

void HostCore::Queue(NodeId to, SnapshotAnswer answer) {
  outgoing_[to].answers.push_back(answer);
  WantTurn();
}

void HostCore::Queue(NodeId to, StateDigest digest) {
  if (to == NodeId()) return;
  outgoing_[to].digests.push_back(digest);
  WantTurn();
}

void HostCore::Apply(HostedGroup* group, const std::vector<Entry>& entries) {
  if (entries.empty()) return;
  for (const Entry& entry : entries) {
    absl::Status status = group->machine->Apply(entry);
    if (group->gone) return;
    if (!status.ok()) {
      Halt(group, absl::Status(status.code(), absl::StrCat("entry ", entry.index.value(), " of group ",
                                                           group->id().value(), ": ", status.message())));
      return;
    }
    if (entry.index.value() % options_.digest_entries == 0) TakeDigest(group, entry.index);
    group->applied_bytes += entry.data.size();
    group->lag.applied_bytes += entry.data.size();
  }
  WriteRows(group, entries.back().index);
  group->applied_entries += entries.size();
  group->replica.Applied(entries.back().index);
  if (!group->applied) {
    group->applied = true;
    applied_.push_back(Shared(group));
  }
}

// Safety rule 14: before any snapshot that relies on them, sent or saved.
void HostCore::WriteRows(HostedGroup* group, Index applied) {
  std::vector<RowChange> changes = group->machine->TakeRows();
  if (changes.empty()) return;
  TRIREME_CHECK(rows_ != nullptr) << "group " << group->id() << " has index rows, and its store takes none";
  rows_->WriteRows(group->id(), applied, std::move(changes));
}

void HostCore::StartRead(const GroupPtr& group, const EntryRead& read) {
  store_->Read(group->id(), read.first, read.last, read.max_bytes,
               OnShard(group, [this, read](HostedGroup* reader, absl::StatusOr<std::vector<Entry>> entries) {
                 if (reader->live()) ReadDone(reader, read, std::move(entries));
               }));
}

void HostCore::ReadDone(HostedGroup* group, const EntryRead& read, absl::StatusOr<std::vector<Entry>> entries) {
  if (!entries.ok()) {
    if (read_log_.Allow(shard_->Now())) {
      spdlog::error("group {}: entries from {} on cannot be read: {} ({} before)", group->id().value(),
                    read.first.value(), entries.status().ToString(), read_log_.TakeKeptBack());
    }
    // What cannot be applied leaves this replica behind for good; so does what could not be read so often. Other errors
    // may pass: the core asks again. What was only meant for a follower stops nobody here.
    const bool damaged = absl::IsDataLoss(entries.status());
    if (read.purpose == EntryRead::For::kApply) {
      // While a snapshot is being installed, what it replaces may be gone.
      if (!group->installing) ++group->failed_apply_reads;
      if (damaged || group->failed_apply_reads >= kFailedApplyReadsMax) return Halt(group, entries.status());
    } else if (damaged) {
      LeaveToUndamaged(group);
    }
    entries = std::vector<Entry>();
  } else if (read.purpose == EntryRead::For::kApply) {
    group->failed_apply_reads = 0;
  }
  group->replica.EntriesRead(read, *std::move(entries));
  MarkDirty(group);
}

// Safety rule 17: who lacks a damaged entry gets it from another, so one that has it leads. Where all are damaged, they
// take turns, now and then.
void HostCore::LeaveToUndamaged(HostedGroup* group) {
  if (group->replica.role() != Role::kLeader || ticks_ < group->leave_again_tick) return;
  if (group->HandOver().has_value()) return;
  group->leave_again_tick = ticks_ + kLeaveAgainTicks;
  spdlog::warn("group {}: hands leadership over, for what a follower lacks is damaged here", group->id().value());
}

void HostCore::AnswerReads(HostedGroup* group, const std::vector<ReadReady>& ready) {
  for (const ReadReady& read : ready) {
    auto found = group->asked_barriers.find(read.context);
    if (found == group->asked_barriers.end()) continue;
    std::vector<HostedGroup::Barrier> barriers = std::move(found->second);
    group->asked_barriers.erase(found);
    for (HostedGroup::Barrier& barrier : barriers) {
      if (read.index.has_value()) {
        group->ready_barriers.emplace(*read.index, std::move(barrier));
      } else {
        barrier(absl::UnavailableError("this replica does not lead, or lost its leadership"));
      }
    }
  }
}

void HostCore::TellClock(HostedGroup* group) {
  if (options_.read_lease.count() > 0) group->replica.SetClock(shard_->Now().time_since_epoch());
}

void HostCore::ServeByLease(HostedGroup* group) {
  if (options_.read_lease.count() == 0 || group->new_barriers.empty()) return;
  // Safety rule 10.
  std::optional<Index> index = group->replica.LeaseRead(shard_->PreciseNow().time_since_epoch());
  if (!index) return;
  for (HostedGroup::Barrier& barrier : std::exchange(group->new_barriers, {})) {
    group->ready_barriers.emplace(*index, std::move(barrier));
  }
  FireBarriers(group);
}

void HostCore::FireBarriers(HostedGroup* group) {
  while (!group->ready_barriers.empty() && group->ready_barriers.begin()->first <= group->replica.applied_index()) {
    HostedGroup::Barrier barrier = std::move(group->ready_barriers.begin()->second);
    group->ready_barriers.erase(group->ready_barriers.begin());
    barrier(absl::OkStatus());
  }
}

void HostCore::FailBarriers(HostedGroup* group, const absl::Status& why) {
  std::vector<HostedGroup::Barrier> all = std::exchange(group->new_barriers, {});
  for (auto& [context, barriers] : std::exchange(group->asked_barriers, {})) {
    std::move(barriers.begin(), barriers.end(), std::back_inserter(all));
  }
  for (auto& [index, barrier] : std::exchange(group->ready_barriers, {})) all.push_back(std::move(barrier));
  for (HostedGroup::Barrier& barrier : all) barrier(why);
}

void HostCore::SayLeading(HostedGroup* group, bool leading) {
  if (std::exchange(group->said_leading, leading) != leading) leading_ += leading ? 1 : -1;
}

// Who leads and leaves tells the others, who could not know it by this node's silence (Safety rule 9).
void HostCore::LastWords(HostedGroup* group) {
  if (group->replica.role() != Role::kLeader) return;
  group->replica.StepDown();
  for (Message& message : group->replica.TakeOutput().send_now) {
    if (message.type == MessageType::kResign) Queue(*group, std::move(message));
  }
}

void HostCore::Halt(HostedGroup* group, absl::Status why) {
  spdlog::error("group {}: halted on this node: {}", group->id().value(), why.ToString());
  if (group->replica.role() == Role::kLeader) halted_leaders_.push_back(group->id());
  LastWords(group);
  if (group->halted().ok()) ++halted_;
  group->Halt(why);
  sends_.Drop(group->id());
  SayLeading(group, false);
  EndElection(group);
  Deactivate(group);
  election_queue_.Remove(group->id());
  FailBarriers(group, why);
  if (!group->gone) group->machine->RoleChanged({Role::kFollower, group->replica.term(), ReplicaId()}, false);
}

// ---- write and send

void HostCore::Submit() {
  if (!gathering_.has_value()) return;
  under_way_.push_back(std::move(*gathering_));
  gathering_.reset();
  Batch& batch = under_way_.back();
  const uint64_t number = batch.number;
  // Of groups that were removed since, from within a machine's call, nothing may be written.
  if (batch.some_gone) std::erase_if(batch.writes, [](const LogWrite& write) { return write.group == GroupId(); });
  store_->Write(std::exchange(batch.writes, {}),
                [this, shard = shard_, alive = std::weak_ptr<bool>(alive_), number]() mutable {
                  shard->Post([this, alive = std::move(alive), number] {
                    if (!alive.expired()) BatchDurable(number);
                  });
                });
}

void HostCore::BatchDurable(uint64_t number) {
  TRIREME_CHECK(!under_way_.empty() && number >= under_way_.front().number) << "write " << number << " completed twice";
  under_way_[number - under_way_.front().number].durable = true;
  // Safety rule 12: whoever hears what this write lets us say hears with it that the write must not be forgotten.
  last_synced_ = store_->last_synced();
  // A later one may have come first; each group hears of its writes in order.
  while (!under_way_.empty() && under_way_.front().durable) {
    Batch batch = std::move(under_way_.front());
    under_way_.pop_front();
    held_bytes_ -= batch.bytes;
    for (const Batch::Handed& handed : batch.handed) {
      if (!handed.group->live()) continue;
      handed.group->replica.Persisted(handed.last, handed.term);
      MarkDirty(handed.group.get());
    }
    for (Batch::After& after : batch.after) {
      if (after.group->live()) Queue(*after.group, std::move(after.message));
    }
  }
  WantTurn();
}

void HostCore::SendFrames() {
  if (told_forgot_) {
    outgoing_.clear();
    return;
  }
  for (NodeId node : std::exchange(heartbeats_due_, {}))
    outgoing_[node].heartbeat = liveness_.Next(node, shard_->Now());
  if (outgoing_.empty()) return;
  const bool disk_low = DiskLow();
  for (auto& [node, frame] : std::exchange(outgoing_, {})) {
    frame.wall_ms = shard_->WallMs();
    frame.incarnation = options_.incarnation;
    frame.last_synced = last_synced_;
    frame.disk_low = disk_low;
    frame.opened = opened_;
    ++frames_out_;
    transport_->Send(node, std::move(frame));
  }
}

}  // namespace trireme::raft
