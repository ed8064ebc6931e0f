#include "client/bench/worker.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace trireme::client {
namespace {

constexpr size_t kMaxNotes = 8;

void StoreMax(std::atomic<uint64_t>& maximum, uint64_t value) {
  uint64_t old = maximum.load();
  while (old < value && !maximum.compare_exchange_weak(old, value)) {
  }
}

}  // namespace

uint64_t MonotonicNs() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

BenchWorker::BenchWorker(const BenchOptions& options, uint32_t run, std::unique_ptr<Client> client)
    : options_(options), run_(run), client_(std::move(client)) {}

BenchWorker::~BenchWorker() = default;

absl::Status BenchWorker::AddProducer(const std::string& queue, uint32_t number, uint64_t limit) {
  auto sender = std::make_unique<Sender>();
  sender->number = number;
  sender->limit = limit;
  sender->body.assign(options_.size, 'x');
  {
    MutexLock lock(&sender->mutex);
    // Twice the window: a refill may come before all of the confirms that made room were looked at.
    sender->sent_ns.resize(size_t{2} * options_.in_flight);
    sender->done = limit == 0;
  }
  ProducerOptions options;
  options.queue = queue;
  options.deduplicate = options_.deduplicate;
  options.max_batch_messages = options_.batch;
  options.max_in_flight_messages = options_.in_flight;
  options.max_in_flight_bytes = UINT64_MAX / 2;
  options.on_confirm = [this, sender = sender.get()](Producer&, const Confirmation& confirmation) {
    OnConfirm(*sender, confirmation);
  };
  absl::StatusOr<std::unique_ptr<Producer>> producer = client_->CreateProducer(std::move(options));
  if (!producer.ok()) return producer.status();
  sender->producer = *std::move(producer);
  producers_.push_back(std::move(sender));
  MutexLock lock(&mutex_);
  if (received_.size() <= number) received_.resize(number + 1);
  return absl::OkStatus();
}

absl::Status BenchWorker::AddConsumer(const std::string& queue) {
  ConsumerOptions options;
  options.queue = queue;
  options.label = "bench";
  options.max_outstanding_messages = options_.outstanding;
  options.max_outstanding_bytes = uint64_t{options_.outstanding} * (options_.size + 64);
  options.on_delivery = [this](Consumer& consumer, std::span<const Delivery> deliveries) {
    OnDelivery(consumer, deliveries);
  };
  options.on_lease_lost = [this](std::span<const v1::HeldRun> runs) {
    for (const v1::HeldRun& run : runs) leases_lost_ += run.count();
  };
  options.on_closed = [this, queue](const absl::Status& status) {
    Note(absl::StrCat("consumer of ", queue, " ended: ", status.ToString()));
  };
  absl::StatusOr<std::unique_ptr<Consumer>> consumer = client_->CreateConsumer(std::move(options));
  if (!consumer.ok()) return consumer.status();
  consumers_.push_back(*std::move(consumer));
  return absl::OkStatus();
}

absl::Status BenchWorker::WaitOpen(std::chrono::milliseconds timeout) {
  for (auto& consumer : consumers_) {
    if (absl::Status status = consumer->WaitOpen(timeout); !status.ok()) return status;
  }
  for (auto& sender : producers_) {
    if (absl::StatusOr<uint64_t> opened = sender->producer->WaitOpen(timeout); !opened.ok()) return opened.status();
  }
  return absl::OkStatus();
}

// -------------------------------------------------------------------------------------------- sending

void BenchWorker::Begin() {
  for (auto& sender : producers_) Fill(*sender);
}

bool BenchWorker::SendOne(Sender& sender, uint64_t now_ns) {
  if (sender.done || stopped_.load(std::memory_order_relaxed)) return false;
  const BenchHeader header{run_, sender.number, sender.sent, now_ns};
  std::memcpy(sender.body.data(), &header, sizeof header);
  // The confirm may come before this returns, so what it needs is written first.
  uint64_t& slot = sender.sent_ns[(sender.sent + 1) % sender.sent_ns.size()];
  const uint64_t before = std::exchange(slot, now_ns);
  absl::StatusOr<uint64_t> ticket = sender.producer->TryPublishBody(sender.body);
  if (!ticket.ok()) {
    slot = before;
    if (absl::IsResourceExhausted(ticket.status())) return false;
    sender.done = true;
    ++errors_;
    Note(absl::StrCat("producer ", sender.number, " cannot publish: ", ticket.status().ToString()));
    return false;
  }
  published_.fetch_add(1, std::memory_order_relaxed);
  if (++sender.sent >= sender.limit) sender.done = true;
  return true;
}

void BenchWorker::Fill(Sender& sender) {
  MutexLock lock(&sender.mutex);
  while (SendOne(sender, MonotonicNs())) {
  }
}

bool BenchWorker::SendDue(size_t producer, uint64_t due_ns) {
  Sender& sender = *producers_[producer];
  MutexLock lock(&sender.mutex);
  return SendOne(sender, due_ns);
}

