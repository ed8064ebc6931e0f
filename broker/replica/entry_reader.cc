#include "broker/replica/entry_reader.h"

#include <utility>

#include "broker/queue/entry.h"

namespace trireme::broker {
namespace {
constexpr size_t kReadBytes = size_t{1} << 20;
}

void EntryReader::Keep(const std::vector<raft::Entry>& entries) {
  for (const raft::Entry& entry : entries) {
    if (entry.data.empty() || !cache_.try_emplace(entry.index.value(), entry.data).second) continue;
    cached_bytes_ += entry.data.size();
  }
  // The lowest go first: messages are delivered upwards.
  while (cached_bytes_ > cache_bytes_ && cache_.size() > 1) {
    cached_bytes_ -= cache_.begin()->second.size();
    cache_.erase(cache_.begin());
  }
}

void EntryReader::Fetch(uint64_t index, uint64_t last_index, Done done) {
  if (const raft::Entry* entry = group_->TailEntry(raft::Index(index))) return done(entry->data);
  if (auto it = cache_.find(index); it != cache_.end()) {
    raft::Bytes data = it->second;
    return done(std::move(data));
  }
  group_->ReadEntries(raft::Index(index), raft::Index(std::max(index, last_index)), kReadBytes,
                      [this, index, alive = std::weak_ptr<bool>(alive_),
                       done = std::move(done)](absl::StatusOr<std::vector<raft::Entry>> entries) mutable {
                        if (alive.expired()) return;
                        if (!entries.ok()) return done(entries.status());
                        if (entries->empty() || entries->front().index.value() != index)
                          return done(absl::DataLossError("an entry that is alive is not in the log"));
                        Keep(*entries);
                        done(entries->front().data);
                      });
}

void EntryReader::Shapes(uint64_t first, uint64_t last, ShapesDone done) {
  reading_shapes_ = true;
  group_->ReadEntries(raft::Index(first), raft::Index(last), kReadBytes,
                      [this, alive = std::weak_ptr<bool>(alive_),
                       done = std::move(done)](absl::StatusOr<std::vector<raft::Entry>> entries) mutable {
                        if (alive.expired()) return;
                        reading_shapes_ = false;
                        if (!entries.ok()) return done(entries.status());
                        Keep(*entries);
                        std::vector<queue::EntryShape> shapes;
                        shapes.reserve(entries->size());
                        for (const raft::Entry& entry : *entries) {
                          queue::EntryShape shape;
                          if (entry.type == raft::EntryType::kCommand) {
                            absl::StatusOr<queue::PublishedView> view = queue::DecodePublished(entry.data);
                            if (view.ok()) {
                              shape = {view->count, view->batch.size()};
                            } else if (view.status().code() != absl::StatusCode::kNotFound) {
                              return done(view.status());
                            }
                          }
                          shapes.push_back(shape);
                        }
                        done(std::move(shapes));
                      });
}

}  // namespace trireme::broker
