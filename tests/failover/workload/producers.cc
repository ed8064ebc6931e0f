// The producers: every publish is in the history before it is made, every confirmation as it comes.
#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "tests/failover/workload/actor.h"
#include "tests/failover/workload/body.h"

namespace trireme::failover {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kOpenTime{60'000}, kFlushTime{30'000};
constexpr milliseconds kPause{200};

Stored OutcomeOf(v1::Outcome outcome) {
  switch (outcome) {
    case v1::OUTCOME_OK:
      return Stored::kStored;
    case v1::OUTCOME_DUPLICATE:
      return Stored::kDuplicate;
    case v1::OUTCOME_REFUSED:
    case v1::OUTCOME_FENCED:
      return Stored::kRefused;
    default:
      return Stored::kUnknown;
  }
}

// Common to those that use the client's Producer. Its tickets begin at 1 with each new one; ours go on.
class Publisher : public Actor {
 public:
  Publisher(const ActorSpec& spec, uint32_t worker, uint64_t seed, std::unique_ptr<client::Client> client,
            HistoryWriter& history)
      : Actor(spec, worker, seed, std::move(client), history) {
    history_.Append(ProducerMade{spec.number, spec.queue, spec.role != Role::kPlain, spec.role == Role::kProber,
                                 absl::StrCat(RoleName(spec.role), "@", spec.queue_name)});
  }

  void Run() override {
    while (!stopping()) {
      if (!Open()) continue;
      Work();
      Close();
    }
  }

 protected:
  // Publishes until stopping(), or until the producer has closed.
  virtual void Work() = 0;
  virtual void SetOptions(client::ProducerOptions&) {}
  // After the history has it.
  virtual void OnDone(uint64_t, uint32_t, Stored) {}

  std::string Body(uint64_t sequence) {
    return MakeBody({spec_.number, sequence}, Draw(spec_.min_bytes, spec_.max_bytes));
  }

  // The next `count` messages; false when the producer is closed. Waits for room.
  bool PublishNext(uint32_t count) {
    history_.Append(Publish{spec_.number, next_, count});
    for (uint32_t i = 0; i < count; ++i) {
      absl::StatusOr<uint64_t> ticket = producer_->PublishBody(Body(next_));
      if (!ticket.ok()) {
        // Nothing was taken.
        history_.Append(Published{spec_.number, next_, count - i, Stored::kRefused, 0});
        next_ += count - i;
        Remark(absl::StrCat("cannot publish: ", ticket.status().ToString()));
        return false;
      }
      ++next_;
    }
    return true;
  }

  bool open() const { return producer_->closed().ok(); }
  void Flush() { producer_->Flush(kFlushTime).IgnoreError(); }

  uint64_t next_ = 1;
  std::unique_ptr<client::Producer> producer_;

 private:
  bool Open() {
    client::ProducerOptions options;
    options.queue = spec_.queue_name;
    options.deduplicate = spec_.role != Role::kPlain;
    SetOptions(options);
    const bool named = !options.name.empty();
    // Set before the first confirm can come, which is not before the first publish.
    auto before_first = std::make_shared<uint64_t>(next_ - 1);
    options.on_confirm = [this, before_first](client::Producer&, const client::Confirmation& confirmation) {
      const uint64_t first = *before_first + confirmation.first_ticket;
      const Stored outcome = OutcomeOf(confirmation.outcome);
      history_.Append(Published{spec_.number, first, confirmation.count, outcome, confirmation.first_position});
      if (!confirmation.stored()) {
        Remark(absl::StrCat(v1::Outcome_Name(confirmation.outcome), " from ", first,
                            " on: ", std::string(confirmation.reason)));
      }
      OnDone(first, confirmation.count, outcome);
    };
    absl::StatusOr<std::unique_ptr<client::Producer>> made = client_->CreateProducer(std::move(options));
    if (!made.ok()) {
      Remark(absl::StrCat("cannot be made: ", made.status().ToString()));
      Sleep(kPause);
      return false;
    }
    producer_ = *std::move(made);
    absl::StatusOr<uint64_t> stored = producer_->WaitOpen(kOpenTime);
    if (!stored.ok()) {
      Remark(absl::StrCat("did not open: ", stored.status().ToString()));
      producer_.reset();
      Sleep(kPause);
      return false;
    }
    // Under a name of its own it goes on after the last sequence stored: what it published beyond that, it publishes
    // again.
    if (named) *before_first = (next_ = *stored + 1) - 1;
    return true;
  }

