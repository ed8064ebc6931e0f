// What a client's change of exchanges and bindings asks of the metadata, and what it is told.
#pragma once

#include <cstdint>
#include <variant>

#include "absl/status/statusor.h"
#include "broker/cluster/metadata.h"
#include "trireme/peer/v1/peer.pb.h"

namespace trireme::broker {

// INVALID_ARGUMENT: a bad name or setting, or nothing that is asked for. Before anything is looked up.
absl::Status ValidateChange(const trireme::peer::v1::RoutingChange& change);

// The id of the exchange that a deletion is about. NOT_FOUND: that, or the binding to be deleted, is not there.
absl::StatusOr<uint64_t> ExchangeToDelete(const ExchangeState& state, const trireme::peer::v1::RoutingChange& change);

// Either the command to propose, or the answer because there is nothing to change, or nothing that could be: that is
// said only by a leader that has since made sure that it still is one. A change that is good in itself; a pure
// function.
using RoutingDecision = std::variant<trireme::meta::v1::Command, absl::StatusOr<trireme::peer::v1::RoutingChanged>>;
RoutingDecision Decide(const MetadataState& state, const trireme::peer::v1::RoutingChange& change, int64_t now_ms);

// Of a command that was applied. UNAVAILABLE: what it was decided on had changed; decide again.
absl::StatusOr<trireme::peer::v1::RoutingChanged> Judge(const MetadataState& state, const MetadataOutcome& outcome,
                                                        raft::Index index);

trireme::v1::ExchangeInfo PublicInfo(const ExchangeInfo& exchange, const ExchangeState& state);
trireme::v1::Binding PublicBinding(const trireme::meta::v1::Binding& binding);
trireme::meta::v1::Binding StoredBinding(const trireme::v1::Binding& binding);

// Pages; NOT_FOUND and INVALID_ARGUMENT as trireme.v1.Admin names them.
absl::StatusOr<trireme::v1::ListExchangesResponse> ListExchanges(const ExchangeState& state,
                                                                 const trireme::v1::ListExchangesRequest& request);
absl::StatusOr<trireme::v1::ListBindingsResponse> ListBindings(const ExchangeState& state,
                                                               const trireme::v1::ListBindingsRequest& request);

}  // namespace trireme::broker
