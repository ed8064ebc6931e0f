#include "broker/routing/routing_table.h"

#include <utility>

#include "broker/routing/header_index.h"
#include "broker/routing/topic_trie.h"
#include "raft/core/check.h"

namespace trireme::broker {

// One exchange with its bindings. It uses what its type needs; the rest stays empty.
class RoutedExchange {
 public:
  RoutedExchange(ExchangeType type, Target* alternate) : type_(type), alternate_(alternate) {}

  Target* alternate() const { return alternate_; }

  void Add(const Binding& binding, Target* target) {
    ++bindings_;
    switch (type_) {
      case ExchangeType::kDirect:
        return by_key_[binding.routing_key].Add(target);
      case ExchangeType::kFanout:
        return all_.Add(target);
      case ExchangeType::kTopic:
        return topics_.Add(binding.routing_key, target);
      case ExchangeType::kHeaders:
        return headers_.Add(binding, target);
    }
  }

  void Remove(const Binding& binding, Target* target) {
    --bindings_;
    TRIREME_CHECK(Drop(binding, target)) << "unbound what was not bound: " << target->name;
  }

  bool empty() const { return bindings_ == 0; }

  // Calls visit(Target*) for each target that the message reaches from here.
  template <typename Visit>
  void Match(std::string_view routing_key, std::string_view message, Visit visit) {
    switch (type_) {
      case ExchangeType::kDirect:
        if (auto found = by_key_.find(routing_key); found != by_key_.end()) found->second.ForEach(visit);
        return;
      case ExchangeType::kFanout:
        return all_.ForEach(visit);
      case ExchangeType::kTopic:
        return topics_.Match(routing_key, visit);
      case ExchangeType::kHeaders:
        return headers_.Match(message, visit);
    }
  }

 private:
  bool Drop(const Binding& binding, Target* target) {
    switch (type_) {
      case ExchangeType::kDirect: {
        auto found = by_key_.find(binding.routing_key);
        if (found == by_key_.end() || !found->second.Remove(target)) return false;
        if (found->second.empty()) by_key_.erase(found);
        return true;
      }
      case ExchangeType::kFanout:
        return all_.Remove(target);
      case ExchangeType::kTopic:
        return topics_.Remove(binding.routing_key, target);
      case ExchangeType::kHeaders:
        return headers_.Remove(binding, target);
    }
    return false;
  }

  const ExchangeType type_;
  Target* const alternate_;  // null: none
  size_t bindings_ = 0;
  ByName<TargetSet> by_key_;
  TargetSet all_;
  TopicTrie topics_;
  HeaderIndex headers_;
};

RoutingTable::RoutingTable() = default;

RoutingTable::~RoutingTable() = default;

Target* RoutingTable::Acquire(Target::Kind kind, const std::string& name) {
  std::unique_ptr<Target>& target = OfKind(kind)[name];
  if (target == nullptr) target = std::make_unique<Target>(Target{.kind = kind, .name = name});
  ++target->references;
  return target.get();
}

void RoutingTable::Release(Target* target) {
  if (--target->references == 0) OfKind(target->kind).erase(target->name);
}

RoutedExchange& RoutingTable::ExchangeOf(const std::string& name) {
  auto found = exchanges_.find(name);
  TRIREME_CHECK(found != exchanges_.end()) << "no exchange " << name;
  return *found->second;
}

uint32_t RoutingTable::AddQueue(const std::string& name) {
  Target* target = Acquire(Target::Kind::kQueue, name);
  TRIREME_CHECK(target->references == 1) << "queue " << name << " is there";
  if (free_.empty()) {
    target->queue = static_cast<uint32_t>(queues_.size());
    queues_.push_back(target);
  } else {
    target->queue = free_.back();
    free_.pop_back();
    queues_[target->queue] = target;
  }
  return target->queue;
}

std::optional<uint32_t> RoutingTable::FindQueue(std::string_view name) const {
  auto found = queue_targets_.find(name);
  if (found == queue_targets_.end()) return std::nullopt;
  return found->second->queue;
}

uint32_t RoutingTable::RemoveQueue(const std::string& name) {
  auto found = queue_targets_.find(name);
  TRIREME_CHECK(found != queue_targets_.end()) << "no queue " << name;
  Target* target = found->second.get();
  TRIREME_CHECK(target->references == 1) << "queue " << name << " is removed and has bindings";
  const uint32_t handle = target->queue;
  queues_[handle] = nullptr;
  free_.push_back(handle);
  Release(target);
  return handle;
}

void RoutingTable::AddExchange(const std::string& name, ExchangeType type, const std::string& alternate) {
  auto [at, added] = exchanges_.try_emplace(name);
  TRIREME_CHECK(added) << "exchange " << name << " is there";
  at->second =
      std::make_unique<RoutedExchange>(type, alternate.empty() ? nullptr : Acquire(Target::Kind::kExchange, alternate));
  Acquire(Target::Kind::kExchange, name)->exchange = at->second.get();
}

void RoutingTable::RemoveExchange(const std::string& name) {
  RoutedExchange& exchange = ExchangeOf(name);
  TRIREME_CHECK(exchange.empty()) << "exchange " << name << " is removed and has bindings";
  Target* target = exchange_targets_.find(name)->second.get();
  target->exchange = nullptr;
  if (exchange.alternate() != nullptr) Release(exchange.alternate());
  Release(target);
  exchanges_.erase(name);
}

void RoutingTable::Bind(const Binding& binding) {
  RoutedExchange& exchange = ExchangeOf(binding.exchange);
  exchange.Add(binding, Acquire(binding.kind, binding.to));
}

void RoutingTable::Unbind(const Binding& binding) {
  RoutedExchange& exchange = ExchangeOf(binding.exchange);
  auto target = OfKind(binding.kind).find(binding.to);
  TRIREME_CHECK(target != OfKind(binding.kind).end()) << "unbound what was not bound: " << binding.to;
  exchange.Remove(binding, target->second.get());
  Release(target->second.get());
}

void RoutingTable::Visit(Target* target) {
  if (std::exchange(target->visited, message_) == message_) return;
  if (target->kind == Target::Kind::kQueue) {
    reached_.push_back(target->queue);
  } else if (target->exchange != nullptr) {
    passed_.push_back(target->exchange);
  }
}

absl::Span<const uint32_t> RoutingTable::Route(std::string_view exchange, std::string_view routing_key,
                                               std::string_view message) {
  ++message_;
  reached_.clear();
  passed_.clear();
  const Targets& first = exchange.empty() ? queue_targets_ : exchange_targets_;
  if (auto found = first.find(exchange.empty() ? routing_key : exchange); found != first.end()) {
    Visit(found->second.get());
  }
  for (size_t i = 0; i < passed_.size(); ++i) {  // grows on the way
    RoutedExchange* from = passed_[i];
    bool matched = false;
    from->Match(routing_key, message, [&](Target* target) {
      matched = true;
      Visit(target);
    });
    if (!matched && from->alternate() != nullptr) Visit(from->alternate());
  }
  return reached_;
}

}  // namespace trireme::broker
