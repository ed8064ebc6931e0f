#include "broker/routing/distribution.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"

namespace trireme::broker {
using Kind = Verdict::Kind;

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
    switch (outcome) {
      case QueueOutcome::kStored:
        ++message.stored;
        break;
      case QueueOutcome::kDuplicate:
        ++message.duplicate;
        break;
      case QueueOutcome::kFenced:
        ++message.fenced;
        break;
      case QueueOutcome::kRefused:
        ++message.refused;
        break;
      case QueueOutcome::kGone:
        ++message.gone;
        break;
      case QueueOutcome::kUnknown:
        break;
    }
  }
  if (outcome != QueueOutcome::kStored && outcome != QueueOutcome::kDuplicate) {
    failures_.push_back({run, {queue, outcome, reason}});
  }
}

Distribution::ByMessage Distribution::FailuresByMessage() const {
  if (failures_.empty()) return {};
  ByMessage by_message(messages_.size());
  for (uint32_t f = 0; f < failures_.size(); ++f) {
    const SlotRun run = failures_[f].messages;
    for (uint32_t i = run.offset; i < run.offset + run.count; ++i) {
      const bool all_gone = messages_[i].gone == targets_[i];
      if (failures_[f].part.outcome == QueueOutcome::kGone && !all_gone) continue;
      if (by_message[i].size() < kMaxParts) by_message[i].push_back(f);
    }
  }
  return by_message;
}

Verdict Distribution::Judge(uint32_t i, absl::Span<const uint32_t> failures) const {
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
  for (uint32_t failure : failures) verdict.parts.push_back(failures_[failure].part);
  if (wanted == 0) {
    verdict.kind = Kind::kRefused;
    verdict.reason = "every queue that it was routed to was deleted meanwhile";
  } else if (has == 0 && message.fenced + message.refused == wanted) {
    // Surely nowhere.
    verdict.kind = message.fenced > 0 ? Kind::kFenced : Kind::kRefused;
    verdict.reason = verdict.parts.front().reason;
  } else {
    verdict.kind = Kind::kUnknown;
    verdict.reason = absl::StrCat(has, " of ", wanted, " queues have it; ", verdict.parts.front().queue, ": ",
                                  verdict.parts.front().reason);
  }
  return verdict;
}

std::vector<Verdict> Distribution::Verdicts() const {
  const ByMessage failures = FailuresByMessage();
  std::vector<Verdict> verdicts;
  for (uint32_t i = 0; i < messages_.size(); ++i) {
    Verdict verdict = Judge(i, failures.empty() ? absl::Span<const uint32_t>() : failures[i]);
    if (!verdicts.empty() && verdicts.back().kind == verdict.kind && verdicts.back().reason == verdict.reason &&
        verdicts.back().parts == verdict.parts) {
      ++verdicts.back().messages.count;
    } else {
      verdicts.push_back(std::move(verdict));
    }
  }
  return verdicts;
}

Verdict OneVerdict(const std::vector<Verdict>& verdicts) {
  Verdict one = verdicts.front();
  uint32_t stored = 0, unroutable = 0;
  bool same = true;
  for (const Verdict& verdict : verdicts) {
    const bool has = verdict.kind == Kind::kStored || verdict.kind == Kind::kDuplicate;
    stored += has ? verdict.messages.count : 0;
    unroutable += verdict.kind == Kind::kUnroutable ? verdict.messages.count : 0;
    same &= verdict.kind == one.kind;
  }
  one.messages = {0, verdicts.back().messages.offset + verdicts.back().messages.count};
  if (same) return one;
  one.kind = stored == one.messages.count ? Kind::kStored : Kind::kUnknown;
  if (one.kind == Kind::kUnknown) {
    one.reason = absl::StrCat("of ", one.messages.count, " messages ", stored, " are stored and ", unroutable,
                              " reach no queue; to be told one by one, publish with a producer's name");
  }
  return one;
}

}  // namespace trireme::broker
