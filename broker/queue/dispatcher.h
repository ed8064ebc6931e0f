// Who gets which message: the leader's policy over the replicated state, as facts to propose.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "broker/queue/effects.h"
#include "broker/queue/facts.h"
#include "broker/queue/machine.h"

namespace trireme::queue {

// Monotonic.
using Time = std::chrono::steady_clock::time_point;

struct DispatcherOptions {
  SubscriptionId subscription = kDefaultSubscription;
  // Settles without a wish for a receipt wait this long for company.
  std::chrono::milliseconds settle_delay{5};
  // At this many exceptions no new messages are taken (Safety rule 1).
  size_t max_exceptions = Subscription::kMaxExceptions;
  // The window of entries ahead of the cursor whose shapes are known.
  size_t ahead_entries = 1024;
  uint64_t ahead_bytes = uint64_t{4} << 20;
  // Runs and tokens in the facts of one Turn, so that its entry stays far below 256 KiB.
  size_t max_items_per_turn = 8192;
};

// What the dispatcher must know of an entry: 0 messages for one that is no batch.
struct EntryShape {
  uint64_t index = 0;
  uint32_t count = 0;
  uint64_t bytes = 0;  // of the batch
};

// How much may be outstanding (checked out, not settled). One message always fits a consumer that has none.
struct OutstandingLimits {
  uint64_t messages = 256;
  uint64_t bytes = uint64_t{16} << 20;
};

// The owner's own number for something that it asked for: comes back with the answer. Never 0.
using Ticket = uint64_t;

struct AttachRequest {
  Ticket ticket = 0;
  SessionId session;
  std::string consumer;
  uint32_t timeout_ms = 30'000;
  OutstandingLimits limits;
  // When resuming: what the client holds. Whatever else the session has checked out is delivered again.
  std::vector<Token> held;
};

struct ReceiveRequest {
  Ticket ticket = 0;
  uint32_t max_messages = 1;
  uint64_t max_bytes = 3'670'016;
  std::chrono::milliseconds lease{30'000};
  Time wait_until;
};

struct SettleRequest {
  Ticket ticket = 0;
  Disposition disposition = Disposition::kAcknowledge;
  std::vector<Token> tokens;
  // The client waits for the outcome: do not hold it back.
  bool urgent = false;
};

struct ExtendRequest {
  Ticket ticket = 0;
  std::chrono::milliseconds lease{30'000};
  std::vector<Token> tokens;
};

// ---- answers

struct AttachAnswer {
  Ticket ticket = 0;
  bool accepted = false;  // false: a later Attach of the same session came in between
  bool resumed = false;
  uint64_t epoch = 0;
};

// Messages to send: either to the stream that attached with `attach`, or as the answer to `receive`; the other is 0.
struct Delivery {
  Ticket attach = 0;
  Ticket receive = 0;
  // The client that resumed lacks them: they were checked out before.
  bool again = false;
  // Runs within one entry each; slots, checkout_index and deliveries are what goes to the client.
  std::vector<EffectRun> runs;
};

struct SettleAnswer {
  Ticket ticket = 0;
  // Parts of the request's tokens that were not current; LostLease::token counts within the request.
  std::vector<LostLease> lost;
};

// For the owner to act upon, oldest first in each list, `attached` before `deliveries`. Cleared by the owner.
struct Answers {
  std::vector<AttachAnswer> attached;
  std::vector<Delivery> deliveries;
  std::vector<SettleAnswer> settled;   // one per SettleRequest and per ExtendRequest
  std::vector<Ticket> empty_receives;  // nothing came until wait_until
  struct Ended {
    Ticket attach = 0;  // of its last stream; 0 if it had none in this term
    SessionId session;
  };
  std::vector<Ended> ended;  // sessions that are gone: closed, or timed out
  struct PurgeAnswer {
    Ticket ticket = 0;
    uint64_t messages = 0;
  };
  std::vector<PurgeAnswer> purged;

