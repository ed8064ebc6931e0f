// What a queue's leader decides, over all of its subscriptions. Rebuilt from the machine's state for each term.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "broker/queue/dispatcher.h"
#include "broker/queue/effects.h"
#include "broker/queue/facts.h"
#include "broker/queue/machine.h"

namespace trireme::queue {

// A dispatcher for each subscription in the state, and the producers that are to be forgotten. The contract is
// Dispatcher's: the owner appends what Decide gives at once, and hands every applied entry of its own back.
class Dispatchers {
 public:
  Dispatchers(const Machine* machine, uint64_t last_index, MonotonicMs now, Dispatcher::Limits limits);

  // Null: the state has no such subscription. Valid until an entry is applied that deletes it.
  Dispatcher* Find(SubscriptionId id) const;
  // Calls visit(dispatcher) for each.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const auto& [id, dispatcher] : all_) visit(*dispatcher);
  }

  // This leader appended an entry.
  void Appended(uint64_t index, const EntryShape& shape);
  // And it holds a Purged fact. Before the next Decide.
  void Purged(uint64_t index);

  // For messages that are to be stored there is so much too little room: has the oldest leave that nobody holds, by
  // facts for the same entry as what Decide gives, before it. Never more than that is needed.
  enum class Made : uint8_t {
    kSome,   // or it is under way: to be judged anew when that is applied
    kLater,  // once more is read
    kNone,   // nothing can leave
  };
  Made MakeRoom(Amount wanted, Dispatcher::Plan& plan);

  // `queue_time_ms`: of the entry that will carry the facts.
  Dispatcher::Plan Decide(MonotonicMs now, int64_t queue_time_ms) {
    Dispatcher::Plan plan;
    Decide(now, queue_time_ms, plan);
    return plan;
  }
  void Decide(MonotonicMs now, int64_t queue_time_ms, Dispatcher::Plan& plan);

  // An entry was applied. `facts` are its facts, `effects` what came of them.
  void Applied(uint64_t index, const std::vector<Fact>& facts, const Effects& effects,
               std::vector<Dispatcher::Delivery>& deliveries);

  // When Decide has something to do by the clock alone. Queue time and `now` run alike.
  std::optional<MonotonicMs> NextWake(MonotonicMs now, int64_t queue_time_ms) const;

 private:
  void Add(SubscriptionId id, MonotonicMs now);
  void ForgetProducers(int64_t queue_time_ms, Dispatcher::Plan& plan);

  const Machine* const machine_;
  const Dispatcher::Limits limits_;
  uint64_t last_index_;
  std::map<SubscriptionId, std::unique_ptr<Dispatcher>> all_;
  SubscriptionId turn_ = 0;  // who was first, when there was not room for all
  int64_t producers_checked_ms_ = 0;
};

}  // namespace trireme::queue
