#include "tests/simulation/node.h"

#include <algorithm>
#include <utility>

#include "raft/core/check.h"
#include "tests/simulation/describe.h"

namespace trireme::simulation {

using raft::Index;
using raft::Term;

Node::Node(NodeOptions options, const Surroundings& around)
    : options_(std::move(options)), around_(around), disk_(around.clock, around.chance) {
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
  snapshot_under_way_ = false;
  raft::Config config = options_.config;
  config.seed = around_.chance->Next();
  replica_ = std::make_unique<raft::Replica>(config, restored);
  around_.suite->Started(*replica_, restored.last_index, restored.snapshot_index);
  around_.trace->Add(1, id().value(), restored.last_index.value());
  ScheduleTick();
  ScheduleTurn();
}

void Node::Crash() {
  if (!up()) return;
  ++life_;
  around_.trace->Add(2, id().value());
  replica_.reset();
  machine_.reset();
  inbox_.clear();
  to_apply_.clear();
  turn_scheduled_ = false;
  disk_.Crash([this](const StoredRecord& record) { around_.suite->Synced(id(), record.entries); });
  around_.suite->Stopped(id());
}

void Node::Pause() {
  paused_ = true;
}

void Node::Resume() {
  paused_ = false;
  if (up() && !inbox_.empty()) ScheduleTurn();
}

void Node::Receive(raft::Message message) {
  if (!up()) return;
  if (around_.plant == Plant::kVotesForAnyone &&
      (message.type == raft::MessageType::kVote || message.type == raft::MessageType::kPreVote)) {
    message.log_term = message.term;
    message.log_index = Index(1'000'000);
  }
  Post([message = std::move(message)](raft::Replica& replica) { replica.Step(message); });
}

void Node::Post(std::function<void(raft::Replica&)> input) {
  if (!up()) return;
  inbox_.push_back(std::move(input));
  ScheduleTurn();
}

void Node::ScheduleTick() {
  around_.clock->After(options_.tick, [this, life = life_] {
    if (life != life_) return;
    if (!paused_) Post([](raft::Replica& replica) { replica.Tick(); });
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
  auto inputs = std::exchange(inbox_, {});
  for (auto& input : inputs) input(*replica_);
  ApplySome();
  if (replica_->HasOutput()) {
    raft::Output output = replica_->TakeOutput();
    TRIREME_CHECK(!output.empty()) << "HasOutput promised what TakeOutput did not have";
    Handle(std::move(output));
  }
  MaybeSnapshot();
  if (around_.chance->PerMille(300)) {
    replica_->TrimTail(Index(around_.chance->Below(replica_->last_index().value() + 1)));
  }
  if (replica_->HasOutput() || !to_apply_.empty()) ScheduleTurn();
}

void Node::Handle(raft::Output output) {
  if (around_.plant == Plant::kRewritesAsLeader && replica_->role() == raft::Role::kLeader && !output.entries.empty()) {
    if (const raft::Entry* before = replica_->TailEntry(output.entries.front().index - 1)) {
      output.entries.insert(output.entries.begin(), *before);
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
  Send(output.send_now);
  if (around_.plant == Plant::kSendsBeforeSync) Send(output.send_after_persist);
  Write(output);
  ApplySome();
}

void Node::Write(raft::Output& output) {
  const bool is_write = output.hard_state || !output.entries.empty();
  if (!is_write && output.send_after_persist.empty()) return;
  StoredRecord record{.hard_state = output.hard_state, .entries = output.entries};
  // A record with nothing in it stands for the writes before it.
  disk_.Write(std::move(record), [this, life = life_, is_write, entries = std::move(output.entries),
                                  after = std::move(output.send_after_persist)]() mutable {
    if (life != life_) return;
    around_.suite->Synced(id(), entries);
    Post([this, is_write, last = entries.empty() ? raft::Entry() : entries.back(),
          after = std::move(after)](raft::Replica& replica) mutable {
      if (is_write) replica.Persisted(last.index, last.term);
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
    const raft::ReplicaId to = m.to;
    around_.network->Send(id(), to, std::move(m));
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
        Post([read, entries = std::move(entries)](raft::Replica& replica) { replica.EntriesRead(read, entries); });
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
  if (snapshot_under_way_ || applied < snapshot_asked_ + options_.snapshot_entries) return;
  if (applied > replica_->persisted_index()) return;
  snapshot_under_way_ = true;
  snapshot_asked_ = applied;
  const Term term = replica_->TermAt(applied);
  TRIREME_CHECK(term != Term());
  StoredRecord record{.snapshot =
                          StoredSnapshot{applied, term, machine_->Snapshot(), replica_->MembershipAsOf(applied)}};
  disk_.Write(std::move(record), [this, life = life_, applied, live = machine_->Live()] {
    if (life != life_) return;
    Post([this, applied, live](raft::Replica& replica) {
      snapshot_under_way_ = false;
      replica.SnapshotSaved(applied);
      const Index upto = std::min({applied, live.floor, replica.all_match()});
      disk_.ChangeBoth([&](StoredLog& log) { log.Compact(upto, live.live); });
    });
  });
}

}  // namespace trireme::simulation
