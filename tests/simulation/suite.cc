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

Suite::Suite(const std::vector<raft::ReplicaId>& voters) {
  for (raft::ReplicaId voter : voters) world_.replicas[voter];
  checkers_.push_back(std::make_unique<ElectionSafety>());
  checkers_.push_back(std::make_unique<LeaderAppendOnly>());
  checkers_.push_back(std::make_unique<LogMatching>());
  checkers_.push_back(std::make_unique<LeaderCompleteness>());
  checkers_.push_back(std::make_unique<StateMachineSafety>());
  checkers_.push_back(std::make_unique<Durability>());
  checkers_.push_back(std::make_unique<LinearizableReads>());
  checkers_.push_back(std::make_unique<AllMatch>());
}

void Suite::Started(raft::ReplicaId id, raft::Index last, raft::Index applied) {
  ReplicaView& replica = world_.replicas.at(id);
  if (last.value() < replica.durable.size()) {
    Tell([&](Checker& c) { c.Forgetting(world_, id, last); });
    replica.durable.resize(last.value());
  }
  replica = {.up = true, .log = replica.durable, .durable = replica.durable, .applied = applied};
}

void Suite::Preloaded(raft::ReplicaId id, LogView log) {
  Tell([&](Checker& c) { c.Appending(world_, id, raft::Index(1), log); });
  world_.replicas.at(id).durable = std::move(log);
}

void Suite::Stopped(raft::ReplicaId id) {
  world_.replicas.at(id).up = false;
}

void Suite::Took(const raft::Replica& source, const raft::Output& output) {
  const raft::ReplicaId id = source.id();
  ReplicaView& replica = world_.replicas.at(id);
  const bool led = replica.role == raft::Role::kLeader && replica.term == source.term();
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
  for (const raft::Entry& entry : output.committed) {
    const Logged logged = Identify(entry);
    Tell([&](Checker& c) { c.Committing(world_, id, entry.index, logged); });
    if (entry.index.value() == world_.committed.size() + 1) world_.committed.push_back(logged);
  }
  if (source.all_match() > replica.all_match) {
    Tell([&](Checker& c) { c.AllMatchRising(world_, id, source.all_match()); });
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
