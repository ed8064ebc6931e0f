#include "broker/cluster/formation.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "broker/cluster/pledges.h"
#include "broker/ops/error.h"
#include "broker/ops/log.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;
namespace peer = trireme::peer::v1;
namespace v1 = trireme::v1;

// Of one question to another node while waiting.
constexpr std::chrono::milliseconds kPollTimeout{1500};

template <typename Strings>
std::vector<std::string> Sorted(const Strings& strings) {
  std::vector<std::string> out(strings.begin(), strings.end());
  std::sort(out.begin(), out.end());
  return out;
}

absl::Status CheckId(const std::string& id) {
  if (id.size() == kIdBytes) return absl::OkStatus();
  return Error(absl::StatusCode::kInvalidArgument,
               {.reason = "BAD_CLUSTER_ID", .name = "cluster_id", .limit = "16 bytes"},
               absl::StrCat("cluster id of ", id.size(), " bytes; it takes ", kIdBytes));
}

peer::Member ToMember(const meta::Node& node) {
  peer::Member out;
  out.set_node_id(node.id());
  out.set_address(node.address());
  out.set_directory_id(node.directory_id());
  out.set_metadata_replica_id(node.metadata_replica_id());
  out.set_replaces(node.replaces());
  return out;
}

meta::Node ToNode(const peer::Member& member) {
  meta::Node out;
  out.set_id(member.node_id());
  out.set_address(member.address());
  out.set_directory_id(member.directory_id());
  out.set_metadata_replica_id(member.metadata_replica_id());
  out.set_replaces(member.replaces());
  return out;
}

// The members may be anything that came over the network.
absl::Status CheckMembers(const google::protobuf::RepeatedPtrField<peer::Member>& members) {
  for (int i = 0; i < members.size(); ++i) {
    const peer::Member& m = members[i];
    bool bad = m.node_id() == 0 || m.metadata_replica_id() == 0 || m.address().empty() ||
               (!m.directory_id().empty() && m.directory_id().size() != kIdBytes);
    for (int j = 0; j < i && !bad; ++j) {
      bad = members[j].node_id() == m.node_id() || members[j].address() == m.address() ||
            members[j].metadata_replica_id() == m.metadata_replica_id();
    }
    if (bad) return absl::InvalidArgumentError(absl::StrCat("member ", i, " of ", members.size(), " is malformed"));
  }
  return absl::OkStatus();
}

const peer::Member* Find(const google::protobuf::RepeatedPtrField<peer::Member>& members, const std::string& address) {
  for (const peer::Member& member : members) {
    if (member.address() == address) return &member;
  }
  return nullptr;
}

bool Unreachable(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsCancelled(status);
}

}  // namespace

absl::Status OtherDirectory(const meta::Node& node, std::string_view directory_id) {
  return absl::AlreadyExistsError(absl::StrCat(
      "the cluster knows node ", node.id(), " at ", node.address(), " with data directory ", ToHex(node.directory_id()),
      ", but was asked from directory ", ToHex(directory_id),
      ": the directory was emptied or exchanged. A node that may have forgotten its votes cannot come back "
      "under its old identity: start it on its own directory, or, if that is lost, say `trireme cluster replace-node ",
      node.id(), "` to the cluster and start it again"));
}

// Round 1: who has answered what.
struct Formation::Round {
  size_t waiting = 0;
  std::vector<std::pair<std::string, absl::StatusOr<peer::PledgeResponse>>> answers;
  std::vector<Answer<v1::InitResponse>> askers;
};

Formation::Formation(FormationOptions options, DataDirectory* directory, raft::Shard* shard, PeerCaller* peers,
                     Events events)
    : options_(std::move(options)),
      directory_(directory),
      shard_(shard),
      peers_(peers),
      events_(std::move(events)),
      poll_delay_(options_.poll_first) {}

Formation::~Formation() {
  *alive_ = false;
}

bool Formation::member() const {
  return identity().node_id() != 0;
}

