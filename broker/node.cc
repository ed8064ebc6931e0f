#include "broker/node.h"

#include <grpc/support/log.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "broker/channels.h"
#include "broker/cluster/announced.h"
#include "broker/cluster/stopped_replicas.h"
#include "broker/cluster_service.h"
#include "broker/health.h"
#include "broker/node_metrics.h"
#include "broker/node_shard.h"
#include "broker/node_table.h"
#include "broker/ops/exit_code.h"
#include "broker/ops/log.h"
#include "broker/ops/ops_server.h"
#include "broker/reflection.h"
#include "raft/core/check.h"
#include "raft/grpc/frame.h"
#include "raft/grpc/peer_service.h"
#include "raft/grpc/raw_server.h"
#include "storage/store.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;

// A clean stop: streams have this long to hear of it, and calls under way this much more to end.
constexpr absl::Duration kDrainTime = absl::Milliseconds(200);
constexpr std::chrono::milliseconds kShutdownTime{300};
static_assert(kMostMessageBytes + (size_t{1} << 20) <= raft::kFrameBytesMax);

std::vector<std::string> ServiceNames() {
  return {"trireme.v1.Broker",
          "trireme.v1.Admin",
          "trireme.v1.Cluster",
          "grpc.health.v1.Health",
          "grpc.reflection.v1.ServerReflection",
          "grpc.reflection.v1alpha.ServerReflection"};
}

// gRPC's own complaints, in our log.
void LogOfGrpc(gpr_log_func_args* args) {
  LogLevel level = args->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarn : LogLevel::kDebug;
  Log(level, "grpc", "said", args->message, "file", args->file, "line", args->line);
}

// Safety rule 16. Not by way of Run and Stop: they would wait for writes that never end, and say to clients and peers
// what is not known to be so.
[[noreturn]] void EndForFailedDisk(const std::string& data, const absl::Status& status) {
  Log(LogLevel::kError, "the disk failed, and so this node ends at once; what it has confirmed is safe", "error",
      status, "data", data, "next",
      "make sure that the file system of the data directory works and has room, then start the node again: it takes "
      "up its log where it ends, and what it lacks comes from the other nodes");
  std::_Exit(kExitCannotGoOn);
}

class NodeImpl final : public Node, public NodeContext, public ReplicaHosting {
 public:
  explicit NodeImpl(const Config& config) : config_(config) {}
  ~NodeImpl() override { Stop(); }

  absl::Status Begin(const ApiFactory& api);
  absl::Status Run() override;

 private:
  // NodeContext
  const Config& config() const override { return config_; }
  const std::vector<raft::CompletionQueueShard*>& shards() const override { return loops_; }
  raft::CompletionQueueShard* shard_of(raft::GroupId group) const override {
    return loops_[ShardOf(group, loops_.size())];
  }
  Cluster& cluster() override { return *cluster_; }
  std::shared_ptr<grpc::Channel> channel(const std::string& address) override { return channels_.Get(address); }
  const DiskMonitor& disk() const override { return *disk_; }
  prometheus::Registry& metrics() override { return registry_; }
  raft::NodeId self() const override { return raft::NodeId(self_.load(std::memory_order_acquire)); }
  uint64_t incarnation() const override { return incarnation_.load(std::memory_order_relaxed); }
  std::vector<LackingNode> lacking(const std::vector<raft::NodeId>& nodes, uint32_t version) const override {
    return table_.Lacking(nodes, version);
  }
  raft::Host* host(raft::ShardId shard) override { return shards_[shard]->host(); }
  Leaders* leaders(raft::ShardId shard) override { return shards_[shard]->leaders(); }
  bool Hears(raft::ShardId shard, raft::NodeId node) const override {
    const raft::GrpcTransport* transport = shards_[shard]->transport();
    return transport != nullptr && transport->Up(node);
  }

  // ReplicaHosting
  void BecomeMember(const meta::Identity& identity, absl::AnyInvocable<void()> done) override;
  absl::StatusOr<raft::Group*> StartMetadata(const raft::GroupSpec& spec, std::unique_ptr<raft::StateMachine> machine,
                                             std::optional<raft::StoredGroup> stored) override;
  void StartReplica(QueuePtr queue, const raft::GroupSpec& spec, std::optional<raft::StoredGroup> stored) override;
  void InformReplica(const QueueInfo& queue) override;
  void DeleteReplica(raft::GroupId group, bool running) override;
  void NodesChanged(const std::string& cluster_id, const std::vector<NodeRecord>& nodes) override;
  bool Up(raft::NodeId node) const override;
  void CountLeaders(absl::AnyInvocable<void(std::map<raft::NodeId, uint32_t>)> done) override;
  void Fatal(absl::Status status) override { End(std::move(status)); }

