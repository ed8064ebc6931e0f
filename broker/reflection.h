// gRPC server reflection, so that grpcurl and its like can call a node without the .proto files. gRPC's own lists only
// services that are registered by name; ours are served by one generic service.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "raft/grpc/raw_server.h"

namespace trireme::broker {

// Adds grpc.reflection.v1alpha and v1. `services`: their full names.
void RegisterReflection(raft::RawService& service, std::vector<std::string> services);

// The answer to one ServerReflectionRequest, both encoded; empty if the request does not parse. Pure, for tests.
std::string AnswerReflection(std::string_view request, const std::vector<std::string>& services);

}  // namespace trireme::broker
