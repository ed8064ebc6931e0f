// How fast three replicas agree when network and disk cost nothing: `core_bench [seconds]`.
#include <chrono>
#include <cstdio>
#include <cstdlib>
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

void Run(size_t batch, double seconds) {
  Group group;
  TRIREME_CHECK(group.leader().role() == Role::kLeader);
  const Bytes body = Bytes::Copy(std::string(100, 'x'));
  const uint64_t before = group.applied();
  auto start = std::chrono::steady_clock::now();
  double elapsed = 0;
  while (elapsed < seconds) {
    for (int i = 0; i < 256; ++i) {
      Proposed proposed = group.leader().Propose(std::vector<Bytes>(batch, body));
      TRIREME_CHECK(!proposed.error);
      group.Turn();
    }
    if (group.applied() % 64 < batch) {
      for (int i = 0; i < 1; ++i) group.leader().Tick();
    }
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::printf("batches of %zu: %.2f million proposals/s\n", batch,
              static_cast<double>(group.applied() - before) / elapsed / 1e6);
}

}  // namespace
}  // namespace trireme::raft

int main(int argc, char** argv) {
  double seconds = argc > 1 ? std::atof(argv[1]) : 1;
  for (size_t batch : {1, 16, 128}) trireme::raft::Run(batch, seconds);
}
