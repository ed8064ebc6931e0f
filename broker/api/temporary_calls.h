// Admin's calls for temporary queues.
#pragma once

#include "broker/api/queue_calls.h"
#include "trireme/v1/admin.pb.h"

namespace trireme::broker {

// At this node, which names it.
void CreateTemporary(const QueueCallPtr& call, const trireme::v1::CreateQueueRequest& request);
// At the node that its name says.
void DeleteTemporary(const QueueCallPtr& call, const trireme::v1::DeleteQueueRequest& request);

}  // namespace trireme::broker
