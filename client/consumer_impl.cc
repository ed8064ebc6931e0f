#include "client/consumer_impl.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/sync.h"

namespace trireme::client {
namespace {

constexpr std::chrono::milliseconds kReceiptEvery{200};
constexpr std::chrono::milliseconds kCloseTimeout{1'000};
constexpr uint32_t kMaxFrameBytes = 64 << 20;
// Settles that lost their receipts are not kept for ever.
constexpr size_t kMaxUnreceipted = 100'000;

std::vector<LeaseRun> RunsOf(const v1::SettleRuns& settle) {
  std::vector<LeaseRun> runs;
  for (const v1::HeldRun& run : settle.runs()) runs.push_back(FromProto(run));
  return runs;
}

bool Overlaps(const LeaseRun& a, const LeaseRun& b) {
  return a.checkout == b.checkout && a.first < b.first + b.count && b.first < a.first + a.count;
}

}  // namespace

ConsumerImpl::ConsumerImpl(std::shared_ptr<Core> core, ConsumerOptions options, std::string session)
    : core_(std::move(core)),
      options_(std::move(options)),
      session_(std::move(session)),
      settle_threshold_(std::max<uint64_t>(1, options_.max_outstanding_messages / 4)),
      connector_(*core_, options_.queue, "/trireme.v1.Broker/Consume", *this),
      queue_name_(options_.queue) {}

void ConsumerImpl::Start(Consumer& consumer) {
  facade_ = &consumer;
  core_->loop().Post([self = shared_from_this()] {
    self->connector_.Connect();
    self->Tick();
  });
}

// -------------------------------------------------------------------------------------------- the user's side

std::shared_ptr<Core> ConsumerImpl::Close() {
  const Time deadline = DeadlineIn(kCloseTimeout);
  core_->loop().Post([self = shared_from_this()] { self->CloseOnLoop(false); });
  {
    MutexLock lock(&mutex_);
    while (!over_ && !changed_.WaitUntil(&mutex_, deadline)) {
    }
  }
  Notification closed;
  core_->loop().Post([this, &closed] {
    CloseOnLoop(true);
    closed.Notify();
  });
  closed.Wait();
  return core_;
}

absl::Status ConsumerImpl::WaitOpen(std::chrono::milliseconds timeout) {
  const Time deadline = DeadlineIn(timeout);
  MutexLock lock(&mutex_);
  while (!opened_ && closed_.ok()) {
    if (changed_.WaitUntil(&mutex_, deadline) && !opened_ && closed_.ok()) {
      return connector_.NotOpened(timeout);
    }
  }
  return closed_;
}

bool ConsumerImpl::Silent() const {
  return std::chrono::steady_clock::now() - heard_ >= options_.session_timeout;
}

absl::StatusOr<std::vector<Delivery>> ConsumerImpl::Next(size_t max, std::chrono::milliseconds timeout) {
  if (options_.on_delivery != nullptr) {
    return absl::FailedPreconditionError("this consumer has on_delivery, which gets the messages");
  }
  const Time deadline = DeadlineIn(timeout);
  MutexLock lock(&mutex_);
  // Safety rule 5: after a long silence the leases may be others', whatever is still in the queue.
  while (closed_.ok() && (queue_.empty() || Silent())) {
    if (changed_.WaitUntil(&mutex_, deadline) && (queue_.empty() || Silent())) return std::vector<Delivery>();
  }
  if (!closed_.ok()) return closed_;
  const size_t count = std::min(std::max<size_t>(max, 1), queue_.size());
  const auto end = queue_.begin() + static_cast<ptrdiff_t>(count);
  std::vector<Delivery> taken(std::make_move_iterator(queue_.begin()), std::make_move_iterator(end));
  queue_.erase(queue_.begin(), end);
  return taken;
}

void ConsumerImpl::Settle(std::span<const Delivery> deliveries, v1::Disposition disposition,
                          std::optional<std::chrono::milliseconds> delay) {
  constexpr std::chrono::milliseconds kLongest = std::chrono::hours{12};
  std::optional<uint32_t> delay_ms;
  if (delay) delay_ms = static_cast<uint32_t>(std::clamp(*delay, std::chrono::milliseconds{0}, kLongest).count());
  MutexLock lock(&mutex_);
  if (over_) return;
  // Safety rule 4: runs are of one group.
  const auto ours = [&](const Delivery& delivery) ABSL_NO_THREAD_SAFETY_ANALYSIS { return delivery.group() == group_; };
  LeaseRun run;
  auto settle = [&] {
    // What is not held was settled before, or its lease is lost.
    leases_.Remove(
        run, [&](const LeaseRun& part) ABSL_NO_THREAD_SAFETY_ANALYSIS { settles_.Add(part, disposition, delay_ms); });
  };
  for (const Delivery& delivery : deliveries) {
    // Of a queue that was deleted: its lease was told as lost.
    if (!ours(delivery)) continue;
    if (run.count > 0 && delivery.position() == run.first + run.count && delivery.checkout_index() == run.checkout) {
      ++run.count;
      continue;
    }
    if (run.count > 0) settle();
    run = {delivery.position(), 1, delivery.checkout_index()};
  }
  if (run.count > 0) settle();
  if (settles_.empty() || settles_due_ == Due::kNow) return;
  if (settles_.messages() >= settle_threshold_ || options_.settle_delay.count() == 0) {
    settles_due_ = Due::kNow;
    core_->loop().Post([self = shared_from_this()] {
      self->GatherSettles();
      self->Pump();
    });
  } else if (settles_due_ == Due::kNothing) {
    settles_due_ = Due::kTimer;
    core_->loop().Post([self = shared_from_this()] { self->ArmSettleTimer(); });
  }
}

absl::Status ConsumerImpl::Flush(std::chrono::milliseconds timeout) {
  const Time deadline = DeadlineIn(timeout);
  // The task may come to its turn when this call has given up.
  auto through = std::make_shared<std::atomic<uint64_t>>(UINT64_MAX);
  core_->loop().Post([self = shared_from_this(), through] {
    // What was settled and not sent went with the session; nothing will be durable any more.
    if (self->ended_) return;
    self->GatherSettles();
    self->flush_through_ = self->next_settle_ - 1;
    MutexLock lock(&self->mutex_);
    // With everything durable there is nothing to wait for.
    if (self->to_send_.empty() && self->unreceipted_.empty()) self->durable_through_ = self->flush_through_;
    *through = self->flush_through_;
    self->changed_.SignalAll();
    self->core_->loop().AtTurnEnd([self] { self->Pump(); });
  });
  MutexLock lock(&mutex_);
  // An earlier flush may have been answered for all that this one would name.
  if (over_) return closed_;
  bool late = false;
  while (durable_through_ < *through && closed_.ok() && !late) late = changed_.WaitUntil(&mutex_, deadline);
  if (durable_through_ >= *through) {
    const uint64_t lost = std::exchange(settles_lost_, 0);
    if (lost == 0) return absl::OkStatus();
    return absl::AbortedError(absl::StrCat("the leases of ", lost,
                                           " settled messages ended before it was known that they were ",
                                           "settled in time: they may be delivered again"));
  }
  if (!closed_.ok()) return closed_;
  return absl::DeadlineExceededError(
      absl::StrCat("some of what was settled is not known to be durable after ", timeout.count(), " ms"));
}

void ConsumerImpl::SetLimits(uint32_t max_outstanding_messages, uint64_t max_outstanding_bytes) {
  MutexLock lock(&mutex_);
  options_.max_outstanding_messages = max_outstanding_messages;
  options_.max_outstanding_bytes = max_outstanding_bytes;
  core_->loop().Post([self = shared_from_this()] {
    self->limits_due_ = self->flow_due_ = true;
    self->Pump();
  });
}

absl::Status ConsumerImpl::closed() const {
  MutexLock lock(&mutex_);
  return closed_;
}

bool ConsumerImpl::standby() const {
  MutexLock lock(&mutex_);
  return standby_;
}

std::string ConsumerImpl::queue() const {
  MutexLock lock(&mutex_);
  return queue_name_;
}

uint64_t ConsumerImpl::held() const {
  MutexLock lock(&mutex_);
  return leases_.messages();
}

uint64_t ConsumerImpl::leases_lost() const {
  MutexLock lock(&mutex_);
  return leases_lost_;
}

// -------------------------------------------------------------------------------------------- sending

void ConsumerImpl::OnStarted() {
  opening_ = true;
  Pump();
}

// One write is under way at a time; its completion brings us here again.
void ConsumerImpl::Pump() {
  if (ended_ || !connector_.writable()) return;
  if (opening_) return WriteOpen();
  // A broker does not look at anything before it has answered Open.
  if (!accepted_ || half_closed_) return;
  if (flow_due_) {
    v1::ConsumeRequest request;
    v1::Flow* flow = request.mutable_flow();
    if (std::exchange(limits_due_, false)) {
      MutexLock lock(&mutex_);
      flow->set_max_outstanding_messages(options_.max_outstanding_messages);
      flow->set_max_outstanding_bytes(options_.max_outstanding_bytes);
    }
    flow_due_ = false;
    last_write_ = core_->loop().Now();
    return connector_.Write(Encode(request));
  }
  if (!to_send_.empty()) {
    SettleFrame frame = std::move(to_send_.front());
    to_send_.pop_front();
    return WriteSettle(std::move(frame));
  }
  if (closing_) {
    half_closed_ = true;
    return connector_.HalfClose();
  }
  // Nothing to settle, but something to know.
  if (!unreceipted_.empty() && ReceiptDue()) {
    SettleFrame question;
    question.id = unreceipted_.back().id;
    question.runs.set_disposition(v1::DISPOSITION_ACKNOWLEDGE);
    WriteSettle(std::move(question));
  }
}

void ConsumerImpl::WriteOpen() {
  opening_ = false;
  v1::ConsumeRequest request;
  v1::OpenConsume* open = request.mutable_open();
  open->set_subscription(options_.subscription);
  open->set_session(session_);
  open->set_session_timeout_ms(static_cast<uint32_t>(options_.session_timeout.count()));
  open->set_max_frame_bytes(kMaxFrameBytes);
  open->set_consumer(options_.label);
  // Everything that must not be delivered again, settled or not.
  std::vector<LeaseRun> held;
  for (const SettleFrame& frame : to_send_) {
    for (const v1::HeldRun& run : frame.runs.runs()) held.push_back(FromProto(run));
  }
  {
    MutexLock lock(&mutex_);
    open->set_max_outstanding_messages(options_.max_outstanding_messages);
    open->set_max_outstanding_bytes(options_.max_outstanding_bytes);
    open->set_group_id(group_);
    open->set_queue(queue_name_);
    open->set_temporary(queue_name_.empty());
    for (const std::vector<LeaseRun>& runs : {leases_.runs(), settles_.runs()}) {
      held.insert(held.end(), runs.begin(), runs.end());
    }
  }
  limits_due_ = false;
  MergeRuns(held);
  for (const LeaseRun& run : held) *open->add_held() = ToProto(run);
  last_write_ = core_->loop().Now();
  connector_.Write(Encode(request));
}

bool ConsumerImpl::ReceiptDue() const {
  if (receipt_awaited_ != 0) return false;
  return flush_through_ >= unreceipted_.front().id || core_->loop().Now() - last_receipt_asked_ >= kReceiptEvery;
}

void ConsumerImpl::WriteSettle(SettleFrame frame) {
  v1::ConsumeRequest request;
  *request.mutable_settle() = frame.runs;
  {
    MutexLock lock(&mutex_);
    request.mutable_settle()->set_group_id(group_);
  }
  const bool question = frame.runs.runs().empty();
  const uint64_t id = frame.id;
  if (!question) unreceipted_.push_back(std::move(frame));
  while (unreceipted_.size() > kMaxUnreceipted) unreceipted_.pop_front();
  // With more to come, the last one asks.
  if (question || (to_send_.empty() && ReceiptDue())) {
    request.mutable_settle()->set_receipt(id);
    receipt_awaited_ = id;
    last_receipt_asked_ = core_->loop().Now();
  }
  last_write_ = core_->loop().Now();
  connector_.Write(Encode(request));
  ArmReceiptTimer();
}

void ConsumerImpl::ArmReceiptTimer() {
  if (std::exchange(receipt_timer_, true)) return;
  core_->loop().After(kReceiptEvery, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->receipt_timer_ = false;
    if (self->ended_ || self->unreceipted_.empty()) return;
    self->Pump();
    self->ArmReceiptTimer();
  });
}

void ConsumerImpl::ArmSettleTimer() {
  core_->loop().After(options_.settle_delay, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->GatherSettles();
    self->Pump();
  });
}

