#include "broker/cluster/exchange_state.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/cluster/names.h"
#include "broker/ops/error.h"
#include "raft/core/coding.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;
namespace v1 = trireme::v1;

absl::Status Bad(absl::string_view reason, const std::string& limit, const std::string& message) {
  return Error(absl::StatusCode::kInvalidArgument, {.reason = reason, .limit = limit}, message);
}

absl::Status TooLong(absl::string_view what, size_t bytes, size_t limit) {
  return Bad("BAD_BINDING", absl::StrCat(limit, " bytes"),
             absl::StrCat(what, " of a binding has ", bytes, " bytes; the limit is ", limit));
}

absl::Status Contradiction(const std::string& what) {
  return absl::DataLossError(absl::StrCat("metadata snapshot contradicts itself: ", what));
}

}  // namespace

BindingIdentity BindingIdentity::Of(const meta::Binding& binding) {
  raft::Writer headers;
  headers.Byte(binding.any_header() ? 1 : 0);
  for (const meta::Header& header : binding.headers()) {
    headers.Counted(header.name());
    headers.Counted(header.value().SerializeAsString());
  }
  const bool to_exchange = binding.has_to_exchange();
  return {.exchange = binding.exchange(),
          .to_exchange = to_exchange,
          .to = to_exchange ? binding.to_exchange() : binding.queue(),
          .routing_key = binding.routing_key(),
          .headers = headers.Take()};
}

absl::Status ValidateExchange(std::string_view name, const v1::ExchangeSettings& settings) {
  if (absl::Status named = ValidateExchangeName(name); !named.ok()) return named;
  if (settings.type() < v1::EXCHANGE_TYPE_DIRECT || settings.type() > v1::EXCHANGE_TYPE_HEADERS) {
    return Bad("BAD_EXCHANGE_TYPE", "direct, fanout, topic or headers",
               absl::StrCat("exchange ", std::string(name), " has no type that is known (", int{settings.type()},
                            "); give direct, fanout, topic or headers"));
  }
  if (settings.alternate().empty()) return absl::OkStatus();
  if (settings.alternate() == name) {
    return Bad("BAD_ALTERNATE", "another exchange",
               absl::StrCat("exchange ", std::string(name), " cannot be its own alternate"));
  }
  return ValidateExchangeName(settings.alternate());
}

absl::Status ValidateBinding(const meta::Binding& binding) {
  if (absl::Status from = ValidateExchangeName(binding.exchange()); !from.ok()) return from;
  switch (binding.destination_case()) {
    case meta::Binding::kQueue:
      if (absl::Status to = ValidateQueueName(binding.queue()); !to.ok()) return to;
      break;
    case meta::Binding::kToExchange:
      if (absl::Status to = ValidateExchangeName(binding.to_exchange()); !to.ok()) return to;
      break;
    case meta::Binding::DESTINATION_NOT_SET:
      return Bad("BAD_BINDING", "a queue or an exchange", "a binding leads to nothing; name a queue or an exchange");
  }
  if (binding.routing_key().size() > kMaxRoutingKeyBytes) {
    return TooLong("the routing key", binding.routing_key().size(), kMaxRoutingKeyBytes);
  }
  if (binding.headers_size() > kMaxBindingHeaders) {
    return Bad("BAD_BINDING", absl::StrCat(kMaxBindingHeaders, " headers"),
               absl::StrCat("a binding has ", binding.headers_size(), " headers; the limit is ", kMaxBindingHeaders));
  }
  size_t bytes = 0;
  for (int i = 0; i < binding.headers_size(); ++i) {
    bytes += binding.headers(i).name().size() + binding.headers(i).value().ByteSizeLong();
    if (i > 0 && binding.headers(i - 1).name() >= binding.headers(i).name()) {
      return Bad("BAD_BINDING", "", "the headers of a binding are not in order");
    }
  }
  if (bytes > kMaxBindingHeaderBytes) return TooLong("the headers", bytes, kMaxBindingHeaderBytes);
  return absl::OkStatus();
}

