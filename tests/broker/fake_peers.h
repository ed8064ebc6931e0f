// Calls between nodes of a test, over simulated time, with nodes that are down and answers that are lost.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "broker/cluster/peer_caller.h"
#include "tests/broker/fake_shard.h"

namespace trireme::broker {

// What a node does with each call. Answers on the callee's shard.
struct PeerHandlers {
  std::function<void(trireme::peer::v1::PledgeRequest, Answer<trireme::peer::v1::PledgeResponse>)> pledge;
  std::function<void(trireme::peer::v1::JoinRequest, Answer<trireme::peer::v1::JoinResponse>)> join;
  std::function<void(trireme::v1::InitRequest, Answer<trireme::v1::InitResponse>)> init;
  std::function<void(trireme::peer::v1::BarrierRequest, Answer<trireme::peer::v1::BarrierResponse>)> barrier;
  std::function<void(trireme::peer::v1::CreateQueueRequest, Answer<trireme::v1::CreateQueueResponse>)> create;
  std::function<void(trireme::peer::v1::DeleteQueueRequest, Answer<trireme::v1::DeleteQueueResponse>)> remove;
  std::function<void(trireme::peer::v1::MembersChange, Answer<trireme::peer::v1::MembersChangeDone>)> change_members;
  std::function<void(trireme::peer::v1::RoutingChange, Answer<trireme::peer::v1::RoutingChanged>)> change_routing;
};

struct FakePeers {
  FakeTime* time;
  std::map<std::string, std::pair<FakeShard*, PeerHandlers*>> nodes = {};  // those that run
  std::set<std::pair<std::string, std::string>> cut = {};                  // requests from, to that do not arrive
  std::set<std::pair<std::string, std::string>> mute = {};  // requests from, to that arrive and are not answered
};

class FakePeerCaller final : public PeerCaller {
 public:
  FakePeerCaller(std::string self, FakeShard* shard, FakePeers* peers)
      : self_(std::move(self)), shard_(shard), peers_(peers) {}

  void Pledge(const std::string& to, const trireme::peer::v1::PledgeRequest& request, Timeout timeout,
              Answer<trireme::peer::v1::PledgeResponse> done) override {
    Call(to, request, timeout, std::move(done), &PeerHandlers::pledge);
  }
  void Join(const std::string& to, const trireme::peer::v1::JoinRequest& request, Timeout timeout,
            Answer<trireme::peer::v1::JoinResponse> done) override {
    Call(to, request, timeout, std::move(done), &PeerHandlers::join);
  }
  void Init(const std::string& to, const trireme::v1::InitRequest& request, Timeout timeout,
            Answer<trireme::v1::InitResponse> done) override {
    Call(to, request, timeout, std::move(done), &PeerHandlers::init);
  }
  void Barrier(const std::string& to, const trireme::peer::v1::BarrierRequest& request, Timeout timeout,
               Answer<trireme::peer::v1::BarrierResponse> done) override {
    Call(to, request, timeout, std::move(done), &PeerHandlers::barrier);
  }
  void CreateQueue(const std::string& to, const trireme::peer::v1::CreateQueueRequest& request, Timeout timeout,
                   Answer<trireme::v1::CreateQueueResponse> done) override {
    Call(to, request, timeout, std::move(done), &PeerHandlers::create);
  }
  void DeleteQueue(const std::string& to, const trireme::peer::v1::DeleteQueueRequest& request, Timeout timeout,
                   Answer<trireme::v1::DeleteQueueResponse> done) override {
    Call(to, request, timeout, std::move(done), &PeerHandlers::remove);
  }
  void ChangeMembers(const std::string& to, const trireme::peer::v1::MembersChange& change, Timeout timeout,
                     Answer<trireme::peer::v1::MembersChangeDone> done) override {
    Call(to, change, timeout, std::move(done), &PeerHandlers::change_members);
  }
  void ChangeRouting(const std::string& to, const trireme::peer::v1::RoutingChange& change, Timeout timeout,
                     Answer<trireme::peer::v1::RoutingChanged> done) override {
    Call(to, change, timeout, std::move(done), &PeerHandlers::change_routing);
  }

 private:
  template <typename Request, typename Response>
  void Call(const std::string& to, const Request& request, Timeout timeout, Answer<Response> done,
            std::function<void(Request, Answer<Response>)> PeerHandlers::*method) {
    auto shared = std::make_shared<Answer<Response>>(std::move(done));
    auto answer = [shared](absl::StatusOr<Response> result) {
      if (*shared) std::exchange(*shared, nullptr)(std::move(result));
    };
    shard_->After(timeout, [answer] { answer(absl::DeadlineExceededError("no answer")); });
    auto found = peers_->nodes.find(to);
    if (found == peers_->nodes.end() || peers_->cut.contains({self_, to})) {
      shard_->After(std::chrono::milliseconds(1), [answer] { answer(absl::UnavailableError("refused")); });
      return;
    }
    bool mute = peers_->mute.contains({self_, to});
    auto* handlers = found->second.second;
    found->second.first->After(std::chrono::milliseconds(1), [this, handlers, method, request, answer, mute] {
      (handlers->*method)(request, [this, answer, mute](absl::StatusOr<Response> result) {
        if (mute) return;
        shard_->After(std::chrono::milliseconds(1), [answer, result = std::move(result)] { answer(result); });
      });
    });
  }

  const std::string self_;
  FakeShard* const shard_;
  FakePeers* const peers_;
};

}  // namespace trireme::broker