void ConsumerImpl::GatherSettles() {
  std::vector<v1::SettleRuns> settles;
  {
    MutexLock lock(&mutex_);
    settles_due_ = Due::kNothing;
    if (settles_.empty()) return;
    settles = settles_.Take();
  }
  for (v1::SettleRuns& runs : settles) to_send_.push_back({next_settle_++, std::move(runs), false});
}

// -------------------------------------------------------------------------------------------- receiving

void ConsumerImpl::OnFrame(grpc::ByteBuffer& frame) {
  if (ended_) return;
  {
    MutexLock lock(&mutex_);
    heard_ = core_->loop().Now();
  }
  auto bytes = std::make_shared<const Frame>(frame);
  if (IsDeliver(bytes->bytes())) return OnDeliver(bytes);
  if (!response_.ParseFromArray(bytes->bytes().data(), static_cast<int>(bytes->bytes().size()))) {
    return connector_.Leave();
  }
  switch (response_.frame_case()) {
    case v1::ConsumeResponse::kOpened:
      return OnOpened(response_.opened());
    case v1::ConsumeResponse::kReceipt:
      return OnReceipt(response_.receipt());
    case v1::ConsumeResponse::kRedirect:
      return connector_.Follow(response_.redirect().leader());
    case v1::ConsumeResponse::kDraining:
      return connector_.Leave();
    case v1::ConsumeResponse::kStanding:
      return OnStanding(response_.standing().standby());
    case v1::ConsumeResponse::kDeliver:
    case v1::ConsumeResponse::kKeepAlive:
    case v1::ConsumeResponse::FRAME_NOT_SET:
      return;
  }
}

