#include "broker/routing/exchange_router.h"

#include <optional>
#include <utility>

#include "broker/message/message.h"
#include "raft/core/check.h"

namespace trireme::broker {

namespace v1 = trireme::v1;

ExchangeType RoutedType(v1::ExchangeType type) {
  switch (type) {
    case v1::EXCHANGE_TYPE_FANOUT:
      return ExchangeType::kFanout;
    case v1::EXCHANGE_TYPE_TOPIC:
      return ExchangeType::kTopic;
    case v1::EXCHANGE_TYPE_HEADERS:
      return ExchangeType::kHeaders;
    default:
      TRIREME_CHECK(type == v1::EXCHANGE_TYPE_DIRECT) << "an exchange of type " << type << " in the metadata";
      return ExchangeType::kDirect;
  }
}

Binding RoutedBinding(const trireme::meta::v1::Binding& binding) {
  Binding routed{.exchange = binding.exchange(),
                 .kind = binding.has_to_exchange() ? Target::Kind::kExchange : Target::Kind::kQueue,
                 .to = binding.has_to_exchange() ? binding.to_exchange() : binding.queue(),
                 .routing_key = binding.routing_key(),
                 .all = !binding.any_header()};
  for (const trireme::meta::v1::Header& header : binding.headers()) {
    // What a message's header is compared with is read as the message's is.
    message::Value value;
    const std::string encoded = header.value().SerializeAsString();
    TRIREME_CHECK(message::ReadValue(encoded, &value)) << "a value that was just encoded does not parse";
    routed.headers.push_back({header.name(), message::OwnedValue(value)});
  }
  return routed;
}

void ExchangeRouter::Add(const QueuePtr& queue) {
  // One that is there has other replicas than before.
  const std::optional<uint32_t> known = table_->FindQueue(queue->name);
  const uint32_t handle = known.has_value() ? *known : table_->AddQueue(queue->name);
  if (handle >= queues_.size()) queues_.resize(handle + 1);
  queues_[handle] = queue;
}

void ExchangeRouter::Remove(const QueuePtr& queue) {
  queues_[table_->RemoveQueue(queue->name)] = nullptr;
}

void ExchangeRouter::Take(const MetadataChange& change) {
  if (change.whole) {
    table_ = std::make_unique<RoutingTable>();
    queues_.clear();
    ids_.clear();
  }
  for (const MetadataItem& item : change.items) {
    if (const auto* queue = std::get_if<QueuePtr>(&item.what)) {
      item.exists ? Add(*queue) : Remove(*queue);
    } else if (const auto* exchange = std::get_if<ExchangePtr>(&item.what)) {
      const ExchangeInfo& info = **exchange;
      if (item.exists) {
        table_->AddExchange(info.name, RoutedType(info.settings.type()), info.settings.alternate());
        ids_[info.name] = info.id;
      } else {
        table_->RemoveExchange(info.name);
        ids_.erase(info.name);
      }
    } else {
      const Binding binding = RoutedBinding(*std::get<BindingPtr>(item.what));
      item.exists ? table_->Bind(binding) : table_->Unbind(binding);
    }
  }
}

uint64_t ExchangeRouter::IdOf(std::string_view exchange) const {
  auto found = ids_.find(exchange);
  return found == ids_.end() ? 0 : found->second;
}

absl::Span<const uint32_t> ExchangeRouter::Route(std::string_view exchange, std::string_view message) {
  return table_->Route(exchange, message::RoutingKey(message), message);
}

}  // namespace trireme::broker
