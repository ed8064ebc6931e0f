#include "broker/routing/distribution.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"

namespace trireme::broker {
namespace {

using Kind = Verdict::Kind;

bool Covers(SlotRun run, uint32_t message) {
  return message >= run.offset && message - run.offset < run.count;
}

}  // namespace

Distribution::Distribution(std::vector<uint32_t> targets, bool mandatory)
    : mandatory_(mandatory), messages_(targets.size()), targets_(std::move(targets)) {
  for (size_t i = 0; i < targets_.size(); ++i) {
    messages_[i].owed = targets_[i];
    owed_ += targets_[i];
  }
}

void Distribution::Settle(SlotRun run, const std::string& queue, QueueOutcome outcome, const std::string& reason) {
  for (uint32_t i = run.offset; i < run.offset + run.count; ++i) {
    Message& message = messages_[i];
    TRIREME_CHECK(message.owed > 0) << "message " << i << " of a batch is answered for once too often, by " << queue;
    --message.owed;
    --owed_;
    if (outcome == QueueOutcome::kStored) ++message.stored;
    if (outcome == QueueOutcome::kDuplicate) ++message.duplicate;
    if (outcome == QueueOutcome::kGone) ++message.gone;
  }
  if (outcome != QueueOutcome::kStored && outcome != QueueOutcome::kDuplicate) {
    failures_.push_back({run, {queue, outcome, reason}});
  }
}

Verdict Distribution::Judge(uint32_t i) const {
  const Message& message = messages_[i];
  Verdict verdict{.messages = {i, 1}, .kind = Kind::kStored, .reason = {}, .parts = {}};
  if (targets_[i] == 0) {
    if (mandatory_) {
      verdict.kind = Kind::kUnroutable;
      verdict.reason = "no queue is bound for it";
    }
    return verdict;
  }
  const uint32_t wanted = targets_[i] - message.gone, has = message.stored + message.duplicate;
  if (has == wanted && wanted > 0) {
    verdict.kind = message.stored > 0 ? Kind::kStored : Kind::kDuplicate;
    return verdict;
  }
  uint32_t fenced = 0, refused = 0;
  for (const Failure& failure : failures_) {
    if (!Covers(failure.messages, i) || (failure.part.outcome == QueueOutcome::kGone && wanted > 0)) continue;
    fenced += failure.part.outcome == QueueOutcome::kFenced ? 1 : 0;
    refused += failure.part.outcome == QueueOutcome::kRefused ? 1 : 0;
    if (verdict.parts.size() < kMaxParts) verdict.parts.push_back(failure.part);
  }
  if (wanted == 0) {
    verdict.kind = Kind::kRefused;
    verdict.reason = "every queue that it was routed to was deleted meanwhile";
  } else if (has == 0 && fenced + refused == wanted) {
    // Surely nowhere.
    verdict.kind = fenced > 0 ? Kind::kFenced : Kind::kRefused;
    verdict.reason = verdict.parts.front().reason;
  } else {
    verdict.kind = Kind::kUnknown;
    verdict.reason = absl::StrCat(has, " of ", wanted, " queues have it; ", verdict.parts.front().queue, ": ",
                                  verdict.parts.front().reason);
  }
  return verdict;
}

std::vector<Verdict> Distribution::Verdicts() const {
  std::vector<Verdict> verdicts;
  for (uint32_t i = 0; i < messages_.size(); ++i) {
    Verdict verdict = Judge(i);
    if (!verdicts.empty() && verdicts.back().kind == verdict.kind && verdicts.back().reason == verdict.reason &&
        verdicts.back().parts == verdict.parts) {
      ++verdicts.back().messages.count;
    } else {
      verdicts.push_back(std::move(verdict));
    }
  }
  return verdicts;
}

}  // namespace trireme::broker
