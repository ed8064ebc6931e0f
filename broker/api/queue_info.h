// Queues as Admin shows them.
#pragma once

#include <vector>

#include "absl/functional/any_invocable.h"
#include "broker/api/shard_api.h"
#include "trireme/v1/admin.pb.h"

namespace trireme::broker {

// From this shard's copy of the metadata, without the leader.
trireme::v1::QueueInfo InfoOf(ShardApi& api, const QueueInfo& queue);

// The same for several, in their order and with the leaders that this node knows without asking others: as its own
// replicas say, or as it was told when it last looked for one. `done` on `api`'s shard.
using InfosDone = absl::AnyInvocable<void(std::vector<trireme::v1::QueueInfo>)>;
void InfosOf(ShardApi* api, std::vector<QueuePtr> queues, InfosDone done);

}  // namespace trireme::broker
