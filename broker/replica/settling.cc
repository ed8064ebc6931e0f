#include "broker/replica/settling.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/ops/error.h"
#include "raft/core/check.h"

namespace trireme::broker {

size_t AskedTokens::Add(const std::vector<queue::Token>& tokens, size_t from,
                        const std::shared_ptr<SettleAsker>& asker) {
  const size_t begin = tokens_.size();
  const size_t end = std::min(tokens.size(), from + (kMax - begin));
  tokens_.insert(tokens_.end(), tokens.begin() + static_cast<ptrdiff_t>(from),
                 tokens.begin() + static_cast<ptrdiff_t>(end));
  parts_.push_back({begin, tokens_.size(), asker, from, end == tokens.size()});
  return end;
}

void AskedTokens::Answer(const queue::effect::Settled& effect) {
  size_t next = 0;
  for (Part& part : parts_) {
    SettleAsker& asker = *part.asker;
    std::vector<queue::Token> lost;
    for (; next < effect.lost.size() && effect.lost[next].token < part.end; ++next) {
      const auto& l = effect.lost[next];
      if (asker.done != nullptr) {
        asker.current[part.place + l.token - part.begin] = false;
      } else {
        lost.push_back({l.slots, tokens_[l.token].checkout_index});
      }
    }
    if (asker.done != nullptr && part.last) std::exchange(asker.done, nullptr)(std::move(asker.current));
    const uint64_t receipt = part.last ? asker.receipt : 0;
    if (asker.sink != nullptr && (receipt != 0 || !lost.empty())) asker.sink->Receipt(receipt, std::move(lost));
  }
}

void AskedTokens::Fail(const absl::Status& status) {
  for (Part& part : parts_) {
    if (part.asker->done != nullptr) std::exchange(part.asker->done, nullptr)(status);
  }
}

std::deque<AskedTokens> AskedTokens::Split(const std::vector<queue::Token>& tokens, SettleAsker asker) {
  std::deque<AskedTokens> facts;
  auto shared = Share(std::move(asker), tokens.size());
  for (size_t at = 0; at < tokens.size();) at = facts.emplace_back().Add(tokens, at, shared);
  return facts;
}

std::shared_ptr<SettleAsker> AskedTokens::Share(SettleAsker asker, size_t tokens) {
  if (asker.done != nullptr) asker.current.assign(tokens, true);
  return std::make_shared<SettleAsker>(std::move(asker));
}

absl::Status Settling::Admits(const ConsumerSink* sink, size_t tokens) const {
  const auto exhausted = [](absl::string_view what, size_t waiting, size_t limit) {
    return Error(absl::StatusCode::kResourceExhausted,
                 {.reason = "SETTLEMENTS_WAIT", .limit = absl::StrCat(limit, " tokens")},
                 absl::StrCat(waiting, " tokens that ", what, " settled wait to be stored, and the limit is ", limit,
                              ": the queue does not commit now; settle what has no receipt again later"));
  };
  const auto found = waiting_of_.find(sink);
  const size_t of_stream = found == waiting_of_.end() ? 0 : found->second;
  // A first one passes, whatever its size: a request is bounded.
  if (sink != nullptr && of_stream > 0 && of_stream + tokens > limits_.per_stream)
    return exhausted("this stream", of_stream, limits_.per_stream);
  if (waiting_ > 0 && waiting_ + tokens > limits_.all) return exhausted("all clients", waiting_, limits_.all);
  return absl::OkStatus();
}

void Settling::Add(const Kind& kind, const std::vector<queue::Token>& tokens, SettleAsker asker,
                   queue::MonotonicMs now) {
  for (const queue::Token& token : tokens) messages_ += token.slots.count;
  if (!tokens.empty()) {
    waiting_ += tokens.size();
    waiting_of_[asker.sink.get()] += tokens.size();
  }
  asked_ |= asker.receipt != 0 || asker.done != nullptr;
  if (!since_) since_ = now;
  auto shared = AskedTokens::Share(std::move(asker), tokens.size());
  size_t at = 0;
  do {
    if (rounds_.empty() || rounds_.back().tokens >= kRoundTokens || rounds_.back().facts[kind].full())
      rounds_.emplace_back();
    Round& round = rounds_.back();
    const size_t next = round.facts[kind].Add(tokens, at, shared);
    round.tokens += next - at;
    at = next;
  } while (at < tokens.size());
}

bool Settling::due(queue::MonotonicMs now) const {
  return since_.has_value() && (asked_ || messages_ >= hurry_at_ || crowded() || now - *since_ >= delay_ms_);
}

std::optional<queue::MonotonicMs> Settling::due_at() const {
  // With facts under way there is a turn when they are applied.
  if (!since_ || crowded()) return std::nullopt;
  return *since_ + delay_ms_;
}

std::vector<Settling::Fact> Settling::Take() {
  std::vector<Fact> taken;
  while (!rounds_.empty() && under_way_ < kMaxUnderWay) {
    for (auto& [kind, asked] : rounds_.front().facts) {
      asked.ForEachPart([this](const ConsumerSink* sink, size_t tokens) {
        waiting_ -= tokens;
        auto of_stream = waiting_of_.find(sink);
        if (of_stream != waiting_of_.end() && (of_stream->second -= tokens) == 0) waiting_of_.erase(of_stream);
      });
      taken.push_back({kind, std::move(asked)});
      ++under_way_;
    }
    rounds_.pop_front();
  }
  if (rounds_.empty()) {
    messages_ = 0;
    asked_ = false;
    since_.reset();
  }
  return taken;
}

void Settling::Fail(const absl::Status& status) {
  for (Round& round : rounds_) {
    for (auto& [kind, tokens] : round.facts) tokens.Fail(status);
  }
  rounds_.clear();
  waiting_ = 0;
  waiting_of_.clear();
  since_.reset();
}

}  // namespace trireme::broker
