#include "client/connector.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trireme/v1/cluster.pb.h"

namespace trireme::client {
namespace {

constexpr std::chrono::milliseconds kResolveTimeout{3'000};
constexpr std::chrono::milliseconds kPingTimeout{1'000};
// A stream that lasted for so long was a good one: after it the pauses start short again.
constexpr std::chrono::milliseconds kSettledStream{500};

// Who leads a queue, as one node knows.
CallOptions AskOnce(const std::string& server) {
  CallOptions options;
  options.method = "/trireme.v1.Broker/Resolve";
  options.server = server;
  options.only_there = true;
  options.repeatable = false;
  options.timeout = kResolveTimeout;
  return options;
}

}  // namespace

Connector::Connector(Core& core, std::string queue, std::string method, Owner& owner)
    : core_(core), queue_(std::move(queue)), method_(std::move(method)), owner_(owner), backoff_(core.RandomNumber()) {}

void Connector::Connect() {
  Find();
}

void Connector::Close() {
  closed_ = true;
  attempt_ = std::make_shared<int>(0);
  question_ = nullptr;
  if (stream_ != nullptr) std::exchange(stream_, nullptr)->Abandon();
}

std::string Connector::server() const {
  MutexLock lock(&mutex_);
  return server_;
}

uint64_t Connector::reconnects() const {
  MutexLock lock(&mutex_);
  return opened_ == 0 ? 0 : opened_ - 1;
}

absl::Status Connector::NotOpened(std::chrono::milliseconds timeout) const {
  MutexLock lock(&mutex_);
  return WithFacts(absl::StatusCode::kDeadlineExceeded,
                   absl::StrCat(queue_.empty() ? "the exchange" : absl::StrCat("queue ", queue_),
                                " was not opened within ", timeout.count(), " ms; ",
                                last_error_.ok() ? "no node answered" : std::string(last_error_.message())),
                   last_error_);
}

void Connector::Note(const std::string& server, const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (SaidByBroker(last_error_) && !SaidByBroker(status)) return;
  last_error_ = WithFacts(status.code(), absl::StrCat(server, ": ", std::string(status.message())), status);
}

void Connector::Again(bool pause) {
  if (closed_) return;
  const bool had_stream = stream_ != nullptr;
  if (had_stream) std::exchange(stream_, nullptr)->Abandon();
  {
    MutexLock lock(&mutex_);
    server_.clear();
  }
  if (accepted_ && core_.loop().Now() - accepted_at_ >= kSettledStream) backoff_.Reset();
  accepted_ = false;
  started_ = false;
  attempt_ = std::make_shared<int>(0);
  question_ = nullptr;
  watching_ = false;
  if (had_stream) owner_.OnLost();
  if (closed_) return;
  // A redirection is followed at once, but not when they go round in circles.
  Duration delay = backoff_.Next();
  if (!pause && backoff_.tries() <= 2) delay = Duration::zero();
  core_.loop().After(delay, [this, attempt = std::weak_ptr<int>(attempt_)] {
    if (!attempt.expired()) Find();
  });
}

void Connector::Find() {
  const Time now = core_.loop().Now();
  std::string hint = std::exchange(hint_, "");
  if (!hint.empty() && !core_.servers().Avoided(hint, now)) return OpenAt(hint);
  if (queue_.empty()) return OpenAt(core_.servers().Next(last_server_, now));
  question_ = std::make_shared<int>(0);
  asked_.clear();
  Ask(core_.servers().Next(last_server_, now));
  AskAnotherLater();
}

void Connector::Ask(const std::string& server) {
  asked_.push_back(server);
  v1::ResolveRequest request;
  request.set_queue(queue_);
  const CallOptions options = AskOnce(server);
  core_.Call<v1::ResolveResponse>(options, request,
                                  [this, server, question = std::weak_ptr<int>(question_)](
                                      absl::StatusOr<v1::ResolveResponse> response, const CallAnswer&) {
                                    if (question.expired()) return;
                                    std::erase(asked_, server);
                                    if (response.ok()) {
                                      const std::string& leader = response->leader().address();
                                      const bool reachable =
                                          !leader.empty() && !core_.servers().Avoided(leader, core_.loop().Now());
                                      core_.servers().Learn(leader);
                                      question_ = nullptr;
                                      return OpenAt(reachable ? leader : server);
                                    }
                                    if (Final(response.status().code())) return GiveUp(response.status());
                                    Note(server, response.status());
                                    last_server_ = server;
                                    if (asked_.empty()) Again(true);
                                  });
}

void Connector::AskAnotherLater() {
  core_.loop().After(kAskAnother, [this, question = std::weak_ptr<int>(question_)] {
    if (question.expired()) return;
    const std::string other = core_.servers().Next(asked_.front(), core_.loop().Now());
    if (std::find(asked_.begin(), asked_.end(), other) == asked_.end()) Ask(other);
    AskAnotherLater();
  });
}

void Connector::OpenAt(const std::string& address) {
  started_ = false;
  accepted_ = false;
  leader_.clear();
  last_server_ = address;
  {
    MutexLock lock(&mutex_);
    server_ = address;
    ++opened_;
  }
  stream_ = Stream::Open(core_.loop(), core_.ChannelTo(address), method_, this);
  core_.loop().After(kOpening, [this, address, attempt = std::weak_ptr<int>(attempt_)] {
    if (attempt.expired() || accepted_) return;
    core_.servers().Failed(address, core_.loop().Now());
    Note(address, absl::UnavailableError("does not answer"));
    Again(true);
  });
}

bool Connector::Accepted(const v1::Leader& leader) {
  accepted_ = true;
  ever_accepted_ = true;
  accepted_at_ = core_.loop().Now();
  {
    MutexLock lock(&mutex_);
    last_error_ = absl::OkStatus();
  }
  leader_ = leader.address();
  look_after_ = awaiting_ ? kSilence : kLongSilence;
  core_.servers().Answered(last_server_);
  const bool elsewhere = !leader_.empty() && leader_ != last_server_;
  if (elsewhere && !core_.servers().Avoided(leader_, core_.loop().Now())) {
    Follow(leader);
    return false;
  }
  Watch();
  return true;
}

void Connector::Follow(const v1::Leader& leader) {
  hint_ = leader.address();
  core_.servers().Learn(hint_);
  Again(hint_.empty());
}

void Connector::Leave() {
  core_.servers().Failed(last_server_, core_.loop().Now());
  Again(true);
}

void Connector::GiveUp(const absl::Status& status) {
  Close();
  owner_.OnGivenUp(status);
}

bool Connector::Final(absl::StatusCode code) const {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kUnimplemented:
      return true;
    // A node that is not part of a cluster says so; later on, it may be one that has just been restarted.
    case absl::StatusCode::kFailedPrecondition:
      return !ever_accepted_;
    default:
      return false;
  }
}

void Connector::OnWritable() {
  if (!std::exchange(started_, true)) return owner_.OnStarted();
  owner_.OnWritable();
}

void Connector::OnFrame(grpc::ByteBuffer& frame) {
  last_frame_ = core_.loop().Now();
  look_after_ = awaiting_ ? kSilence : kLongSilence;
  owner_.OnFrame(frame);
}

void Connector::OnClosed(const grpc::Status& status) {
  const absl::Status reason = ToStatus(status);
  Note(last_server_, reason);
  if (Final(reason.code())) {
    stream_ = nullptr;
    owner_.OnLost();
    if (!closed_) GiveUp(reason);
    return;
  }
  if (absl::IsUnavailable(reason)) core_.servers().Failed(last_server_, core_.loop().Now());
  Again(true);
}

void Connector::SetAwaiting(bool awaiting) {
  if (awaiting == awaiting_) return;
  awaiting_ = awaiting;
  awaiting_since_ = core_.loop().Now();
  look_after_ = awaiting ? kSilence : kLongSilence;
  if (accepted_) Watch();
}

Time Connector::SilentSince() const {
  const Time opened_or_heard = std::max(last_frame_, accepted_at_);
  return awaiting_ ? std::max(opened_or_heard, awaiting_since_) : opened_or_heard;
}

void Connector::Watch() {
  const Time due = SilentSince() + look_after_;
  // The timer that is set looks again.
  if (watching_ && watch_due_ <= due) return;
  watching_ = true;
  watch_due_ = due;
  core_.loop().After(std::max<Duration>(due - core_.loop().Now(), std::chrono::milliseconds(1)),
                     [this, due, attempt = std::weak_ptr<int>(attempt_)] {
                       if (attempt.expired() || due != watch_due_) return;
                       watching_ = false;
                       const Duration silent = core_.loop().Now() - SilentSince();
                       if (awaiting_ && silent >= kGiveUp) return Leave();
                       if (silent >= look_after_) {
                         look_after_ *= 2;
                         LookInto();
                       }
                       Watch();
                     });
}

void Connector::Ping() {
  CallOptions options = AskOnce(last_server_);
  options.method = "/trireme.v1.Cluster/Status";
  options.timeout = kPingTimeout;
  core_.Call<v1::StatusResponse>(
      options, v1::StatusRequest(),
      [this, asked_at = core_.loop().Now(), attempt = std::weak_ptr<int>(attempt_)](
          const absl::StatusOr<v1::StatusResponse>& response, const CallAnswer&) {
        if (attempt.expired() || !accepted_ || last_frame_ > asked_at) return;
        if (absl::IsDeadlineExceeded(response.status()) || absl::IsUnavailable(response.status())) Leave();
      });
}

void Connector::LookInto() {
  if (queue_.empty()) return Ping();
  const std::string other = core_.servers().Next(last_server_, core_.loop().Now());
  if (other == last_server_) return;
  v1::ResolveRequest request;
  request.set_queue(queue_);
  const CallOptions options = AskOnce(other);
  core_.Call<v1::ResolveResponse>(
      options, request,
      [this, asked_at = core_.loop().Now(), attempt = std::weak_ptr<int>(attempt_)](
          absl::StatusOr<v1::ResolveResponse> response, const CallAnswer&) {
        if (attempt.expired() || !accepted_ || !response.ok()) return;
        const std::string& leader = response->leader().address();
        // The node has spoken meanwhile, or another one knows nothing better.
        if (last_frame_ > asked_at || leader.empty() || leader == leader_ || leader == last_server_) return;
        core_.servers().Failed(last_server_, core_.loop().Now());
        Follow(response->leader());
      });
}

}  // namespace trireme::client