  absl::Status OpenData();
  absl::Status StartServer(const ApiFactory& api);
  absl::Status StartOps();
  void EachSecond();
  void RememberAnnounced();
  void LookAtCluster() ABSL_LOCKS_EXCLUDED(heard_mutex_);
  std::string WhyUnready() const;
  std::optional<std::vector<prometheus::MetricFamily>> QueueMetrics();
  absl::Status Condemn(absl::Status why);
  void End(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);
  void HandOver();
  void Stop();
  NodeShard& Of(raft::GroupId group) { return *shards_[ShardOf(group, shards_.size())]; }
  NodeShard& home() { return Of(kMetadataGroup); }
  // On each shard's thread.
  template <typename Act>
  void OnEachShard(Act act) {
    for (auto& shard : shards_) {
      shard->loop()->Post([shard = shard.get(), act]() mutable { act(*shard); });
    }
  }

  const Config config_;
  prometheus::Registry registry_;
  NodeMetrics metrics_{&registry_};
  Channels channels_;
  NodeTable table_;
  std::unique_ptr<DataDirectory> directory_;
  std::unique_ptr<DiskMonitor> disk_;
  std::unique_ptr<storage::Store> store_;
  Health health_{ServiceNames()};
  raft::RawService service_;
  std::optional<raft::PeerService> peer_service_;
  std::unique_ptr<grpc::Server> server_;
  std::vector<std::unique_ptr<NodeShard>> shards_;
  std::vector<raft::CompletionQueueShard*> loops_;
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<ApiServices> api_;
  std::unique_ptr<OpsServer> ops_;
  std::atomic<uint64_t> incarnation_{0};  // written before self_
  std::atomic<uint64_t> self_{0};
  std::atomic<bool> serving_{false};
  std::atomic<bool> leaving_{false};
  bool loops_running_ = false;

  // The home shard reads the file before this node is a member, the ops thread writes it from then on.
  std::optional<AnnouncedFile> announced_file_;
  std::unique_ptr<StoppedReplicas> stopped_;
  uint64_t opened_ = 0;  // how far the store was synced, as it was found
  absl::Mutex heard_mutex_;
  std::vector<NodeRecord> nodes_ ABSL_GUARDED_BY(heard_mutex_);
  std::map<raft::NodeId, raft::NodeMemory> heard_ ABSL_GUARDED_BY(heard_mutex_);
  // As of a second ago.
  std::string unready_ ABSL_GUARDED_BY(heard_mutex_) = "this node starts";

