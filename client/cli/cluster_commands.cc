#include <cstdio>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/replicas.h"

namespace trireme::client {
namespace {

std::string ConditionText(v1::NodeCondition condition) {
  switch (condition) {
    case v1::NODE_CONDITION_EXPECTED:
      return "expected";
    case v1::NODE_CONDITION_UP:
      return "up";
    case v1::NODE_CONDITION_DOWN:
      return "down";
    default:
      return "unknown";
  }
}

template <typename Nodes>
Json NodesJson(const Nodes& nodes) {
  Json list = Json::array();
  for (const v1::NodeInfo& node : nodes) {
    list.push_back({{"node", node.node_id()},
                    {"address", node.address()},
                    {"condition", ConditionText(node.condition())},
                    {"metadata_leader", node.metadata_leader()},
                    {"replicas", node.replicas()},
                    {"leaders", node.leaders()},
                    {"catching_up", node.catching_up()}});
  }
  return list;
}

template <typename Nodes>
std::string NodesTable(const Nodes& nodes) {
  Table table({"NODE", "ADDRESS", "CONDITION", "REPLICAS", "CATCHING UP", "LEADS", "METADATA"});
  for (const v1::NodeInfo& node : nodes) {
    table.Add({absl::StrCat(node.node_id()), node.address(), ConditionText(node.condition()),
               absl::StrCat(node.replicas()), absl::StrCat(node.catching_up()), absl::StrCat(node.leaders()),
               node.metadata_leader() ? "leader" : ""});
  }
  return table.Text();
}

absl::StatusOr<std::string> RandomClusterId() {
  std::ifstream random("/dev/urandom", std::ios::binary);
  std::string id(16, '\0');
  if (!random.read(id.data(), static_cast<std::streamsize>(id.size()))) {
    return absl::InternalError("/dev/urandom cannot be read; give --cluster-id");
  }
  return id;
}

void PrintCluster(const Command& command, const std::string& id, const std::string& nodes, const Json& json) {
  if (command.json()) {
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s\n%s", id.c_str(), nodes.c_str());
  }
}

int Init(Command& command, const std::string& hex) {
  absl::StatusOr<std::string> id = hex.empty() ? RandomClusterId() : ParseClusterId(hex);
  if (!id.ok()) return command.Fail(id.status());
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  if (hex.empty()) {
    // A repeat without the id must not offer the members of a cluster another one.
    absl::StatusOr<v1::StatusResponse> status = client->ClusterStatus();
    if (!status.ok()) return command.Fail(status.status());
    if (status->node_id() != 0) {
      const std::string there = Hex(status->cluster_id());
      PrintCluster(command, absl::StrCat("is already cluster ", there), NodesTable(status->nodes()),
                   {{"cluster_id", there}, {"already", true}, {"nodes", NodesJson(status->nodes())}});
      return kExitOk;
    }
  }
  // One node, and the same id at each try (Safety rule 23): the next node is asked only when this one does not answer.
  absl::StatusOr<v1::InitResponse> response = client->InitCluster(*id);
  if (!response.ok()) {
    const int code = command.Fail(response.status());
    if (code == kExitNoAnswer)
      std::fprintf(stderr, "To try again with the same cluster: trireme cluster init --cluster-id %s\n",
                   Hex(*id).c_str());
    return code;
  }
  // The answer to an init knows addresses only.
  absl::StatusOr<v1::StatusResponse> status = client->ClusterStatus();
  const bool known = status.ok() && status->node_id() != 0 && status->cluster_id() == response->cluster_id();
  const auto& nodes = known ? status->nodes() : response->nodes();
  PrintCluster(command, absl::StrCat("cluster ", Hex(response->cluster_id())), NodesTable(nodes),
               {{"cluster_id", Hex(response->cluster_id())}, {"already", false}, {"nodes", NodesJson(nodes)}});
  return kExitOk;
}

int Status(Command& command, bool wait) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::Status caught_up;
  std::vector<std::string> behind;
  if (wait) caught_up = WaitUntilCaughtUp(command, *client, behind);
  absl::StatusOr<v1::StatusResponse> status = client->ClusterStatus();
  if (!status.ok()) return command.Fail(status.status());
  if (command.json()) {
    Json json = {{"cluster_id", Hex(status->cluster_id())},    {"node", status->node_id()},
                 {"initiator", status->initiator()},           {"version", status->version()},
                 {"metadata_index", status->metadata_index()}, {"queues", status->queues()},
                 {"nodes", NodesJson(status->nodes())}};
    if (wait) {
      json["caught_up"] = caught_up.ok();
      json["behind"] = behind;
    }
    return command.Finish(std::move(json), caught_up);
  }
  if (status->cluster_id().empty()) {
    std::printf("This node waits to become part of a cluster. Next: trireme cluster init\n");
  } else if (status->node_id() == 0) {
    const std::string id = Hex(status->cluster_id());
    std::printf(
        "This node is pledged to cluster %s, whose init was begun at %s and has not ended.\n"
        "Next: trireme cluster init --cluster-id %s\n",
        id.c_str(), status->initiator().c_str(), id.c_str());
  } else {
    std::printf("cluster %s, %u queues, version %s, as node %llu knows at metadata index %llu\n%s",
                Hex(status->cluster_id()).c_str(), status->queues(), status->version().c_str(),
                static_cast<unsigned long long>(status->node_id()),
                static_cast<unsigned long long>(status->metadata_index()), NodesTable(status->nodes()).c_str());
  }
  if (!caught_up.ok()) return command.Fail(caught_up);
  if (wait) std::printf("every node is up, and every replica has caught up\n");
  return kExitOk;
}

int ReplaceNode(Command& command, uint64_t node, const std::string& address) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::ReplaceNodeResponse> response = client->ReplaceNode(node, address);
  if (!response.ok()) return command.Fail(response.status());
  if (command.json()) {
    const Json json = {{"node", response->node_id()},
                       {"address", response->address()},
                       {"replaces", node},
                       {"metadata_index", response->metadata_index()}};
    std::printf("%s\n", json.dump(2).c_str());
    return kExitOk;
  }
  std::printf(
      "node %llu takes the place of node %llu\n"
      "Next: start it at %s with --join and an empty data directory, and watch CATCHING UP in `trireme cluster "
      "status`\n",
      static_cast<unsigned long long>(response->node_id()), static_cast<unsigned long long>(node),
      response->address().c_str());
  return kExitOk;
}

