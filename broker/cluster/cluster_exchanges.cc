// What is asked of the metadata group about exchanges and bindings.
#include <utility>

#include "broker/cluster/cluster.h"
#include "broker/cluster/cluster_calls.h"
#include "broker/cluster/names.h"
#include "broker/cluster/routing_changes.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;
namespace peer = trireme::peer::v1;
namespace v1 = trireme::v1;

}  // namespace

// ---------------------------------------------------------------- changing

void Cluster::ChangeRoutingLeading(const peer::RoutingChange& change, Answer<peer::RoutingChanged> done) {
  if (absl::Status bad = ValidateChange(change); !bad.ok()) return done(bad);
  if (!leading_) return done(NotLeading());
  if (!state().born()) return done(absl::UnavailableError("the cluster's birth is not written down yet"));
  RoutingDecision decision = Decide(state(), change, home_->WallMs());
  if (auto* command = std::get_if<meta::Command>(&decision)) {
    return Propose(*command, [this, done = std::move(done)](absl::StatusOr<Proposed> proposed) mutable {
      if (!proposed.ok()) return done(proposed.status());
      done(Judge(state(), proposed->first, proposed->second));
    });
  }
  // Said only by a leader that still is one (Safety rule 21).
  LeaderBarrier([this, change, done = std::move(done)](absl::StatusOr<raft::Index> index) mutable {
    if (!index.ok()) return done(index.status());
    RoutingDecision again = Decide(state(), change, 0);
    auto* answer = std::get_if<absl::StatusOr<peer::RoutingChanged>>(&again);
    if (answer == nullptr) return done(absl::UnavailableError("exchanges or bindings changed meanwhile; try again"));
    if (answer->ok()) (*answer)->set_metadata_index(index->value());
    done(*std::move(answer));
  });
}

void Cluster::ChangeRoutingOnce(const peer::RoutingChange& change, std::shared_ptr<bool> unknown,
                                Answer<peer::RoutingChanged> done) {
  Answer<peer::RoutingChanged> judged = [this, unknown,
                                         done = std::move(done)](absl::StatusOr<peer::RoutingChanged> changed) mutable {
    if (!changed.ok() && TryAgain(changed.status())) *unknown = true;
    if (!absl::IsNotFound(changed.status()) || !*unknown) return done(std::move(changed));
    // An earlier attempt may have deleted it: then that it is gone is what was asked for.
    LinearBarrier([done = std::move(done)](absl::StatusOr<raft::Index> index) mutable {
      if (!index.ok()) return done(index.status());
      peer::RoutingChanged gone;
      gone.set_metadata_index(index->value());
      gone.set_changed(true);
      done(std::move(gone));
    });
  };
  if (absl::Status status = CheckMember(""); !status.ok()) return judged(status);
  if (leading_) return ChangeRoutingLeading(change, std::move(judged));
  absl::StatusOr<std::string> address = LeaderAddress();
  if (!address.ok()) return judged(address.status());
  peers_->ChangeRouting(*address, change, kLeaderTimeout,
                        [this, judged = std::move(judged)](absl::StatusOr<peer::RoutingChanged> changed) mutable {
                          if (!changed.ok()) return judged(changed.status());
                          // Who is answered here finds it here.
                          const raft::Index index(changed->metadata_index());
                          WhenApplied(index, [changed = *std::move(changed), judged = std::move(judged)]() mutable {
                            judged(std::move(changed));
                          });
                        });
}

void Cluster::FindToDelete(const peer::RoutingChange& change, Answer<uint64_t> done) {
  if (absl::Status status = CheckMember(""); !status.ok()) return done(status);
  absl::StatusOr<uint64_t> id = ExchangeToDelete(state().routing(), change);
  if (id.ok()) return done(id);
  // Safety rule 21: this node may be behind.
  LinearBarrier([this, change, done = std::move(done)](absl::StatusOr<raft::Index> index) mutable {
    if (!index.ok()) return done(index.status());
    done(ExchangeToDelete(state().routing(), change));
  });
}

void Cluster::ChangeRouting(peer::RoutingChange asked_for, Asked asked, Answer<peer::RoutingChanged> done) {
  home_->Post([this, asked_for = std::move(asked_for), asked, done = std::move(done)]() mutable {
    if (absl::Status bad = ValidateChange(asked_for); !bad.ok()) {
      return OnShard<peer::RoutingChanged>(asked.reply, std::move(done))(bad);
    }
    asked_for.set_cluster_id(directory_->identity().cluster_id());
    auto change = std::make_shared<peer::RoutingChange>(std::move(asked_for));
    auto unknown = std::make_shared<bool>(false);
    auto once = [this, change, unknown](Answer<peer::RoutingChanged> answer) {
      const bool deletes = change->has_delete_exchange() || change->has_delete_binding();
      if (!deletes) *unknown = false;  // that something else is not there is no trace of an earlier attempt
      if (!deletes || change->exchange_id() != 0) return ChangeRoutingOnce(*change, unknown, std::move(answer));
      // Found once: a later exchange of that name is not meant.
      FindToDelete(*change, [this, change, unknown, answer = std::move(answer)](absl::StatusOr<uint64_t> id) mutable {
        if (!id.ok()) return answer(id.status());
        change->set_exchange_id(*id);
        ChangeRoutingOnce(*change, unknown, std::move(answer));
      });
    };
    Retry<peer::RoutingChanged>(asked, std::move(once), std::move(done));
  });
}