void ConsumerImpl::OnOpened(const v1::OpenedConsume& opened) {
  // The session had ended, or its queue was deleted, and with it every lease went. Also if the stream goes on to the
  // leader from here: there, the session that was just made will be resumed.
  uint64_t before;
  {
    MutexLock lock(&mutex_);
    before = group_;
  }
  const bool other_queue = before != 0 && before != opened.group_id();
  if (!opened.resumed() || other_queue) LoseSession(opened.group_id());
  // It is the one to come back to after a break.
  if (options_.temporary) connector_.SetQueue(opened.queue());
  if (!connector_.Accepted(opened.leader())) return;
  accepted_ = true;
  {
    MutexLock lock(&mutex_);
    if (options_.temporary) queue_name_ = opened.queue();
    group_ = opened.group_id();
    opened_ = true;
    changed_.SignalAll();
  }
  Pump();
  OnStanding(opened.standby());
}

void ConsumerImpl::OnStanding(bool standby) {
  {
    MutexLock lock(&mutex_);
    if (std::exchange(standby_, standby) == standby) return;
  }
  if (options_.on_standing != nullptr) options_.on_standing(standby);
}

void ConsumerImpl::OnDeliver(const std::shared_ptr<const Frame>& frame) {
  delivered_.runs.clear();
  delivered_.messages.clear();
  delivered_.bytes = 0;
  uint64_t group;
  {
    MutexLock lock(&mutex_);
    group = group_;
  }
  if (absl::Status status = ReadDeliver(frame, group, delivered_); !status.ok()) {
    connector_.Close();
    return End(absl::Status(status.code(), absl::StrCat("queue ", queue(), ": ", status.message())));
  }
  connector_.Progressed();
  {
    MutexLock lock(&mutex_);
    for (const v1::HeldRun& run : delivered_.runs) leases_.Add(FromProto(run));
    if (options_.on_delivery == nullptr) {
      queue_.insert(queue_.end(), std::make_move_iterator(delivered_.messages.begin()),
                    std::make_move_iterator(delivered_.messages.end()));
      changed_.SignalAll();
      return;
    }
  }
  options_.on_delivery(*facade_, delivered_.messages);
}