void BenchWorker::OnConfirm(Sender& sender, const Confirmation& confirmation) {
  const uint64_t now = MonotonicNs();
  if (confirmation.stored()) {
    confirmed_.fetch_add(confirmation.count, std::memory_order_relaxed);
    last_confirm_ns_ = now;
    MutexLock lock(&sender.mutex);
    MutexLock totals(&mutex_);
    for (uint64_t i = 0; i < confirmation.count; ++i) {
      const uint64_t ticket = confirmation.first_ticket + i;
      const uint64_t sent = sender.sent_ns[ticket % sender.sent_ns.size()];
      confirm_latency_.Add(now > sent ? now - sent : 0);
      sender.confirmed.Insert(ticket - 1);
      // The gap counts from when there was something to wait for.
      if (i == 0) StoreMax(longest_gap_ns_, now - std::min(now, std::max(sender.last_confirm_ns, sent)));
    }
    sender.last_confirm_ns = now;
  } else {
    (confirmation.outcome == v1::OUTCOME_UNKNOWN ? unknown_ : refused_) += confirmation.count;
    errors_ += confirmation.count;
    Note(absl::StrCat(v1::Outcome_Name(confirmation.outcome), ": ", std::string(confirmation.reason)));
  }
  resolved_.fetch_add(confirmation.count, std::memory_order_relaxed);
  if (options_.rate == 0) Fill(sender);
}

// -------------------------------------------------------------------------------------------- receiving

void BenchWorker::OnDelivery(Consumer& consumer, std::span<const Delivery> deliveries) {
  const uint64_t now = MonotonicNs();
  const bool any_run = options_.producers == 0;
  uint64_t fresh = 0;
  size_t ours_from = 0;
  auto settle = [&](size_t to) {
    if (to > ours_from) consumer.Acknowledge(deliveries.subspan(ours_from, to - ours_from));
    settled_.fetch_add(to - ours_from, std::memory_order_relaxed);
    ours_from = to + 1;
  };
  {
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < deliveries.size(); ++i) {
      const std::string_view body = deliveries[i].body();
      BenchHeader header{};
      if (body.size() >= sizeof header) std::memcpy(&header, body.data(), sizeof header);
      if (any_run) continue;
      if (header.run != run_ || header.producer >= received_.size()) {
        settle(i);
        ++foreign_;
        continue;
      }
      end_to_end_.Add(now > header.sent_ns ? now - header.sent_ns : 0);
      if (received_[header.producer].Insert(header.sequence)) {
        ++fresh;
      } else {
        ++(deliveries[i].deliveries() > 1 ? redelivered_ : duplicates_);
      }
    }
    settle(deliveries.size());
  }
  delivered_.fetch_add(deliveries.size(), std::memory_order_relaxed);
  unique_.fetch_add(fresh, std::memory_order_relaxed);
  last_settle_ns_ = now;
}

// -------------------------------------------------------------------------------------------- the end

bool BenchWorker::SendingDone() const {
  const bool nothing_left =
      stopped_ || std::all_of(producers_.begin(), producers_.end(), [](const std::unique_ptr<Sender>& sender) {
        MutexLock lock(&sender->mutex);
        return sender->done;
      });
  return nothing_left && resolved_ == published_;
}

bool BenchWorker::Drained() const {
  return consumers_.empty() || unique_ >= confirmed_;
}

void BenchWorker::FlushSettles(std::chrono::milliseconds timeout) {
  for (auto& consumer : consumers_) {
    // Lost leases are counted as such.
    if (absl::Status status = consumer->Flush(timeout); !status.ok() && !absl::IsAborted(status)) {
      ++errors_;
      Note(absl::StrCat("settling: ", status.ToString()));
    }
  }
}

void BenchWorker::Finish(BenchResult& result) {
  for (auto& sender : producers_) {
    result.reconnects += sender->producer->reconnects();
    sender->producer.reset();
  }
  for (auto& consumer : consumers_) result.reconnects += consumer->reconnects();
  consumers_.clear();
  result.published += published_;
  result.confirmed += confirmed_;
  result.unknown += unknown_;
  result.refused += refused_;
  result.delivered += delivered_;
  result.settled += settled_;
  result.duplicates += duplicates_;
  result.redelivered += redelivered_;
  result.foreign += foreign_;
  result.leases_lost += leases_lost_;
  result.longest_confirm_gap = std::max<uint64_t>(result.longest_confirm_gap, longest_gap_ns_);
  MutexLock lock(&mutex_);
  if (options_.consumers > 0) {
    for (const auto& sender : producers_) result.lost += sender->confirmed.CountMissingIn(received_[sender->number]);
  }
  result.confirm_latency.Merge(confirm_latency_);
  result.end_to_end_latency.Merge(end_to_end_);
  for (std::string& note : notes_) {
    if (result.errors.size() < kMaxNotes) result.errors.push_back(std::move(note));
  }
}

void BenchWorker::Note(std::string error) {
  MutexLock lock(&mutex_);
  if (notes_.size() < kMaxNotes && std::find(notes_.begin(), notes_.end(), error) == notes_.end()) {
    notes_.push_back(std::move(error));
  }
}

}  // namespace trireme::client
