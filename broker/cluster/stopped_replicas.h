// Replicas of this node whose state was found to differ from the others', kept over its restarts (Safety rule 25).
#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "raft/core/types.h"

namespace trireme::broker {

// In a file of the data directory. Thread-safe.
class StoppedReplicas {
 public:
  // Reads what is there. DATA_LOSS: the file is damaged, so that it is not known which replicas are not to be trusted.
  static absl::StatusOr<std::unique_ptr<StoppedReplicas>> Open(std::string directory);

  // Durable when it returns.
  absl::Status Add(raft::GroupId group, raft::ReplicaId replica, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);
  // Not OK: that replica must not take part.
  absl::Status Find(raft::GroupId group, raft::ReplicaId replica) const ABSL_LOCKS_EXCLUDED(mutex_);
  // The group's replica was deleted.
  absl::Status Forget(raft::GroupId group) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Stop {
    raft::ReplicaId replica;
    std::string why;
  };
  explicit StoppedReplicas(std::string directory) : directory_(std::move(directory)) {}
  absl::Status Save() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string directory_;
  mutable absl::Mutex mutex_;
  std::map<raft::GroupId, Stop> stops_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme::broker