void ConsumerImpl::OnReceipt(const v1::Receipt& receipt) {
  connector_.Progressed();
  std::vector<LeaseRun> lost;
  for (const v1::HeldRun& run : receipt.lease_lost()) {
    const LeaseRun lease = FromProto(run);
    // What is settled again, or is about to be, was settled by the first try.
    const auto settles = [&](const SettleFrame& frame) {
      if (!frame.again) return false;
      const std::vector<LeaseRun> runs = RunsOf(frame.runs);
      return std::any_of(runs.begin(), runs.end(), [&](const LeaseRun& settled) { return Overlaps(settled, lease); });
    };
    const bool settled_before = std::any_of(unreceipted_.begin(), unreceipted_.end(), settles) ||
                                std::any_of(to_send_.begin(), to_send_.end(), settles);
    if (!settled_before) lost.push_back(lease);
  }
  LoseRuns(lost);
  const uint64_t id = receipt.receipt();
  if (id == 0) return;
  while (!unreceipted_.empty() && unreceipted_.front().id <= id) unreceipted_.pop_front();
  if (receipt_awaited_ == id) receipt_awaited_ = 0;
  {
    MutexLock lock(&mutex_);
    durable_through_ = std::max(durable_through_, id);
    changed_.SignalAll();
  }
  Pump();
}

