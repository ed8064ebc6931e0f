#include "broker/routing/split.h"

#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "broker/queue/batch.h"

namespace trireme::broker {
namespace {

// A share while it grows: runs, and where in the batch each of them lies.
struct Growing {
  std::vector<SlotRun> runs;
  std::vector<std::string_view> records;
};

void Extend(Growing& growing, uint32_t offset, std::string_view record) {
  if (!growing.runs.empty() && growing.runs.back().offset + growing.runs.back().count == offset) {
    ++growing.runs.back().count;
    std::string_view& bytes = growing.records.back();
    bytes = {bytes.data(), bytes.size() + record.size()};
  } else {
    growing.runs.push_back({offset, 1});
    growing.records.push_back(record);
  }
}

raft::Bytes Part(const raft::Bytes& batch, std::string_view bytes) {
  return batch.Sub(static_cast<size_t>(bytes.data() - batch.data()), bytes.size());
}

std::vector<Piece> ToPieces(const raft::Bytes& batch, bool gather, Growing growing) {
  std::vector<Piece> pieces;
  if (gather && growing.runs.size() > 1) {
    std::string bytes;
    for (std::string_view record : growing.records) bytes += record;
    pieces.push_back({std::move(growing.runs), raft::Bytes::Take(std::move(bytes))});
    return pieces;
  }
  for (size_t i = 0; i < growing.runs.size(); ++i) {
    pieces.push_back({{growing.runs[i]}, Part(batch, growing.records[i])});
  }
  return pieces;
}

}  // namespace

Split SplitBatch(const raft::Bytes& batch, bool gather, RouteMessage route) {
  Split split;
  std::vector<Growing> shares;
  absl::flat_hash_map<uint32_t, size_t> by_queue;
  for (queue::BatchWalker walker(batch.view()); walker.Next();) {
    const auto offset = static_cast<uint32_t>(split.targets.size());
    const absl::Span<const uint32_t> queues = route(walker.message());
    split.targets.push_back(static_cast<uint32_t>(queues.size()));
    for (uint32_t queue : queues) {
      auto [at, added] = by_queue.try_emplace(queue, shares.size());
      if (added) {
        shares.emplace_back();
        split.shares.push_back({.queue = queue, .pieces = {}});
      }
      Extend(shares[at->second], offset, walker.record());
    }
  }
  for (size_t i = 0; i < shares.size(); ++i) {
    split.shares[i].pieces = ToPieces(batch, gather, std::move(shares[i]));
  }
  return split;
}

}  // namespace trireme::broker
