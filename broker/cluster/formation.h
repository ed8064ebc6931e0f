// How a node becomes a member of a cluster (Safety rule 23): it waits, pledges, and is told the members; or it comes
// later and joins.
//
// One node, the initiator, asks every node of its join list to pledge (round 1). A pledge is durable before it is
// answered, and names the cluster and the initiator, so that a majority of the list can be had only once. With a
// majority the initiator durably decides on the members, their node ids in the order of the list, and tells them (round
// 2). A member that missed being told asks the others until one knows. A node that had not pledged in time has no
// directory id among the members: it joins through the metadata group, which writes its directory down, and only then
// may it vote (Safety rules 11 and 12).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "broker/cluster/identity.h"
#include "broker/cluster/peer_caller.h"
#include "raft/host/shard.h"
#include "trireme/peer/v1/peer.pb.h"
#include "trireme/v1/cluster.pb.h"

namespace trireme::broker {

// ALREADY_EXISTS: the node is known, with another directory than the one that asks. Names both, and what to do.
absl::Status OtherDirectory(const trireme::meta::v1::Node& node, std::string_view directory_id);

struct FormationOptions {
  // The nodes to form a cluster with, this one among them.
  std::vector<std::string> join;
  std::chrono::milliseconds pledge_timeout{3000};
  // Between questions to the join list while waiting: doubles from first to last.
  std::chrono::milliseconds poll_first{100};
  std::chrono::milliseconds poll_last{2000};
};

// On its shard's thread only.
class Formation {
 public:
  struct Events {
    // This node is a member now, durably: its identity names the members. Once.
    std::function<void()> member;
    // This directory can never be a member (the cluster knows this address with another directory). Once.
    std::function<void(absl::Status)> refused;
  };

  // All outlive this object.
  Formation(FormationOptions options, DataDirectory* directory, raft::Shard* shard, PeerCaller* peers, Events events);
  ~Formation();

  // Starts asking the join list, unless this node is a member already (then Events::member is called at once).
  void Start();

  bool member() const;
  const trireme::meta::v1::Identity& identity() const { return directory_->identity(); }

  // Cluster.Init, as the client said it.
  void Init(const trireme::v1::InitRequest& request, Answer<trireme::v1::InitResponse> done);
  // Peer.Pledge.
  absl::StatusOr<trireme::peer::v1::PledgeResponse> Pledge(const trireme::peer::v1::PledgeRequest& request);
  // Peer.Join as far as the identity alone can answer it: the members, if they name the asker's directory; an error; or
  // nothing, when the metadata group has to say.
  std::optional<absl::StatusOr<trireme::peer::v1::JoinResponse>> Join(const trireme::peer::v1::JoinRequest& request);

 private:
  struct Round;

  bool pledged() const { return !identity().cluster_id().empty(); }
  absl::Status Save(const trireme::meta::v1::Identity& identity);
  trireme::peer::v1::PledgeResponse Pledged() const;
  absl::Status MakePledge(const trireme::peer::v1::PledgeRequest& request);
  absl::Status TakeMembers(const trireme::peer::v1::PledgeRequest& request);
  trireme::peer::v1::PledgeRequest RoundOne() const;
  void StartRound();
  void RoundDone();
  absl::Status Decide(const Round& round);
  void Tell();
  void ForwardInit(const trireme::v1::InitRequest& request, Answer<trireme::v1::InitResponse> done);
  void Poll();
  void Joined(const std::string& from, absl::StatusOr<trireme::peer::v1::JoinResponse> response);
  absl::Status BecomeMember(trireme::meta::v1::Identity identity);
  trireme::v1::InitResponse Born() const;
  void Refuse(absl::Status status);

  const FormationOptions options_;
  DataDirectory* const directory_;
  raft::Shard* const shard_;
  PeerCaller* const peers_;
  const Events events_;
  std::shared_ptr<Round> round_;  // while one is under way
  std::chrono::milliseconds poll_delay_;
  std::string last_complaint_;  // so that each is logged once
  bool refused_ = false;
  // Answers and timers that come after this object's end find it gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