  void Close() {
    if (stopping()) Flush();
    producer_.reset();
  }
};

class Prober : public Publisher {
 public:
  using Publisher::Publisher;

 protected:
  void Work() override {
    while (!stopping() && open()) {
      {
        absl::MutexLock lock(&mutex_);
        resolved_ = false;
      }
      if (!PublishNext(1)) return;
      // However long it takes: this is what is measured.
      {
        absl::MutexLock lock(&mutex_);
        while (!resolved_ && !stopping()) done_.WaitWithTimeout(&mutex_, absl::Milliseconds(50));
      }
      Sleep(std::chrono::microseconds(1'000'000 / std::max<uint32_t>(spec_.rate, 1)));
    }
  }
  void OnDone(uint64_t, uint32_t, Stored) override {
    absl::MutexLock lock(&mutex_);
    resolved_ = true;
    done_.Signal();
  }

 private:
  absl::Mutex mutex_;
  absl::CondVar done_;
  bool resolved_ ABSL_GUARDED_BY(mutex_) = false;
};

class Paced : public Publisher {
 public:
  using Publisher::Publisher;

 protected:
  static constexpr milliseconds kTurn{20};

  void Work() override {
    const double per_turn = spec_.rate * std::chrono::duration<double>(kTurn).count();
    double due = 0;
    while (!stopping() && open()) {
      // What falls due while the producer has no room is left out.
      due = std::min(due + per_turn, 4 * per_turn + 1);
      const auto count = static_cast<uint32_t>(due);
      due -= count;
      if (count > 0 && producer_->in_flight() < kMaxInFlight && !PublishNext(count)) return;
      if (!More()) return;
      Sleep(kTurn);
    }
  }
  // Whether to go on with this producer.
  virtual bool More() { return true; }

  static constexpr uint64_t kMaxInFlight = 4'000;
};

// Without sequences a producer is told "unknown" when a connection breaks, and has to decide for itself.
class Plain : public Paced {
 public:
  using Paced::Paced;

 protected:
  void OnDone(uint64_t first, uint32_t count, Stored outcome) override {
    if (outcome != Stored::kUnknown && outcome != Stored::kRefused) return;
    absl::MutexLock lock(&mutex_);
    for (uint32_t i = 0; i < count && again_.size() < kMaxAgain; ++i) again_.push_back(first + i);
  }
  bool More() override {
    std::deque<uint64_t> again;
    {
      absl::MutexLock lock(&mutex_);
      again.swap(again_);
    }
    // By calls of their own, whose outcome belongs to the one message.
    for (uint64_t sequence : again) {
      if (stopping()) break;
      history_.Append(Publish{spec_.number, sequence, 1});
      v1::SendRequest request;
      request.set_queue(spec_.queue_name);
      request.mutable_batch()->add_messages()->set_body(Body(sequence));
      absl::StatusOr<v1::SendResponse> sent = client_->Send(request);
      Stored outcome = Stored::kUnknown;
      uint64_t position = 0;
      if (sent.ok() && sent->confirms_size() == 1) {
        outcome = OutcomeOf(sent->confirms(0).outcome());
        position = sent->confirms(0).first_position();
      }
      history_.Append(Published{spec_.number, sequence, 1, outcome, position});
      if (outcome != Stored::kStored) Remark(absl::StrCat("message ", sequence, " again: ", sent.status().ToString()));
    }
    return true;
  }

 private:
  static constexpr size_t kMaxAgain = 1'000;

  absl::Mutex mutex_;
  std::deque<uint64_t> again_ ABSL_GUARDED_BY(mutex_);
};

class Restarting : public Paced {
 public:
  using Paced::Paced;