void ConsumerImpl::LoseRuns(const std::vector<LeaseRun>& lost) {
  {
    MutexLock lock(&mutex_);
    for (const LeaseRun& run : lost) {
      uint64_t held = 0;
      leases_.Remove(run, [&held](const LeaseRun& part) { held += part.count; });
      settles_lost_ += run.count - held;
    }
    std::erase_if(queue_, [&](const Delivery& delivery) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return !leases_.Holds(delivery.position(), delivery.checkout_index());
    });
  }
  Tell(lost);
}

std::vector<LeaseRun> ConsumerImpl::TakeLeases() {
  std::vector<LeaseRun> held = leases_.runs();
  leases_.Clear();
  queue_.clear();
  return held;
}

void ConsumerImpl::LoseLeases() {
  std::vector<LeaseRun> lost;
  {
    MutexLock lock(&mutex_);
    lost = TakeLeases();
  }
  Tell(lost);
}

void ConsumerImpl::LoseSession(uint64_t group) {
  std::vector<LeaseRun> lost;
  const auto lose = [&lost](const std::vector<LeaseRun>& runs) { lost.insert(lost.end(), runs.begin(), runs.end()); };
  for (std::deque<SettleFrame>* frames : {&to_send_, &unreceipted_}) {
    for (const SettleFrame& frame : *frames) lose(RunsOf(frame.runs));
    frames->clear();
  }
  {
    // At once: what the caller settles from here on is of the new group, or is not settled.
    MutexLock lock(&mutex_);
    lose(settles_.runs());
    settles_ = SettleBuffer();
    for (const LeaseRun& run : lost) settles_lost_ += run.count;
    lose(TakeLeases());
    group_ = group;
  }
  MergeRuns(lost);
  Tell(lost);
  MutexLock lock(&mutex_);
  // No receipt will come for what is gone. Who waits in Flush goes on when the losses have been told.
  if (closed_.ok()) durable_through_ = next_settle_ - 1;
  changed_.SignalAll();
}

void ConsumerImpl::Tell(const std::vector<LeaseRun>& lost) {
  if (lost.empty()) return;
  std::vector<v1::HeldRun> told;
  {
    MutexLock lock(&mutex_);
    for (const LeaseRun& run : lost) {
      told.push_back(ToProto(run));
      leases_lost_ += run.count;
    }
  }
  if (options_.on_lease_lost != nullptr) options_.on_lease_lost(told);
}

// -------------------------------------------------------------------------------------------- life

void ConsumerImpl::OnLost() {
  accepted_ = false;
  opening_ = false;
  receipt_awaited_ = 0;
  for (SettleFrame& frame : unreceipted_) frame.again = true;
  to_send_.insert(to_send_.begin(), std::make_move_iterator(unreceipted_.begin()),
                  std::make_move_iterator(unreceipted_.end()));
  unreceipted_.clear();
  if (half_closed_) CloseOnLoop(true);
}

void ConsumerImpl::OnGivenUp(const absl::Status& status) {
  End(status);
}

void ConsumerImpl::End(const absl::Status& status) {
  if (std::exchange(ended_, true)) return;
  {
    MutexLock lock(&mutex_);
    closed_ = status;
    over_ = true;
    queue_.clear();
    changed_.SignalAll();
  }
  // Nobody will settle what is held any more.
  if (!closing_) LoseSession(0);
  if (options_.on_closed != nullptr && !closing_) options_.on_closed(status);
}

void ConsumerImpl::CloseOnLoop(bool now) {
  closing_ = true;
  if (ended_) return;
  GatherSettles();
  // Without a session, or with nothing that needs one, there is nothing to say goodbye to.
  if (!now && (accepted_ || !to_send_.empty())) return Pump();
  connector_.Close();
  End(absl::CancelledError("the consumer was closed"));
}

void ConsumerImpl::Tick() {
  if (ended_) return;
  const Time now = core_->loop().Now();
  if (accepted_ && now - last_write_ >= options_.session_timeout / 3) {
    flow_due_ = true;
    Pump();
  }
  bool silent, holds;
  {
    MutexLock lock(&mutex_);
    silent = Silent();
    holds = leases_.messages() > 0;
  }
  // Safety rule 5: by now the session may have ended and others may have these messages.
  if (silent && holds) LoseLeases();
  // A node that died silently breaks no connection; a broker that lives sends a keep-alive three times in this time.
  if (silent && accepted_) connector_.Leave();
  const Duration period =
      std::clamp<Duration>(options_.session_timeout / 12, std::chrono::milliseconds(50), std::chrono::seconds(1));
  core_->loop().After(period, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->Tick();
  });
}

}  // namespace trireme::client
