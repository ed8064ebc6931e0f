// The calls of Admin about a queue's subscriptions: what each wants checked, and what it does at the queue's leader.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "broker/api/queue_calls.h"
#include "broker/replica/queue_replica.h"
#include "trireme/v1/admin.pb.h"

namespace trireme::broker {

trireme::v1::SubscriptionFigures ToProto(const SubscriptionFigures& figures);

// Each Inspect gives the queue's name.
absl::StatusOr<std::string> InspectCreateSubscription(QueueCall& call);
void ActCreateSubscription(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue);
absl::StatusOr<std::string> InspectChangeSubscription(QueueCall& call);
void ActChangeSubscription(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue);
absl::StatusOr<std::string> InspectDeleteSubscription(QueueCall& call);
void ActDeleteSubscription(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue);

}  // namespace trireme::broker
