// The settling half of a queue's leader: what clients settle waits for company, goes into facts of a bounded size, and
// is answered to each who asked.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/queue/dispatcher.h"
#include "broker/queue/effects.h"
#include "broker/queue/facts.h"
#include "broker/replica/sinks.h"

namespace trireme::broker {

// True per token that was current, in the order asked.
using TokensDone = absl::AnyInvocable<void(absl::StatusOr<std::vector<bool>>)>;

// Who waits for what becomes of some tokens, which may go into several facts: a stream, or a call.
struct SettleAsker {
  // Told of lost leases, and of the receipt (0 = none is asked for) once all of it is durable.
  std::shared_ptr<ConsumerSink> sink = {};
  uint64_t receipt = 0;
  TokensDone done = {};
  std::vector<bool> current = {};  // for `done`, as far as it is known
};

// The tokens of one Settled or LeaseExtended fact, and who asked for which of them.
class AskedTokens {
 public:
  // So many that a fact fits an entry of 256 KiB, however they are scattered.
  static constexpr size_t kMax = 8'192;

  const std::vector<queue::Token>& tokens() const { return tokens_; }

  // Tokens over as many facts as they take.
  static std::deque<AskedTokens> Split(const std::vector<queue::Token>& tokens, SettleAsker asker);
  static std::shared_ptr<SettleAsker> Share(SettleAsker asker, size_t tokens);

  // Takes tokens in, from tokens[from] on and as many as there is room for. Where the next ones begin.
  size_t Add(const std::vector<queue::Token>& tokens, size_t from, const std::shared_ptr<SettleAsker>& asker);
  bool asked() const { return !parts_.empty(); }
  bool full() const { return tokens_.size() >= kMax; }
  // Calls visit(sink, tokens) for each part.
  template <typename Visit>
  void ForEachPart(Visit visit) const {
    for (const Part& part : parts_) visit(part.asker->sink.get(), part.end - part.begin);
  }

  // What the fact came to; or why that is not known.
  void Answer(const queue::effect::Settled& effect);
  void Fail(const absl::Status& status);

 private:
  struct Part {
    size_t begin = 0, end = 0;  // of tokens_
    std::shared_ptr<SettleAsker> asker;
    size_t place = 0;   // of `begin` among all that it asked
    bool last = false;  // nothing of it is in a later fact
  };

  std::vector<queue::Token> tokens_;
  std::vector<Part> parts_;
};

// For one term of leadership. Shard-owned.
class Settling {
 public:
  // Facts that are appended and not applied. What exceeds them waits, so that no flood of settlements uses up the room
  // that the log keeps for facts (Safety rule 19).
  static constexpr size_t kMaxUnderWay = 16;

  // Tokens that wait while nothing is committed. Who settles what it holds, and that once, stays far below.
  struct Limits {
    size_t per_stream = 200'000;
    size_t all = 2'000'000;
  };

  // `delay`: how long a settlement may wait for company.
  explicit Settling(std::chrono::milliseconds delay) : Settling(delay, Limits()) {}
  Settling(std::chrono::milliseconds delay, Limits limits) : delay_ms_(delay.count()), limits_(limits) {}

  // Whether so many tokens of this stream (null: of a call) may be added. RESOURCE_EXHAUSTED: too many wait already.
  absl::Status Admits(const ConsumerSink* sink, size_t tokens) const;

  static constexpr int64_t kAsSet = -1;
  // What goes into one fact.
  struct Kind {
    queue::SubscriptionId subscription = 0;
    queue::Disposition disposition = queue::Disposition::kAcknowledge;
    // With kRequeue: how long it stays away; kAsSet: as the subscription is set.
    int64_t delay_ms = kAsSet;
    // With kRedrive: the group of the queue that it goes to.
    uint64_t target = 0;
    auto operator<=>(const Kind&) const = default;
  };
  // Puts tokens in line. With none, the asker hears when all that was settled before is durable.
  void Add(const Kind& kind, const std::vector<queue::Token>& tokens, SettleAsker asker, queue::MonotonicMs now);
  // From so many messages on they go at once: a consumer whose credit runs out is not kept waiting.
  void HurryAt(uint64_t messages) { hurry_at_ = messages; }

  // They have waited long enough to go by themselves.
  bool due(queue::MonotonicMs now) const;
  std::optional<queue::MonotonicMs> due_at() const;
  // More waits than may go now. It goes before anything else is decided: what a session settled precedes its end.
  bool crowded() const { return !rounds_.empty() && (rounds_.size() > 1 || under_way_ >= kMaxUnderWay); }

  struct Fact {
    Kind kind;
    AskedTokens tokens;
  };
  // What may go now.
  std::vector<Fact> Take();
  // One that was taken was applied.
  void Applied() { --under_way_; }
  // What waits will not be appended.
  void Fail(const absl::Status& status);

 private:
  // What goes together: a fact of each kind, and not many more tokens than go into a few.
  struct Round {
    absl::btree_map<Kind, AskedTokens> facts;
    size_t tokens = 0;
  };
  static constexpr size_t kRoundTokens = 4 * AskedTokens::kMax;

  const int64_t delay_ms_;
  const Limits limits_;
  std::list<Round> rounds_;
  // In rounds_.
  size_t waiting_ = 0;
  absl::flat_hash_map<const ConsumerSink*, size_t> waiting_of_;
  uint64_t messages_ = 0;                    // that came since the last Take
  bool asked_ = false;                       // somebody waits for an answer
  std::optional<queue::MonotonicMs> since_;  // when the first that waits came
  uint64_t hurry_at_ = 1;
  size_t under_way_ = 0;
};

}  // namespace trireme::broker
