// Three simulated nodes with groups that have gone quiet, and counts of what the nodes still say to each other.
#ifndef TRIREME_TESTS_HOST_QUIET_FIXTURE_H_
#define TRIREME_TESTS_HOST_QUIET_FIXTURE_H_

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>

#include "tests/host/world.h"

namespace trireme::raft::testing {

class QuietTest : public ::testing::Test {
 protected:
  void Up(uint64_t groups = 1) {
    groups_ = groups;
    world_.StartAll();
    for (uint64_t g = 1; g <= groups; ++g) world_.AddEverywhere(g);
    for (uint64_t g = 1; g <= groups; ++g) ASSERT_TRUE(world_.AwaitLeader(g));
    world_.on_send = [this](NodeId from, NodeId to, Frame& frame) {
      ++frames_;
      heartbeats_ += frame.heartbeat.has_value() ? 1 : 0;
      for (const GroupMessage& m : frame.messages) ++sent_[m.message.type];
      messages_ += frame.messages.size();
      if (also_on_send_) also_on_send_(from, to, frame);
    };
    ASSERT_TRUE(AwaitQuiet());
  }
  // Of all nodes that are up.
  uint64_t Active() {
    uint64_t active = 0;
    for (uint64_t id = 1; id <= 3; ++id) active += world_.node(id).up() ? world_.node(id).host->figures().active : 0;
    return active;
  }
  bool AwaitQuiet(milliseconds time = milliseconds(10'000)) {
    return world_.RunUntil([&] { return Active() == 0; }, time);
  }
  void Count() {
    frames_ = heartbeats_ = messages_ = 0;
    sent_.clear();
  }
  bool AwaitApplied(const std::string& text, uint64_t group = 1, milliseconds time = milliseconds(10'000)) {
    return world_.RunUntil(
        [&] {
          for (uint64_t id = 1; id <= 3; ++id) {
            if (!world_.node(id).up()) continue;
            const auto& applied = world_.Applied(id, group);
            if (applied.empty() || applied.back() != text) return false;
          }
          return true;
        },
        time);
  }
  Group* On(uint64_t id, uint64_t group = 1) { return world_.node(id).host->Find(GroupId(group)); }
  uint64_t LeaderId(uint64_t group = 1) {
    Group* leader = world_.Leader(group);
    return leader == nullptr ? 0 : leader->spec().self.value() / 1000;
  }
  uint64_t Elections() {
    uint64_t elections = 0;
    for (uint64_t id = 1; id <= 3; ++id) {
      if (world_.node(id).up()) elections += world_.node(id).host->figures().elections;
    }
    return elections;
  }
  bool AllLed(const std::function<bool(uint64_t)>& by = [](uint64_t) { return true; }) {
    for (uint64_t g = 1; g <= groups_; ++g) {
      if (LeaderId(g) == 0 || !by(LeaderId(g))) return false;
    }
    return true;
  }
  bool AwaitAllLed(
      milliseconds time, const std::function<bool(uint64_t)>& by = [](uint64_t) { return true; }) {
    return world_.RunUntil([&] { return AllLed(by); }, time);
  }
  void CutOff(uint64_t id) {
    for (uint64_t other = 1; other <= 3; ++other) {
      if (other != id) world_.cut.insert({NodeId(id), NodeId(other)});
    }
  }

  World world_{11};
  uint64_t groups_ = 1;
  uint64_t frames_ = 0, heartbeats_ = 0, messages_ = 0;
  std::map<MessageType, uint64_t> sent_;
  std::function<void(NodeId, NodeId, Frame&)> also_on_send_;
};

}  // namespace trireme::raft::testing

#endif  // TRIREME_TESTS_HOST_QUIET_FIXTURE_H_
