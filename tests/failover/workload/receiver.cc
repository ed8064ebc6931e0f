#include "tests/failover/workload/receiver.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/failover/workload/body.h"

namespace trireme::failover {
namespace {

using std::chrono::milliseconds;

// Late enough that another may have the message.
constexpr uint64_t kLateUs = 1'500'000;
constexpr size_t kMaxLate = 100;

// Names the opaque token in the history.
uint64_t Digest(const std::string& token) {
  uint64_t hash = 14695981039346656037ull;
  for (char c : token) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

Settling OutcomeOf(v1::Outcome outcome) {
  switch (outcome) {
    case v1::OUTCOME_OK:
      return Settling::kOk;
    case v1::OUTCOME_LEASE_LOST:
      return Settling::kLost;
    default:
      return Settling::kUnknown;
  }
}

}  // namespace

Receiver::Receiver(const ActorSpec& spec, uint32_t worker, uint64_t seed, std::unique_ptr<client::Client> client,
                   HistoryWriter& history)
    : Actor(spec, worker, seed, std::move(client), history) {
  history_.Append(
      ConsumerMade{spec.number, spec.queue, worker, 0, absl::StrCat(RoleName(spec.role), "@", spec.queue_name)});
}

void Receiver::Run() {
  while (!stopping()) {
    Receive();
    SettleLate();
  }
  history_.Append(ConsumerGone{spec_.number});
}

void Receiver::Receive() {
  v1::ReceiveRequest request;
  request.set_queue(spec_.queue_name);
  request.set_max_messages(static_cast<uint32_t>(Draw(1, 20)));
  request.set_wait_ms(500);
  request.set_lease_ms(spec_.lease_ms);
  // The lease cannot have begun before this, whichever try it is of.
  const uint64_t until_us = history_.NowUs() + uint64_t{spec_.lease_ms} * 1'000;
  absl::StatusOr<v1::ReceiveResponse> received = client_->Receive(request);
  if (!received.ok()) {
    Remark(absl::StrCat("cannot receive: ", received.status().ToString()));
    Sleep(milliseconds(100));
    return;
  }
  // An answer that comes so late is of leases that may have ended, and is not taken: this process has been paused, or
  // the network has kept it.
  if (received->messages().empty() || history_.NowUs() >= until_us) return;
  std::vector<Event> events;
  std::vector<Held> held;
  for (const v1::ReceivedMessage& message : received->messages()) {
    const absl::StatusOr<BodyName> name = ReadBody(message.message().body());
    if (!name.ok()) {
      events.push_back(Corrupt{spec_.number, message.position(), std::string(name.status().message())});
      continue;
    }
    events.push_back(Delivered{spec_.number, message.position(), Digest(message.token()), 1, message.deliveries(),
                               name->producer, name->sequence, until_us});
    held.push_back({message.token(), message.position(), until_us});
  }
  history_.Append(events);
  Sleep(milliseconds(Draw(1, 30)));
  for (Held& one : held) {
    if (history_.NowUs() >= one.until_us) continue;
    const double lot = std::uniform_real_distribution<>()(chance_);
    if (lot < 0.02 && late_.size() < kMaxLate) {
      late_.push_back(std::move(one));
      continue;
    }
    if (lot < 0.1) Extend(one);
    Settle(one, lot < 0.15   ? v1::DISPOSITION_REQUEUE
                : lot > 0.98 ? v1::DISPOSITION_REJECT
                             : v1::DISPOSITION_ACKNOWLEDGE);
  }
}

void Receiver::Settle(const Held& held, v1::Disposition disposition) {
  const Disposition meaning = disposition == v1::DISPOSITION_ACKNOWLEDGE ? Disposition::kAcknowledge
                              : disposition == v1::DISPOSITION_REQUEUE   ? Disposition::kRequeue
                                                                         : Disposition::kReject;
  v1::SettleRequest request;
  request.set_queue(spec_.queue_name);
  request.add_tokens(held.token);
  request.set_disposition(disposition);
  history_.Append(failover::Settle{spec_.number, ++serial_, meaning, held.position, Digest(held.token), 1});
  absl::StatusOr<v1::SettleResponse> settled = client_->Settle(request);
  const bool answered = settled.ok() && settled->outcomes_size() == 1;
  history_.Append(
      Settled{spec_.number, serial_, answered ? OutcomeOf(settled->outcomes(0)) : Settling::kUnknown, false});
  if (!settled.ok()) Remark(absl::StrCat("cannot settle: ", settled.status().ToString()));
}

void Receiver::Extend(Held& held) {
  v1::ExtendRequest request;
  request.set_queue(spec_.queue_name);
  request.add_tokens(held.token);
  request.set_lease_ms(spec_.lease_ms);
  const uint64_t until_us = history_.NowUs() + uint64_t{spec_.lease_ms} * 1'000;
  absl::StatusOr<v1::ExtendResponse> extended = client_->Extend(request);
  if (!extended.ok() || extended->outcomes_size() != 1 || extended->outcomes(0) != v1::OUTCOME_OK) return;
  held.until_us = until_us;
  history_.Append(Extended{spec_.number, held.position, Digest(held.token), until_us});
}

void Receiver::SettleLate() {
  while (!late_.empty() && late_.front().until_us + kLateUs < history_.NowUs() && !stopping()) {
    Settle(late_.front(), v1::DISPOSITION_ACKNOWLEDGE);
    late_.pop_front();
  }
}

}  // namespace trireme::failover
