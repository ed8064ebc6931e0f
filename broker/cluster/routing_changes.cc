#include "broker/cluster/routing_changes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/cluster/names.h"
#include "broker/cluster/pages.h"
#include "broker/ops/error.h"
#include "raft/core/coding.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;
namespace peer = trireme::peer::v1;
namespace v1 = trireme::v1;
using Kind = MetadataOutcome::Kind;

absl::string_view TypeName(v1::ExchangeType type) {
  switch (type) {
    case v1::EXCHANGE_TYPE_DIRECT:
      return "direct";
    case v1::EXCHANGE_TYPE_FANOUT:
      return "fanout";
    case v1::EXCHANGE_TYPE_TOPIC:
      return "topic";
    case v1::EXCHANGE_TYPE_HEADERS:
      return "headers";
    default:
      return "unknown";
  }
}

std::string Described(const meta::Binding& binding) {
  std::string text = absl::StrCat("binding from exchange ", binding.exchange(), " to ",
                                  binding.has_to_exchange() ? "exchange " : "queue ",
                                  binding.has_to_exchange() ? binding.to_exchange() : binding.queue());
  if (!binding.routing_key().empty()) absl::StrAppend(&text, " by \"", binding.routing_key(), "\"");
  if (!binding.headers().empty()) absl::StrAppend(&text, " with ", binding.headers_size(), " headers");
  return text;
}

absl::Status NoSuchBinding(const meta::Binding& binding) {
  return Error(absl::StatusCode::kNotFound, {.reason = "BINDING_NOT_FOUND", .name = binding.exchange()},
               absl::StrCat("no ", Described(binding)));
}

absl::Status OtherSettings(const ExchangeInfo& there, const v1::ExchangeSettings& asked) {
  std::string has = absl::StrCat("exchange ", there.name, " exists with other settings: it is of type ",
                                 TypeName(there.settings.type()));
  if (!there.settings.alternate().empty()) absl::StrAppend(&has, " with alternate ", there.settings.alternate());
  absl::StrAppend(&has, "; asked for was type ", TypeName(asked.type()));
  if (!asked.alternate().empty()) absl::StrAppend(&has, " with alternate ", asked.alternate());
  return Error(absl::StatusCode::kAlreadyExists, {.reason = "EXCHANGE_EXISTS", .name = there.name},
               absl::StrCat(has, ". Settings do not change: delete it first"));
}

absl::Status InUse(const std::string& name, const std::string& why) {
  return Error(absl::StatusCode::kFailedPrecondition, {.reason = "EXCHANGE_IN_USE", .name = name},
               absl::StrCat("exchange ", name, why));
}

absl::Status TooMany(absl::string_view what, size_t limit) {
  const std::string most = absl::StrCat(limit);
  return Error(absl::StatusCode::kResourceExhausted, {.reason = "TOO_MANY", .limit = most},
               absl::StrCat("the cluster has ", limit, " ", what, ", which is the limit; delete some first"));
}

peer::RoutingChanged AsItIs(const ExchangeInfo& exchange, const ExchangeState& state) {
  peer::RoutingChanged so;
  *so.mutable_exchange() = PublicInfo(exchange, state);
  return so;
}

RoutingDecision DecideCreate(const ExchangeState& state, const v1::CreateExchangeRequest& request, int64_t now_ms) {
  const v1::ExchangeSettings& settings = request.settings();
  if (ExchangePtr there = state.Find(request.name())) {
    const bool same = there->settings.type() == settings.type() && there->settings.alternate() == settings.alternate();
    if (!same) return OtherSettings(*there, settings);
    return AsItIs(*there, state);
  }
  if (!settings.alternate().empty() && state.Find(settings.alternate()) == nullptr) {
    return NoSuchExchange(settings.alternate());
  }
  if (state.exchanges().size() >= kMaxExchanges) return TooMany("exchanges", kMaxExchanges);
  meta::Command command;
  command.mutable_exchange_created()->set_name(request.name());
  *command.mutable_exchange_created()->mutable_settings() = settings;
  command.mutable_exchange_created()->set_created_at_ms(now_ms);
  return command;
}

RoutingDecision DecideDelete(const ExchangeState& state, const v1::DeleteExchangeRequest& request, uint64_t id) {
  ExchangePtr exchange = state.Find(request.name());
  if (exchange == nullptr || exchange->id != id) return NoSuchExchange(request.name());
  for (const auto& [name, other] : state.exchanges()) {
    if (other->settings.alternate() == request.name()) {
      return InUse(request.name(), absl::StrCat(" is the alternate of exchange ", name, "; delete that one first"));
    }
  }
  if (const size_t bindings = state.CountFrom(request.name()) + state.CountTo(request.name());
      request.if_unused() && bindings > 0) {
    return InUse(request.name(), absl::StrCat(" has ", bindings, " bindings"));
  }
  meta::Command command;
  command.mutable_exchange_deleted()->set_name(request.name());
  command.mutable_exchange_deleted()->set_id(id);
  command.mutable_exchange_deleted()->set_if_unused(request.if_unused());
  return command;
}