void Formation::Start() {
  if (member()) {
    std::vector<std::string> members;
    for (const meta::Node& node : identity().members()) members.push_back(node.address());
    if (Sorted(members) != Sorted(options_.join)) {
      Log(LogLevel::kWarn, "the join list is not that of the members, who count", "join",
          absl::StrJoin(options_.join, ","), "members", absl::StrJoin(members, ","), "cluster",
          ToHex(identity().cluster_id()));
    }
    return events_.member();
  }
  Log(LogLevel::kInfo, "waiting for cluster init", "address", identity().address(), "join",
      absl::StrJoin(options_.join, ","), "pledged_to", ToHex(identity().cluster_id()));
  Poll();
}

absl::Status Formation::Save(const meta::Identity& identity) {
  absl::Status status = directory_->Save(identity);
  // What the disk holds is not known now, so nothing may be promised any more (Safety rule 16).
  if (!status.ok()) Refuse(absl::InternalError(absl::StrCat("the identity cannot be written: ", status.message())));
  return status;
}

void Formation::Refuse(absl::Status status) {
  if (std::exchange(refused_, true)) return;
  events_.refused(std::move(status));
}

absl::Status Formation::BecomeMember(meta::Identity identity) {
  absl::Status saved = Save(identity);
  if (!saved.ok()) return saved;
  Log(LogLevel::kInfo, "member of cluster", "cluster", ToHex(identity.cluster_id()), "node", identity.node_id(),
      "members", identity.members_size());
  events_.member();
  return absl::OkStatus();
}

// ---------------------------------------------------------------- the initiator

void Formation::Init(const v1::InitRequest& request, Answer<v1::InitResponse> done) {
  if (absl::Status bad = CheckId(request.cluster_id()); !bad.ok()) return done(bad);
  const meta::Identity& me = identity();
  if (pledged() && me.cluster_id() != request.cluster_id()) {
    const std::string id = ToHex(me.cluster_id());
    return done(
        Error(absl::StatusCode::kFailedPrecondition, {.reason = "PLEDGED_ELSEWHERE", .name = me.address()},
              absl::StrCat("the node at ", me.address(), member() ? " belongs to cluster " : " is pledged to cluster ",
                           id, member() ? "" : absl::StrCat(", begun at ", me.initiator()), ", not to ",
                           ToHex(request.cluster_id()), member() ? "" : "; repeat init with --cluster-id ",
                           member() ? "" : id)));
  }
  if (member()) return done(Born());
  if (pledged() && me.initiator() != me.address()) return ForwardInit(request, std::move(done));
  if (!pledged()) {
    peer::PledgeRequest own;
    own.set_cluster_id(request.cluster_id());
    own.set_initiator(me.address());
    own.set_initiator_directory_id(me.directory_id());
    for (const std::string& address : options_.join) own.add_join(address);
    if (absl::Status status = MakePledge(own); !status.ok()) return done(status);
  }
  if (round_ == nullptr) StartRound();
  round_->askers.push_back(std::move(done));
  if (round_->waiting == 0) RoundDone();
}

// One node decides on the members: another one that is asked to passes it on.
void Formation::ForwardInit(const v1::InitRequest& request, Answer<v1::InitResponse> done) {
  std::string initiator = identity().initiator();
  peers_->Init(initiator, request, options_.pledge_timeout * 2,
               [initiator, done = std::move(done)](absl::StatusOr<v1::InitResponse> answer) mutable {
                 if (!answer.ok() && Unreachable(answer.status())) {
                   answer = Error(absl::StatusCode::kUnavailable, {.reason = "NO_INITIATOR", .name = initiator},
                                  absl::StrCat("init was begun at ", initiator,
                                               ", which must end it and cannot be reached: ", answer.status().message(),
                                               ". If it is lost for good, start all nodes on empty data directories"));
                 }
                 done(std::move(answer));
               });
}

peer::PledgeRequest Formation::RoundOne() const {
  peer::PledgeRequest request;
  request.set_cluster_id(identity().cluster_id());
  request.set_initiator(identity().initiator());
  request.set_initiator_directory_id(identity().initiator_directory_id());
  *request.mutable_join() = identity().join();
  return request;
}

