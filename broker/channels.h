// Connections to other nodes, for calls and for forwarded streams.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

namespace trireme::broker {

// The largest message that a node takes or sends: the largest message of a client, and room around it.
inline constexpr int kMaxGrpcMessageBytes = 72 << 20;

// One channel per address, made when first asked for and kept. Thread-safe.
class Channels {
 public:
  std::shared_ptr<grpc::Channel> Get(const std::string& address) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<grpc::Channel>> channels_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme::broker
