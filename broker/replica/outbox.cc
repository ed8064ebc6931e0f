#include "broker/replica/outbox.h"

#include <utility>

#include "broker/queue/entry.h"

namespace trireme::broker {
namespace {

// Safety rule 17: checked before a consumer is served.
absl::StatusOr<raft::Bytes> MessagesOf(const absl::StatusOr<raft::Bytes>& entry, const queue::Slots& slots) {
  if (!entry.ok()) return entry.status();
  absl::StatusOr<queue::PublishedView> view = queue::DecodePublished(*entry);
  if (!view.ok()) return view.status();
  return queue::CheckedMessages(*view, slots.first.slot(), slots.count);
}

}  // namespace

void Outbox::Put(uint64_t checkout_index, const std::vector<queue::effect::CheckedOut::Run>& runs,
                 uint64_t last_index) {
  putting_ = true;
  for (const auto& run : runs) {
    auto waiting = std::make_shared<Waiting>();
    waiting->run = {run.slots, checkout_index, run.deliveries, {}};
    waiting_.push_back(waiting);
    reader_->Fetch(run.slots.first.index(), last_index,
                   [this, alive = std::weak_ptr<bool>(alive_), waiting](absl::StatusOr<raft::Bytes> entry) {
                     if (!alive.expired()) Read(*waiting, entry);
                   });
  }
  putting_ = false;
  Flush();
}

void Outbox::Read(Waiting& waiting, const absl::StatusOr<raft::Bytes>& entry) {
  absl::StatusOr<raft::Bytes> batch = MessagesOf(entry, waiting.run.slots);
  if (batch.ok()) {
    waiting.run.batch = *std::move(batch);
    waiting.state = Waiting::kReady;
  } else if (events_.held({waiting.run.slots, waiting.run.checkout_index})) {
    return events_.damaged(batch.status());
  } else {
    waiting.state = Waiting::kGone;
  }
  // What Put is still putting is flushed by it.
  if (!putting_) Flush();
}

void Outbox::Flush() {
  std::vector<DeliveredRun> ready;
  bool gone = false;
  while (!waiting_.empty() && waiting_.front()->state != Waiting::kReading) {
    if (waiting_.front()->state == Waiting::kReady) {
      ready.push_back(std::move(waiting_.front()->run));
    } else {
      gone = true;
    }
    waiting_.pop_front();
  }
  if (!ready.empty() || gone) events_.deliver(std::move(ready));
}

}  // namespace trireme::broker
