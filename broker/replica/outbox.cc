#include "broker/replica/outbox.h"

#include <utility>

#include "broker/queue/entry.h"

namespace trireme::broker {

void Outbox::Put(uint64_t checkout_index, const std::vector<queue::effect::CheckedOut::Run>& runs,
                 uint64_t last_index) {
  putting_ = true;
  for (const auto& run : runs) {
    auto waiting = std::make_shared<Waiting>();
    waiting->run = {run.slots, checkout_index, run.deliveries, {}};
    waiting_.push_back(waiting);
    reader_->Fetch(run.slots.first.index(), last_index,
                   [this, alive = std::weak_ptr<bool>(alive_), waiting](absl::StatusOr<raft::Bytes> entry) {
                     if (alive.expired()) return;
                     absl::Status status = entry.status();
                     if (entry.ok()) {
                       absl::StatusOr<queue::PublishedView> view = queue::DecodePublished(*entry);
                       status = view.status();
                       if (view.ok()) {
                         // Safety rule 17: checked before a consumer is served.
                         absl::StatusOr<raft::Bytes> batch =
                             queue::CheckedMessages(*view, waiting->run.slots.first.slot(), waiting->run.slots.count);
                         status = batch.status();
                         if (batch.ok()) {
                           waiting->run.batch = *std::move(batch);
                           waiting->ready = true;
                           // What Put is still putting is flushed by it.
                           if (!putting_) Flush();
                           return;
                         }
                       }
                     }
                     damaged_(status);
                   });
  }
  putting_ = false;
  Flush();
}

void Outbox::Flush() {
  std::vector<DeliveredRun> ready;
  while (!waiting_.empty() && waiting_.front()->ready) {
    ready.push_back(std::move(waiting_.front()->run));
    waiting_.pop_front();
  }
  if (!ready.empty()) deliver_(std::move(ready));
}

}  // namespace trireme::broker