void Formation::StartRound() {
  round_ = std::make_shared<Round>();
  peer::PledgeRequest request = RoundOne();
  for (const std::string& address : identity().join()) {
    if (address == identity().address()) continue;
    ++round_->waiting;
    request.set_address(address);
    peers_->Pledge(address, request, options_.pledge_timeout,
                   [this, alive = alive_, round = round_, address](absl::StatusOr<peer::PledgeResponse> answer) {
                     if (!*alive) return;
                     round->answers.emplace_back(address, std::move(answer));
                     if (--round->waiting == 0) RoundDone();
                   });
  }
}

void Formation::RoundDone() {
  std::shared_ptr<Round> round = std::exchange(round_, nullptr);
  absl::Status status = Decide(*round);
  for (auto& done : round->askers) {
    if (status.ok()) {
      done(Born());
    } else {
      done(status);
    }
  }
  if (status.ok()) Tell();
}

absl::Status Formation::Decide(const Round& round) {
  const meta::Identity& me = identity();
  absl::flat_hash_map<std::string, std::string> directories = {{me.address(), me.directory_id()}};
  std::vector<std::string> missing;
  std::vector<peer::PledgeResponse> elsewhere;
  for (const auto& [address, answer] : round.answers) {
    if (answer.ok() && answer->cluster_id() == me.cluster_id() && answer->members_size() != 0) {
      // Only this node decides, and it has not: what it had decided is lost.
      return absl::FailedPreconditionError(absl::StrCat("the node at ", address, " is a member of cluster ",
                                                        ToHex(me.cluster_id()), " already, which the node at ",
                                                        me.address(), " has forgotten"));
    }
    if (answer.ok() && SamePledge(*answer, me) && answer->directory_id().size() == kIdBytes) {
      directories[address] = answer->directory_id();
    } else if (answer.ok()) {
      elsewhere.push_back(*answer);
      elsewhere.back().set_address(address);
    } else if (Unreachable(answer.status())) {
      missing.push_back(absl::StrCat(address, " (", answer.status().message(), ")"));
    } else {
      return Error(absl::StatusCode::kFailedPrecondition, {.reason = FactsOf(answer.status()).reason, .name = address},
                   absl::StrCat("the node at ", address, " refuses: ", answer.status().message()));
    }
  }
  if (!elsewhere.empty()) return PledgedElsewhere(me, elsewhere);
  size_t all = static_cast<size_t>(me.join_size());
  if (directories.size() < all / 2 + 1) {
    return Error(absl::StatusCode::kUnavailable, {.reason = "NO_MAJORITY"},
                 absl::StrCat("init needs a majority of the ", all, " nodes of the join list; reached ",
                              directories.size(), ", not ", absl::StrJoin(missing, ", "),
                              ". Repeat it with the same cluster id, ", ToHex(me.cluster_id())));
  }
  meta::Identity identity = me;
  uint64_t id = 0;
  for (const std::string& address : me.join()) {
    meta::Node node;
    node.set_id(++id);
    node.set_metadata_replica_id(id);
    node.set_address(address);
    if (auto found = directories.find(address); found != directories.end()) node.set_directory_id(found->second);
    if (address == me.address()) identity.set_node_id(id);
    *identity.add_members() = node;
  }
  // The preferred leader first.
  auto& members = *identity.mutable_members();
  std::stable_partition(members.pointer_begin(), members.pointer_end(),
                        [&](const meta::Node* node) { return node->address() == me.address(); });
  return BecomeMember(std::move(identity));
}

// Round 2. Who does not hear of it asks.
void Formation::Tell() {
  peer::PledgeRequest request = RoundOne();
  for (const meta::Node& node : identity().members()) *request.add_members() = ToMember(node);
  for (const meta::Node& node : identity().members()) {
    if (node.address() == identity().address()) continue;
    request.set_address(node.address());
    peers_->Pledge(node.address(), request, options_.pledge_timeout,
                   [address = node.address()](absl::StatusOr<peer::PledgeResponse> answer) {
                     if (answer.ok() && answer->members_size() != 0) return;
                     Log(LogLevel::kInfo, "not told of the birth, will ask", "address", address, "why",
                         answer.ok() ? absl::FailedPreconditionError("it has not taken the members") : answer.status());
                   });
  }
}

