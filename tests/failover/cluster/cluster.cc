#include "tests/failover/cluster/cluster.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace trireme::failover {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kPort = 7650;
constexpr seconds kStartTime{60}, kStopTime{30};
// For one node to say how far its replica is.
constexpr seconds kReplicaPatience{5};

int TryPort(int port, bool connect) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  const int result = connect ? ::connect(fd, generic, sizeof address) : ::bind(fd, generic, sizeof address);
  ::close(fd);
  return result;
}

// Ports below those that the kernel gives to outgoing connections: else one could be taken while its node is down.
absl::StatusOr<std::vector<int>> FreePorts(size_t count) {
  int below = 32'768;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> below;
  if (below < 4'096) below = 32'768;
  std::mt19937 chance(std::random_device{}());
  std::uniform_int_distribution<int> draw(std::max(1'024, below - 16'000), below - 1);
  std::vector<int> ports;
  for (int tries = 0; tries < 2'000 && ports.size() < count; ++tries) {
    const int port = draw(chance);
    if (std::find(ports.begin(), ports.end(), port) == ports.end() && TryPort(port, false) == 0) ports.push_back(port);
  }
  if (ports.size() < count) return absl::UnavailableError(absl::StrCat("found no ", count, " free ports"));
  return ports;
}

bool Listening(const std::string& address) {
  const size_t colon = address.rfind(':');
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(colon + 1))));
  ::inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const bool connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  ::close(fd);
  return connected;
}

// "It cannot start", and "it cannot go on".
bool SaysWhy(const std::string& ended) {
  return ended == "exit code 69" || ended == "exit code 70";
}

