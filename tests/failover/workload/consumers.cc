// The consumers of streams: what came and what is about to be settled is in the history first.
#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "tests/failover/workload/actor.h"
#include "tests/failover/workload/receiver.h"
#include "tests/failover/workload/runs.h"

namespace trireme::failover {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kOpenTime{60'000}, kFlushEvery{250}, kFlushTime{10'000};

// Common to those that use the client's Consumer.
class Subscriber : public Actor {
 public:
  Subscriber(const ActorSpec& spec, uint32_t worker, uint64_t seed, std::unique_ptr<client::Client> client,
             HistoryWriter& history)
      : Actor(spec, worker, seed, std::move(client), history) {
    history_.Append(ConsumerMade{spec.number, spec.queue, worker, uint64_t{spec.lease_ms} * 1'000,
                                 absl::StrCat(RoleName(spec.role), "@", spec.queue_name)});
  }

  void Run() override {
    client::ConsumerOptions options;
    options.queue = spec_.queue_name;
    options.label = absl::StrCat(RoleName(spec_.role), "-", spec_.number);
    options.session_timeout = milliseconds(spec_.lease_ms);
    options.on_lease_lost = [this](std::span<const v1::HeldRun> runs) { OnLost(runs); };
    options.on_closed = [this](const absl::Status& status) {
      Remark(absl::StrCat("its consumer ended: ", status.ToString()));
    };
    SetOptions(options);
    absl::StatusOr<std::unique_ptr<client::Consumer>> made = client_->CreateConsumer(std::move(options));
    if (!made.ok()) return Remark(absl::StrCat("cannot be made: ", made.status().ToString()));
    consumer_ = *std::move(made);
    if (absl::Status open = consumer_->WaitOpen(kOpenTime); !open.ok()) {
      Remark(absl::StrCat("did not open: ", open.ToString()));
    }
    std::thread flusher([this] { Flushing(); });
    Work();
    flusher.join();
    {
      absl::MutexLock lock(&mutex_);
      // Nothing that still arrives is taken.
      done_ = true;
      history_.Append(ConsumerGone{spec_.number});
    }
    consumer_.reset();
  }

 protected:
  virtual void SetOptions(client::ConsumerOptions& options) = 0;
  // Until stopping().
  virtual void Work() = 0;

  // Its loss was told, as something after the first `since` losses.
  bool Lost(const client::Delivery& delivery, uint64_t since = 0) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto lost = lost_.find({delivery.position(), delivery.checkout_index()});
    return lost != lost_.end() && lost->second > since;
  }
  // A client that has given up its leases for fear of a long silence, and then finds that its session lives on, gets
  // them again: from then on they are held as any others.
  void Found(std::span<const client::Delivery> deliveries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const client::Delivery& delivery : deliveries) lost_.erase({delivery.position(), delivery.checkout_index()});
    std::vector<Event> events;
    AppendDelivered(spec_.number, deliveries, events);
    history_.Append(events);
  }
  uint64_t losses() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return losses_;
  }
  // Settles those that have not been lost meanwhile. Under the lock, so that a flush covers all serials given before
  // it, and nothing is settled after its loss was told.
  void Settle(std::span<const client::Delivery> deliveries, v1::Disposition disposition)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<client::Delivery> still;
    for (const client::Delivery& delivery : deliveries) {
      if (!Lost(delivery)) still.push_back(delivery);
    }
    std::vector<Event> events;
    const Disposition meaning = disposition == v1::DISPOSITION_ACKNOWLEDGE ? Disposition::kAcknowledge
                                : disposition == v1::DISPOSITION_REQUEUE   ? Disposition::kRequeue
                                                                           : Disposition::kReject;
    AppendSettles(spec_.number, still, meaning, serial_, events);
    if (!events.empty()) history_.Append(events);
    consumer_->Settle(still, disposition);
  }

  absl::Mutex mutex_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<client::Consumer> consumer_;

 private:
  void OnLost(std::span<const v1::HeldRun> runs) {
    absl::MutexLock lock(&mutex_);
    std::vector<Event> events;
    // What is held is bounded, so a short memory does.
    if (lost_.size() > kMaxLost) lost_.clear();
    for (const v1::HeldRun& run : runs) {
      for (uint32_t i = 0; i < run.count(); ++i) lost_[{run.first_position() + i, run.checkout_index()}] = ++losses_;
      events.push_back(LeaseLost{spec_.number, run.first_position(), run.checkout_index(), run.count()});
    }
    if (!events.empty()) history_.Append(events);
  }

  void Flushing() {
    bool more = true;
    while (more) {
      more = Sleep(kFlushEvery);
      uint64_t through = 0;
      {
        absl::MutexLock lock(&mutex_);
        through = serial_;
      }
      if (through == flushed_) continue;
      // The losses have been told before.
      const absl::Status flushed = consumer_->Flush(kFlushTime);
      if (flushed.ok() || absl::IsAborted(flushed)) {
        history_.Append(Settled{spec_.number, through, Settling::kOk, true});
        flushed_ = through;
      }
    }
  }

  static constexpr size_t kMaxLost = 200'000;

  uint64_t serial_ ABSL_GUARDED_BY(mutex_) = 0;
  // By position and token: the how manieth loss it was.
  absl::flat_hash_map<std::pair<uint64_t, uint64_t>, uint64_t> lost_ ABSL_GUARDED_BY(mutex_);
  uint64_t losses_ ABSL_GUARDED_BY(mutex_) = 0;
  // The flusher's.
  uint64_t flushed_ = 0;
};

