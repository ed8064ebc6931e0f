#include "broker/replica/entry_reader.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "broker/queue/entry.h"

namespace trireme::broker {
namespace {
constexpr size_t kFirstReadBytes = size_t{64} << 10;
constexpr size_t kLastReadBytes = size_t{1} << 20;
}  // namespace

size_t EntryReader::Stride::BytesAt(uint64_t index) {
  bytes_ = index == next_ ? std::min(2 * bytes_, kLastReadBytes) : kFirstReadBytes;
  return bytes_;
}

void EntryReader::Stride::Read(const std::vector<raft::Entry>& entries) {
  next_ = entries.back().index.value() + 1;
}

void EntryReader::Keep(const std::vector<raft::Entry>& entries) {
  for (const raft::Entry& entry : entries) {
    if (entry.data.empty() || !cache_.try_emplace(entry.index.value(), entry.data).second) continue;
    cached_bytes_ += entry.data.size();
  }
  while (cached_bytes_ > cache_bytes_ && cache_.size() > 1) {
    auto highest = std::prev(cache_.end());
    cached_bytes_ -= highest->second.size();
    cache_.erase(highest);
  }
}

std::optional<raft::Bytes> EntryReader::Find(uint64_t index) {
  for (; !cache_.empty() && cache_.begin()->first < index; cache_.erase(cache_.begin()))
    cached_bytes_ -= cache_.begin()->second.size();
  if (const raft::Entry* entry = group_->TailEntry(raft::Index(index))) return entry->data;
  if (auto it = cache_.find(index); it != cache_.end()) return it->second;
  return std::nullopt;
}

void EntryReader::Fetch(uint64_t index, uint64_t last_index, Done done) {
  // Behind those that wait it would pass over what is being read for them.
  if (awaited_.empty()) {
    if (std::optional<raft::Bytes> data = Find(index)) return done(*std::move(data));
  }
  awaited_.push_back({index, std::max(index, last_index), std::move(done)});
  FetchNext();
}

void EntryReader::FetchNext() {
  const std::weak_ptr<bool> alive = alive_;
  while (!alive.expired() && !fetching_ && !awaited_.empty()) {
    Awaited next = std::move(awaited_.front());
    if (std::optional<raft::Bytes> data = Find(next.index)) {
      awaited_.pop_front();
      next.done(*std::move(data));
      continue;
    }
    fetching_ = true;  // its place stays taken, so that what comes meanwhile waits
    const uint64_t index = next.index, last_index = next.last_index;
    group_->ReadEntries(
        raft::Index(index), raft::Index(last_index), fetches_.BytesAt(index),
        [this, alive, next = std::move(next)](absl::StatusOr<std::vector<raft::Entry>> entries) mutable {
          if (alive.expired()) return;
          fetching_ = false;
          awaited_.pop_front();
          if (!entries.ok()) {
            next.done(entries.status());
          } else if (entries->empty() || entries->front().index.value() != next.index) {
            next.done(absl::DataLossError("an entry that is alive is not in the log"));
          } else {
            fetches_.Read(*entries);
            Keep(*entries);
            next.done(entries->front().data);
          }
          if (!alive.expired()) FetchNext();
        });
  }
}

void EntryReader::Shapes(uint64_t first, uint64_t last, std::shared_ptr<const filter::Filter> filter, bool expires,
                         ShapesDone done) {
  reading_shapes_ = true;
  group_->ReadEntries(raft::Index(first), raft::Index(last), shapes_.BytesAt(first),
                      [this, alive = std::weak_ptr<bool>(alive_), filter = std::move(filter), expires,
                       done = std::move(done)](absl::StatusOr<std::vector<raft::Entry>> entries) mutable {
                        if (alive.expired()) return;
                        reading_shapes_ = false;
                        if (!entries.ok()) return done(entries.status());
                        if (!entries->empty()) shapes_.Read(*entries);
                        Keep(*entries);
                        std::vector<queue::EntryShape> shapes;
                        shapes.reserve(entries->size());
                        for (const raft::Entry& entry : *entries) {
                          queue::EntryShape shape;
                          if (entry.type == raft::EntryType::kCommand) {
                            absl::StatusOr<queue::PublishedView> view = queue::DecodePublished(entry.data);
                            if (view.ok()) {
                              shape = queue::ShapeOf(*view, filter.get(), expires);
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
