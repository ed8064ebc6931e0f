// Random histories of a queue: leaders that come and go, producers, consumers and single receives, over a log that may
// lose its uncommitted end. After every applied entry the machine is compared with the model.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "broker/queue/dispatchers.h"
#include "tests/queue/log.h"
#include "tests/queue/model.h"

namespace trireme::queue {

class History {
 public:
  explicit History(uint64_t seed);

  // `steps` random steps; then everything is consumed, which must come to an end. What went wrong, or nothing.
  std::optional<std::string> Run(int steps);

  const Log& log() const { return log_; }
  const Model& model() const { return model_; }
  // The snapshot of the state after each entry, by index.
  const std::vector<raft::Bytes>& snapshots() const { return snapshots_; }

 private:
  // What a client knows of a session: it may have lost deliveries on the way.
  struct Client {
    bool connected = false;
    std::vector<Token> held;
  };
  // Those of one subscription.
  struct Clients {
    std::map<SessionId, Client> sessions;
    std::vector<Token> received;  // of single receives
    std::vector<Token> stale;     // tokens that were used, or never good
  };

  uint64_t Below(uint64_t n) { return n == 0 ? 0 : random_() % n; }
  bool Chance(unsigned percent) { return Below(100) < percent; }
  void Fail(const std::string& what) {
    if (!problem_) problem_ = what;
  }

  void Step();
  void NewLeader();
  void Publish();
  void OpenProducer();
  void Attach(SubscriptionId subscription, const SessionId& session);
  void ChangeSubscriptions();
  void SettleSome();
  void Depart();
  void Append(std::vector<Fact> facts);
  void Decide();
  void MakeRoom(Dispatcher::Plan& plan);
  void ApplyOne();
  void ApplyAll();
  void Deliver(const Dispatcher::Delivery& delivery);
  void Drain();
  EntryShape ShapeFor(SubscriptionId subscription, uint64_t index) const;
  // One that the state has.
  SubscriptionId SomeSubscription();
  std::vector<Token> SomeTokens(std::vector<Token>& held, std::vector<Token>& stale);

  std::mt19937_64 random_;
  Log log_;
  Model model_;
  std::vector<raft::Bytes> snapshots_;
  std::unique_ptr<Dispatchers> dispatchers_;
  Dispatcher::Limits limits_;
  int64_t now_ = 0;
  uint64_t compacted_ = 0;  // entries up to here are gone unless live
  std::map<SubscriptionId, Clients> clients_;
  std::set<uint64_t> refused_;  // entries whose messages were not stored
  uint64_t receivers_ = 0;
  struct Producer {
    uint64_t epoch = 0;
    uint64_t next_sequence = 1;
    std::set<uint64_t> sequences;  // appended and not applied
  };
  std::map<std::string, Producer> producers_;
  bool draining_ = false;
  std::optional<std::string> problem_;
};

}  // namespace trireme::queue