int ReplaceReplica(Command& command, const std::string& queue, uint64_t node) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::ReplaceReplicaResponse> response = client->ReplaceReplica(queue, node);
  if (!response.ok()) return command.Fail(response.status());
  if (command.json()) {
    const Json json = {{"queue", queue}, {"node", node}, {"replica", response->replica_id()}};
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("queue %s gets another replica on node %llu\n", queue.c_str(), static_cast<unsigned long long>(node));
  }
  return kExitOk;
}

}  // namespace

void AddClusterCommands(CLI::App& app, Command& command) {
  CLI::App* cluster = command.AddGroup(app, "cluster", "Make a cluster of waiting nodes; look at one");
  auto id = std::make_shared<std::string>();
  CLI::App* init = command.Add(cluster, "init", "Make the nodes that wait for each other one cluster; may be repeated",
                               "  trireme cluster init\n"
                               "  trireme --server 10.0.0.1:7650 cluster init --output json\n"
                               "  trireme cluster init --cluster-id 000102030405060708090a0b0c0d0e0f\n",
                               [&command, id] { return Init(command, *id); });
  init->add_option("--cluster-id", *id,
                   "32 hexadecimal digits; made by chance if not given. To repeat an init whose answer was lost");
  auto wait = std::make_shared<bool>(false);
  CLI::App* status = command.Add(cluster, "status", "Print what the asked node knows of the cluster",
                                 "  trireme cluster status\n"
                                 "  trireme cluster status --output json\n"
                                 "  trireme --timeout 600 cluster status --wait    # before the next node is stopped\n",
                                 [&command, wait] { return Status(command, *wait); });
  status->add_flag("--wait", *wait,
                   "First wait, up to --timeout, until every node is up and every replica has what its leader had");
  struct Replaced {
    uint64_t node = 0;
    std::string address, queue;
  };
  auto replaced = std::make_shared<Replaced>();
  CLI::App* node =
      command.Add(cluster, "replace-node", "Let a node in that takes the place of one whose data directory is lost",
                  "  trireme cluster replace-node 3\n"
                  "  trireme cluster replace-node 3 --address 10.0.0.7:7650\n",
                  [&command, replaced] { return ReplaceNode(command, replaced->node, replaced->address); });
  node->add_option("node", replaced->node, "The lost node's number in `trireme cluster status`")->required();
  node->add_option("--address", replaced->address,
                   "Where the one that comes is reached; as the lost one, if not given");
  CLI::App* replica = command.Add(
      cluster, "replace-replica", "Build one queue's replica on a node anew, when it is damaged or was stopped",
      "  trireme cluster replace-replica orders 3\n",
      [&command, replaced] { return ReplaceReplica(command, replaced->queue, replaced->node); });
  replica->add_option("queue", replaced->queue, "The queue")->required();
  replica->add_option("node", replaced->node, "The node whose replica is to be replaced")->required();
}

}  // namespace trireme::client