 protected:
  void SetOptions(client::ProducerOptions& options) override {
    options.name = absl::StrCat("restarting-", spec_.number);
    until_ = std::chrono::steady_clock::now() + milliseconds(Draw(2'000, 6'000));
  }
  bool More() override { return std::chrono::steady_clock::now() < until_; }

 private:
  std::chrono::steady_clock::time_point until_;
};

class Burst : public Publisher {
 public:
  using Publisher::Publisher;

 protected:
  static constexpr uint32_t kPiece = 50;

  void Work() override {
    while (!stopping() && open()) {
      for (uint32_t sent = 0; sent < spec_.rate && !stopping(); sent += kPiece) {
        if (!PublishNext(kPiece)) return;
      }
      Flush();
      Sleep(milliseconds(Draw(1'000, 4'000)));
    }
  }
};

// Calls instead of a stream: the client tries each again by itself, under the same sequence.
class Calls : public Actor {
 public:
  Calls(const ActorSpec& spec, uint32_t worker, uint64_t seed, std::unique_ptr<client::Client> client,
        HistoryWriter& history)
      : Actor(spec, worker, seed, std::move(client), history) {
    history_.Append(
        ProducerMade{spec.number, spec.queue, true, false, absl::StrCat(RoleName(spec.role), "@", spec.queue_name)});
  }

  void Run() override {
    uint64_t next = 1;
    while (!stopping()) {
      const auto count = static_cast<uint32_t>(Draw(1, 20));
      v1::SendRequest request;
      request.set_queue(spec_.queue_name);
      request.set_producer(absl::StrCat("calls-", spec_.number));
      request.set_first_sequence(next);
      for (uint32_t i = 0; i < count; ++i) {
        request.mutable_batch()->add_messages()->set_body(
            MakeBody({spec_.number, next + i}, Draw(spec_.min_bytes, spec_.max_bytes)));
      }
      history_.Append(Publish{spec_.number, next, count});
      absl::StatusOr<v1::SendResponse> sent = client_->Send(request);
      if (!sent.ok()) {
        // Refused when it says so, unknown otherwise. Either way these sequences are not used again.
        const bool unknown = absl::IsUnavailable(sent.status()) || absl::IsDeadlineExceeded(sent.status()) ||
                             absl::IsCancelled(sent.status()) || absl::IsUnknown(sent.status());
        history_.Append(Published{spec_.number, next, count, unknown ? Stored::kUnknown : Stored::kRefused, 0});
        Remark(absl::StrCat("messages from ", next, " on: ", sent.status().ToString()));
      } else {
        for (const v1::Confirm& confirm : sent->confirms()) {
          history_.Append(Published{spec_.number, confirm.first_sequence(), confirm.count(),
                                    OutcomeOf(confirm.outcome()), confirm.first_position()});
        }
      }
      next += count;
      Sleep(std::chrono::microseconds(1'000'000 / std::max<uint32_t>(spec_.rate, 1)));
    }
  }
};

}  // namespace

std::unique_ptr<Actor> MakeProducer(const ActorSpec& spec, uint32_t worker, uint64_t seed,
                                    std::unique_ptr<client::Client> client, HistoryWriter& history) {
  switch (spec.role) {
    case Role::kProber:
      return std::make_unique<Prober>(spec, worker, seed, std::move(client), history);
    case Role::kPaced:
      return std::make_unique<Paced>(spec, worker, seed, std::move(client), history);
    case Role::kPlain:
      return std::make_unique<Plain>(spec, worker, seed, std::move(client), history);
    case Role::kBurst:
      return std::make_unique<Burst>(spec, worker, seed, std::move(client), history);
    case Role::kCalls:
      return std::make_unique<Calls>(spec, worker, seed, std::move(client), history);
    case Role::kRestarting:
      return std::make_unique<Restarting>(spec, worker, seed, std::move(client), history);
    default:
      return nullptr;
  }
}

}  // namespace trireme::failover