ExchangePtr ExchangeState::Find(std::string_view name) const {
  auto found = exchanges_.find(name);
  return found == exchanges_.end() ? nullptr : found->second;
}

size_t ExchangeState::CountFrom(const std::string& exchange) const {
  size_t n = 0;
  for (auto it = bindings_.lower_bound({.exchange = exchange}); it != bindings_.end() && it->first.exchange == exchange;
       ++it) {
    ++n;
  }
  return n;
}

size_t ExchangeState::CountTo(const std::string& exchange) const {
  auto found = by_destination_.find(std::pair(true, exchange));
  return found == by_destination_.end() ? 0 : found->second.size();
}

// ---------------------------------------------------------------- commands

ExchangeState::Change ExchangeState::Apply(const meta::ExchangeCreated& created) {
  if (!ValidateExchange(created.name(), created.settings()).ok()) return {Outcome::kInvalid};
  if (ExchangePtr there = Find(created.name())) return {Outcome::kAlreadySo, std::move(there)};
  const std::string& alternate = created.settings().alternate();
  if (!alternate.empty() && Find(alternate) == nullptr) return {Outcome::kNoSuchExchange};
  if (exchanges_.size() >= kMaxExchanges) return {Outcome::kTooMany};
  auto exchange = std::make_shared<const ExchangeInfo>(ExchangeInfo{.name = created.name(),
                                                                    .id = next_id_++,
                                                                    .settings = created.settings(),
                                                                    .created_at_ms = created.created_at_ms()});
  exchanges_[created.name()] = exchange;
  return {Outcome::kDone, std::move(exchange)};
}

ExchangeState::Change ExchangeState::Apply(const meta::ExchangeDeleted& deleted) {
  ExchangePtr exchange = Find(deleted.name());
  if (exchange == nullptr || exchange->id != deleted.id()) return {Outcome::kNoSuchExchange};
  for (const auto& [name, other] : exchanges_) {
    if (other->settings.alternate() == deleted.name()) return {Outcome::kInUse, other};
  }
  if (deleted.if_unused() && CountFrom(deleted.name()) + CountTo(deleted.name()) > 0) return {Outcome::kInUse};
  Change change{Outcome::kDone, std::move(exchange), DropFrom(deleted.name())};
  for (BindingPtr& binding : DropTo(/*to_exchange=*/true, deleted.name()))
    change.bindings.push_back(std::move(binding));
  exchanges_.erase(deleted.name());
  return change;
}

ExchangeState::Change ExchangeState::Apply(const meta::BindingCreated& created, GroupOf group_of) {
  const meta::Binding& binding = created.binding();
  if (!ValidateBinding(binding).ok()) return {Outcome::kInvalid};
  const ExchangePtr from = Find(binding.exchange());
  if (from == nullptr || from->id != created.exchange_id()) return {Outcome::kNoSuchExchange};
  if (binding.has_to_exchange()) {
    const ExchangePtr to = Find(binding.to_exchange());
    if (to == nullptr || to->id != created.destination_id()) return {Outcome::kNoSuchExchange};
  } else if (created.destination_id() == 0 || group_of(binding.queue()) != created.destination_id()) {
    return {Outcome::kNoSuchQueue};
  }
  if (from->settings.type() != v1::EXCHANGE_TYPE_HEADERS && (binding.any_header() || !binding.headers().empty())) {
    return {Outcome::kInvalid};
  }
  if (Has(binding)) return {Outcome::kAlreadySo, from};
  if (bindings_.size() >= kMaxBindings) return {Outcome::kTooMany};
  auto added = std::make_shared<const meta::Binding>(binding);
  Insert(added);
  return {Outcome::kDone, from, {std::move(added)}};
}

