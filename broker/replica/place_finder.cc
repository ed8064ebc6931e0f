#include "broker/replica/place_finder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/queue/entry.h"

namespace trireme::broker {
namespace {
constexpr size_t kReadBytes = size_t{1} << 20;
// The walk begins anew where the log was compacted under it.
constexpr int kMaxBegun = 16;
constexpr queue::Position kToCome(queue::kMaxLogIndex, 0);
}  // namespace

PlaceFinder::PlaceFinder(const queue::Machine* machine, raft::Group* group, std::weak_ptr<void> alive, Wanted wanted,
                         Done done)
    : machine_(machine), group_(group), alive_(std::move(alive)), wanted_(wanted), done_(std::move(done)) {}

void PlaceFinder::Find(const queue::Machine* machine, raft::Group* group, std::weak_ptr<void> alive, Wanted wanted,
                       Done done) {
  std::shared_ptr<PlaceFinder> finder(new PlaceFinder(machine, group, std::move(alive), wanted, std::move(done)));
  finder->Begin();
}

void PlaceFinder::Begin() {
  if (++begun_ > kMaxBegun) {
    return done_(absl::UnavailableError(
        "the queue is consumed faster than its log could be searched; nothing was done: try again, or name the start"));
  }
  at_.position = machine_->Retained(machine_->applied() + 1);
  uint64_t waiting = 0, bytes = 0;
  for (const auto& [id, s] : machine_->subscriptions()) {
    waiting = std::max(waiting, s.waiting);
    bytes = std::max(bytes, s.waiting_bytes);
  }
  at_.ordinal = machine_->published() - waiting;
  at_.bytes = machine_->published_bytes() - bytes;
  // Below, nothing has to be counted.
  if (!wanted_.time_ms && wanted_.position <= at_.position)
    return done_(Place{wanted_.position, at_.ordinal, at_.bytes});
  const queue::Milestones& known = machine_->milestones();
  const auto* near = wanted_.time_ms ? known.BeforeTime(*wanted_.time_ms) : known.AtOrBefore(wanted_.position.index());
  if (near != nullptr && queue::Position(near->index, 0) > at_.position)
    at_ = {queue::Position(near->index, 0), near->ordinal, near->bytes};
  ReadOn();
}

absl::StatusOr<bool> PlaceFinder::Pass(const raft::Entry& entry) {
  const uint64_t index = entry.index.value();
  // All of its messages from here on are still before it.
  const uint32_t slot = at_.position.index() == index ? at_.position.slot() : 0;
  at_.position = queue::Position(index, slot);
  uint32_t messages = 0;
  uint64_t size = 0;  // of each
  if (entry.type == raft::EntryType::kCommand && !machine_->IsRefused(index)) {
    absl::StatusOr<queue::PublishedView> view = queue::DecodePublished(entry.data);
    if (!view.ok() && view.status().code() != absl::StatusCode::kNotFound) return view.status();
    if (view.ok()) {
      messages = view->count;
      if (machine_->sized_from() != 0 && index >= machine_->sized_from())
        size = queue::MessageBytes(view->batch.size(), messages);
      if (wanted_.time_ms && view->time_ms >= *wanted_.time_ms) return true;
    }
  }
  const bool ends = !wanted_.time_ms && wanted_.position.index() <= index;
  const uint32_t end = ends ? std::clamp(wanted_.position.slot(), slot, std::max(slot, messages)) : messages;
  at_.ordinal += end - std::min(slot, end);
  at_.bytes += (end - std::min(slot, end)) * size;
  at_.position = ends ? queue::Position(index, end) : queue::Position(index + 1, 0);
  return ends;
}

void PlaceFinder::ReadOn() {
  if (at_.position.index() > machine_->applied())
    return done_(Place{kToCome, machine_->published(), machine_->published_bytes()});
  group_->ReadEntries(raft::Index(at_.position.index()), raft::Index(machine_->applied()), kReadBytes,
                      [self = shared_from_this()](absl::StatusOr<std::vector<raft::Entry>> entries) {
                        if (self->alive_.expired()) return;
                        // Consumed by all and compacted, meanwhile.
                        if (!entries.ok() || entries->empty()) return self->Begin();
                        for (const raft::Entry& entry : *entries) {
                          if (entry.index.value() != self->at_.position.index()) return self->Begin();
                          absl::StatusOr<bool> there = self->Pass(entry);
                          if (!there.ok()) return self->done_(there.status());
                          if (*there) return self->done_(self->at_);
                        }
                        self->ReadOn();
                      });
}

}  // namespace trireme::broker
