// Faults of the network between hosts. Each is a rule for pairs of hosts, and its end a network without rules for them.
#include <algorithm>
#include <chrono>
#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tests/failover/faults/fault.h"

namespace trireme::failover {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// Remembers which directions it has touched.
class NetworkFault : public Fault {
 public:
  absl::Status End(World& world) override {
    for (const auto& [from, to] : touched_) world.network->SetRule(from, to, WireRule{});
    touched_.clear();
    return absl::OkStatus();
  }
  std::string Describe() const override { return text_; }

 protected:
  void Set(World& world, size_t from, size_t to, const WireRule& rule) {
    world.network->SetRule(from, to, rule);
    touched_.emplace_back(from, to);
  }
  void SetBoth(World& world, size_t one, size_t other, const WireRule& rule) {
    Set(world, one, other, rule);
    Set(world, other, one, rule);
  }
  // The hosts of everybody but this node; the harness's own is never cut off, it only looks.
  static std::vector<size_t> Others(World& world, int node, bool with_clients) {
    std::vector<size_t> hosts;
    for (int other = 1; other <= world.cluster.size(); ++other) {
      if (other != node) hosts.push_back(world.HostOf(other));
    }
    for (int client = 0; with_clients && client < Workload::kClientHosts; ++client) {
      hosts.push_back(world.HostOfClient(client));
    }
    return hosts;
  }

  static constexpr WireRule kCut{.cut = true};
  std::string text_;

 private:
  std::vector<std::pair<size_t, size_t>> touched_;
};

enum class Way : uint8_t { kBoth, kIn, kOut };

// One node against others.
class Cut : public NetworkFault {
 public:
  Cut(int node, Way way, bool from_clients) : node_(node), way_(way), from_clients_(from_clients) {
    constexpr const char* kWays[] = {"cut off from", "hears nothing from", "is heard by none of"};
    text_ = absl::StrCat("node ", node, " ", kWays[static_cast<size_t>(way)],
                         from_clients ? " the other nodes and all clients" : " the other nodes");
  }
  absl::Status Begin(World& world) override {
    for (size_t other : Others(world, node_, from_clients_)) {
      if (way_ != Way::kOut) Set(world, other, world.HostOf(node_), kCut);
      if (way_ != Way::kIn) Set(world, world.HostOf(node_), other, kCut);
    }
    return absl::OkStatus();
  }

