// A queue as Admin shows it.
#pragma once

#include "broker/api/shard_api.h"
#include "trireme/v1/admin.pb.h"

namespace trireme::broker {

// From this shard's copy of the metadata; the leader as far as it is known without asking.
void FillQueueInfo(ShardApi& api, const QueueInfo& queue, trireme::v1::QueueInfo* info);

}  // namespace trireme::broker