v1::InitResponse Formation::Born() const {
  v1::InitResponse out;
  out.set_cluster_id(identity().cluster_id());
  std::vector<meta::Node> nodes(identity().members().begin(), identity().members().end());
  std::sort(nodes.begin(), nodes.end(), [](const auto& a, const auto& b) { return a.id() < b.id(); });
  for (const meta::Node& node : nodes) {
    v1::NodeInfo* info = out.add_nodes();
    info->set_node_id(node.id());
    info->set_address(node.address());
    info->set_condition(node.directory_id().empty() ? v1::NODE_CONDITION_EXPECTED : v1::NODE_CONDITION_UP);
  }
  return out;
}

// ---------------------------------------------------------------- the others

absl::Status Formation::MakePledge(const peer::PledgeRequest& request) {
  // Lists that differ have majorities that need not meet.
  if (Sorted(request.join()) != Sorted(options_.join)) {
    return Error(absl::StatusCode::kFailedPrecondition, {.reason = "JOIN_LISTS_DIFFER"},
                 absl::StrCat("the join list of ", request.initiator(), " is ", absl::StrJoin(request.join(), ","),
                              ", but that of ", identity().address(), " is ", absl::StrJoin(options_.join, ",")));
  }
  meta::Identity identity = this->identity();
  identity.set_cluster_id(request.cluster_id());
  identity.set_initiator(request.initiator());
  identity.set_initiator_directory_id(request.initiator_directory_id());
  *identity.mutable_join() = request.join();
  absl::Status saved = Save(identity);
  if (!saved.ok()) return saved;
  poll_delay_ = options_.poll_first;
  Log(LogLevel::kInfo, "pledged to cluster", "cluster", ToHex(request.cluster_id()), "initiator", request.initiator());
  return absl::OkStatus();
}

absl::Status Formation::TakeMembers(const peer::PledgeRequest& request) {
  if (absl::Status bad = CheckMembers(request.members()); !bad.ok()) return bad;
  const peer::Member* me = Find(request.members(), identity().address());
  if (me == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("the node at ", identity().address(), " is not among the members"));
  }
  // Not counted at init: this node has to join, so that its directory is written down first (Safety rule 11).
  if (me->directory_id().empty()) return absl::OkStatus();
  if (me->directory_id() != identity().directory_id()) {
    return OtherDirectory(ToNode(*me), identity().directory_id());
  }
  meta::Identity identity = this->identity();
  identity.set_node_id(me->node_id());
  for (const peer::Member& member : request.members()) *identity.add_members() = ToNode(member);
  return BecomeMember(std::move(identity));
}

absl::StatusOr<peer::PledgeResponse> Formation::Pledge(const peer::PledgeRequest& request) {
  const meta::Identity& me = identity();
  if (absl::Status bad = CheckId(request.cluster_id()); !bad.ok()) return bad;
  if (request.address() != me.address()) {
    return absl::FailedPreconditionError(
        absl::StrCat("asked as ", request.address(), ", but this node advertises ", me.address()));
  }
  if (refused_) return absl::UnavailableError("this node stops");
  // Safety rule 23: the first pledge wins.
  if (pledged() && !SamePledge(me, request)) return Pledged();
  if (pledged() && !std::equal(me.join().begin(), me.join().end(), request.join().begin(), request.join().end())) {
    return Error(
        absl::StatusCode::kFailedPrecondition, {.reason = "JOIN_LISTS_DIFFER"},
        absl::StrCat("cluster ", ToHex(me.cluster_id()), " was begun at ", me.initiator(), " with another join list"));
  }
  if (request.members().empty()) {
    if (!pledged()) {
      if (absl::Status status = MakePledge(request); !status.ok()) return status;
    }
  } else if (!pledged()) {
    return absl::FailedPreconditionError(absl::StrCat("the node at ", me.address(), " has not pledged"));
  } else if (!member()) {
    if (absl::Status status = TakeMembers(request); !status.ok()) return status;
  }
  return Pledged();
}