  absl::Mutex mutex_;
  // Set once, when the node is to stop: OK for a signal.
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

// ---------------------------------------------------------------- start and stop

absl::Status NodeImpl::Begin(const ApiFactory& api) {
  if (absl::Status level = SetLogLevel(config_.log_level); !level.ok()) return level;
  gpr_set_log_function(&LogOfGrpc);
  if (absl::Status opened = OpenData(); !opened.ok()) return opened;
  if (absl::Status started = StartServer(api); !started.ok()) return started;
  return StartOps();
}

absl::Status NodeImpl::OpenData() {
  auto directory = DataDirectory::Open(config_.data, config_.advertise);
  if (!directory.ok()) return directory.status();
  directory_ = *std::move(directory);
  announced_file_.emplace(config_.data);
  auto stopped = StoppedReplicas::Open(config_.data);
  if (!stopped.ok()) return stopped.status();
  stopped_ = *std::move(stopped);
  disk_ = std::make_unique<DiskMonitor>(config_.data, config_.low_disk_bytes);
  storage::StoreOptions options;
  options.directory = absl::StrCat(config_.data, "/store");
  options.young_budget_bytes = config_.young_log_bytes;
  // The store is made before any pledge is.
  options.must_exist = !directory_->identity().cluster_id().empty();
  options.fatal = [data = config_.data](const absl::Status& status) { EndForFailedDisk(data, status); };
  auto store = storage::Store::Open(options);
  if (!store.ok()) {
    return absl::Status(store.status().code(), absl::StrCat("the store: ", store.status().message()));
  }
  store_ = *std::move(store);
  opened_ = store_->last_synced();
  // Safety rule 12, as far as this directory itself can know.
  const uint64_t synced = announced_file_->SyncedOf(directory_->identity().directory_id());
  if (opened_ >= synced) return absl::OkStatus();
  return Condemn(absl::DataLossError(absl::StrCat(
      "the store in ", options.directory, " has ", opened_, " writes, but had ", synced,
      " before: its disk lost writes, or it was restored from an older copy, so this node may have forgotten votes and "
      "messages. Take it out of the cluster, and let it join with an empty data directory")));
}

// Before anything else can happen to it.
absl::Status NodeImpl::Condemn(absl::Status why) {
  absl::Status marked = DataDirectory::Condemn(config_.data, why);
  if (!marked.ok()) Log(LogLevel::kError, "the data directory cannot be marked as one that forgot", "why", marked);
  return why;
}

absl::Status NodeImpl::StartServer(const ApiFactory& api) {
  grpc::ServerBuilder builder;
  raft::ConfigurePeerServer(&builder);
  builder.SetMaxReceiveMessageSize(kMaxGrpcMessageBytes);
  builder.AddListeningPort(config_.listen, grpc::InsecureServerCredentials());
  uint32_t shards = config_.shards;
  for (raft::ShardId id = 0; id < shards; ++id) {
    shards_.push_back(std::make_unique<NodeShard>(id, builder.AddCompletionQueue(), &channels_));
    loops_.push_back(shards_.back()->loop());
  }

  Cluster::Options options;
  options.formation.join = config_.join;
  std::vector<raft::StoredGroup> stored = store_->Recover();
  size_t groups = stored.size();
  cluster_ =
      std::make_unique<Cluster>(options, directory_.get(), std::vector<raft::Shard*>(loops_.begin(), loops_.end()),
                                home().client(), this, std::move(stored));
  peer_service_.emplace(&service_, &table_);
  RegisterClusterServices(service_, cluster_.get());
  RegisterReflection(service_, ServiceNames());
  health_.Register(service_);
  api_ = api(this);
  api_->Register(service_);
  service_.Register(&builder);

  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", config_.listen, ": the address is in use, or not one of this machine's"));
  }
  // From here on it is the home shard's.
  const meta::Identity identity = directory_->identity();
  for (raft::CompletionQueueShard* loop : loops_) loop->Start();
  loops_running_ = true;
  for (raft::CompletionQueueShard* loop : loops_) service_.Listen(loop);
  api_->Start();
  cluster_->Start();
  serving_ = true;
  Log(LogLevel::kInfo, "listening", "version", TRIREME_VERSION, "listen", config_.listen, "advertise",
      config_.advertise, "data", config_.data, "directory", ToHex(identity.directory_id()), "incarnation",
      identity.starts(), "shards", shards, "stored_groups", groups);
  return absl::OkStatus();
}

absl::Status NodeImpl::StartOps() {
  OpsServer::Options options;
  options.metrics_listen = config_.metrics_listen;
  OpsServer::Handlers handlers;
  handlers.signalled = [this](int number) {
    Log(LogLevel::kInfo, "stopping", "signal", number == SIGTERM ? "SIGTERM" : "SIGINT");
    End(absl::OkStatus());
  };
  handlers.each_second = [this] { EachSecond(); };
  handlers.healthy = [this] { return serving_.load(); };
  handlers.unready = [this]() -> std::string {
    if (leaving_ || !serving_) return "this node stops";
    absl::MutexLock lock(&heard_mutex_);
    return unready_;
  };
  handlers.queues = [this] { return QueueMetrics(); };
  auto ops = OpsServer::Start(std::move(options), &registry_, std::move(handlers));
  if (!ops.ok()) return ops.status();
  ops_ = *std::move(ops);
  if (ops_->port() != 0) {
    Log(LogLevel::kInfo, "serving metrics", "listen", config_.metrics_listen, "port", ops_->port());
  }
  return absl::OkStatus();
}

void NodeImpl::EachSecond() {
  disk_->Check();
  metrics_.Take(*disk_);
  metrics_.TakeRefusedStreams(peer_service_->refused());
  metrics_.Take(store_->figures());
  OnEachShard([this](NodeShard& shard) { shard.Measure(metrics_); });
  home().loop()->Post([this] { LookAtCluster(); });
  OnEachShard([this](NodeShard& shard) {
    if (shard.host() == nullptr) return;
    absl::MutexLock lock(&heard_mutex_);
    for (const auto& [node, memory] : shard.host()->announced()) {
      raft::NodeMemory& heard = heard_[node];
      heard = {std::max(heard.synced, memory.synced), std::max(heard.incarnation, memory.incarnation),
               heard.forgot || memory.forgot};
    }
  });
  OnEachShard([this](NodeShard& shard) {
    shard.KeepMembers(cluster_->view(shard.loop()->id()),
                      [this](raft::GroupId group, const auto& members) { cluster_->ReportMembers(group, members); });
  });
  RememberAnnounced();
}

