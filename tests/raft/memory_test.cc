// What an idle replica takes.
#include <gtest/gtest.h>
#include <malloc.h>

#include <memory>
#include <vector>

#include "raft/core/replica.h"

namespace trireme::raft {
namespace {

// Three replicas per group, all in this process: elected, some entries committed everywhere, then idle.
class IdleGroup {
 public:
  explicit IdleGroup(int proposals) {
    Config config{.birth = VotersOnly({ReplicaId(1), ReplicaId(2), ReplicaId(3)})};
    for (const Member& member : config.birth.members) {
      config.id = member.replica;
      replicas_.push_back(std::make_unique<Replica>(config, Restored()));
    }
    replicas_[0]->Campaign();
    Settle();
    for (int i = 0; i < proposals; ++i) {
      replicas_[0]->Propose({Bytes::Copy("some command")});
      if (i % 8 == 0) Settle();
    }
    Settle();
    for (int i = 0; i < 3; ++i) {
      replicas_[0]->Tick();
      Settle();
    }
  }
  const Replica& leader() const { return *replicas_[0]; }

 private:
  void Settle() {
    for (bool any = true; any;) {
      any = false;
      for (auto& replica : replicas_) {
        if (!replica->HasOutput()) continue;
        any = true;
        Output out = replica->TakeOutput();
        for (Message& m : out.send_now) replicas_[m.to.value() - 1]->Step(std::move(m));
        if (!out.entries.empty()) {
          replica->Persisted(out.entries.back().index, out.entries.back().term);
        } else if (out.hard_state) {
          replica->Persisted({}, {});
        }
        for (Message& m : out.send_after_persist) replicas_[m.to.value() - 1]->Step(std::move(m));
        if (!out.committed.empty()) replica->Applied(out.committed.back().index);
        replica->TrimTail(replica->last_index());
      }
    }
  }

  std::vector<std::unique_ptr<Replica>> replicas_;
};

TEST(Memory, AnIdleReplicaIsSmall) {
  constexpr size_t kGroups = 1000;
  std::vector<std::unique_ptr<IdleGroup>> groups;
  groups.reserve(kGroups);
  groups.push_back(std::make_unique<IdleGroup>(100));
  ASSERT_EQ(groups[0]->leader().commit_index(), Index(101));
  ASSERT_EQ(groups[0]->leader().tail_bytes(), 0u);
  const size_t before = mallinfo2().uordblks;
  while (groups.size() < kGroups) groups.push_back(std::make_unique<IdleGroup>(100));
  const size_t per_replica = (mallinfo2().uordblks - before) / (3 * (kGroups - 1));
  RecordProperty("bytes_per_idle_replica", static_cast<int>(per_replica));
  // The budget for all that a node keeps of an idle replica is 8 KiB.
  EXPECT_LE(per_replica, 2048u) << "bytes";
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_GT(per_replica, 500u) << "bytes: the measurement itself is broken";
#endif
}

}  // namespace
}  // namespace trireme::raft
