#include "client/requester.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/consumer_impl.h"
#include "client/requester_impl.h"
#include "client/sync.h"

namespace trireme::client {
namespace {

constexpr std::chrono::milliseconds kTick{20};
// How long an inbox outlives a broken connection.
constexpr std::chrono::milliseconds kSession{10'000};
constexpr uint32_t kOutstanding = 10'000;

absl::Status Refused(const Confirmation& confirmation) {
  const std::string reason(confirmation.reason);
  switch (confirmation.outcome) {
    case v1::OUTCOME_UNROUTABLE:
      return absl::NotFoundError(reason);
    case v1::OUTCOME_FENCED:
      return absl::AbortedError(reason);
    default:
      return absl::FailedPreconditionError(absl::StrCat("the request was not stored: ", reason));
  }
}

}  // namespace

// ---------------------------------------------------------------- the user's side

Requester::Requester(std::shared_ptr<Core> core, std::shared_ptr<RequesterImpl> impl)
    : core_(std::move(core)), impl_(std::move(impl)) {
  impl_->Start();
}

Requester::~Requester() {
  impl_->Close();
}

void Requester::Request(v1::Message message, std::chrono::milliseconds timeout, Done done) {
  impl_->Request(std::move(message), timeout, std::move(done));
}

absl::StatusOr<v1::Message> Requester::RequestAndWait(v1::Message message, std::chrono::milliseconds timeout) {
  absl::StatusOr<v1::Message> result;
  Notification ready;
  Request(std::move(message), timeout, [&](absl::StatusOr<v1::Message> reply) {
    result = std::move(reply);
    ready.Notify();
  });
  ready.Wait();
  return result;
}

RequesterImpl::RequesterImpl(Core& core, RequesterOptions options, std::unique_ptr<Producer> producer)
    : core_(core),
      options_(std::move(options)),
      prefix_(absl::StrCat(absl::Hex(core_.RandomNumber(), absl::kZeroPad16), "-")),
      producer_(std::move(producer)),
      backoff_(core_.RandomNumber()) {}

void RequesterImpl::Start() {
  core_.loop().Post([self = shared_from_this()] { self->Tick(); });
}

void RequesterImpl::Request(v1::Message message, std::chrono::milliseconds timeout, Requester::Done done) {
  const Time deadline = DeadlineIn(timeout.count() > 0 ? timeout : options_.timeout);
  core_.loop().Post([self = shared_from_this(), message = std::move(message), deadline,
                     done = std::move(done)]() mutable { self->Ask(std::move(message), deadline, std::move(done)); });
}

RequesterImpl::Remains RequesterImpl::Close() {
  Remains remains;
  Notification closed;
  core_.loop().Post([this, &remains, &closed] {
    closed_ = true;
    while (!waiting_.empty()) Answer(waiting_.begin()->first, absl::CancelledError("the requester was closed"));
    remains.producer = std::move(producer_);
    remains.inboxes = std::move(old_inboxes_);
    if (inbox_ != nullptr) remains.inboxes.push_back(std::move(inbox_));
    closed.Notify();
  });
  closed.Wait();
  return remains;
}

// ---------------------------------------------------------------- asking

void RequesterImpl::Ask(v1::Message message, Time deadline, Requester::Done done) {
  if (closed_) return done(absl::CancelledError("the requester was closed"));
  if (!message.reply_to().empty() || !message.correlation_id().empty()) {
    return done(absl::InvalidArgumentError("a request has a reply_to or a correlation_id; the requester sets them"));
  }
  if (waiting_.size() >= options_.max_in_flight) {
    return done(absl::ResourceExhaustedError(
        absl::StrCat(waiting_.size(), " requests await their replies, which is the limit; wait for some of them")));
  }
  const std::string id = absl::StrCat(prefix_, ++last_id_);
  waiting_[id] = {deadline, std::move(done)};
  if (inbox_name_.empty()) {
    unsent_.emplace_back(id, std::move(message));
  } else {
    Send(id, std::move(message));
  }
}

void RequesterImpl::Send(const std::string& id, v1::Message message) {
  auto found = waiting_.find(id);
  if (found == waiting_.end()) return;  // its time has come
  found->second.sent = true;
  message.set_reply_to(inbox_name_);
  message.set_correlation_id(id);
  if (message.expires_at_ms() == 0) {
    const auto left = found->second.deadline - std::chrono::steady_clock::now();
    message.set_expires_at_ms(std::chrono::duration_cast<std::chrono::milliseconds>(
                                  (std::chrono::system_clock::now() + left).time_since_epoch())
                                  .count());
  }
  const auto confirmed = [weak = weak_from_this(), id](const Confirmation& confirmation) {
    if (auto self = weak.lock()) self->OnConfirm(id, confirmation);
  };
  if (absl::StatusOr<uint64_t> ticket = producer_->TryPublish(message, confirmed); !ticket.ok()) {
    Answer(id, ticket.status());
  }
}

void RequesterImpl::OnConfirm(const std::string& id, const Confirmation& confirmation) {
  auto found = waiting_.find(id);
  if (found == waiting_.end()) return;
  found->second.stored = confirmation.stored();
  // What may have been stored may be replied to.
  if (confirmation.stored() || confirmation.outcome == v1::OUTCOME_UNKNOWN) return;
  const absl::Status closed = producer_ == nullptr ? absl::OkStatus() : producer_->closed();
  Answer(id, closed.ok() ? Refused(confirmation) : closed);
}

void RequesterImpl::Answer(const std::string& id, absl::StatusOr<v1::Message> reply) {
  auto waiting = waiting_.extract(id);
  if (!waiting.empty()) waiting.mapped().done(std::move(reply));
}

// ---------------------------------------------------------------- the inbox

void RequesterImpl::OnReplies(Consumer& inbox, std::span<const Delivery> deliveries) {
  // Each is looked at once; there is nobody to give it to again.
  inbox.Acknowledge(deliveries);
  for (const Delivery& delivery : deliveries) {
    absl::StatusOr<v1::Message> reply = delivery.Decode();
    if (!reply.ok()) continue;
    const std::string id = reply->correlation_id();
    // One that is late, or nobody's, is dropped.
    Answer(id, std::move(reply));
  }
}

void RequesterImpl::OpenInbox() {
  ConsumerOptions options;
  options.temporary = true;
  options.label = "requester";
  options.session_timeout = kSession;
  options.max_outstanding_messages = kOutstanding;
  options.on_delivery = [weak = weak_from_this()](Consumer& inbox, std::span<const Delivery> deliveries) {
    if (auto self = weak.lock()) self->OnReplies(inbox, deliveries);
  };
  options.on_closed = [weak = weak_from_this()](const absl::Status& status) {
    if (auto self = weak.lock()) self->OnInboxClosed(status);
  };
  auto impl = std::make_shared<ConsumerImpl>(core_.shared_from_this(), std::move(options), core_.RandomBytes(16));
  inbox_ = std::make_unique<Consumer>(impl);
  impl->Start(*inbox_);
}

void RequesterImpl::OnInboxClosed(const absl::Status& status) {
  if (closed_) return;
  inbox_name_.clear();
  inbox_error_ = status;
  next_inbox_ = core_.loop().Now() + backoff_.Next();
  // Its destructor waits for this thread.
  old_inboxes_.push_back(std::move(inbox_));
  std::vector<std::string> lost;
  for (const auto& [id, waiting] : waiting_) {
    if (waiting.sent) lost.push_back(id);
  }
  for (const std::string& id : lost) {
    Answer(id, absl::UnavailableError(absl::StrCat(
                   "the inbox for the reply is gone, and with it the reply: ", std::string(status.message()),
                   "; whether the request was handled is not known")));
  }
}

void RequesterImpl::Tick() {
  if (closed_) return;
  const Time now = core_.loop().Now();
  if (inbox_ == nullptr && now >= next_inbox_) OpenInbox();
  if (inbox_ != nullptr && inbox_name_.empty()) {
    inbox_name_ = inbox_->queue();
    if (!inbox_name_.empty()) {
      backoff_.Reset();
      for (auto& [id, message] : std::exchange(unsent_, {})) Send(id, std::move(message));
    }
  }
  std::vector<std::string> late;
  for (const auto& [id, waiting] : waiting_) {
    if (now >= waiting.deadline) late.push_back(id);
  }
  for (const std::string& id : late) {
    const Waiting& waiting = waiting_.at(id);
    std::string why = waiting.stored ? "the request was stored, and may still be handled"
                      : waiting.sent ? "the request was perhaps not stored"
                                     : absl::StrCat("the request was not sent, for want of an inbox: ",
                                                    std::string(inbox_error_.message()));
    Answer(id, absl::DeadlineExceededError(absl::StrCat("no reply came in time; ", why)));
  }
  if (!late.empty()) std::erase_if(unsent_, [this](const auto& unsent) { return !waiting_.contains(unsent.first); });
  core_.loop().After(kTick, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->Tick();
  });
}

}  // namespace trireme::client
