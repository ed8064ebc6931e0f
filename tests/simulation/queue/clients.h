// Producers and consumers of a queue that do as clients do: they find the leader, retry with the same sequences, resume
// their sessions naming what they hold, settle again what was not confirmed; and some tokens they use twice.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/broker/queue_cluster.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/queue/plant.h"
#include "tests/simulation/queue/suite.h"
#include "tests/simulation/trace.h"

namespace trireme::queue_simulation {

using broker::CutReason;
using broker::DeliveredRun;
using broker::PublishOutcome;
using broker::QueueReplica;
using broker::testing::NotingConsumerSink;
using broker::testing::NotingPublishSink;
using broker::testing::QueueWorld;
using simulation::Chance;
using simulation::Trace;

class Clients {
 public:
  // All outlive it, and it every callback that it gives away.
  Clients(QueueWorld* queue, Chance* chance, Suite* suite, Trace* trace, Plant plant);

  // Each does a little. `publish`: producers have more to say.
  void Step(bool publish);
  // Everything is confirmed, and everything confirmed is settled.
  bool Drained() const;
  uint64_t lapses() const { return lapses_; }
  uint64_t confirmed() const { return confirmed_.size(); }
  uint64_t settled() const { return settled_.size(); }
  uint64_t old_tokens() const { return old_asks_; }
  uint64_t figures() const { return figures_; }
  // The subscription keeps messages in order by their keys.
  bool ordered() const { return set_up_ && settings_.order_by_key; }
  // The node's process ended: who talked to it learns so.
  void Died(uint64_t node) { ++lives_[node]; }

 private:
  // A stream to a node, in one life of that.
  struct Stream {
    uint64_t node = 0;
    uint64_t life = 0;
  };
  struct Batch {
    uint64_t first = 0;
    std::vector<std::string> bodies;
  };
  struct Producer {
    enum class State : uint8_t { kUnbound, kBinding, kBound };
    std::string name;
    uint64_t epoch = 0;
    uint64_t next = 1;
    std::deque<Batch> open;  // not confirmed in full
    State state = State::kUnbound;
    Stream stream;
    uint64_t binding = 0;
    std::shared_ptr<NotingPublishSink> sink;
    size_t seen = 0;
  };
  struct Held {
    Position position;
    uint64_t checkout_index = 0;
    std::string body;
    bool lapsed = false;  // given up, and settled all the same
  };
  struct Settling {
    queue::Disposition disposition;
    std::vector<Held> messages;
  };
  struct Consumer {
    std::string session;
    Stream stream;
    std::shared_ptr<NotingConsumerSink> sink;
    size_t seen = 0;
    std::map<Position, Held> holds;
    // Settled, and the receipt did not come yet: sent again after a reconnect.
    std::map<uint64_t, Settling> settling;
    uint64_t last_receipt = 0;
    bool resend = false;
    raft::MonotonicTime heard{};  // of who serves it
    raft::MonotonicTime away_until{};
    size_t lost_seen = 0;
    uint64_t lives = 1;
  };

  bool Percent(int64_t percent) { return chance_->PerMille(percent * 10); }
  QueueReplica* At(const Stream& stream) const;
  // To whoever leads, as far as can be known; false if nobody does.
  bool Connect(Stream* stream);

  // Gives the subscription its settings, before anything else.
  void SetUp();
  void Produce(Producer& p, bool more);
  void Bind(Producer& p);
  void Send(Producer& p, const Batch& batch);
  void Note(Producer& p, const PublishOutcome& outcome);
  void Consume(Consumer& c);
  void Attach(Consumer& c);
  // Its session may be over, for all it knows.
  void MindSilence(Consumer& c);
  // It works on nothing any more that it holds.
  void GiveUp(Consumer& c);
  void Say(const Consumer& c, const std::string& what) const;
  void Break(Consumer& c);
  // The network between it and the cluster is gone for a while.
  void Leave(Consumer& c);
  // It never comes back, and another comes in its place.
  void Die(Consumer& c);
  void DropLost(Consumer& c);
  void SettleSome(Consumer& c);
  void SendSettle(Consumer& c, uint64_t receipt);
  void TakeReceipts(Consumer& c);
  void TakeDeliveries(Consumer& c);
  void Spoil(std::vector<DeliveredRun>* runs, size_t from);
  void UseOldToken(const Held& held);
  void AskFigures();

  QueueWorld* const queue_;
  Chance* const chance_;
  Suite* const suite_;
  Trace* const trace_;
  const Plant plant_;
  std::chrono::milliseconds session_timeout_;
  int64_t deaths_per_mille_ = 0;
  uint64_t lapses_ = 0;
  queue::SubscriptionSettings settings_;
  bool setting_up_ = false, set_up_ = false;
  Stream setting_up_at_;
  std::vector<Producer> producers_;
  std::vector<Consumer> consumers_;
  std::map<uint64_t, uint64_t> lives_;
  std::map<std::string, Position> confirmed_;
  std::map<std::string, Held> settled_;
  std::set<std::string> open_;         // bodies of which nobody will learn whether they were settled
  std::map<Position, Held> given_up_;  // the last time
  std::deque<Held> old_;               // whose tokens are used up, most likely
  uint64_t old_asks_ = 0;
  uint64_t figures_asks_ = 0, figures_ = 0;
  broker::QueueFigures first_figures_;  // that were answered, or the last
};

}  // namespace trireme::queue_simulation