// On the ops thread, which waits for the shards.
std::optional<std::vector<prometheus::MetricFamily>> NodeImpl::QueueMetrics() {
  struct Gathered {
    absl::Mutex mutex;
    size_t waiting;
    std::vector<prometheus::MetricFamily> families;
    absl::Notification all;
  };
  auto gathered = std::make_shared<Gathered>();
  gathered->waiting = shards_.size();
  OnEachShard([this, gathered](NodeShard& shard) {
    api_->QueueMetrics(shard.loop()->id(), [gathered](std::vector<prometheus::MetricFamily> families) {
      absl::MutexLock lock(&gathered->mutex);
      if (gathered->families.empty()) {
        gathered->families = std::move(families);
      } else {
        for (size_t i = 0; i < families.size(); ++i) {
          std::move(families[i].metric.begin(), families[i].metric.end(),
                    std::back_inserter(gathered->families[i].metric));
        }
      }
      if (--gathered->waiting == 0) gathered->all.Notify();
    });
  });
  if (!gathered->all.WaitForNotificationWithTimeout(absl::Seconds(2))) return std::nullopt;
  return std::move(gathered->families);
}

// On the home shard.
void NodeImpl::LookAtCluster() {
  size_t known = 0, connected = 0;
  const std::string why = WhyUnready();
  absl::MutexLock lock(&heard_mutex_);
  for (const NodeRecord& node : nodes_) {
    if (node.id == self()) continue;
    ++known;
    connected += Up(node.id) ? 1 : 0;
  }
  metrics_.Peers(known, connected);
  unready_ = why;
}

// On the home shard.
std::string NodeImpl::WhyUnready() const {
  if (self() == raft::NodeId()) return "this node waits for its cluster";
  if (cluster_->leader() == raft::NodeId()) {
    return "this node knows of no leader of the metadata group: a majority of the nodes is not there";
  }
  return "";
}

// Safety rule 12: what the shards had heard a second ago, and what this node's own store has.
void NodeImpl::RememberAnnounced() {
  if (self_.load(std::memory_order_acquire) == 0) return;
  std::vector<NodeRecord> nodes;
  DirectoryHistories heard;
  for (auto& [node, starts] : peer_service_->seen_starts()) heard[node].starts = starts;
  {
    absl::MutexLock lock(&heard_mutex_);
    nodes = nodes_;
    for (const auto& [node, memory] : heard_) heard[node].memory = memory;
  }
  heard[self()].memory.synced = store_->last_synced();
  absl::Status saved = announced_file_->Save(nodes, heard);
  if (!saved.ok()) Log(LogLevel::kError, "what other nodes announced cannot be written down", "why", saved);
}

void NodeImpl::End(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  if (!end_.has_value()) end_ = std::move(status);
}

absl::Status NodeImpl::Run() {
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](std::optional<absl::Status>* end) { return end->has_value(); }, &end_));
    status = *end_;
  }
  if (!status.ok()) {
    Log(LogLevel::kError, "this node cannot go on", "why", status);
  } else {
    HandOver();
  }
  Stop();
  return status;
}

// While everything still runs: clients are sent to the new leaders, not cut off.
void NodeImpl::HandOver() {
  leaving_ = true;
  if (config_.hand_over.count() == 0) return;
  struct Gathered {
    absl::Mutex mutex;
    size_t waiting ABSL_GUARDED_BY(mutex) = 0;
    size_t left ABSL_GUARDED_BY(mutex) = 0;
  };
  auto gathered = std::make_shared<Gathered>();
  const absl::Time began = absl::Now();
  absl::MutexLock lock(&gathered->mutex);
  gathered->waiting = shards_.size();
  health_.SetServing(false);
  OnEachShard([gathered, patience = config_.hand_over](NodeShard& shard) {
    auto done = [gathered](size_t left) {
      absl::MutexLock told(&gathered->mutex);
      --gathered->waiting;
      gathered->left += left;
    };
    if (shard.host() == nullptr) return done(0);
    shard.host()->HandOver(patience, std::move(done));
  });
  // A shard that hangs is not waited for.
  const auto all_done = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return gathered->waiting == 0; };
  const bool in_time =
      gathered->mutex.AwaitWithTimeout(absl::Condition(&all_done), absl::FromChrono(config_.hand_over) + kDrainTime);
  Log(in_time && gathered->left == 0 ? LogLevel::kInfo : LogLevel::kWarn, "leadership handed over", "ms",
      absl::ToInt64Milliseconds(absl::Now() - began), "groups_left", gathered->left, "shards_silent",
      gathered->waiting);
}