 private:
  const int node_;
  const Way way_;
  const bool from_clients_;
};

// Two parts that do not hear each other; clients hear both.
class Split : public NetworkFault {
 public:
  absl::Status Begin(World& world) override {
    std::vector<int> nodes;
    for (int node = 1; node <= world.cluster.size(); ++node) nodes.push_back(node);
    std::shuffle(nodes.begin(), nodes.end(), world.chance);
    const size_t half = nodes.size() / 2;
    for (size_t i = 0; i < half; ++i) {
      for (size_t j = half; j < nodes.size(); ++j) SetBoth(world, world.HostOf(nodes[i]), world.HostOf(nodes[j]), kCut);
    }
    text_ = absl::StrCat("split: ", absl::StrJoin(nodes.begin(), nodes.begin() + static_cast<ptrdiff_t>(half), ", "),
                         " | ", absl::StrJoin(nodes.begin() + static_cast<ptrdiff_t>(half), nodes.end(), ", "));
    return absl::OkStatus();
  }
};

// Each node hears its two neighbours only. Of three nodes, all are neighbours: there one of the links is cut.
class Ring : public NetworkFault {
 public:
  absl::Status Begin(World& world) override {
    std::vector<int> nodes;
    for (int node = 1; node <= world.cluster.size(); ++node) nodes.push_back(node);
    std::shuffle(nodes.begin(), nodes.end(), world.chance);
    const size_t count = nodes.size();
    for (size_t i = 0; i < count; ++i) {
      for (size_t j = i + 1; j < count; ++j) {
        const bool neighbours = j == i + 1 || (i == 0 && j == count - 1 && count > 3);
        if (!neighbours) SetBoth(world, world.HostOf(nodes[i]), world.HostOf(nodes[j]), kCut);
      }
    }
    text_ = absl::StrCat(count > 3 ? "ring: " : "chain: ", absl::StrJoin(nodes, " - "));
    return absl::OkStatus();
  }
};

// Off and on, so that nothing ever settles.
class Flapping : public NetworkFault {
 public:
  explicit Flapping(int node) : node_(node) {
    text_ = absl::StrCat("node ", node, " cut off and joined again in turn");
  }
  absl::Status Begin(World& world) override { return Tick(world); }
  absl::Status Tick(World& world) override {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return absl::OkStatus();
    next_ = now + milliseconds(world.Draw(100, 1'200));
    cut_ = !cut_;
    if (!cut_) return End(world);
    for (size_t other : Others(world, node_, true)) SetBoth(world, world.HostOf(node_), other, kCut);
    return absl::OkStatus();
  }

 private:
  const int node_;
  bool cut_ = false;
  std::chrono::steady_clock::time_point next_;
};

// Clients cannot reach one node, which the other nodes can.
class ClientsCut : public NetworkFault {
 public:
  explicit ClientsCut(int node) : node_(node) { text_ = absl::StrCat("all clients cut off from node ", node); }
  absl::Status Begin(World& world) override {
    for (int client = 0; client < Workload::kClientHosts; ++client) {
      SetBoth(world, world.HostOf(node_), world.HostOfClient(client), kCut);
    }
    return absl::OkStatus();
  }

 private:
  const int node_;
};

// One client's host cannot reach any node, in both directions or one.
class ClientsAway : public NetworkFault {
 public:
  absl::Status Begin(World& world) override {
    const int client = world.Draw(0, 1) == 0 ? Workload::kQuick : Workload::kSlow;
    const auto way = static_cast<Way>(world.Draw(0, 2));
    for (int node = 1; node <= world.cluster.size(); ++node) {
      if (way != Way::kOut) Set(world, world.HostOf(node), world.HostOfClient(client), kCut);
      if (way != Way::kIn) Set(world, world.HostOfClient(client), world.HostOf(node), kCut);
    }
    constexpr const char* kWays[] = {"reach no node", "hear no node", "are heard by no node"};
    text_ = absl::StrCat("the ", client == Workload::kSlow ? "slow consumers and receivers " : "quick consumers ",
                         kWays[static_cast<size_t>(way)]);
    return absl::OkStatus();
  }
};

// The same rule between one node and all others, or between all.
class Everywhere : public NetworkFault {
 public:
  using Draw = std::function<WireRule(World&, std::string&)>;
  Everywhere(std::vector<int> nodes, Draw draw) : nodes_(std::move(nodes)), draw_(std::move(draw)) {}
  absl::Status Begin(World& world) override {
    const WireRule rule = draw_(world, text_);
    for (int node : nodes_) {
      for (size_t other : Others(world, node, true)) SetBoth(world, world.HostOf(node), other, rule);
    }
    absl::StrAppend(&text_, nodes_.size() == 1 ? absl::StrCat(" at node ", nodes_[0]) : " between all hosts");
    return absl::OkStatus();
  }

 private:
  const std::vector<int> nodes_;
  const Draw draw_;
};

}  // namespace

std::unique_ptr<Fault> MakeIsolate(const std::vector<int>& nodes) {
  return std::make_unique<Cut>(nodes[0], Way::kBoth, true);
}
std::unique_ptr<Fault> MakeCutPeers(const std::vector<int>& nodes) {
  return std::make_unique<Cut>(nodes[0], Way::kBoth, false);
}
std::unique_ptr<Fault> MakeDeaf(const std::vector<int>& nodes) {
  return std::make_unique<Cut>(nodes[0], Way::kIn, true);
}
std::unique_ptr<Fault> MakeMute(const std::vector<int>& nodes) {
  return std::make_unique<Cut>(nodes[0], Way::kOut, true);
}
std::unique_ptr<Fault> MakeSplit(const std::vector<int>&) {
  return std::make_unique<Split>();
}
std::unique_ptr<Fault> MakeRing(const std::vector<int>&) {
  return std::make_unique<Ring>();
}
std::unique_ptr<Fault> MakeFlapping(const std::vector<int>& nodes) {
  return std::make_unique<Flapping>(nodes[0]);
}
std::unique_ptr<Fault> MakeClientsCut(const std::vector<int>& nodes) {
  return std::make_unique<ClientsCut>(nodes[0]);
}
std::unique_ptr<Fault> MakeClientsAway(const std::vector<int>&) {
  return std::make_unique<ClientsAway>();
}

std::unique_ptr<Fault> MakeDelay(const std::vector<int>& nodes) {
  return std::make_unique<Everywhere>(nodes, [](World& world, std::string& text) {
    WireRule rule;
    rule.delay = microseconds(world.Draw(5'000, 100'000));
    rule.jitter = microseconds(world.Draw(0, 50'000));
    text = absl::StrCat("packets late by ", rule.delay.count() / 1'000, " to ",
                        (rule.delay + rule.jitter).count() / 1'000, " ms");
    return rule;
  });
}
std::unique_ptr<Fault> MakeLoss(const std::vector<int>& nodes) {
  return std::make_unique<Everywhere>(nodes, [](World& world, std::string& text) {
    WireRule rule;
    rule.lost = world.DrawShare(0.01, 0.2);
    text = absl::StrFormat("%.0f %% of the packets lost", rule.lost * 100);
    return rule;
  });
}
std::unique_ptr<Fault> MakeDoubling(const std::vector<int>& nodes) {
  return std::make_unique<Everywhere>(nodes, [](World& world, std::string& text) {
    WireRule rule;
    rule.doubled = world.DrawShare(0.1, 0.9);
    rule.jitter = microseconds(world.Draw(0, 20'000));
    text = absl::StrFormat("%.0f %% of the packets doubled", rule.doubled * 100);
    return rule;
  });
}
std::unique_ptr<Fault> MakeReordering(const std::vector<int>& nodes) {
  return std::make_unique<Everywhere>(nodes, [](World& world, std::string& text) {
    WireRule rule;
    rule.reordered = world.DrawShare(0.1, 0.8);
    rule.jitter = microseconds(world.Draw(1'000, 30'000));
    text = absl::StrFormat("%.0f %% of the packets overtaken", rule.reordered * 100);
    return rule;
  });
}
std::unique_ptr<Fault> MakeNarrow(const std::vector<int>& nodes) {
  return std::make_unique<Everywhere>(nodes, [](World& world, std::string& text) {
    WireRule rule;
    rule.bytes_per_second = world.Draw(100, 1'000) * 1'000;
    text = absl::StrCat("wires of ", rule.bytes_per_second / 1'000, " kB/s");
    return rule;
  });
}
std::unique_ptr<Fault> MakeWithhold(const std::vector<int>& nodes) {
  return std::make_unique<Everywhere>(nodes, [](World&, std::string& text) {
    text = "packets withheld, to arrive all at once,";
    return WireRule{.withhold = true};
  });
}

}  // namespace trireme::failover
