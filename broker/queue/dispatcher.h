// Decides, on the leader and for one term, which consumer of a subscription gets which message. Rebuilt from the
// machine's state.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "broker/queue/effects.h"
#include "broker/queue/facts.h"
#include "broker/queue/lookahead.h"
#include "broker/queue/machine.h"

namespace trireme::queue {

// What a consumer may have outstanding.
struct Credit {
  uint32_t messages = 0;
  uint64_t bytes = 0;
};

// Milliseconds of the caller's monotonic clock, for waits and sessions; queue time is for leases.
using MonotonicMs = int64_t;

// Messages are given out in one order: what came back first, then what waits, each in the order of positions. One that
// does not fit what a consumer may still hold is not passed over: that consumer waits.
//
// Pure: time comes in with the calls, facts go out to be appended. Decides on the machine's applied state plus what it
// has decided itself (Safety rule 2): the owner appends Plan's facts at once, and hands every applied entry's effects
// back. Not thread-safe; a group's shard owns it.
class Dispatcher {
 public:
  struct Limits {
    // Exceptions per subscription, at which it stops taking messages (Safety rule 1).
    size_t max_exceptions = 100'000;
    // What is known ahead of the cursors, over all of the queue's subscriptions; of each at least min_read_ahead
    // entries.
    size_t read_ahead = 4'096;
    size_t min_read_ahead = 64;
    uint64_t read_ahead_bytes = uint64_t{2} << 20;
    // What one consumer is given before the next one's turn, at most; less where several want what is there.
    uint32_t turn_messages = 512;
    uint64_t turn_bytes = uint64_t{256} << 10;
    // What a single receive is given, if it is more than one message: its answer must fit a stock client's 4 MiB.
    uint64_t receive_bytes = uint64_t{2} << 20;
    // What a filter has passed over is told to the state once it is so much, or so long ago.
    uint64_t skipped_messages = 1'024;
    MonotonicMs skip_delay_ms = 1'000;
    // Runs in the facts of one Decide, so that its entry stays well below 256 KiB; the rest is for the next one.
    size_t decision_runs = 8'192;
    // Producers idle for longer (queue time) are forgotten, the more so above the cap.
    int64_t producer_idle_ms = int64_t{7} * 24 * 3600 * 1000;
    // Producers that are never forgotten; null: none.
    std::function<bool(std::string_view producer)> keeps_producer = {};
    size_t max_producers = 10'000;
  };

  // `last_index`: the last entry of the log. Each session in the state gets one full timeout from `now` to come back
  // (Safety rule 5).
  Dispatcher(const Machine* machine, SubscriptionId subscription, uint64_t last_index, MonotonicMs now, Limits limits);

  SubscriptionId id() const { return id_; }

  // ---- what the log holds

  // This leader appended an entry.
  void Appended(uint64_t index, const EntryShape& shape);
  // Entries whose shapes are wanted to go on: [first, last], nothing if none are. The first one is there unless it was
  // purged meanwhile; behind it some may be gone, and end the answer. Ask again after Shapes.
  using Range = Lookahead::Range;
  std::optional<Range> Wanted();
  // The shapes of consecutive entries from `first` on.
  void Shapes(uint64_t first, const std::vector<EntryShape>& shapes);

  // ---- consumers

  // The session attached and is connected.
  void Connect(const SessionId& session, Credit credit);
  void SetCredit(const SessionId& session, Credit credit);
  // The session's stream is gone: it has its timeout to come back.
  void Disconnect(const SessionId& session, MonotonicMs now);
  // The session ends by its own wish.
  void End(const SessionId& session);

  // A single receive; delivered as `receiver`, or named in Plan::empty_handed when `until` has come.
  using ReceiverId = uint64_t;
  void Receive(ReceiverId receiver, uint32_t max_messages, MonotonicMs until, int64_t lease_ms);
  // Nothing was decided for it yet.
  bool Waits(ReceiverId receiver) const;

  // ---- decisions