// From the outside in: no new calls, no more turns of the loops, then what they used.
void NodeImpl::Stop() {
  serving_ = false;
  if (server_ != nullptr && api_ != nullptr) {
    health_.SetServing(false);
    api_->Drain();
    absl::SleepFor(kDrainTime);
    server_->Shutdown(std::chrono::system_clock::now() + kShutdownTime);
    api_->Stop();
  }
  ops_.reset();
  if (std::exchange(loops_running_, false)) {
    for (raft::CompletionQueueShard* loop : loops_) loop->Stop();
  }
  for (auto& shard : shards_) shard->Close();
  cluster_.reset();
  api_.reset();
  store_.reset();
  server_.reset();
  shards_.clear();
  loops_.clear();
  directory_.reset();
}

// ---------------------------------------------------------------- what the cluster asks of its node

void NodeImpl::BecomeMember(const meta::Identity& identity, absl::AnyInvocable<void()> done) {
  raft::TransportOptions transport;
  transport.self.cluster_id = identity.cluster_id();
  transport.self.node = raft::NodeId(identity.node_id());
  transport.self.directory_id = identity.directory_id();
  transport.self.incarnation = identity.starts();
  transport.self.nonce = directory_->nonce();
  transport.self.shards = static_cast<uint32_t>(shards_.size());
  transport.self.understands = queue::kFactVersion;
  transport.understood = [this](raft::NodeId node, uint32_t version) { table_.Understands(node, version); };
  table_.Understands(transport.self.node, queue::kFactVersion);
  transport.credentials = grpc::InsecureChannelCredentials();
  raft::HostOptions host;
  host.node = transport.self.node;
  host.incarnation = transport.self.incarnation;
  host.opened = opened_;
  host.stopped = [this](raft::GroupId group, raft::ReplicaId replica, const absl::Status& why) {
    absl::Status saved = stopped_->Add(group, replica, why);
    // Safety rule 16: it must not come back as if nothing had been found.
    if (!saved.ok()) EndForFailedDisk(config_.data, saved);
  };
  host.forgot = [this](absl::Status status) { End(Condemn(std::move(status))); };
  {
    absl::MutexLock lock(&heard_mutex_);
    for (auto& [node, history] : announced_file_->Of(nodes_)) {
      host.announced[node] = history.memory;
      peer_service_->Remember(node, std::move(history.starts));
    }
  }
  host.disk_low = [this] { return disk_->low(); };
  host.tick = config_.tick;
  host.election_ticks = config_.election_ticks;
  host.read_lease = config_.read_lease;
  host.lag_bytes = config_.replica_lag_bytes;
  host.lag_entries = config_.replica_lag_entries;
  incarnation_.store(identity.starts(), std::memory_order_relaxed);
  self_.store(identity.node_id(), std::memory_order_release);
  metrics_.Member(true);

  std::vector<raft::NodeId> others;
  for (const meta::Node& node : identity.members()) {
    if (node.id() != identity.node_id()) others.emplace_back(node.id());
  }
  struct Gathered {
    size_t waiting;
    std::vector<raft::GrpcTransport*> transports;
    absl::AnyInvocable<void()> done;
  };
  auto gathered = std::make_shared<Gathered>(
      Gathered{shards_.size(), std::vector<raft::GrpcTransport*>(shards_.size()), std::move(done)});
  OnEachShard([this, transport, host, others, gathered](NodeShard& shard) mutable {
    raft::ShardId id = shard.loop()->id();
    // Seeds that differ between nodes, shards and starts, so that elections do not coincide.
    uint64_t seed = transport.self.node.value() * 1'000'003 + transport.self.incarnation * 64 + id;
    transport.seed = seed;
    host.seed = seed;
    host.lost = [this, id](raft::NodeId node) { api_->NodeLost(id, node); };
    shard.BecomeMember(transport, host, store_.get(), store_.get(), store_.get(), &table_, &cluster_->view(id));
    for (raft::NodeId other : others) shard.transport()->Connect(other);
    home().loop()->Post([this, id, made = shard.transport(), self = transport.self, gathered] {
      gathered->transports[id] = made;
      if (--gathered->waiting != 0) return;
      peer_service_->Open(self, gathered->transports);
      gathered->done();
    });
  });
}

