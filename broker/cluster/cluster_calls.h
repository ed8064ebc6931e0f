// What the requests to the metadata group share: trying again, and answering where it was asked. For Cluster's own
// sources.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "broker/cluster/cluster.h"
#include "broker/ops/error.h"

namespace trireme::broker {

// Between attempts while there is no metadata leader.
inline constexpr std::chrono::milliseconds kRetry{50};
// Of one question to the metadata leader; several fit into a client's deadline.
inline constexpr std::chrono::milliseconds kLeaderTimeout{2000};

// Said by a node that is no member yet. Only an operator ends that, so who asks hears it at once.
inline constexpr char kNoCluster[] = "NO_CLUSTER";

inline bool TryAgain(const absl::Status& status) {
  if (FactsOf(status).reason == kNoCluster) return false;
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsCancelled(status);
}

// Answers on the shard that asked.
template <typename T>
Answer<T> OnShard(raft::Shard* shard, Answer<T> done) {
  return [shard, done = std::move(done)](absl::StatusOr<T> result) mutable {
    if (shard->OnThisThread()) return done(std::move(result));
    shard->Post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
  };
}

template <typename T>
void Cluster::Retry(Asked asked, std::function<void(Answer<T>)> attempt, Answer<T> done) {
  struct State {
    Asked asked;
    std::function<void(Answer<T>)> attempt;
    Answer<T> done;
    bool finished = false;
    absl::Status last = absl::DeadlineExceededError("no answer until the deadline");

    void Finish(absl::StatusOr<T> result) {
      if (std::exchange(finished, true)) return;
      attempt = nullptr;  // the timer of the deadline keeps this object, but not what the call holds
      std::exchange(done, nullptr)(std::move(result));
    }
    static void Run(const std::shared_ptr<State>& state, raft::Shard* home) {
      if (state->finished) return;
      std::function<void(Answer<T>)> attempt = state->attempt;  // may end within
      attempt([state, home](absl::StatusOr<T> result) {
        if (result.ok() || !TryAgain(result.status())) return state->Finish(std::move(result));
        state->last = result.status();
        home->After(kRetry, [state, home] { Run(state, home); });
      });
    }
  };
  auto state = std::make_shared<State>(State{asked, std::move(attempt), OnShard<T>(asked.reply, std::move(done))});
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(asked.deadline - home_->Now());
  home_->After(std::max(left, std::chrono::milliseconds(1)), [state] { state->Finish(state->last); });
  State::Run(state, home_);
}

}  // namespace trireme::broker