  struct Plan {
    // To be appended as one entry, in order; empty if there is nothing to decide.
    std::vector<Fact> facts;
    // Receivers that waited in vain.
    std::vector<ReceiverId> empty_handed;
    // Somebody begins anew at the state's cursor, and knows nothing of what lies there.
    bool rebuilt = false;
  };
  // `queue_time_ms`: of the entry that will carry the facts. `runs`: how many they may name, of which it takes its own.
  void Decide(MonotonicMs now, int64_t queue_time_ms, size_t& runs, Plan& plan);
  // Has all that waits below `end` leave, and what is returned there, for newer messages; as far as it is known.
  // Whether anything does.
  bool LeaveBelow(Position end, Plan& plan);
  // Something left so, and that is not applied.
  bool leaving() const { return leaving_ > 0; }
  // From where on it looks for the next message that waits.
  Position next() const { return ahead_.next(); }
  // It knows nothing until it has begun anew.
  bool rebuilding() const { return rebuild_; }
  // Where what comes first of what waits, not decided, makes up `wanted`; takes what does off it.
  Position EndOf(Amount& wanted) const { return ahead_.EndOf(wanted); }
  bool LacksHead();
  // The owner appended a Purged fact in the entry at `index`. Before the next Decide.
  void Purged(uint64_t index);

  // ---- what came of it

  struct Delivery {
    SubscriptionId subscription = 0;
    SessionId session;  // empty: to `receiver`
    ReceiverId receiver = 0;
    uint64_t checkout_index = 0;
    std::vector<effect::CheckedOut::Run> runs;
  };
  // A fact of this subscription was applied, in the entry at `index`; what came of it.
  void Applied(uint64_t index, const Fact& fact, const Effect& effect, std::vector<Delivery>& deliveries);
  // And the facts of an entry gave these back.
  void CameBack(const Slots& slots);
  // All of an entry was applied.
  void AppliedEntry() { ahead_.SkipSettled(); }

  // When Decide has something to do by the clock alone. Queue time and `now` run alike.
  std::optional<MonotonicMs> NextWake(MonotonicMs now, int64_t queue_time_ms) const;

  // Its filter, or another setting, is another one now.
  void SettingsChanged() { rebuild_ = true; }
  // What is known of entries may lack what is to be known now.
  void VersionRaised() {
    rebuild_ = true;
    known_.clear();
  }
  // Something is wanted although nobody is there to whom messages could go: what may expire.
  bool Looks();
  // The subscription has as many exceptions as it may (status output).
  bool capped() const;

 private:
  struct Consumer {
    uint64_t number = 0;
    uint64_t epoch = 0;
    Credit credit;
    uint64_t outstanding = 0;        // messages, decided ones included
    uint64_t outstanding_bytes = 0;  // as far as known
    bool connected = false;
    bool ending = false;      // a Detached is on its way
    bool active = false;      // the single active consumer, and was connected as such or may have been
    MonotonicMs gone_at = 0;  // with !connected: when its timeout is over

    bool Wants() const {
      return connected && !ending && outstanding < credit.messages &&
             (outstanding == 0 || outstanding_bytes < credit.bytes);
    }
  };
  struct Receiver {
    ReceiverId id = 0;
    uint32_t max_messages = 0;
    MonotonicMs until = 0;
    int64_t lease_ms = 0;
  };
  // A checkout that was decided and not applied.
  struct Decided {
    SessionId session;
    ReceiverId receiver = 0;
  };
  void Conclude(fact::CheckedOut out, Decided decided, Plan& plan);
  void CheckedOut(uint64_t index, const fact::CheckedOut& decision, const effect::CheckedOut& effect,
                  std::vector<Delivery>& deliveries);

