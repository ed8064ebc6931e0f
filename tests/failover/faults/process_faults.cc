// Faults of processes: killed, stopped, paused, again and again.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/failover/faults/fault.h"

namespace trireme::failover {
namespace {

// Something done to each of some nodes, and undone for all of them.
class OnNodes : public Fault {
 public:
  using Do = absl::Status (*)(Cluster& cluster, int node);
  using Undo = absl::Status (*)(Cluster& cluster, const std::vector<int>& nodes);
  OnNodes(std::vector<int> nodes, const char* what, Do act, Undo undo)
      : nodes_(std::move(nodes)), what_(what), act_(act), undo_(undo) {}
  absl::Status Begin(World& world) override {
    absl::Status all = absl::OkStatus();
    for (int node : nodes_) all.Update(act_(world.cluster, node));
    return all;
  }
  absl::Status End(World& world) override { return undo_(world.cluster, nodes_); }
  std::string Describe() const override {
    return absl::StrCat(what_, nodes_.size() == 1 ? " node " : " nodes ", absl::StrJoin(nodes_, ", "));
  }

 private:
  const std::vector<int> nodes_;
  const char* const what_;
  const Do act_;
  const Undo undo_;
};

absl::Status Start(Cluster& cluster, const std::vector<int>& nodes) {
  return cluster.StartNodes(nodes);
}

// Kills and starts, one node at a time, without waiting for anything.
class Storm : public Fault {
 public:
  explicit Storm(std::vector<int> nodes) : nodes_(std::move(nodes)) {}
  absl::Status Begin(World&) override { return absl::OkStatus(); }
  absl::Status Tick(World& world) override {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return absl::OkStatus();
    next_ = now + std::chrono::milliseconds(world.Draw(200, 1'500));
    if (down_ != 0) {
      ++restarts_;
      return world.cluster.StartNodes({std::exchange(down_, 0)});
    }
    down_ = nodes_[world.Draw(0, nodes_.size() - 1)];
    world.cluster.Kill(down_);
    return absl::OkStatus();
  }
  absl::Status End(World& world) override {
    return down_ == 0 ? absl::OkStatus() : world.cluster.StartNodes({std::exchange(down_, 0)});
  }
  std::string Describe() const override { return "nodes killed and started, one after the other, without a pause"; }

 private:
  const std::vector<int> nodes_;
  std::chrono::steady_clock::time_point next_;
  int down_ = 0;
  int restarts_ = 0;
};

class ConsumersPause : public Fault {
 public:
  absl::Status Begin(World& world) override {
    host_ = world.Draw(0, 1) == 0 ? Workload::kQuick : Workload::kSlow;
    world.workload.Pause(host_);
    return absl::OkStatus();
  }
  absl::Status End(World& world) override {
    world.workload.Resume(host_);
    return absl::OkStatus();
  }
  std::string Describe() const override {
    return absl::StrCat("SIGSTOP to the process of the ",
                        host_ == Workload::kQuick ? "quick consumers" : "slow consumers and receivers");
  }

 private:
  int host_ = Workload::kSlow;
};

}  // namespace

std::unique_ptr<Fault> MakeKill(const std::vector<int>& nodes) {
  return std::make_unique<OnNodes>(
      nodes, "SIGKILL to",
      [](Cluster& cluster, int node) {
        cluster.Kill(node);
        return absl::OkStatus();
      },
      Start);
}
std::unique_ptr<Fault> MakeStop(const std::vector<int>& nodes) {
  return std::make_unique<OnNodes>(
      nodes, "SIGTERM to", [](Cluster& cluster, int node) { return cluster.Stop(node); }, Start);
}
// The next one takes it back.
std::unique_ptr<Fault> MakeUpgrade(const std::vector<int>& nodes) {
  return std::make_unique<OnNodes>(
      nodes, "SIGTERM, and a start as the other version, to",
      [](Cluster& cluster, int node) {
        cluster.UseOther(node, !cluster.uses_other(node));
        return cluster.Stop(node);
      },
      Start);
}
std::unique_ptr<Fault> MakePause(const std::vector<int>& nodes) {
  return std::make_unique<OnNodes>(
      nodes, "SIGSTOP to",
      [](Cluster& cluster, int node) {
        cluster.Pause(node);
        return absl::OkStatus();
      },
      [](Cluster& cluster, const std::vector<int>& paused) {
        for (int node : paused) cluster.Resume(node);
        return absl::OkStatus();
      });
}
std::unique_ptr<Fault> MakeStorm(const std::vector<int>& nodes) {
  return std::make_unique<Storm>(nodes);
}
std::unique_ptr<Fault> MakeConsumersPause(const std::vector<int>&) {
  return std::make_unique<ConsumersPause>();
}

}  // namespace trireme::failover
