// The brokers under test, as processes; and who does what among them, as they say themselves.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"
#include "tests/failover/cluster/machine.h"
#include "tests/failover/cluster/process.h"
#include "tests/failover/history/history.h"
#include "tests/failover/network/host.h"

namespace trireme::failover {

struct ClusterOptions {
  // The program; and another version of it, for upgrades (empty = none).
  std::string broker;
  std::string other_broker;
  int nodes = 3;
  // Of an empty folder: each node's data lies in a folder in it.
  std::string data;
  // Where the nodes' logs go.
  std::string logs;
  // More arguments for the broker.
  std::vector<std::string> arguments = {};
  // The library that gives their clocks and disks into our hands; empty = they are left alone.
  std::string preload = {};
  // What is written and not synced can be lost (Machine::LosePower). Costs each write some time.
  bool remember_writes = false;
  // One for each node; null = all on loopback.
  const std::vector<Host>* hosts = nullptr;
  // Mounts a file system of this size, in memory, for each node's data; 0 = none. Needs a mount namespace of our own.
  uint64_t disk_mb = 0;
};

// Nodes are numbered from 1. For one thread, the one that lives longest (see Process). All that changes is written to
// the history.
class Cluster {
 public:
  // Starts the nodes and makes them a cluster; returns when every node sees all of them and a leader.
  static absl::StatusOr<std::unique_ptr<Cluster>> Start(ClusterOptions options, HistoryWriter& history);
  // Kills what runs.
  ~Cluster();

  int size() const { return static_cast<int>(nodes_.size()); }
  const std::string& address(int node) const { return nodes_[static_cast<size_t>(node - 1)].address; }
  // By commas.
  std::string servers() const;
  std::string data_folder(int node) const;
  bool Running(int node);
  // Null without the preloaded library.
  Machine* machine(int node) { return At(node).machine.get(); }
  // Null before its first start.
  Process* process(int node) { return At(node).process.get(); }
  client::Client& client() { return *client_; }

  void Kill(int node);
  // Asks it to stop and waits until it has. DEADLINE_EXCEEDED: it has not, and was killed.
  absl::Status Stop(int node);
  // Starts it and waits until it listens. FAILED_PRECONDITION: it ended instead, which is in the history.
  absl::Status StartNode(int node) { return StartNodes({node}); }
  // Those of them that do not run, at once.
  absl::Status StartNodes(const std::vector<int>& nodes);
  void Pause(int node);
  void Resume(int node);
  // What runs from the next start of this node on: the other version, or the first.
  void UseOther(int node, bool other);
  bool uses_other(int node) const { return nodes_[static_cast<size_t>(node - 1)].other; }
  // Whether it is excused when it ends by itself, or does not start, as one does that says why: with the exit codes
  // for that (docs/configuration.md), never by a signal.
  void Excuse(int node, bool excused);

  // For what a fault sees of a node. Unexpected: no promise allows it.
  void Report(int node, const std::string& what, bool unexpected) { Changed(At(node), what, unexpected); }
  // Looks for nodes that ended by themselves, and writes them down. To be called now and then.
  void Watch();

  absl::Status CreateQueue(const std::string& name);
  absl::StatusOr<v1::DescribeQueueResponse> Describe(const std::string& queue);
  // What each node that holds the queue says of its own replica; index 0 from those that do not answer.
  absl::StatusOr<std::vector<Replica>> ReplicasOf(uint32_t number, const std::string& queue);
  // The numbers of nodes. UNAVAILABLE: nobody leads, as far as the cluster says.
  absl::StatusOr<int> LeaderOf(const std::string& queue);
  absl::StatusOr<int> MetadataLeader();
  // Waits until every node sees all of them up, and a leader of the metadata group. DEADLINE_EXCEEDED says what is
  // missing.
  absl::Status WaitComplete(std::chrono::milliseconds timeout);
  // As the brokers say it.
  absl::StatusOr<std::string> Version();

 private:
  struct Node {
    int number = 0;
    std::string address;
    std::string data;
    std::string log;
    std::unique_ptr<Machine> machine;
    std::unique_ptr<Process> process;
    bool other = false;
    // It runs, as far as we have made it.
    bool wanted = false;
    bool excused = false;
  };

  Cluster(ClusterOptions options, HistoryWriter& history) : options_(std::move(options)), history_(history) {}

  absl::Status Prepare();
  absl::Status Launch(Node& node);
  absl::Status AwaitListening(Node& node);
  Node& At(int node) { return nodes_[static_cast<size_t>(node - 1)]; }
  absl::StatusOr<int> NodeAt(const std::string& address) const;
  void Changed(const Node& node, const std::string& what, bool unexpected = false);

  const ClusterOptions options_;
  HistoryWriter& history_;
  std::vector<Node> nodes_;
  std::unique_ptr<client::Client> client_;
};

}  // namespace trireme::failover