class Stream : public Subscriber {
 public:
  using Subscriber::Subscriber;

 protected:
  void SetOptions(client::ConsumerOptions& options) override {
    options.max_outstanding_messages = 500;
    options.on_delivery = [this](client::Consumer&, std::span<const client::Delivery> deliveries) {
      absl::MutexLock lock(&mutex_);
      // It may come before CreateConsumer has returned; then it waits in the session until the next stream.
      if (done_) return;
      Found(deliveries);
      kept_.insert(kept_.end(), deliveries.begin(), deliveries.end());
      wake_.Signal();
    };
  }
  void Work() override {
    while (!stopping()) {
      absl::MutexLock lock(&mutex_);
      if (kept_.empty()) wake_.WaitWithTimeout(&mutex_, absl::Milliseconds(50));
      if (kept_.empty()) continue;
      std::vector<client::Delivery> all;
      all.swap(kept_);
      Settle(all, v1::DISPOSITION_ACKNOWLEDGE);
    }
  }

 private:
  absl::CondVar wake_;
  // Bounded by what may be outstanding.
  std::vector<client::Delivery> kept_ ABSL_GUARDED_BY(mutex_);
};

class Slow : public Subscriber {
 public:
  using Subscriber::Subscriber;

 protected:
  void SetOptions(client::ConsumerOptions& options) override { options.max_outstanding_messages = 32; }
  void Work() override {
    while (!stopping()) {
      const uint64_t losses_before = losses();
      absl::StatusOr<std::vector<client::Delivery>> got = consumer_->Next(Draw(1, 16), milliseconds(200));
      if (!got.ok()) {
        Sleep(kFlushEvery);
        continue;
      }
      {
        absl::MutexLock lock(&mutex_);
        // What was lost meanwhile was so before it was handed out, or after. It goes back in either case; if it is gone
        // already that changes nothing.
        const auto lost = std::stable_partition(got->begin(), got->end(),
                                                [&](const client::Delivery& delivery) ABSL_NO_THREAD_SAFETY_ANALYSIS {
                                                  return !Lost(delivery, losses_before);
                                                });
        const std::vector<client::Delivery> back(lost, got->end());
        got->erase(lost, got->end());
        consumer_->Settle(back, v1::DISPOSITION_REQUEUE);
        if (got->empty()) continue;
        Found(*got);
      }
      // A second now and then, so that pauses and deaths find it with something in its hands.
      Sleep(milliseconds(Chance(0.02) ? Draw(500, 1'500) : Draw(1, 40)));
      for (const client::Delivery& delivery : *got) {
        const double lot = std::uniform_real_distribution<>()(chance_);
        // Returned once or twice, not for ever.
        const bool again = lot < 0.1 && delivery.deliveries() < 4;
        absl::MutexLock lock(&mutex_);
        Settle({&delivery, 1}, again        ? v1::DISPOSITION_REQUEUE
                               : lot > 0.98 ? v1::DISPOSITION_REJECT
                                            : v1::DISPOSITION_ACKNOWLEDGE);
      }
    }
  }
};

}  // namespace

std::unique_ptr<Actor> MakeConsumer(const ActorSpec& spec, uint32_t worker, uint64_t seed,
                                    std::unique_ptr<client::Client> client, HistoryWriter& history) {
  switch (spec.role) {
    case Role::kStream:
      return std::make_unique<Stream>(spec, worker, seed, std::move(client), history);
    case Role::kSlow:
      return std::make_unique<Slow>(spec, worker, seed, std::move(client), history);
    case Role::kReceiver:
      return std::make_unique<Receiver>(spec, worker, seed, std::move(client), history);
    default:
      return nullptr;
  }
}

}  // namespace trireme::failover