RoutingDecision DecideBind(const MetadataState& metadata, const v1::Binding& asked) {
  const ExchangeState& state = metadata.routing();
  const meta::Binding binding = StoredBinding(asked);
  ExchangePtr from = state.Find(binding.exchange());
  if (from == nullptr) return NoSuchExchange(binding.exchange());
  uint64_t destination = 0;
  if (binding.has_to_exchange()) {
    ExchangePtr to = state.Find(binding.to_exchange());
    if (to == nullptr) return NoSuchExchange(binding.to_exchange());
    destination = to->id;
  } else {
    QueuePtr to = metadata.FindQueue(binding.queue());
    if (to == nullptr) return NoSuchQueue(binding.queue());
    destination = to->group.value();
  }
  if (from->settings.type() != v1::EXCHANGE_TYPE_HEADERS && (binding.any_header() || !binding.headers().empty())) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_BINDING", .name = binding.exchange()},
                 absl::StrCat("exchange ", binding.exchange(), " is of type ", TypeName(from->settings.type()),
                              " and does not match headers"));
  }
  if (state.Has(binding)) return AsItIs(*from, state);
  if (state.bindings().size() >= kMaxBindings) return TooMany("bindings", kMaxBindings);
  meta::Command command;
  *command.mutable_binding_created()->mutable_binding() = binding;
  command.mutable_binding_created()->set_exchange_id(from->id);
  command.mutable_binding_created()->set_destination_id(destination);
  return command;
}

RoutingDecision DecideUnbind(const ExchangeState& state, const v1::Binding& asked, uint64_t id) {
  const meta::Binding binding = StoredBinding(asked);
  ExchangePtr from = state.Find(binding.exchange());
  if (from == nullptr || from->id != id) return NoSuchExchange(binding.exchange());
  if (!state.Has(binding)) return NoSuchBinding(binding);
  meta::Command command;
  *command.mutable_binding_deleted()->mutable_binding() = binding;
  command.mutable_binding_deleted()->set_exchange_id(id);
  return command;
}

absl::Status ValidateMatch(const v1::Binding& binding) {
  if (binding.header_match() < v1::HEADER_MATCH_UNSPECIFIED || binding.header_match() > v1::HEADER_MATCH_ANY) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_BINDING", .limit = "all or any"},
                 absl::StrCat("a binding's header_match is ", int{binding.header_match()}, "; give all or any"));
  }
  return ValidateBinding(StoredBinding(binding));
}

}  // namespace

