#pragma once

#include <algorithm>
#include <map>
#include <utility>

#include "tests/failover/checkers/cast.h"
#include "tests/failover/checkers/checker.h"

namespace trireme::failover {

// Safety rule 25: replicas that have taken in the same log have the same state; and, once nothing is broken and nothing
// happens any more, all of them have.
class ReplicasAgree : public Checker {
 public:
  std::string_view name() const override { return "replicas-agree"; }
  std::string_view promise() const override {
    return "at the end every replica of a queue has come to the same log index, and to the same state";
  }

  void See(uint64_t, const QueueMade& made) override { cast_.Add(made); }
  void See(uint64_t at_us, const Replica& replica) override {
    last_[replica.queue][replica.node] = {at_us, replica.index};
    if (replica.index == 0) return;
    const auto [it, first] = states_.try_emplace({replica.queue, replica.index}, replica);
    if (first) return;
    Case();
    if (it->second.digest == replica.digest) return;
    Broken(at_us, cast_.QueueName(replica.queue), ": the replicas of nodes ", it->second.node, " and ", replica.node,
           " differ at log index ", replica.index);
  }
  void See(uint64_t, const Ended& ended) override { drained_ = ended.drained; }
  void Finish() override {
    if (!drained_) return;
    for (const auto& [queue, nodes] : last_) {
      uint64_t newest = 0;
      for (const auto& [node, last] : nodes) newest = std::max(newest, last.second);
      for (const auto& [node, last] : nodes) {
        if (last.second == newest) continue;
        Broken(last.first, cast_.QueueName(queue), ": the replica of node ", node,
               last.second == 0 ? " did not answer" : absl::StrCat(" is at log index ", last.second),
               ", and another is at ", newest);
      }
    }
  }

 private:
  Cast cast_;
  // By queue and index: the first replica that was seen there.
  std::map<std::pair<uint32_t, uint64_t>, Replica> states_;
  // By queue and node: when it was last asked, and its index.
  std::map<uint32_t, std::map<uint32_t, std::pair<uint64_t, uint64_t>>> last_;
  bool drained_ = false;
};

}  // namespace trireme::failover
