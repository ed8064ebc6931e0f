#include "tests/simulation/node.h"

#include <algorithm>
#include <utility>

#include "raft/core/check.h"
#include "tests/simulation/describe.h"

namespace trireme::simulation {

using raft::Index;
using raft::Term;

Node::Node(NodeOptions options, const Surroundings& around)
    : options_(std::move(options)), around_(around), disk_(around.clock, around.chance, [this] {
        around_.trace->Print(around_.clock->now(), std::to_string(id().value()) + " cannot write and ends");
        Crash();
        if (on_failure) on_failure();
      }) {
  disk_.faults().lies = around_.plant == Plant::kLyingDisk;
}

void Node::Start() {
  TRIREME_CHECK(!up());
  ++life_;
  paused_ = false;
  raft::Restored restored = disk_.durable().Restore();
  if (around_.plant == Plant::kForgetsVotes) {
    restored.hard_state.term = restored.terms.empty() ? restored.snapshot_term : restored.terms.back().term;
    restored.hard_state.voted_for = raft::ReplicaId();
  }
  machine_ = options_.make_machine();
  TRIREME_CHECK(machine_->Restore(disk_.durable().snapshot().state, restored.snapshot_index).ok());
  snapshot_asked_ = restored.snapshot_index;
  snapshot_under_way_ = installing_ = false;
  raft::Config config = options_.config;
  config.seed = around_.chance->Next();
  if (options_.supports) StartUpkeep(&config);
  replica_ = std::make_unique<raft::Replica>(config, restored);
  if (upkeep_) upkeep_->Begin(replica_.get());
  around_.suite->Started(*replica_, restored.last_index, restored.snapshot_index);
  around_.trace->Add(1, id().value(), restored.last_index.value());
  ScheduleTick();
  ScheduleTurn();
}

void Node::StartUpkeep(raft::Config* config) {
  // What it has heard of others is stored now and then.
  if (around_.chance->PerMille(500)) announced_.clear();
  upkeep_ = std::make_unique<Upkeep>(Upkeep::Options{.incarnation = life_,
                                                     .queues = options_.queues,
                                                     .last_member_first = config->last_member_first,
                                                     .announced = announced_});
  config->support = upkeep_.get();
}

void Node::Crash() {
  if (!up()) return;
  ++life_;
  around_.trace->Add(2, id().value());
  replica_.reset();
  if (upkeep_) {
    sleeps_ += upkeep_->sleeps();
    announced_ = upkeep_->announced();
    upkeep_.reset();
  }
  machine_.reset();
  inbox_.clear();
  to_apply_.clear();
  staged_.clear();
  turn_scheduled_ = false;
  if (on_disk_) Installed(*std::exchange(on_disk_, std::nullopt));
  disk_.Crash([this](const StoredRecord& record) {
    around_.suite->Synced(id(), record.entries);
    if (record.installs) Installed(*record.snapshot);
  });
  around_.suite->Stopped(id());
}

void Node::Pause() {
  paused_ = true;
}

void Node::Resume() {
  paused_ = false;
  if (up() && !inbox_.empty()) ScheduleTurn();
}

void Node::Receive(raft::ReplicaId from, Packet packet) {
  if (!up()) return;
  raft::Message& message = packet.message;
  if (around_.plant == Plant::kVotesForAnyone &&
      (message.type == raft::MessageType::kVote || message.type == raft::MessageType::kPreVote)) {
    message.log_term = message.term;
    message.log_index = Index(1'000'000);
  }
  Enqueue([this, from, packet = std::move(packet)](raft::Replica& replica) {
    const raft::MonotonicTime now(Monotonic());
    if (upkeep_ && !upkeep_->Heard(from, packet.incarnation, packet.heartbeat, now)) return;
    if (packet.heartbeat) return;
    const raft::Message& m = packet.message;
    if (m.type == raft::MessageType::kSnapshot) staged_[m.log_index] = packet.snapshot;
    upkeep_ ? upkeep_->Step(m, packet.incarnation) : replica.Step(m);
  });
}

void Node::ConnectionChanged(raft::ReplicaId peer, bool open) {
  Enqueue([this, peer, open](raft::Replica& replica) {
    if (upkeep_) return upkeep_->ConnectionChanged(peer, open);
    open ? replica.PeerUp(peer) : replica.PeerDown(peer);
  });
}

void Node::Post(Input input) {
  Enqueue([this, input = std::move(input)](raft::Replica& replica) {
    input(replica);
    if (upkeep_) upkeep_->Stirred();
  });
}

void Node::Enqueue(Input input) {
  if (!up()) return;
  inbox_.push_back(std::move(input));
  ScheduleTurn();
}

void Node::ScheduleTick() {
  around_.clock->After(options_.tick, [this, life = life_] {
    if (life != life_) return;
    if (!paused_) {
      Enqueue([this](raft::Replica& replica) {
        last_tick_ = Monotonic();
        upkeep_ ? upkeep_->Tick(raft::MonotonicTime(last_tick_)) : replica.Tick();
      });
    }
    ScheduleTick();
  });
}

void Node::ScheduleTurn() {
  if (turn_scheduled_ || paused_) return;
  turn_scheduled_ = true;
  around_.clock->After(around_.chance->Between(0, options_.turn_delay), [this, life = life_] {
    if (life != life_) return;
    turn_scheduled_ = false;
    if (!paused_) Turn();
  });
}

void Node::Turn() {
  replica_->SetClock(Monotonic());
  auto inputs = std::exchange(inbox_, {});
  for (auto& input : inputs) input(*replica_);
  ApplySome();
  if (replica_->HasOutput()) {
    raft::Output output = replica_->TakeOutput();
    TRIREME_CHECK(!output.empty()) << "HasOutput promised what TakeOutput did not have";
    Handle(std::move(output));
  }
  if (upkeep_) SendHeartbeats();
  MaybeSnapshot();
  if (around_.chance->PerMille(300)) {
    replica_->TrimTail(Index(around_.chance->Below(replica_->last_index().value() + 1)));
  }
  if (replica_->HasOutput() || !to_apply_.empty()) ScheduleTurn();
}

void Node::SendHeartbeats() {
  const raft::MonotonicTime now(Monotonic());
  for (raft::ReplicaId to : upkeep_->TakeDue()) {
    around_.network->Send(id(), to, {.incarnation = life_, .heartbeat = upkeep_->Next(to, now)});
  }
}

void Node::Handle(raft::Output output) {
  if (around_.plant == Plant::kRewritesAsLeader && replica_->role() == raft::Role::kLeader && !output.entries.empty()) {
    if (const raft::Entry* before = replica_->TailEntry(output.entries.front().index - 1)) {
      output.entries.insert(output.entries.begin(), *before);
    }
  }
  if (around_.plant == Plant::kAltersCommitted && id().value() == 2) {
    for (raft::Entry& entry : output.committed) {
      const bool chosen = entry.type == raft::EntryType::kCommand && entry.index.value() % 20 == 0;
      if (chosen) entry.data = raft::Bytes::Copy("altered");
    }
  }
  around_.suite->Took(*replica_, output);
  around_.trace->Add(3, id().value(), around_.clock->now(), output.entries.size(), output.committed.size(),
                     replica_->term().value(), replica_->commit_index().value());
  if (around_.trace->printing()) {
    if (output.role) {
      around_.trace->Print(around_.clock->now(), std::to_string(id().value()) + " is " + Name(output.role->role) +
                                                     " in term " + std::to_string(output.role->term.value()));
    }
    for (const raft::EntryRead& read : output.reads) {
      around_.trace->Print(around_.clock->now(), std::to_string(id().value()) + " " + Describe(read));
    }
    for (const auto* messages : {&output.send_now, &output.send_after_persist}) {
      for (const raft::Message& m : *messages) around_.trace->Print(around_.clock->now(), Describe(m));
    }
  }
  if (output.role) machine_->RoleChanged(*output.role, replica_->leading());
  for (raft::Entry& entry : output.committed) to_apply_.push_back(std::move(entry));
  for (const raft::EntryRead& read : output.reads) Read(read);
  for (const raft::ReadReady& ready : output.read_ready) {
    if (ready.index) around_.suite->ReadServed(ready.context, *ready.index);
  }
  for (const raft::SnapshotNeeded& needed : output.snapshots) SendSnapshot(needed);
  Send(output.send_now);
  if (around_.plant == Plant::kSendsBeforeSync) Send(output.send_after_persist);
  if (output.install) {
    Install(*output.install, *output.hard_state);
    output.hard_state.reset();
  }
  Write(output);
  ApplySome();
}

void Node::Write(raft::Output& output) {
  const bool is_write = output.hard_state || !output.entries.empty();
  if (!is_write && output.send_after_persist.empty()) return;
  if (around_.plant == Plant::kRewritesCommitted && !output.entries.empty()) {
    const raft::Entry* before = replica_->TailEntry(output.entries.front().index - 1);
    if (before != nullptr && before->index <= replica_->commit_index() && before->type == raft::EntryType::kCommand) {
      raft::Entry altered = *before;
      altered.data = raft::Bytes::Copy("altered");
      output.entries.insert(output.entries.begin(), std::move(altered));
    }
  }
  StoredRecord record{.hard_state = output.hard_state, .entries = output.entries};
  // A record with nothing in it stands for the writes before it.
  disk_.Write(std::move(record), [this, life = life_, is_write, entries = std::move(output.entries),
                                  after = std::move(output.send_after_persist)]() mutable {
    if (life != life_) return;
    around_.suite->Synced(id(), entries);
    Enqueue([this, is_write, last = entries.empty() ? raft::Entry() : entries.back(),
             after = std::move(after)](raft::Replica& replica) mutable {
      if (is_write) replica.Persisted(last.index, last.term);
      if (around_.plant == Plant::kWrongAnswer && last.index.value() > 20) replica.Persisted(last.index, last.term);
      if (around_.plant != Plant::kSendsBeforeSync) Send(after);
    });
  });
}

void Node::Send(std::vector<raft::Message>& messages) {
  for (raft::Message& m : messages) {
    around_.trace->Add(static_cast<uint64_t>(m.type), m.to.value(), m.log_index.value(), m.term.value());
    if (around_.plant == Plant::kCorruptsEntries && !m.entries.empty() && around_.chance->PerMille(50)) {
      m.entries.back().data = raft::Bytes::Copy("damaged");
    }
    if (around_.plant == Plant::kOverstatesAllMatch && m.all_match != Index()) m.all_match = m.all_match + 20;
    if (around_.plant == Plant::kLosesVotes && m.type == raft::MessageType::kVoteResponse) continue;
    const raft::ReplicaId to = m.to;
    around_.network->Send(id(), to, {.message = std::move(m), .incarnation = life_});
  }
  messages.clear();
}

void Node::Read(const raft::EntryRead& read) {
  around_.trace->Add(4, id().value(), read.first.value(), read.last.value());
  // The answer is as of the asking, or as of the answering; sometimes there is none.
  auto entries = disk_.visible().Read(read.first, read.last, read.max_bytes);
  const bool late = around_.chance->PerMille(500);
  const bool fails = around_.chance->PerMille(20);
  around_.clock->After(
      around_.chance->Latency(200), [this, life = life_, read, late, fails, entries = std::move(entries)]() mutable {
        if (life != life_) return;
        if (late) entries = disk_.visible().Read(read.first, read.last, read.max_bytes);
        if (fails) entries.clear();
        Enqueue([read, entries = std::move(entries)](raft::Replica& replica) { replica.EntriesRead(read, entries); });
      });
}

// What is sent is the last one that is durable, whatever was the last when it was asked for. The answer is about the
// stream that its bytes took; whether the header got there as well is another matter.
void Node::SendSnapshot(const raft::SnapshotNeeded& needed) {
  const StoredSnapshot last = disk_.durable().snapshot();
  if (around_.plant == Plant::kLyingDisk && last.index < needed.snapshot.index) return;
  TRIREME_CHECK(last.index >= needed.snapshot.index)
      << "the snapshot at " << needed.snapshot.index << " is not on the disk";
  around_.trace->Add(5, id().value(), needed.follower.value(), last.index.value());
  around_.clock->After(around_.chance->Latency(5'000), [this, life = life_, last, to = needed.follower] {
    if (life != life_) return;
    Enqueue([this, last, to](raft::Replica& replica) {
      const bool arrives = !around_.network->IsCut(id(), to) && !around_.chance->PerMille(100);
      if (arrives && replica.role() == raft::Role::kLeader) {
        raft::Message header = replica.SnapshotMessage(to, {last.index, last.term, last.membership});
        around_.trace->Print(around_.clock->now(), Describe(header));
        around_.network->Send(id(), to, {.message = std::move(header), .snapshot = last.state, .incarnation = life_});
      }
      replica.SnapshotSent(to, last.index, arrives);
    });
  });
}

void Node::Install(const raft::SnapshotMeta& snapshot, const raft::HardState& hard_state) {
  auto staged = staged_.find(snapshot.index);
  TRIREME_CHECK(staged != staged_.end()) << "the bytes of the snapshot at " << snapshot.index << " are not there";
  StoredSnapshot stored{snapshot.index, snapshot.term, staged->second, snapshot.membership};
  staged_.clear();
  if (around_.chance->PerMille(100)) {
    Enqueue([index = snapshot.index](raft::Replica& replica) { replica.SnapshotRefused(index); });
    return;
  }
  installing_ = true;
  disk_.Write({.hard_state = hard_state, .snapshot = stored, .installs = true}, [this, life = life_, stored] {
    if (life != life_) return;
    on_disk_ = stored;
    Enqueue([this, stored](raft::Replica& replica) {
      if (around_.plant != Plant::kSkipsRestore) {
        TRIREME_CHECK(machine_->Restore(stored.state, stored.index).ok());
      }
      to_apply_.clear();
      installing_ = false;
      snapshot_asked_ = std::max(snapshot_asked_, stored.index);
      Installed(stored);
      on_disk_.reset();
      replica.SnapshotInstalled(stored.index);
    });
  });
}

void Node::Installed(const StoredSnapshot& snapshot) {
  ++installed_;
  std::unique_ptr<raft::StateMachine> dead;
  if (machine_ == nullptr || around_.plant != Plant::kSkipsRestore) {
    dead = options_.make_machine();
    TRIREME_CHECK(dead->Restore(snapshot.state, snapshot.index).ok());
  }
  around_.suite->Installed(id(), {snapshot.index, snapshot.term, snapshot.membership},
                           options_.digest(dead != nullptr ? *dead : *machine_));
}

raft::Monotonic Node::Monotonic() const {
  // Each counts from a moment of its own.
  const int64_t since = static_cast<int64_t>(id().value()) * 1'000'000'000'000;
  return raft::Monotonic(since + around_.clock->now() * (1'000'000 + options_.clock_fast_ppm) / 1'000);
}

void Node::LeaseRead(uint64_t context) {
  if (!up()) return;
  // Clients come by connections of their own: what they ask may be looked at before messages that came earlier.
  const auto at = static_cast<std::ptrdiff_t>(around_.chance->Below(inbox_.size() + 1));
  ScheduleTurn();
  inbox_.insert(inbox_.begin() + at, [this, context](raft::Replica& replica) {
    const bool by_ticks = around_.plant == Plant::kLeaseByTicks;
    std::optional<Index> index = replica.LeaseRead(by_ticks ? last_tick_ : Monotonic());
    if (!index) return;
    ++lease_reads_;
    around_.suite->ReadServed(context, *index);
  });
}

void Node::ApplySome() {
  // Mostly all of it at once, sometimes later.
  size_t count = around_.chance->PerMille(900) ? to_apply_.size() : around_.chance->Below(to_apply_.size() + 1);
  if (count == 0) return;
  for (; count > 0; --count) {
    const raft::Entry entry = std::move(to_apply_.front());
    to_apply_.pop_front();
    TRIREME_CHECK(machine_->Apply(entry).ok());
    if (around_.plant == Plant::kAppliesTwice && id().value() == 2 && entry.index.value() % 50 == 0) {
      TRIREME_CHECK(machine_->Apply(entry).ok());
    }
    around_.suite->Applied(id(), entry.index, options_.digest(*machine_));
    replica_->Applied(entry.index);
  }
  machine_->AppliedBatch();
}

void Node::MaybeSnapshot() {
  const Index applied = replica_->applied_index();
  // An older one must not follow the one that is being installed.
  if (snapshot_under_way_ || installing_ || applied < snapshot_asked_ + options_.snapshot_entries) return;
  if (applied > replica_->persisted_index()) return;
  snapshot_under_way_ = true;
  snapshot_asked_ = applied;
  const Term term = replica_->TermAt(applied);
  TRIREME_CHECK(term != Term());
  StoredRecord record{.snapshot =
                          StoredSnapshot{applied, term, machine_->Snapshot(), replica_->MembershipAsOf(applied)}};
  disk_.Write(std::move(record), [this, life = life_, applied, live = machine_->Live()] {
    if (life != life_) return;
    Enqueue([this, applied, live](raft::Replica& replica) {
      snapshot_under_way_ = false;
      replica.SnapshotSaved(applied);
      Index upto = std::min(applied, live.floor);
      if (options_.keeps_for_laggards) upto = std::min(upto, replica.all_match());
      replica.Compacted(upto);
      disk_.ChangeBoth([&](StoredLog& log) { log.Compact(upto, live.live); });
    });
  });
}

}  // namespace trireme::simulation
