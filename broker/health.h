// gRPC's health service on the shards' own loops. gRPC's built-in one is served through callbacks, for which gRPC keeps
// threads that poll the same sockets as the shards: every event then wakes several threads, and goes through a second
// one before it reaches its shard.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "raft/grpc/raw_server.h"

namespace trireme::broker {

// Serving from the start. Any thread, but for Register.
class Health {
 public:
  // `services`: the full names that may be asked for, beside "", which is the node.
  explicit Health(std::vector<std::string> services);

  // Adds grpc.health.v1.Health. Before the service is registered with a server.
  void Register(raft::RawService& service);
  // Tells all who watch.
  void SetServing(bool serving);

 private:
  class State;
  class Watcher;

  const std::shared_ptr<State> state_;
};

}  // namespace trireme::broker
