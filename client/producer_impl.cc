#include "client/producer_impl.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/sync.h"
#include "client/wire.h"

namespace trireme::client {
namespace {

// A batch that is not full leaves only while fewer frames than this are under way: what comes meanwhile makes the next
// one larger.
constexpr size_t kFramesUnderLoad = 3;
// Small frames are taken together up to this many bytes, less than what gRPC holds back.
constexpr size_t kTogetherBytes = size_t{16} << 10;
// A producer without sequences waits so long for what is under way on a node that stops.
constexpr std::chrono::milliseconds kDrain{1'000};
constexpr uint32_t kMaxFrameBytes = 64 << 20;
constexpr uint32_t kMaxAlias = 65'535;
// Of a frame to an exchange, so that several are under way within the 1,000 messages that there may be.
constexpr uint32_t kExchangeBatchMessages = 250;

// Safety rule 6: above whatever a producer of the same name has used before.
uint64_t SequenceByClock() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
}

// The slice takes the string over.
grpc::Slice ToSlice(std::string bytes) {
  // Short strings are copied, which is cheaper than a block of their own.
  if (bytes.size() <= 256) return grpc::Slice(bytes);
  auto* owned = new std::string(std::move(bytes));
  return grpc::Slice(
      owned->data(), owned->size(), [](void* string) { delete static_cast<std::string*>(string); }, owned);
}

}  // namespace

ProducerImpl::ProducerImpl(std::shared_ptr<Core> core, ProducerOptions options)
    : core_(std::move(core)),
      options_(std::move(options)),
      connector_(*core_, options_.queue, "/trireme.v1.Broker/Publish", *this),
      window_(options_.deduplicate, options_.first_sequence),
      message_limit_(options_.max_message_bytes) {
  if (options_.exchange) options_.max_batch_messages = std::min(options_.max_batch_messages, kExchangeBatchMessages);
}

void ProducerImpl::Start(Producer& producer) {
  facade_ = &producer;
  core_->loop().Post([self = shared_from_this()] {
    self->connector_.Connect();
    self->Tick();
  });
}

std::shared_ptr<Core> ProducerImpl::Close() {
  Notification closed;
  core_->loop().Post([this, &closed] {
    connector_.Close();
    Fail(absl::CancelledError("the producer was closed"), v1::OUTCOME_REFUSED);
    closed.Notify();
  });
  closed.Wait();
  return core_;
}

// -------------------------------------------------------------------------------------------- publishers' side

bool ProducerImpl::HasRoom(size_t bytes) const {
  if (in_flight_ == 0) return true;
  return in_flight_ < options_.max_in_flight_messages && in_flight_bytes_ + bytes <= options_.max_in_flight_bytes;
}

void ProducerImpl::Seal() {
  if (open_.count == 0) return;
  const size_t size = open_.bytes.size();
  sealed_.push_back(Batch{.bytes = ToSlice(std::move(open_.bytes)),
                          .first_ticket = open_.first_ticket,
                          .count = open_.count,
                          .published = open_.published,
                          .callbacks = std::move(open_.callbacks)});
  open_ = Open();
  // The next one will be about as large.
  if (size > 256) open_.bytes.reserve(std::min<size_t>(size + size / 4, options_.max_batch_bytes));
}

template <typename Append>
absl::StatusOr<uint64_t> ProducerImpl::Take(size_t message_bytes, Producer::Callback done, bool wait, Append append) {
  const size_t bytes = RecordBytes(message_bytes);
  MutexLock lock(&mutex_);
  while (true) {
    if (!closed_.ok()) return closed_;
    if (message_bytes > message_limit_) {
      return absl::InvalidArgumentError(
          absl::StrCat("the message has ", message_bytes, " bytes; the limit is ", message_limit_));
    }
    if (HasRoom(bytes)) break;
    if (!wait) return absl::ResourceExhaustedError("the producer's in-flight limit is reached");
    ++waiters_;
    changed_.Wait(&mutex_);
    --waiters_;
  }
  if (open_.count > 0 && open_.bytes.size() + bytes > options_.max_batch_bytes) Seal();
  if (open_.count == 0) {
    open_.first_ticket = next_ticket_;
    open_.published = std::chrono::steady_clock::now();
  }
  if (done != nullptr) open_.callbacks.emplace_back(open_.count, std::move(done));
  append(open_.bytes);
  ++open_.count;
  ++in_flight_;
  in_flight_bytes_ += bytes;
  if (open_.count >= options_.max_batch_messages || open_.bytes.size() >= options_.max_batch_bytes) Seal();
  if (want_ == Want::kAnything || (want_ == Want::kFullBatch && !sealed_.empty())) {
    want_ = Want::kNothing;
    core_->loop().Post([self = shared_from_this()] { self->SchedulePump(); });
  }
  return next_ticket_++;
}

absl::StatusOr<uint64_t> ProducerImpl::Publish(const v1::Message& message, Producer::Callback done, bool wait) {
  const size_t bytes = message.ByteSizeLong();
  return Take(bytes, std::move(done), wait, [&](std::string& batch) { AppendRecord(message, bytes, batch); });
}

absl::StatusOr<uint64_t> ProducerImpl::PublishBody(std::string_view body, bool wait) {
  return Take(BodyMessageBytes(body.size()), nullptr, wait, [&](std::string& batch) { AppendBodyRecord(body, batch); });
}

std::string ProducerImpl::TargetText() const {
  if (!options_.exchange) return absl::StrCat("queue ", options_.queue);
  return options_.exchange->empty() ? "the default exchange" : absl::StrCat("exchange ", *options_.exchange);
}

absl::StatusOr<uint64_t> ProducerImpl::WaitOpen(std::chrono::milliseconds timeout) {
  const Time deadline = DeadlineIn(timeout);
  MutexLock lock(&mutex_);
  while (!opened_ && closed_.ok()) {
    if (changed_.WaitUntil(&mutex_, deadline) && !opened_ && closed_.ok()) {
      return connector_.NotOpened(timeout);
    }
  }
  if (!closed_.ok()) return closed_;
  return stored_before_;
}

absl::Status ProducerImpl::Flush(std::chrono::milliseconds timeout) {
  const Time deadline = DeadlineIn(timeout);
  MutexLock lock(&mutex_);
  const uint64_t last = next_ticket_ - 1;
  ++flushers_;
  bool late = false;
  while (reported_through_ < last && !late) late = changed_.WaitUntil(&mutex_, deadline);
  --flushers_;
  if (reported_through_ >= last) return absl::OkStatus();
  uint64_t open = last - reported_through_;
  for (const auto& [first, end] : reported_beyond_) open -= std::max(std::min(end, last + 1), first) - first;
  return absl::DeadlineExceededError(absl::StrCat(open, " messages are not confirmed after ", timeout.count(), " ms"));
}

absl::Status ProducerImpl::closed() const {
  MutexLock lock(&mutex_);
  return closed_;
}

uint64_t ProducerImpl::in_flight() const {
  MutexLock lock(&mutex_);
  return in_flight_;
}

// -------------------------------------------------------------------------------------------- the loop's side

void ProducerImpl::OnStarted() {
  handshake_ = Handshake::kOpen;
  draining_ = false;
  window_bytes_ = 0;
  Pump();
}

void ProducerImpl::SchedulePump() {
  if (std::exchange(pump_scheduled_, true)) return;
  core_->loop().AtTurnEnd([self = shared_from_this()] {
    self->pump_scheduled_ = false;
    self->Pump();
  });
}

// One write is under way at a time; its completion brings us here again.
void ProducerImpl::Pump() {
  if (ended_ || !connector_.writable()) return;
  v1::PublishRequest request;
  switch (handshake_) {
    case Handshake::kOpen:
      request.mutable_open()->set_producer(options_.name);
      request.mutable_open()->set_epoch(epoch_);
      request.mutable_open()->set_max_frame_bytes(kMaxFrameBytes);
      handshake_ = Handshake::kBind;
      return connector_.Write(Encode(request));
    case Handshake::kBind:
      // A new alias each time: what is still said of the old one does not concern us.
      alias_ = alias_ % kMaxAlias + 1;
      request.mutable_bind()->set_alias(alias_);
      if (options_.exchange) {
        request.mutable_bind()->set_exchange(*options_.exchange);
        request.mutable_bind()->set_mandatory(options_.mandatory);
      } else {
        request.mutable_bind()->set_queue(options_.queue);
      }
      handshake_ = Handshake::kWait;
      return connector_.Write(Encode(request));
    case Handshake::kWait:
      return;
    case Handshake::kBound:
      break;
  }
  if (outgoing_.empty() && !draining_) TakeFrames();
  if (outgoing_.empty()) return;
  const grpc::ByteBuffer frame = std::move(outgoing_.front());
  outgoing_.pop_front();
  connector_.Write(frame, /*more=*/!outgoing_.empty());
}

void ProducerImpl::TakeFrames() {
  SendWindow::Out out;
  for (size_t bytes = 0; bytes < kTogetherBytes; bytes += out.bytes.size()) {
    Refill();
    if (!window_.Next(out)) break;
    outgoing_.push_back(AppendFrame(alias_, out.first_sequence, out.bytes));
  }
  connector_.SetAwaiting(window_.under_way() > 0);
}

void ProducerImpl::Refill() {
  // What is there already goes first.
  if (window_.waiting() > 0) return;
  MutexLock lock(&mutex_);
  const bool little = window_.under_way() < kFramesUnderLoad;
  if (sealed_.empty() && little) Seal();
  if (sealed_.empty()) {
    want_ = little ? Want::kAnything : Want::kFullBatch;
    return;
  }
  // A confirm makes room and brings us here.
  want_ = Want::kNothing;
  if (!window_.Admits(sealed_.front().count)) return;
  window_.Add(std::move(sealed_.front()));
  sealed_.pop_front();
}

void ProducerImpl::OnFrame(grpc::ByteBuffer& frame) {
  if (ended_) return;
  if (!Decode(frame, response_)) return connector_.Leave();
  switch (response_.frame_case()) {
    case v1::PublishResponse::kOpened: {
      window_bytes_ = response_.opened().window_bytes();
      MutexLock lock(&mutex_);
      if (uint32_t limit = response_.opened().max_message_bytes(); limit > 0) {
        message_limit_ = std::min<uint64_t>(options_.max_message_bytes, limit);
      }
      break;
    }
    case v1::PublishResponse::kBound:
      OnBound(response_.bound());
      break;
    case v1::PublishResponse::kConfirms: {
      std::vector<Resolved> resolved;
      bool fenced = false;
      for (const v1::Confirm& confirm : response_.confirms().confirms()) {
        if (confirm.alias() != alias_) continue;
        fenced |= confirm.outcome() == v1::OUTCOME_FENCED;
        window_.Confirm(confirm, resolved);
      }
      connector_.Progressed();
      connector_.SetAwaiting(window_.under_way() > 0);
      Report(resolved);
      if (fenced) {
        connector_.Close();
        return Fail(absl::AbortedError(
                        absl::StrCat("another producer named ", options_.name, " has taken over ", TargetText())),
                    v1::OUTCOME_FENCED);
      }
      if (draining_ && window_.under_way() == 0) return connector_.Leave();
      SchedulePump();
      break;
    }
    case v1::PublishResponse::kUnbound:
      if (response_.unbound().alias() == alias_) connector_.Follow(response_.unbound().leader());
      break;
    case v1::PublishResponse::kDraining:
      OnDraining();
      break;
    case v1::PublishResponse::FRAME_NOT_SET:
      break;
  }
}

void ProducerImpl::OnBound(const v1::Bound& bound) {
  if (bound.alias() != alias_ || handshake_ != Handshake::kWait) return;
  if (bound.outcome() == v1::OUTCOME_FENCED || bound.outcome() == v1::OUTCOME_REFUSED) {
    connector_.Close();
    const bool fenced = bound.outcome() == v1::OUTCOME_FENCED;
    const std::string reason = absl::StrCat(TargetText(), ": ", bound.reason());
    return Fail(fenced ? absl::AbortedError(
                             absl::StrCat(reason, " (another producer named ", options_.name, " has taken over)"))
                       : absl::FailedPreconditionError(reason),
                bound.outcome());
  }
  // Neither refused nor done: somewhere else, perhaps.
  if (bound.outcome() != v1::OUTCOME_OK) return connector_.Leave();
  epoch_ = bound.epoch();
  if (!connector_.Accepted(bound.leader())) return;
  uint64_t last_sequence = bound.last_sequence();
  if (options_.exchange && std::exchange(first_binding_, false)) last_sequence = SequenceByClock();
  window_.Bound(last_sequence, window_bytes_, bound.window_messages());
  handshake_ = Handshake::kBound;
  {
    MutexLock lock(&mutex_);
    if (!std::exchange(opened_, true)) stored_before_ = bound.last_sequence();
    changed_.SignalAll();
  }
  SchedulePump();
}

void ProducerImpl::OnDraining() {
  // With sequences nothing has to be waited for: what is under way is sent again elsewhere, and is known there.
  if (options_.deduplicate || window_.under_way() == 0) return connector_.Leave();
  draining_ = true;
  core_->loop().After(kDrain, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self != nullptr && !self->ended_ && self->draining_) self->connector_.Leave();
  });
}

