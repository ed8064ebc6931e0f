// The bytes of published entries, for the leader's dispatcher and deliveries: from the log's tail, from a small cache,
// or from disk.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "broker/queue/dispatcher.h"
#include "raft/core/bytes.h"
#include "raft/host/host.h"

namespace trireme::broker {

// Shard-owned. Callbacks come on the shard, at once where nothing has to be fetched, and not any more once this is
// destroyed.
class EntryReader {
 public:
  EntryReader(raft::Group* group, size_t cache_bytes) : group_(group), cache_bytes_(cache_bytes) {}

  using Done = absl::AnyInvocable<void(absl::StatusOr<raft::Bytes>)>;
  // One entry. What lies behind it comes along into the cache, because it will be asked for next.
  void Fetch(uint64_t index, uint64_t last_index, Done done);

  using ShapesDone = absl::AnyInvocable<void(absl::StatusOr<std::vector<queue::EntryShape>>)>;
  // The shapes of entries first, first + 1, ..., as many as one read gives. One read of shapes at a time.
  void Shapes(uint64_t first, uint64_t last, ShapesDone done);
  bool reading_shapes() const { return reading_shapes_; }

 private:
  void Keep(const std::vector<raft::Entry>& entries);

  raft::Group* const group_;
  const size_t cache_bytes_;
  absl::btree_map<uint64_t, raft::Bytes> cache_;
  size_t cached_bytes_ = 0;
  bool reading_shapes_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
