#include "tests/simulation/suite.h"

#include <algorithm>
#include <utility>

#include "tests/simulation/checkers/all_match.h"
#include "tests/simulation/checkers/durability.h"
#include "tests/simulation/checkers/election_safety.h"
#include "tests/simulation/checkers/leader_append_only.h"
#include "tests/simulation/checkers/leader_completeness.h"
#include "tests/simulation/checkers/linearizable_reads.h"
#include "tests/simulation/checkers/log_matching.h"
#include "tests/simulation/checkers/state_machine_safety.h"

namespace trireme::simulation {
namespace {

void Overwrite(LogView& log, raft::Index first, const LogView& entries) {
  log.resize(std::min(log.size(), static_cast<size_t>(first.value() - 1)));
  log.insert(log.end(), entries.begin(), entries.end());
}

LogView IdentifyAll(const std::vector<raft::Entry>& entries) {
  LogView view;
  view.reserve(entries.size());
  for (const raft::Entry& entry : entries) view.push_back(Identify(entry));
  return view;
}

}  // namespace

Suite::Suite(const raft::Membership& birth) {
  world_.membership = birth;
  checkers_.push_back(std::make_unique<ElectionSafety>());
  checkers_.push_back(std::make_unique<LeaderAppendOnly>());
  checkers_.push_back(std::make_unique<LogMatching>());
  checkers_.push_back(std::make_unique<LeaderCompleteness>());
  checkers_.push_back(std::make_unique<StateMachineSafety>());
  checkers_.push_back(std::make_unique<Durability>());
  checkers_.push_back(std::make_unique<LinearizableReads>());
  checkers_.push_back(std::make_unique<AllMatch>());
}

void Suite::Started(const raft::Replica& source, raft::Index last, raft::Index applied) {
  const raft::ReplicaId id = source.id();
  ReplicaView& replica = world_.replicas[id];
  if (last.value() < replica.durable.size()) {
    Tell([&](Checker& c) { c.Forgetting(world_, id, last); });
    replica.durable.resize(last.value());
  }
  replica = {.up = true,
             .log = replica.durable,
             .durable = replica.durable,
             .applied = applied,
             .commit = source.commit_index(),
             .membership = source.membership()};
}

void Suite::Preloaded(raft::ReplicaId id, LogView log) {
  world_.replicas[id];
  Tell([&](Checker& c) { c.Appending(world_, id, raft::Index(1), log); });
  world_.replicas[id].durable = std::move(log);
}

void Suite::Stopped(raft::ReplicaId id) {
  world_.replicas.at(id).up = false;
}

void Suite::Took(const raft::Replica& source, const raft::Output& output) {
  const raft::ReplicaId id = source.id();
  ReplicaView& replica = world_.replicas.at(id);
  const bool was_leader = replica.role == raft::Role::kLeader;
  const bool led = was_leader && replica.term == source.term();
  // A leader that stepped down may have taken in others' entries since.
  replica.role = source.role();
  replica.term = source.term();
  if (!output.entries.empty()) {
    LogView entries = IdentifyAll(output.entries);
    const raft::Index first = output.entries.front().index;
    Tell([&](Checker& c) { c.Appending(world_, id, first, entries); });
    Overwrite(replica.log, first, entries);
  }
  if (source.role() == raft::Role::kLeader && !led) {
    Tell([&](Checker& c) { c.BecameLeader(world_, id, source.term()); });
  }
  // Before this output's appends: what takes a leader out of a joint membership must have been counted in it.
  const raft::Membership members = led ? replica.membership : source.membership();
  // Of whom a leader learned what they have; perhaps before it was deposed in this turn.
  raft::Membership asked = was_leader ? replica.membership : source.membership();
  replica.membership = source.membership();
  for (raft::Index i = replica.commit + 1; source.role() == raft::Role::kLeader && i <= source.commit_index(); ++i) {
    Tell([&](Checker& c) { c.Counting(world_, id, i, members); });
  }
  replica.commit = source.commit_index();
  for (const raft::Entry& entry : output.committed) {
    const Logged logged = Identify(entry);
    Tell([&](Checker& c) { c.Committing(world_, id, entry.index, logged); });
    if (entry.index.value() != world_.committed.size() + 1) continue;
    world_.committed.push_back(logged);
    if (entry.type == raft::EntryType::kConfig) world_.membership = *raft::DecodeMembership(entry.data.view());
  }
  if (source.all_match() > replica.all_match) {
    // Those who came or left in this turn were not asked.
    std::erase_if(asked.members, [&](const raft::Member& m) { return source.membership().Find(m.replica) == nullptr; });
    Tell([&](Checker& c) { c.AllMatchRising(world_, id, source.all_match(), asked); });
    replica.all_match = source.all_match();
  }
}

void Suite::Synced(raft::ReplicaId id, const std::vector<raft::Entry>& entries) {
  if (entries.empty()) return;
  LogView view = IdentifyAll(entries);
  const raft::Index first = entries.front().index;
  Tell([&](Checker& c) { c.Syncing(world_, id, first, view); });
  Overwrite(world_.replicas.at(id).durable, first, view);
}

void Suite::Installed(raft::ReplicaId id, const raft::SnapshotMeta& snapshot, uint64_t state) {
  Tell([&](Checker& c) { c.Installing(world_, id, snapshot, state); });
  if (failure_) return;
  ReplicaView& replica = world_.replicas.at(id);
  replica.log.assign(world_.committed.begin(),
                     world_.committed.begin() + static_cast<std::ptrdiff_t>(snapshot.index.value()));
  replica.durable = replica.log;
  replica.applied = snapshot.index;
}

void Suite::Applied(raft::ReplicaId id, raft::Index index, uint64_t state) {
  Tell([&](Checker& c) { c.Applying(world_, id, index, state); });
  world_.replicas.at(id).applied = index;
}

void Suite::ReadAsked(uint64_t context) {
  Tell([&](Checker& c) { c.ReadAsked(world_, context); });
}

void Suite::ReadServed(uint64_t context, raft::Index index) {
  ++reads_served_;
  Tell([&](Checker& c) { c.ReadServed(world_, context, index); });
}

}  // namespace trireme::simulation
