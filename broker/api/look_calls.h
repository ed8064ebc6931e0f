// The calls of Admin that look at a queue's messages and leases.
#pragma once

#include "broker/api/queue_calls.h"

namespace trireme::broker {

void RegisterLookCalls(raft::RawService& service, const FindApi& apis);

}  // namespace trireme::broker
