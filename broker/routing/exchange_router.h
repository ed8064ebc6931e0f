// One shard's copy of the exchanges, for publishing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "broker/cluster/metadata_view.h"
#include "broker/routing/by_name.h"
#include "broker/routing/routing_table.h"

namespace trireme::broker {

// The routing table as the metadata has it, and the queues behind its handles. On its shard's thread only. Lags behind
// the metadata group as the shard's view does: who says "no such exchange" or "unroutable" asks for a linearizable read
// first (Safety rule 21).
class ExchangeRouter {
 public:
  ExchangeRouter() : table_(std::make_unique<RoutingTable>()) {}

  // For Cluster::Follow.
  void Take(const MetadataChange& change);

  // Whether there is such an exchange; the default one, "", always is.
  bool Has(std::string_view exchange) const { return exchange.empty() || table_->HasExchange(exchange); }
  // Its id in the metadata, which is never given twice; the default one's is 0. `exchange` is there.
  uint64_t IdOf(std::string_view exchange) const;
  // The queues that an encoded message reaches, as handles; good until the next call. `exchange` is there.
  absl::Span<const uint32_t> Route(std::string_view exchange, std::string_view message);
  // Good until the next change.
  const QueuePtr& queue(uint32_t handle) const { return queues_[handle]; }

 private:
  void Add(const QueuePtr& queue);
  void Remove(const QueuePtr& queue);

  std::unique_ptr<RoutingTable> table_;
  std::vector<QueuePtr> queues_;  // by handle
  ByName<uint64_t> ids_;          // of exchanges
};

// As the table wants it.
Binding RoutedBinding(const trireme::meta::v1::Binding& binding);
ExchangeType RoutedType(trireme::v1::ExchangeType type);

}  // namespace trireme::broker
