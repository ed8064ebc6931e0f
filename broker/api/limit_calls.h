// The call of Admin that sets a queue's limits.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "broker/api/queue_calls.h"
#include "broker/queue/facts.h"
#include "broker/replica/queue_replica.h"
#include "trireme/v1/admin.pb.h"

namespace trireme::broker {

trireme::v1::QueueLimits ToProto(const queue::QueueSettings& settings);

absl::StatusOr<std::string> InspectChangeQueue(QueueCall& call);
void ActChangeQueue(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue);

}  // namespace trireme::broker
