// The Cluster service, the unary calls of Peer, and what of Admin is about exchanges and bindings.
#pragma once

#include "broker/cluster/cluster.h"
#include "raft/grpc/raw_server.h"

namespace trireme::broker {

// Adds their handlers; they run on whichever shard took the call and are answered there. `cluster` outlives the server.
void RegisterClusterServices(raft::RawService& service, Cluster* cluster);

}  // namespace trireme::broker
