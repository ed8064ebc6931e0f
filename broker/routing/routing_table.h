// Where a message that is published to an exchange goes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "broker/routing/binding.h"
#include "broker/routing/by_name.h"

namespace trireme::broker {

// Exchanges, bindings and the queues that they lead to. It is told of each change by someone who has checked it
// (broker/cluster's metadata): names are valid, what a binding names is there, what is removed has no bindings left. On
// one thread: routing uses room that the table owns.
//
// The result is a function of the definitions and the message, its order included; the order in which the definitions
// came does not show.
class RoutingTable {
 public:
  RoutingTable();
  ~RoutingTable();
  RoutingTable(const RoutingTable&) = delete;
  RoutingTable& operator=(const RoutingTable&) = delete;

  // A queue's handle: small, and its own until it is removed.
  uint32_t AddQueue(const std::string& name);
  // Nothing: it is not there.
  std::optional<uint32_t> FindQueue(std::string_view name) const;
  // The handle that it had.
  uint32_t RemoveQueue(const std::string& name);
  // `alternate`: another exchange, which takes what none of this one's bindings matches; empty = none. It need not be
  // there yet.
  void AddExchange(const std::string& name, ExchangeType type, const std::string& alternate);
  void RemoveExchange(const std::string& name);
  void Bind(const Binding& binding);
  void Unbind(const Binding& binding);

  bool HasExchange(std::string_view name) const { return exchanges_.contains(name); }
  const std::string& queue_name(uint32_t handle) const { return queues_[handle]->name; }

  // The queues that a message reaches, each once, through as many exchanges as it takes; cycles end where they began.
  // Empty: it is unroutable. `exchange` is one that is there, or "", the default exchange, which knows every queue by
  // its name as routing key. `message` is an encoded trireme.v1.Message, of which headers exchanges look at the
  // headers. Good until the next call.
  absl::Span<const uint32_t> Route(std::string_view exchange, std::string_view routing_key, std::string_view message);

 private:
  using Targets = ByName<std::unique_ptr<Target>>;

  Targets& OfKind(Target::Kind kind) { return kind == Target::Kind::kQueue ? queue_targets_ : exchange_targets_; }
  // Refers to a target, and no more: the last to go takes it along.
  Target* Acquire(Target::Kind kind, const std::string& name);
  void Release(Target* target);
  RoutedExchange& ExchangeOf(const std::string& name);
  void Visit(Target* target);

  Targets queue_targets_, exchange_targets_;
  ByName<std::unique_ptr<RoutedExchange>> exchanges_;
  std::vector<Target*> queues_;  // by handle; null where it is free
  std::vector<uint32_t> free_;

  // Of the message under way.
  uint64_t message_ = 0;
  std::vector<RoutedExchange*> passed_;
  std::vector<uint32_t> reached_;
};

}  // namespace trireme::broker