absl::Status ValidateChange(const peer::RoutingChange& change) {
  switch (change.change_case()) {
    case peer::RoutingChange::kCreateExchange:
      return ValidateExchange(change.create_exchange().name(), change.create_exchange().settings());
    case peer::RoutingChange::kDeleteExchange:
      return ValidateExchangeName(change.delete_exchange().name());
    case peer::RoutingChange::kCreateBinding:
      return ValidateMatch(change.create_binding().binding());
    case peer::RoutingChange::kDeleteBinding:
      return ValidateMatch(change.delete_binding().binding());
    case peer::RoutingChange::CHANGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("a change of the routing that asks for nothing");
}

absl::StatusOr<uint64_t> ExchangeToDelete(const ExchangeState& state, const peer::RoutingChange& change) {
  const std::string& name =
      change.has_delete_binding() ? change.delete_binding().binding().exchange() : change.delete_exchange().name();
  const ExchangePtr exchange = state.Find(name);
  if (exchange == nullptr) return NoSuchExchange(name);
  if (change.has_delete_binding()) {
    const meta::Binding binding = StoredBinding(change.delete_binding().binding());
    if (!state.Has(binding)) return NoSuchBinding(binding);
  }
  return exchange->id;
}

RoutingDecision Decide(const MetadataState& state, const peer::RoutingChange& change, int64_t now_ms) {
  switch (change.change_case()) {
    case peer::RoutingChange::kCreateExchange:
      return DecideCreate(state.routing(), change.create_exchange(), now_ms);
    case peer::RoutingChange::kDeleteExchange:
      return DecideDelete(state.routing(), change.delete_exchange(), change.exchange_id());
    case peer::RoutingChange::kCreateBinding:
      return DecideBind(state, change.create_binding().binding());
    case peer::RoutingChange::kDeleteBinding:
      return DecideUnbind(state.routing(), change.delete_binding().binding(), change.exchange_id());
    case peer::RoutingChange::CHANGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("a change of the routing that asks for nothing");
}

absl::StatusOr<peer::RoutingChanged> Judge(const MetadataState& state, const MetadataOutcome& outcome,
                                           raft::Index index) {
  if (outcome.kind != Kind::kDone && outcome.kind != Kind::kAlreadySo) {
    return absl::UnavailableError("exchanges, bindings or queues changed meanwhile; try again");
  }
  peer::RoutingChanged changed;
  changed.set_metadata_index(index.value());
  changed.set_changed(outcome.kind == Kind::kDone);
  *changed.mutable_exchange() = PublicInfo(*outcome.exchange, state.routing());
  changed.set_bindings(static_cast<uint32_t>(outcome.bindings.size()));
  return changed;
}

// ---------------------------------------------------------------- as clients see it

v1::ExchangeInfo PublicInfo(const ExchangeInfo& exchange, const ExchangeState& state) {
  v1::ExchangeInfo info;
  info.set_name(exchange.name);
  info.set_id(exchange.id);
  *info.mutable_settings() = exchange.settings;
  info.set_created_at_ms(exchange.created_at_ms);
  info.set_bindings(static_cast<uint32_t>(state.CountFrom(exchange.name)));
  info.set_bindings_to(static_cast<uint32_t>(state.CountTo(exchange.name)));
  return info;
}

meta::Binding StoredBinding(const v1::Binding& binding) {
  meta::Binding stored;
  stored.set_exchange(binding.exchange());
  if (binding.has_queue()) stored.set_queue(binding.queue());
  if (binding.has_to_exchange()) stored.set_to_exchange(binding.to_exchange());
  stored.set_routing_key(binding.routing_key());
  stored.set_any_header(binding.header_match() == v1::HEADER_MATCH_ANY);
  std::vector<const std::string*> names;
  for (const auto& [name, value] : binding.headers()) names.push_back(&name);
  std::sort(names.begin(), names.end(), [](const auto* a, const auto* b) { return *a < *b; });
  for (const std::string* name : names) {
    meta::Header* header = stored.add_headers();
    header->set_name(*name);
    *header->mutable_value() = binding.headers().at(*name);
  }
  return stored;
}

v1::Binding PublicBinding(const meta::Binding& binding) {
  v1::Binding shown;
  shown.set_exchange(binding.exchange());
  if (binding.has_queue()) shown.set_queue(binding.queue());
  if (binding.has_to_exchange()) shown.set_to_exchange(binding.to_exchange());
  shown.set_routing_key(binding.routing_key());
  if (binding.any_header()) {
    shown.set_header_match(v1::HEADER_MATCH_ANY);
  } else if (!binding.headers().empty()) {
    shown.set_header_match(v1::HEADER_MATCH_ALL);
  }
  for (const meta::Header& header : binding.headers()) (*shown.mutable_headers())[header.name()] = header.value();
  return shown;
}

absl::StatusOr<v1::ListExchangesResponse> ListExchanges(const ExchangeState& state,
                                                        const v1::ListExchangesRequest& request) {
  absl::StatusOr<size_t> limit = PageSize(request.limit());
  if (!limit.ok()) return limit.status();
  v1::ListExchangesResponse response;
  const ExchangesByName& all = state.exchanges();
  auto it = request.after() >= request.prefix() && !request.after().empty() ? all.upper_bound(request.after())
                                                                            : all.lower_bound(request.prefix());
  for (; it != all.end() && it->first.starts_with(request.prefix()); ++it) {
    if (static_cast<size_t>(response.exchanges_size()) == *limit) {
      response.set_more(true);
      break;
    }
    *response.add_exchanges() = PublicInfo(*it->second, state);
  }
  return response;
}

namespace {

// Where a page of bindings ends: opaque to clients.
std::string EncodeMark(const BindingIdentity& identity) {
  raft::Writer out;
  out.Counted(identity.exchange);
  out.Byte(identity.to_exchange ? 1 : 0);
  out.Counted(identity.to);
  out.Counted(identity.routing_key);
  out.Counted(identity.headers);
  return out.Take();
}

bool DecodeMark(std::string_view mark, BindingIdentity* identity) {
  raft::Reader in(mark);
  identity->exchange = in.Counted();
  identity->to_exchange = in.Byte() != 0;
  identity->to = in.Counted();
  identity->routing_key = in.Counted();
  identity->headers = in.Counted();
  return in.done();
}

}  // namespace

absl::StatusOr<v1::ListBindingsResponse> ListBindings(const ExchangeState& state,
                                                      const v1::ListBindingsRequest& request) {
  absl::StatusOr<size_t> limit = PageSize(request.limit());
  if (!limit.ok()) return limit.status();
  const Bindings& all = state.bindings();
  auto it = all.lower_bound({.exchange = request.exchange()});
  if (!request.after().empty()) {
    BindingIdentity after;
    if (!DecodeMark(request.after(), &after)) {
      return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_PAGE", .name = "after"},
                   "after is not what an earlier page gave as next");
    }
    if (after.exchange >= request.exchange()) it = all.upper_bound(after);
  }
  auto wanted = [&](const BindingIdentity& binding) {
    if (request.queue().empty() && request.to_exchange().empty()) return true;
    return binding.to_exchange ? binding.to == request.to_exchange() : binding.to == request.queue();
  };
  v1::ListBindingsResponse response;
  const BindingIdentity* last = nullptr;
  for (; it != all.end() && (request.exchange().empty() || it->first.exchange == request.exchange()); ++it) {
    if (!wanted(it->first)) continue;
    if (static_cast<size_t>(response.bindings_size()) == *limit) {
      response.set_next(EncodeMark(*last));
      break;
    }
    last = &it->first;
    *response.add_bindings() = PublicBinding(*it->second);
  }
  return response;
}

}  // namespace trireme::broker