absl::StatusOr<raft::Group*> NodeImpl::StartMetadata(const raft::GroupSpec& spec,
                                                     std::unique_ptr<raft::StateMachine> machine,
                                                     std::optional<raft::StoredGroup> stored) {
  raft::GroupSpec checked = spec;
  checked.stopped = stopped_->Find(spec.group, spec.self);
  return home().Start(checked, std::move(machine), std::move(stored));
}

void NodeImpl::StartReplica(QueuePtr queue, const raft::GroupSpec& spec, std::optional<raft::StoredGroup> stored) {
  NodeShard* shard = &Of(spec.group);
  shard->loop()->Post([this, shard, queue = std::move(queue), spec = spec, stored = std::move(stored)]() mutable {
    bool born = !stored.has_value();
    spec.stopped = stopped_->Find(spec.group, spec.self);
    std::unique_ptr<raft::StateMachine> machine = api_->MakeReplica(queue, spec);
    absl::StatusOr<raft::Group*> group = shard->Start(spec, std::move(machine), std::move(stored));
    if (!group.ok()) {
      api_->ReplicaStopping(spec.group);
      Log(LogLevel::kError, "replica not started", "queue", queue->name, "group", spec.group, "replica", spec.self,
          "why", group.status());
      return;
    }
    Log(LogLevel::kDebug, "replica started", "queue", queue->name, "group", spec.group, "replica", spec.self, "born",
        born);
    api_->ReplicaStarted(std::move(queue), *group);
  });
}

void NodeImpl::InformReplica(const QueueInfo& queue) {
  NodeShard* shard = &Of(queue.group);
  shard->loop()->Post([shard, group = queue.group, listed = queue.Listed()]() mutable {
    if (shard->host() != nullptr) shard->host()->Inform(group, std::move(listed));
  });
}

void NodeImpl::DeleteReplica(raft::GroupId group, bool running) {
  NodeShard* shard = &Of(group);
  shard->loop()->Post([this, shard, group, running] {
    Log(LogLevel::kDebug, "replica deleted", "group", group, "running", running);
    if (absl::Status forgotten = stopped_->Forget(group); !forgotten.ok()) EndForFailedDisk(config_.data, forgotten);
    if (running && shard->host()->Find(group) != nullptr) api_->ReplicaStopping(group);
    shard->Remove(group);
  });
}

void NodeImpl::NodesChanged(const std::string&, const std::vector<NodeRecord>& nodes) {
  table_.Set(nodes);
  {
    absl::MutexLock lock(&heard_mutex_);
    nodes_ = nodes;
  }
  OnEachShard([](NodeShard& shard) {
    if (shard.transport() != nullptr) shard.transport()->PeersChanged();
  });
}

bool NodeImpl::Up(raft::NodeId node) const {
  return Hears(ShardOf(kMetadataGroup, shards_.size()), node);
}

void NodeImpl::CountLeaders(absl::AnyInvocable<void(std::map<raft::NodeId, uint32_t>)> done) {
  struct Gathered {
    size_t waiting;
    std::map<raft::NodeId, uint32_t> counts;
    absl::AnyInvocable<void(std::map<raft::NodeId, uint32_t>)> done;
  };
  auto gathered = std::make_shared<Gathered>(Gathered{shards_.size(), {}, std::move(done)});
  OnEachShard([this, gathered](NodeShard& shard) {
    std::map<raft::NodeId, uint32_t> counts;
    shard.ForEach([&](raft::Group* group) { ++counts[group->leader_node()]; });
    home().loop()->Post([gathered, counts = std::move(counts)] {
      for (const auto& [node, count] : counts) gathered->counts[node] += count;
      if (--gathered->waiting == 0) gathered->done(std::move(gathered->counts));
    });
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Node>> Node::Start(const Config& config, const ApiFactory& api) {
  auto node = std::make_unique<NodeImpl>(config);
  absl::Status status = node->Begin(api);
  if (!status.ok()) return status;
  return node;
}

}  // namespace trireme::broker