peer::PledgeResponse Formation::Pledged() const {
  peer::PledgeResponse response;
  response.set_cluster_id(identity().cluster_id());
  response.set_directory_id(identity().directory_id());
  response.set_address(identity().address());
  response.set_initiator(identity().initiator());
  response.set_initiator_directory_id(identity().initiator_directory_id());
  for (const meta::Node& node : identity().members()) *response.add_members() = ToMember(node);
  return response;
}

std::optional<absl::StatusOr<peer::JoinResponse>> Formation::Join(const peer::JoinRequest& request) {
  if (!member()) {
    return absl::UnavailableError(absl::StrCat("the node at ", identity().address(), " waits for its cluster, too"));
  }
  if (!request.cluster_id().empty() && request.cluster_id() != identity().cluster_id()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the node at ", identity().address(), " belongs to cluster ", ToHex(identity().cluster_id()),
                     "; the node at ", request.address(), " is pledged to ", ToHex(request.cluster_id())));
  }
  if (request.directory_id().size() != kIdBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("directory id of ", request.directory_id().size(), " bytes; it takes ", kIdBytes));
  }
  for (const meta::Node& node : identity().members()) {
    if (node.address() != request.address()) continue;
    // Another directory may have been let in in the meantime: the metadata group has the last word.
    if (node.directory_id() != request.directory_id()) return std::nullopt;
    peer::JoinResponse response;
    response.set_cluster_id(identity().cluster_id());
    response.set_node_id(node.id());
    response.set_metadata_index(identity().members_as_of());
    for (const meta::Node& member : identity().members()) *response.add_members() = ToMember(member);
    return response;
  }
  return std::nullopt;
}

// ---------------------------------------------------------------- waiting

void Formation::Poll() {
  if (member() || refused_) return;
  peer::JoinRequest request;
  request.set_address(identity().address());
  request.set_directory_id(identity().directory_id());
  request.set_cluster_id(identity().cluster_id());
  for (const std::string& address : options_.join) {
    if (address == identity().address()) continue;
    peers_->Join(address, request, kPollTimeout,
                 [this, alive = alive_, address](absl::StatusOr<peer::JoinResponse> response) {
                   if (*alive) Joined(address, std::move(response));
                 });
  }
  shard_->After(poll_delay_, [this, alive = alive_] {
    if (*alive) Poll();
  });
  poll_delay_ = std::min(poll_delay_ * 2, options_.poll_last);
}

void Formation::Joined(const std::string& from, absl::StatusOr<peer::JoinResponse> response) {
  if (member() || refused_) return;
  if (!response.ok()) {
    if (absl::IsAlreadyExists(response.status())) return Refuse(response.status());
    if (Unreachable(response.status())) return;
  }
  std::string complaint;
  const peer::Member* me = nullptr;
  if (!response.ok()) {
    complaint = std::string(response.status().message());
  } else if (!CheckId(response->cluster_id()).ok() || !CheckMembers(response->members()).ok()) {
    complaint = "the answer is malformed";
  } else if (pledged() && response->cluster_id() != identity().cluster_id()) {
    complaint = absl::StrCat("it belongs to cluster ", ToHex(response->cluster_id()), "; this node is pledged to ",
                             ToHex(identity().cluster_id()));
  } else {
    me = Find(response->members(), identity().address());
    if (me == nullptr || me->directory_id() != identity().directory_id()) {
      complaint = absl::StrCat("its members do not name ", identity().address(), " with this directory");
    }
  }
  if (!complaint.empty()) {
    complaint = absl::StrCat(from, ": ", complaint);
    if (complaint != last_complaint_) Log(LogLevel::kWarn, "cannot join", "why", complaint);
    last_complaint_ = complaint;
    return;
  }
  meta::Identity identity = this->identity();
  identity.set_cluster_id(response->cluster_id());
  identity.set_node_id(me->node_id());
  identity.clear_members();
  for (const peer::Member& member : response->members()) *identity.add_members() = ToNode(member);
  identity.set_members_as_of(response->metadata_index());
  (void)BecomeMember(std::move(identity));  // a failed write ends the node
}

}  // namespace trireme::broker
