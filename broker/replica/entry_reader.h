// The bytes of published entries, for the leader's dispatcher and deliveries: from the log's tail, from a small cache,
// or from disk.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "broker/filter/filter.h"
#include "broker/queue/dispatcher.h"
#include "raft/core/bytes.h"
#include "raft/host/host.h"

namespace trireme::broker {

// Shard-owned. Callbacks come on the shard, at once where nothing has to be fetched, and not any more once this is
// destroyed.
//
// Messages are delivered upwards. So what lies below an entry that is asked for is not kept, and beyond its bytes the
// cache gives up the highest, which is needed last.
class EntryReader {
 public:
  EntryReader(raft::Group* group, size_t cache_bytes) : group_(group), cache_bytes_(cache_bytes) {}

  using Done = absl::AnyInvocable<void(absl::StatusOr<raft::Bytes>)>;
  // One entry. Some of what lies behind it comes along into the cache, because it will be asked for next.
  void Fetch(uint64_t index, uint64_t last_index, Done done);

  using ShapesDone = absl::AnyInvocable<void(absl::StatusOr<std::vector<queue::EntryShape>>)>;
  // The shapes of entries first, first + 1, ..., as many as one read gives. One read of shapes at a time.
  // `filter`: of the subscription, null for none. `expires`: as ShapeOf.
  void Shapes(uint64_t first, uint64_t last, std::shared_ptr<const filter::Filter> filter, bool expires,
              ShapesDone done);
  bool reading_shapes() const { return reading_shapes_; }

 private:
  struct Awaited {
    uint64_t index = 0;
    uint64_t last_index = 0;
    Done done;
  };
  // How much to read at once: little for an entry out of line, twice as much each time that a read goes on where the
  // one before ended.
  class Stride {
   public:
    size_t BytesAt(uint64_t index);
    void Read(const std::vector<raft::Entry>& entries);

   private:
    uint64_t next_ = 0;
    size_t bytes_ = 0;
  };

  // From memory, if it is there.
  std::optional<raft::Bytes> Find(uint64_t index);
  // The next of those awaited. One read at a time: most of them come with the one before.
  void FetchNext();
  void Keep(const std::vector<raft::Entry>& entries);

  raft::Group* const group_;
  const size_t cache_bytes_;
  absl::btree_map<uint64_t, raft::Bytes> cache_;
  size_t cached_bytes_ = 0;
  std::deque<Awaited> awaited_;
  bool fetching_ = false;
  bool reading_shapes_ = false;
  Stride fetches_, shapes_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
