// One shard's exchanges, and for how long its copy of them may be believed.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "broker/routing/exchange_router.h"
#include "raft/host/shard.h"

namespace trireme::broker {

// Safety rule 21. Who publishes routes by this shard's copy as long as that is young; it is renewed about every second
// while somebody publishes. "No such exchange" and "unroutable" are said only after a renewal that began after the
// question had come (Begun, RenewedSince). On its shard's thread only.
class Exchanges {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;
  // A linearizable read of the metadata, after which the router has all of it: Cluster::Refresh. Never calls `done`
  // before it has returned.
  using Read = std::function<void(raft::MonotonicTime deadline, Done done)>;

  // While publishing the copy is renewed when it is so old, and not used any more when it is so old.
  static constexpr std::chrono::milliseconds kRenewAfter{1'000};
  static constexpr std::chrono::milliseconds kTooOld{5'000};
  // Of a renewal.
  static constexpr std::chrono::milliseconds kPatience{3'000};

  // `unroutable` is told of messages that reached no queue.
  Exchanges(raft::Shard* shard, Read read, std::function<void(uint64_t messages)> unroutable)
      : shard_(shard), read_(std::move(read)), unroutable_(std::move(unroutable)) {}

  ExchangeRouter& router() { return router_; }

  // Whether the copy may be routed by now. Begins to renew one that is not the youngest.
  bool Current();
  // `done` once the copy is at least as new as now, or with why it is not.
  void Renew(Done done);

  // A moment: how many renewals had begun.
  using Moment = uint64_t;
  Moment Now() const { return begun_; }
  // Whether a renewal that began after that moment has succeeded.
  bool RenewedSince(Moment moment) const { return renewed_ > moment; }

  void CountUnroutable(uint64_t messages) { unroutable_(messages); }

 private:
  raft::Shard* const shard_;
  const Read read_;
  const std::function<void(uint64_t)> unroutable_;
  ExchangeRouter router_;
  // Renewals are numbered: those begun, and the latest of those that succeeded.
  uint64_t begun_ = 0;
  uint64_t renewed_ = 0;
  raft::MonotonicTime renewed_at_ = raft::MonotonicTime::min();
  bool in_background_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