  void Rebuild();
  struct Share {
    uint64_t messages = 0;
    uint64_t bytes = 0;       // never more, but for
    bool one_fits = false;    // one message, whatever its size
    uint64_t turn_bytes = 0;  // no more once this is reached
  };
  bool MayServe(const Consumer& consumer) const { return consumer.Wants() && subscription().MayHold(consumer.number); }
  // Takes up to `share` into `out`; what it took.
  Credit Take(Share share, fact::CheckedOut& out);
  // Whether what is known ahead of the cursor is enough until more is read: nobody is there who would take more.
  bool KnowsEnough();
  // Whether something may be taken now. What was returned always may: it is an exception already, and at the cap only
  // giving it out again makes room.
  bool MayTake();
  // How many more the subscription's settings let be in flight.
  uint64_t MayBeInFlight() const;
  bool MayTakeReturned() const;
  bool MayTakeWaiting();
  void PutBack(Position first, const Returned& run);
  void DropReturned();
  void ForgetSizes();
  void ForgetDeadlines();
  void ExpireSessions(MonotonicMs now, Plan& plan);
  void ChooseActive(Plan& plan);
  void ExpireLeases(int64_t queue_time_ms, Plan& plan);
  void JudgeReturned(uint64_t index, const EntryShape& shape);
  void TellSkipped(MonotonicMs now, Plan& plan);
  void ReleaseDue(int64_t queue_time_ms);
  void BuryDead(Plan& plan);
  void BuryExpiredReturned(Plan& plan);
  bool BuryExpiredWaiting(Plan& plan);
  // Has the messages that wait leave for which `goes` is true of the next run, with how many of it.
  template <typename Goes>
  bool LeaveUnseen(DeadReason reason, uint64_t target, Plan& plan, Goes goes);
  bool watches() const;
  bool HeadExpired();
  // Finds out when what is returned of an entry expires next, and puts what has by now among the overdue.
  void WatchExpiry(uint64_t index);
  void ServeReceivers(MonotonicMs now, int64_t queue_time_ms, Plan& plan);
  void ServeConsumers(Plan& plan);
  void Free(uint64_t holder, uint32_t count);
  void NoteDeadlines(const std::vector<Token>& tokens);
  uint64_t NumberOf(const SessionId& session) const;
  const Subscription& subscription() const { return machine_->subscription(id_); }

  const Machine* const machine_;
  const SubscriptionId id_;
  const Limits limits_;

  // The cursor as it will be in the state when all that was decided is applied. The lookahead's is beyond it where
  // entries that publish nothing, or what a filter passes over, were left behind since: the next decision tells the
  // state.
  Position decided_next_;
  Lookahead ahead_;
  std::optional<MonotonicMs> passed_since_;  // something was passed over, and the state was not told
  std::vector<Slots> passed_returned_;       // of the returned ones, likewise
  size_t skips_under_way_ = 0;               // Skipped and DeadUnseen facts, not applied
  size_t leaving_ = 0;                       // facts that let messages leave for newer ones, likewise
  // Returned runs that were not given out again yet.
  struct Waiting {
    uint32_t count = 0;
  };
  absl::btree_map<Position, Waiting> returned_;
  uint64_t returned_messages_ = 0;
  // Entries with returned runs that are not due yet, by when they are, in queue time.
  std::set<std::pair<int64_t, uint64_t>> later_;
  // Returned runs that were delivered too often.
  std::vector<Slots> dead_;
  // Of entries that this leader has given messages of, or has looked up, for when they come back.
  struct Known {
    uint64_t bytes_each = 0;
    EntryShape shape = {};  // without what a filter picks
  };
  absl::flat_hash_map<uint64_t, Known> known_;
  // Entries with returned runs, by when the first of those expires, in queue time.
  std::set<std::pair<int64_t, uint64_t>> expiries_;
  // Returned runs that have expired.
  std::vector<Slots> overdue_;
  std::optional<int64_t> head_expires_ms_;  // the first that waits
  // Entries of returned runs for which that is not known: an earlier leader gave them.
  absl::btree_set<uint64_t> unknown_sizes_;

  absl::btree_map<SessionId, Consumer> consumers_;
  absl::flat_hash_map<uint64_t, SessionId> by_number_;
  SessionId turn_;  // who was served last
  std::list<Receiver> receivers_;
  std::list<Decided> decided_;  // (empty most of the time: a deque would keep room)
  size_t decided_runs_ = 0;     // not applied
  uint64_t decided_messages_ = 0;
  size_t runs_left_ = 0;  // of the current Decide
  bool rebuild_ = false;  // a decision was refused: start anew from the state once none is under way

  // Leases with a deadline: (deadline in queue time, first position). Those that ended otherwise are found out when
  // due.
  std::set<std::pair<int64_t, Position>> deadlines_;
  int64_t queue_time_ms_;  // as Decide was told last
};

}  // namespace trireme::queue