  bool empty() const {
    return attached.empty() && deliveries.empty() && settled.empty() && empty_receives.empty() && ended.empty() &&
           purged.empty();
  }
  void Clear() { *this = {}; }
};

// On the leader only, for one term: made once the first entry of the term is applied, from the applied state, and
// dropped with leadership (Safety rule 2); what it had been asked and had not answered is then unknown. Works on the
// applied state plus what it has had appended itself. Pure: time is handed in. Not thread-safe.
//
// A turn of the owner:
//   1. hand over what came in (Attach, Settle, ...); apply committed entries, each with Applied
//   2. append batches, each with PublishAppended; tell of any other entry of its own with OtherAppended
//   3. if HasUrgent() or now >= SettleDeadline(): while Turn() yields facts, append them as one entry and say
//      TurnAppended(index), or TurnDropped() if the log did not take them; stop when it yields none
//   4. act on the answers; ask WantedShapes(); sleep until NextWakeup() or the next event
// So a batch and the checkout of its messages are in one write.
class Dispatcher {
 public:
  // `machine` outlives this. Every session in its state gets one full timeout to return (Safety rule 5).
  Dispatcher(const Machine* machine, DispatcherOptions options, Time now);
  ~Dispatcher();

  // ---- the log. Every entry that this leader appends is told once, by one of these three, in the log's order.
  // A batch that is stored for sure (PublishJudge allowed it).
  void PublishAppended(uint64_t index, uint32_t count, uint64_t bytes);
  // An entry without messages that Turn did not make.
  void OtherAppended(uint64_t index);
  // What Turn yielded: appended as one entry, or refused by the log's back-pressure, so that it comes again later.
  void TurnAppended(uint64_t index);
  void TurnDropped();

  // After Machine::Apply of each entry, with its effects. Also for entries of no concern to it.
  void Applied(const Effects& effects, Time now, Answers* answers);

  // Entries whose shapes are needed, as ranges, each asked for once; bounded by the window. Read them (from the tail or
  // from disk; DecodeHeader suffices) and answer with ShapesRead.
  std::vector<EntryRange> WantedShapes();
  // `shapes` answers a prefix of `range`, entry by entry, batches and others alike; entries that no longer exist count
  // as 0 messages. The rest is asked for again.
  void ShapesRead(EntryRange range, std::span<const EntryShape> shapes);

  // ---- sessions
  // A stream opens. Returns the epoch that the session will have. Answered by AttachAnswer once committed; fences the
  // session's earlier stream from now on.
  uint64_t Attach(AttachRequest request);
  // The stream that attached with `attach` changes its limits.
  void SetLimits(Ticket attach, OutstandingLimits limits);
  // It broke: the session keeps what it holds, for its timeout.
  void StreamLost(Ticket attach, Time now);
  // It was closed by its client: the session ends, what it holds is returned.
  void StreamClosed(Ticket attach);

  // ---- single receives
  // Answered by a Delivery, or by empty_receives.
  void Receive(ReceiveRequest request);
  // The caller is gone: what it gets after all is returned at once.
  void CancelReceive(Ticket receive);

  // ---- leases
  // Tokens may come from anywhere and be anything. Answered once committed.
  void Settle(SettleRequest request, Time now);
  void Extend(ExtendRequest request);
  void Purge(Ticket ticket);

  // ---- turns
  // Whether a Turn now would yield something that somebody waits for.
  bool HasUrgent(Time now, int64_t queue_now_ms) const;
  // When the gathered settles should leave at the latest; nothing if there are none.
  std::optional<Time> SettleDeadline() const;
  // The facts to append now; valid until the next call. `queue_now_ms` is queue time, as the entry will carry it.
  std::span<const Fact> Turn(Time now, int64_t queue_now_ms, Answers* answers);
  // When to call Turn at the latest, for timeouts, leases and settles; nothing if nothing is due.
  std::optional<Time> NextWakeup(Time now, int64_t queue_now_ms) const;

  // ---- state, for status output and tests
  // Takes no new messages because there are too many exceptions (Safety rule 1).
  bool at_cap() const;
  // Messages checked out by the stream that attached with `attach`, not settled; 0 if it is not known.
  uint64_t Outstanding(Ticket attach) const;
  size_t waiting_receives() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::queue
