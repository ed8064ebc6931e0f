// Where dead letters go: finding the queue, and that no way leads back from it; taking messages back to where they
// came from.
#pragma once

#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "broker/api/queue_calls.h"

namespace trireme::broker {

using QueueFound = absl::AnyInvocable<void(absl::StatusOr<QueuePtr>)>;

// From any shard; `done` comes on the call's. NOT_FOUND: no such queue, as of a linearizable read of the metadata.
void FindQueue(const QueueCallPtr& call, const std::string& name, QueueFound done);

// The queue called `target`, for dead letters of `source`. FAILED_PRECONDITION: from there they could come back, by
// what the queues on the way are set to now. NOT_FOUND: no such queue.
void FindDeadLetterTarget(const QueueCallPtr& call, const QueuePtr& source, const std::string& target, QueueFound done);

}  // namespace trireme::broker