ExchangeState::Change ExchangeState::Apply(const meta::BindingDeleted& deleted) {
  const ExchangePtr from = Find(deleted.binding().exchange());
  if (from == nullptr || from->id != deleted.exchange_id()) return {Outcome::kNoSuchExchange};
  auto found = bindings_.find(BindingIdentity::Of(deleted.binding()));
  if (found == bindings_.end()) return {Outcome::kNoSuchBinding, from};
  Change change{Outcome::kDone, from, {found->second}};
  auto to = by_destination_.find(std::pair(found->first.to_exchange, found->first.to));
  to->second.erase(found->first);
  if (to->second.empty()) by_destination_.erase(to);
  bindings_.erase(found);
  return change;
}

std::vector<BindingPtr> ExchangeState::DropQueue(const std::string& name) {
  return DropTo(/*to_exchange=*/false, name);
}

std::vector<BindingPtr> ExchangeState::DropTo(bool to_exchange, const std::string& name) {
  std::vector<BindingPtr> dropped;
  auto found = by_destination_.find(std::pair(to_exchange, name));
  if (found == by_destination_.end()) return dropped;
  for (const BindingIdentity& identity : found->second) {
    auto binding = bindings_.find(identity);
    dropped.push_back(std::move(binding->second));
    bindings_.erase(binding);
  }
  by_destination_.erase(found);
  return dropped;
}

std::vector<BindingPtr> ExchangeState::DropFrom(const std::string& exchange) {
  std::vector<BindingPtr> dropped;
  auto it = bindings_.lower_bound({.exchange = exchange});
  while (it != bindings_.end() && it->first.exchange == exchange) {
    auto to = by_destination_.find(std::pair(it->first.to_exchange, it->first.to));
    to->second.erase(it->first);
    if (to->second.empty()) by_destination_.erase(to);
    dropped.push_back(std::move(it->second));
    it = bindings_.erase(it);
  }
  return dropped;
}

void ExchangeState::Insert(BindingPtr binding) {
  BindingIdentity identity = BindingIdentity::Of(*binding);
  by_destination_[std::pair(identity.to_exchange, identity.to)].insert(identity);
  bindings_[std::move(identity)] = std::move(binding);
}

// ---------------------------------------------------------------- snapshots

void ExchangeState::AddTo(meta::Snapshot* snapshot) const {
  if (!used()) return;
  for (const auto& [name, exchange] : exchanges_) {
    meta::Exchange* out = snapshot->add_exchanges();
    out->set_name(name);
    out->set_id(exchange->id);
    *out->mutable_settings() = exchange->settings;
    out->set_created_at_ms(exchange->created_at_ms);
  }
  for (const auto& [identity, binding] : bindings_) *snapshot->add_bindings() = *binding;
  snapshot->set_next_exchange_id(next_id_);
}

absl::Status ExchangeState::Restore(const meta::Snapshot& snapshot, GroupOf group_of) {
  ExchangeState state;
  if (snapshot.next_exchange_id() != 0) state.next_id_ = snapshot.next_exchange_id();
  for (const meta::Exchange& in : snapshot.exchanges()) {
    if (in.id() >= state.next_id_) {
      return Contradiction(
          absl::StrCat("exchange ", in.name(), " has id ", in.id(), ", which is not below ", state.next_id_));
    }
    auto exchange = std::make_shared<const ExchangeInfo>(
        ExchangeInfo{.name = in.name(), .id = in.id(), .settings = in.settings(), .created_at_ms = in.created_at_ms()});
    if (!state.exchanges_.emplace(in.name(), std::move(exchange)).second) {
      return Contradiction(absl::StrCat("exchange ", in.name(), " is there twice"));
    }
  }
  for (const meta::Binding& in : snapshot.bindings()) {
    const bool there = in.has_to_exchange() ? state.Find(in.to_exchange()) != nullptr : group_of(in.queue()) != 0;
    if (!there || state.Find(in.exchange()) == nullptr || state.Has(in)) {
      return Contradiction(absl::StrCat("a binding from ", in.exchange(), " to ",
                                        in.has_to_exchange() ? in.to_exchange() : in.queue(),
                                        there ? " is there twice or starts nowhere" : " leads to nothing"));
    }
    state.Insert(std::make_shared<const meta::Binding>(in));
  }
  *this = std::move(state);
  return absl::OkStatus();
}

}  // namespace trireme::broker