std::string LastLines(const std::string& path, size_t bytes) {
  std::ifstream file(path, std::ios::ate);
  const auto size = static_cast<size_t>(std::max<std::streamoff>(0, file.tellg()));
  file.seekg(static_cast<std::streamoff>(size > bytes ? size - bytes : 0));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Cluster>> Cluster::Start(ClusterOptions options, HistoryWriter& history) {
  std::unique_ptr<Cluster> cluster(new Cluster(std::move(options), history));
  if (absl::Status ready = cluster->Prepare(); !ready.ok()) return ready;
  for (Node& node : cluster->nodes_) {
    if (absl::Status launched = cluster->Launch(node); !launched.ok()) return launched;
  }
  std::vector<std::string> addresses;
  for (Node& node : cluster->nodes_) {
    addresses.push_back(node.address);
    if (absl::Status listens = cluster->AwaitListening(node); !listens.ok()) return listens;
  }
  client::ClientOptions client;
  client.servers = addresses;
  client.call_timeout = seconds(10);
  absl::StatusOr<std::unique_ptr<client::Client>> made = client::Client::Create(std::move(client));
  if (!made.ok()) return made.status();
  cluster->client_ = *std::move(made);
  std::string id(16, '\0');
  std::random_device random;
  for (char& byte : id) byte = static_cast<char>(random());
  absl::StatusOr<v1::InitResponse> init = cluster->client_->InitCluster(id);
  if (!init.ok()) return init.status();
  if (absl::Status complete = cluster->WaitComplete(kStartTime); !complete.ok()) return complete;
  return cluster;
}

Cluster::~Cluster() {
  client_.reset();
  nodes_.clear();
}

absl::Status Cluster::Prepare() {
  std::vector<int> ports;
  if (options_.hosts == nullptr) {
    absl::StatusOr<std::vector<int>> free = FreePorts(static_cast<size_t>(options_.nodes));
    if (!free.ok()) return free.status();
    ports = *std::move(free);
  }
  std::error_code error;
  for (int number = 1; number <= options_.nodes; ++number) {
    const auto index = static_cast<size_t>(number - 1);
    Node node;
    node.number = number;
    node.address = options_.hosts == nullptr ? absl::StrCat("127.0.0.1:", ports[index])
                                             : absl::StrCat((*options_.hosts)[index].address(), ":", kPort);
    node.data = absl::StrCat(options_.data, "/node-", number);
    node.log = absl::StrCat(options_.logs, "/node-", number, ".log");
    std::filesystem::create_directories(node.data, error);
    if (error) return absl::InternalError(absl::StrCat("cannot make ", node.data, ": ", error.message()));
    if (options_.disk_mb > 0 && ::mount("trireme-failover", node.data.c_str(), "tmpfs", 0,
                                        absl::StrCat("size=", options_.disk_mb, "m").c_str()) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot mount a tmpfs on ", node.data));
    }
    if (!options_.preload.empty()) {
      absl::StatusOr<std::unique_ptr<Machine>> machine =
          Machine::Make(options_.preload, node.data, absl::StrCat(options_.data, "/machine-", number));
      if (!machine.ok()) return machine.status();
      node.machine = *std::move(machine);
      node.machine->control().remember = options_.remember_writes ? 1 : 0;
    }
    nodes_.push_back(std::move(node));
  }
  return absl::OkStatus();
}

std::string Cluster::servers() const {
  return absl::StrJoin(nodes_, ",", [](std::string* out, const Node& node) { *out += node.address; });
}

std::string Cluster::data_folder(int node) const {
  return nodes_[static_cast<size_t>(node - 1)].data;
}

absl::Status Cluster::Launch(Node& node) {
  Command command;
  command.arguments = {node.other ? options_.other_broker : options_.broker,
                       "--data",
                       node.data + "/data",
                       "--listen",
                       node.address,
                       "--advertise",
                       node.address,
                       "--join",
                       servers()};
  command.arguments.insert(command.arguments.end(), options_.arguments.begin(), options_.arguments.end());
  if (node.machine != nullptr) command.environment = node.machine->environment();
  command.log = node.log;
  if (options_.hosts != nullptr) {
    command.namespace_fd = (*options_.hosts)[static_cast<size_t>(node.number - 1)].namespace_fd();
  }
  absl::StatusOr<std::unique_ptr<Process>> process = Process::Start(command);
  if (!process.ok()) return process.status();
  node.process = *std::move(process);
  node.wanted = true;
  Changed(node, node.other ? "started, the other version" : "started");
  return absl::OkStatus();
}

absl::Status Cluster::AwaitListening(Node& node) {
  const auto deadline = std::chrono::steady_clock::now() + kStartTime;
  while (!Listening(node.address)) {
    if (auto ended = node.process->Ended(); ended.has_value()) {
      node.wanted = false;
      Changed(node, absl::StrCat("did not start: ", *ended), !node.excused || !SaysWhy(*ended));
      return absl::FailedPreconditionError(absl::StrCat("node ", node.number, " ended with ", *ended,
                                                        " as it started; the end of its log, ", node.log, ":\n",
                                                        LastLines(node.log, 2'000)));
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("node ", node.number, " does not listen on ", node.address,
                                                      " after ", kStartTime.count(), " s; its log: ", node.log));
    }
    std::this_thread::sleep_for(milliseconds(5));
  }
  Changed(node, "serves");
  return absl::OkStatus();
}

bool Cluster::Running(int node) {
  return At(node).process != nullptr && At(node).process->Running();
}

void Cluster::Kill(int node) {
  if (!At(node).wanted) return;
  At(node).wanted = false;
  At(node).process->Signal(SIGKILL);
  At(node).process->WaitEnded(kStopTime);
  Changed(At(node), "killed");
}

absl::Status Cluster::Stop(int node) {
  Node& stopped = At(node);
  if (!stopped.wanted) return absl::OkStatus();
  stopped.wanted = false;
  // One that another fault has paused could not hear it.
  stopped.process->Signal(SIGCONT);
  stopped.process->Signal(SIGTERM);
  const std::optional<std::string> ended = stopped.process->WaitEnded(kStopTime);
  if (!ended.has_value()) {
    stopped.process->Signal(SIGKILL);
    stopped.process->WaitEnded(kStopTime);
    Changed(stopped, absl::StrCat("had not stopped ", kStopTime.count(), " s after SIGTERM, and was killed"), true);
    return absl::DeadlineExceededError(absl::StrCat("node ", node, " did not stop"));
  }
  const bool clean = *ended == "exit code 0";
  Changed(stopped, clean ? "stopped" : absl::StrCat("was told to stop, and ended with ", *ended), !clean);
  return absl::OkStatus();
}

absl::Status Cluster::StartNodes(const std::vector<int>& nodes) {
  std::vector<int> launched;
  for (int node : nodes) {
    if (At(node).wanted) continue;
    if (absl::Status started = Launch(At(node)); !started.ok()) return started;
    launched.push_back(node);
  }
  absl::Status all = absl::OkStatus();
  for (int node : launched) all.Update(AwaitListening(At(node)));
  return all;
}

void Cluster::Pause(int node) {
  if (!At(node).wanted) return;
  At(node).process->Signal(SIGSTOP);
  Changed(At(node), "paused");
}

void Cluster::Resume(int node) {
  if (!At(node).wanted) return;
  At(node).process->Signal(SIGCONT);
  Changed(At(node), "resumed");
}

void Cluster::UseOther(int node, bool other) {
  At(node).other = other && !options_.other_broker.empty();
}

void Cluster::Excuse(int node, bool excused) {
  At(node).excused = excused;
}

void Cluster::Watch() {
  for (Node& node : nodes_) {
    if (!node.wanted) continue;
    if (auto ended = node.process->Ended(); ended.has_value()) {
      node.wanted = false;
      const bool may = node.excused && SaysWhy(*ended);
      Changed(node, absl::StrCat("ended by itself: ", *ended, may ? ", as it may" : ""), !may);
    }
  }
}

void Cluster::Changed(const Node& node, const std::string& what, bool unexpected) {
  history_.Append(NodeChanged{static_cast<uint32_t>(node.number), unexpected, what});
}

absl::Status Cluster::CreateQueue(const std::string& name) {
  v1::CreateQueueRequest request;
  request.set_name(name);
  return client_->CreateQueue(request).status();
}

absl::StatusOr<v1::DescribeQueueResponse> Cluster::Describe(const std::string& queue) {
  return client_->DescribeQueue(queue);
}

absl::StatusOr<std::vector<Replica>> Cluster::ReplicasOf(uint32_t number, const std::string& queue) {
  absl::StatusOr<v1::DescribeQueueResponse> about = Describe(queue);
  if (!about.ok()) return about.status();
  std::vector<Replica> replicas;
  for (const v1::ReplicaPlace& place : about->queue().replicas()) {
    const absl::StatusOr<int> node = NodeAt(place.address());
    if (!node.ok()) return node.status();
    Replica one{number, static_cast<uint32_t>(*node), 0, 0};
    const absl::StatusOr<v1::DescribeReplicaResponse> state =
        client_->DescribeReplica(queue, place.address(), kReplicaPatience);
    if (state.ok()) {
      one.index = state->applied_index();
      one.digest = state->digest();
    }
    replicas.push_back(one);
  }
  return replicas;
}

absl::StatusOr<int> Cluster::NodeAt(const std::string& address) const {
  for (const Node& node : nodes_) {
    if (node.address == address) return node.number;
  }
  return absl::UnavailableError(absl::StrCat("nobody leads, as far as the cluster says ('", address, "')"));
}

absl::StatusOr<int> Cluster::LeaderOf(const std::string& queue) {
  absl::StatusOr<v1::ResolveResponse> resolved = client_->Resolve(queue);
  if (!resolved.ok()) return resolved.status();
  return NodeAt(resolved->leader().address());
}

absl::StatusOr<int> Cluster::MetadataLeader() {
  absl::StatusOr<v1::StatusResponse> status = client_->ClusterStatus();
  if (!status.ok()) return status.status();
  for (const v1::NodeInfo& node : status->nodes()) {
    if (node.metadata_leader()) return NodeAt(node.address());
  }
  return absl::UnavailableError("the cluster names no leader of the metadata group");
}

absl::Status Cluster::WaitComplete(milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::string missing;
  while (true) {
    missing.clear();
    for (const Node& node : nodes_) {
      absl::StatusOr<v1::StatusResponse> status = client_->ClusterStatus(node.address);
      if (!status.ok()) {
        missing = absl::StrCat("node ", node.number, " does not answer: ", status.status().ToString());
        break;
      }
      const auto& seen = status->nodes();
      const auto up = std::count_if(seen.begin(), seen.end(),
                                    [](const v1::NodeInfo& info) { return info.condition() == v1::NODE_CONDITION_UP; });
      const bool led =
          std::any_of(seen.begin(), seen.end(), [](const v1::NodeInfo& info) { return info.metadata_leader(); });
      if (up != size() || !led) {
        missing =
            absl::StrCat("node ", node.number, " sees ", up, " nodes up of ", size(), led ? "" : " and no leader");
        break;
      }
    }
    if (missing.empty()) return absl::OkStatus();
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("after ", timeout.count(), " ms ", missing));
    }
    std::this_thread::sleep_for(milliseconds(50));
  }
}

absl::StatusOr<std::string> Cluster::Version() {
  absl::StatusOr<v1::StatusResponse> status = client_->ClusterStatus();
  if (!status.ok()) return status.status();
  return status->version();
}

}  // namespace trireme::failover
