// Broker.Request: publishes, and awaits the reply.
#pragma once

#include "broker/api/queue_calls.h"
#include "raft/grpc/raw_server.h"

namespace trireme::broker {

void RegisterRequestCall(raft::RawService& service, const FindApi& apis);

}  // namespace trireme::broker