void ProducerImpl::OnLost() {
  std::vector<Resolved> resolved;
  window_.Lost("the connection was lost before the confirm", resolved);
  outgoing_.clear();
  handshake_ = Handshake::kOpen;
  draining_ = false;
  connector_.SetAwaiting(false);
  Report(resolved);
}

void ProducerImpl::OnGivenUp(const absl::Status& status) {
  Fail(status, v1::OUTCOME_REFUSED);
}

void ProducerImpl::Fail(const absl::Status& status, v1::Outcome unsent) {
  if (std::exchange(ended_, true)) return;
  std::vector<Resolved> resolved;
  const std::string reason(status.message());
  window_.Abort(unsent, reason, resolved);
  std::deque<Batch> left;
  {
    MutexLock lock(&mutex_);
    closed_ = status;
    Seal();
    left.swap(sealed_);
    want_ = Want::kNothing;
  }
  for (Batch& batch : left) window_.Refuse(std::move(batch), unsent, reason, resolved);
  Report(resolved);
  MutexLock lock(&mutex_);
  changed_.SignalAll();
}

void ProducerImpl::Report(std::vector<Resolved>& resolved) {
  uint64_t messages = 0;
  for (const Resolved& one : resolved) messages += one.confirmation.count;
  const uint64_t bytes = window_.TakeFreedBytes();
  if (messages == 0 && bytes == 0) return;
  {
    // Before the callbacks, so that they find room.
    MutexLock lock(&mutex_);
    in_flight_ -= messages;
    in_flight_bytes_ -= bytes;
  }
  for (Resolved& one : resolved) {
    one.confirmation.reason = one.reason;
    if (one.callback != nullptr) {
      one.callback(one.confirmation);
    } else if (options_.on_confirm != nullptr) {
      options_.on_confirm(*facade_, one.confirmation);
    }
  }
  MutexLock lock(&mutex_);
  for (const auto& [confirmation, reason, callback] : resolved) {
    const uint64_t end = confirmation.first_ticket + confirmation.count;
    if (confirmation.first_ticket == reported_through_ + 1) {
      reported_through_ = end - 1;
    } else {
      reported_beyond_.emplace(confirmation.first_ticket, end);
    }
  }
  for (auto next = reported_beyond_.begin(); next != reported_beyond_.end() && next->first == reported_through_ + 1;
       next = reported_beyond_.erase(next)) {
    reported_through_ = next->second - 1;
  }
  // Publishers that wait are woken for a good piece of work, not for each message.
  const bool roomy =
      in_flight_ <= options_.max_in_flight_messages / 4 * 3 && in_flight_bytes_ <= options_.max_in_flight_bytes / 4 * 3;
  if (flushers_ > 0 || (waiters_ > 0 && roomy)) changed_.SignalAll();
}

void ProducerImpl::Tick() {
  if (ended_) return;
  const Time expired = core_->loop().Now() - options_.delivery_timeout;
  std::vector<Resolved> resolved;
  window_.Expire(expired, resolved);
  std::deque<Batch> late;
  {
    MutexLock lock(&mutex_);
    if (open_.count > 0 && open_.published <= expired) Seal();
    while (!sealed_.empty() && sealed_.front().published <= expired) {
      late.push_back(std::move(sealed_.front()));
      sealed_.pop_front();
    }
  }
  for (Batch& batch : late) {
    window_.Refuse(std::move(batch), v1::OUTCOME_REFUSED, "could not be sent within delivery_timeout", resolved);
  }
  Report(resolved);
  SchedulePump();
  const Duration period =
      std::clamp<Duration>(options_.delivery_timeout / 4, std::chrono::milliseconds(10), std::chrono::seconds(1));
  core_->loop().After(period, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->Tick();
  });
}

}  // namespace trireme::client
