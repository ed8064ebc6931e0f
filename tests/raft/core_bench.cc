// How fast three replicas in one thread agree when network and disk cost nothing: what the core itself costs per
// proposal, in batches of 1, 16 and 128, in a new log and in one of a million entries.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "raft/core/check.h"
#include "raft/core/replica.h"

namespace trireme::raft {
namespace {

class Group {
 public:
  Group() {
    Config config{.birth = VotersOnly({ReplicaId(1), ReplicaId(2), ReplicaId(3)})};
    for (const Member& member : config.birth.members) {
      config.id = member.replica;
      replicas_.push_back(std::make_unique<Replica>(config, Restored()));
    }
    leader().Campaign();
    while (Turn()) {
    }
  }
  Replica& leader() { return *replicas_[0]; }
  uint64_t applied() const { return applied_; }

  // One turn of every replica's loop. Whether anything happened.
  bool Turn() {
    bool any = false;
    for (auto& replica : replicas_) {
      if (!replica->HasOutput()) continue;
      any = true;
      Output out = replica->TakeOutput();
      for (Message& m : out.send_now) To(m.to).Step(std::move(m));
      if (out.hard_state || !out.entries.empty()) {
        if (out.entries.empty()) {
          replica->Persisted(Index(), Term());
        } else {
          replica->Persisted(out.entries.back().index, out.entries.back().term);
        }
      }
      for (Message& m : out.send_after_persist) To(m.to).Step(std::move(m));
      if (!out.committed.empty()) {
        if (replica == replicas_[0]) applied_ += out.committed.size();
        replica->Applied(out.committed.back().index);
        replica->TrimTail(replica->applied_index());
      }
    }
    return any;
  }

 private:
  Replica& To(ReplicaId id) { return *replicas_[id.value() - 1]; }

  std::vector<std::unique_ptr<Replica>> replicas_;
  uint64_t applied_ = 0;
};

// Arguments: proposals per batch, and how many entries the log has before.
void Propose(benchmark::State& state) {
  const auto batch = static_cast<size_t>(state.range(0));
  const auto length = static_cast<uint64_t>(state.range(1));
  Group group;
  TRIREME_CHECK(group.leader().role() == Role::kLeader);
  const Bytes body = Bytes::Copy(std::string(100, 'x'));
  while (group.applied() < length) {
    TRIREME_CHECK(!group.leader().Propose(std::vector<Bytes>(128, body)).error);
    group.Turn();
  }
  const uint64_t before = group.applied();
  for (auto _ : state) {
    TRIREME_CHECK(!group.leader().Propose(std::vector<Bytes>(batch, body)).error);
    group.Turn();
  }
  state.SetItemsProcessed(static_cast<int64_t>(group.applied() - before));
}
BENCHMARK(Propose)->ArgNames({"batch", "log"})->ArgsProduct({{1, 16, 128}, {0, 1'000'000}});

}  // namespace
}  // namespace trireme::raft

BENCHMARK_MAIN();