void Cluster::ChangeRoutingHere(peer::RoutingChange change, Asked asked, Answer<peer::RoutingChanged> done) {
  home_->Post(
      [this, change = std::move(change), done = OnShard<peer::RoutingChanged>(asked.reply, std::move(done))]() mutable {
        if (absl::Status status = CheckMember(change.cluster_id()); !status.ok()) return done(status);
        ChangeRoutingLeading(change, std::move(done));
      });
}

void Cluster::CreateExchange(v1::CreateExchangeRequest request, Asked asked, Answer<v1::CreateExchangeResponse> done) {
  peer::RoutingChange change;
  *change.mutable_create_exchange() = std::move(request);
  ChangeRouting(std::move(change), asked, [done = std::move(done)](absl::StatusOr<peer::RoutingChanged> made) mutable {
    if (!made.ok()) return done(made.status());
    v1::CreateExchangeResponse response;
    *response.mutable_exchange() = std::move(*made->mutable_exchange());
    response.set_metadata_index(made->metadata_index());
    response.set_created(made->changed());
    done(std::move(response));
  });
}

void Cluster::DeleteExchange(v1::DeleteExchangeRequest request, Asked asked, Answer<v1::DeleteExchangeResponse> done) {
  peer::RoutingChange change;
  *change.mutable_delete_exchange() = std::move(request);
  ChangeRouting(std::move(change), asked, [done = std::move(done)](absl::StatusOr<peer::RoutingChanged> gone) mutable {
    if (!gone.ok()) return done(gone.status());
    v1::DeleteExchangeResponse response;
    response.set_metadata_index(gone->metadata_index());
    response.set_bindings(gone->bindings());
    done(std::move(response));
  });
}

void Cluster::CreateBinding(v1::CreateBindingRequest request, Asked asked, Answer<v1::CreateBindingResponse> done) {
  peer::RoutingChange change;
  *change.mutable_create_binding() = std::move(request);
  ChangeRouting(std::move(change), asked, [done = std::move(done)](absl::StatusOr<peer::RoutingChanged> made) mutable {
    if (!made.ok()) return done(made.status());
    v1::CreateBindingResponse response;
    response.set_metadata_index(made->metadata_index());
    response.set_created(made->changed());
    done(std::move(response));
  });
}

void Cluster::DeleteBinding(v1::DeleteBindingRequest request, Asked asked, Answer<v1::DeleteBindingResponse> done) {
  peer::RoutingChange change;
  *change.mutable_delete_binding() = std::move(request);
  ChangeRouting(std::move(change), asked, [done = std::move(done)](absl::StatusOr<peer::RoutingChanged> gone) mutable {
    if (!gone.ok()) return done(gone.status());
    v1::DeleteBindingResponse response;
    response.set_metadata_index(gone->metadata_index());
    done(std::move(response));
  });
}

// ---------------------------------------------------------------- reading

template <typename Response>
void Cluster::ReadRouting(Asked asked, std::function<absl::StatusOr<Response>(const ExchangeState&)> read,
                          Answer<Response> done) {
  home_->Post([this, asked, read = std::move(read), done = std::move(done)]() mutable {
    auto once = [this, read = std::move(read)](Answer<Response> answer) {
      if (absl::Status status = CheckMember(""); !status.ok()) return answer(status);
      LinearBarrier([this, read, answer = std::move(answer)](absl::StatusOr<raft::Index> index) mutable {
        if (!index.ok()) return answer(index.status());
        absl::StatusOr<Response> response = read(state().routing());
        if (response.ok()) response->set_metadata_index(applied().value());
        answer(std::move(response));
      });
    };
    Retry<Response>(asked, std::move(once), std::move(done));
  });
}

void Cluster::DescribeExchange(v1::DescribeExchangeRequest request, Asked asked,
                               Answer<v1::DescribeExchangeResponse> done) {
  auto read = [request =
                   std::move(request)](const ExchangeState& routing) -> absl::StatusOr<v1::DescribeExchangeResponse> {
    if (absl::Status named = ValidateExchangeName(request.name()); !named.ok()) return named;
    const ExchangePtr exchange = routing.Find(request.name());
    if (exchange == nullptr) return NoSuchExchange(request.name());
    v1::DescribeExchangeResponse response;
    *response.mutable_exchange() = PublicInfo(*exchange, routing);
    return response;
  };
  ReadRouting<v1::DescribeExchangeResponse>(asked, std::move(read), std::move(done));
}

void Cluster::ListExchanges(v1::ListExchangesRequest request, Asked asked, Answer<v1::ListExchangesResponse> done) {
  auto read = [request = std::move(request)](const ExchangeState& routing) {
    return trireme::broker::ListExchanges(routing, request);
  };
  ReadRouting<v1::ListExchangesResponse>(asked, std::move(read), std::move(done));
}

void Cluster::ListBindings(v1::ListBindingsRequest request, Asked asked, Answer<v1::ListBindingsResponse> done) {
  auto read = [request = std::move(request)](const ExchangeState& routing) {
    return trireme::broker::ListBindings(routing, request);
  };
  ReadRouting<v1::ListBindingsResponse>(asked, std::move(read), std::move(done));
}

}  // namespace trireme::broker
