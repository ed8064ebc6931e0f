// Figures of the queues that a node leads, for Prometheus: one sample per queue or subscription, so they are served
// apart from the node's own.
#pragma once

#include <prometheus/metric_family.h>

#include <vector>

#include "absl/functional/any_invocable.h"
#include "broker/api/shard_api.h"

namespace trireme::broker {

// Call it on the shard; answers there. A few hundred queues a turn, so that nobody waits for it. Each queue's figures
// are of one moment, as this leader has applied them; it asks no other node.
using QueueMetricsDone = absl::AnyInvocable<void(std::vector<prometheus::MetricFamily>)>;
void GatherQueueMetrics(ShardApi* api, QueueMetricsDone done);

}  // namespace trireme::broker
