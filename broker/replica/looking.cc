#include "broker/replica/looking.h"

#include <algorithm>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "broker/queue/batch.h"
#include "broker/queue/entry.h"
#include "broker/queue/schedule.h"
#include "raft/core/checksum.h"

namespace trireme::broker {
namespace {

using queue::Position;

constexpr size_t kReadBytes = size_t{1} << 20;
// Of entries that a page looks through: one where all has a filter's or a cursor's gap ends there, and is gone on with.
constexpr int kMaxReads = 32;
// Checkouts whose times a page of leases looks up.
constexpr size_t kMaxTimes = 256;

absl::Status NoSubscription() {
  return absl::NotFoundError("there is no such subscription");
}

const queue::Subscription* Find(const queue::Machine& machine, queue::SubscriptionId id) {
  auto found = machine.subscriptions().find(id);
  return found == machine.subscriptions().end() ? nullptr : &found->second;
}

// The first entry at or above `index` that may hold a message that someone will want; 0 = none.
uint64_t NextLive(const queue::Machine::Liveness& live, uint64_t index, uint64_t applied) {
  if (index <= live.floor) {
    for (const queue::EntryRange& range : live.live) {
      if (range.last >= index) return std::max(range.first, index);
    }
    index = live.floor + 1;
  }
  return index <= applied ? index : 0;
}

// The last entry of the live run that `index` is in.
uint64_t LastLive(const queue::Machine::Liveness& live, uint64_t index, uint64_t applied) {
  for (const queue::EntryRange& range : live.live) {
    if (range.first <= index && index <= range.last) return range.last;
  }
  return applied;
}

// One page of Browse: entry by entry from disk, judged by the state at the time that each was read.
class Browsing : public std::enable_shared_from_this<Browsing> {
 public:
  Browsing(QueueReplica* replica, BrowseWanted wanted, Looked<BrowsedPage> done)
      : replica_(replica), alive_(replica->alive()), wanted_(wanted), at_(wanted.from), done_(std::move(done)) {}

  void Go() {
    const queue::Machine& machine = replica_->machine();
    if (Find(machine, wanted_.subscription) == nullptr) return done_(NoSubscription());
    page_.at_index = machine.applied();
    const queue::Machine::Liveness live = machine.Live();
    const uint64_t index = NextLive(live, std::max<uint64_t>(at_.index(), 1), machine.applied());
    if (index == 0) return Done(std::nullopt);
    if (index > at_.index()) at_ = Position(index, 0);
    if (reads_++ == kMaxReads) return Done(at_);
    replica_->group()->ReadEntries(raft::Index(index), raft::Index(LastLive(live, index, machine.applied())),
                                   kReadBytes,
                                   [self = shared_from_this()](absl::StatusOr<std::vector<raft::Entry>> entries) {
                                     self->Read(std::move(entries));
                                   });
  }

 private:
  void Read(const absl::StatusOr<std::vector<raft::Entry>>& entries) {
    if (alive_.expired()) return done_(QueueReplica::MovedError());
    if (!entries.ok()) {
      // Settled and compacted meanwhile, it is looked for behind that.
      const uint64_t live = NextLive(replica_->machine().Live(), at_.index(), replica_->machine().applied());
      if (live == at_.index()) return done_(entries.status());
      return Go();
    }
    for (const raft::Entry& entry : *entries) {
      if (absl::Status bad = Take(entry); !bad.ok()) return done_(bad);
      if (full_) return Done(at_);
      at_ = Position(entry.index.value() + 1, 0);
    }
    if (entries->empty()) return Done(std::nullopt);
    Go();
  }

  absl::Status Take(const raft::Entry& entry) {
    const uint64_t index = entry.index.value();
    const queue::Machine& machine = replica_->machine();
    const queue::Subscription* subscription = Find(machine, wanted_.subscription);
    if (subscription == nullptr) return NoSubscription();
    if (entry.type != raft::EntryType::kCommand || machine.IsRefused(index)) return absl::OkStatus();
    absl::StatusOr<queue::PublishedView> view = queue::DecodePublished(entry.data);
    if (absl::IsNotFound(view.status())) return absl::OkStatus();
    if (!view.ok()) return view.status();
    uint32_t slot = 0;
    for (queue::BatchWalker walker(view->batch.view()); walker.Next(); ++slot) {
      const Position position(index, slot);
      if (position < at_) continue;
      const MessageStand stand = StandOf(*subscription, position);
      if (stand.state == MessageStand::State::kSettled) continue;
      if (wanted_.filter != nullptr && !wanted_.filter->Matches(walker.message())) continue;
      bytes_ += walker.message().size();
      full_ = page_.messages.size() >= wanted_.max_messages || (bytes_ > wanted_.max_bytes && !page_.messages.empty());
      if (full_) {
        at_ = position;
        return absl::OkStatus();
      }
      // Safety rule 17.
      absl::StatusOr<raft::Bytes> checked = queue::CheckedMessages(*view, slot, 1);
      if (!checked.ok()) return checked.status();
      page_.messages.push_back({.position = position,
                                .published_ms = view->time_ms,
                                .stand = stand,
                                .holder = NameOfHolder(*subscription, stand.holder),
                                .message = raft::Bytes::Copy(walker.message())});
    }
    return absl::OkStatus();
  }

  void Done(std::optional<Position> next) {
    page_.next = next;
    done_(std::move(page_));
  }

  QueueReplica* const replica_;
  const std::weak_ptr<void> alive_;
  const BrowseWanted wanted_;
  Position at_;
  Looked<BrowsedPage> done_;
  BrowsedPage page_;
  size_t bytes_ = 0;
  int reads_ = 0;
  bool full_ = false;
};

absl::Status NothingThere(Position position, absl::string_view what) {
  return absl::OutOfRangeError(
      absl::StrCat("no message was ever at position ", position.index(), ":", position.slot(), ": ", what));
}

absl::StatusOr<Explanation> ExplainEntry(const queue::Machine& machine, const queue::Subscription& subscription,
                                         Position position, const raft::Entry* entry) {
  Explanation explained;
  explained.at_index = machine.applied();
  explained.stand = StandOf(subscription, position);
  explained.holder = NameOfHolder(subscription, explained.stand.holder);
  if (entry == nullptr) {
    if (explained.stand.state == MessageStand::State::kSettled) return explained;
    return absl::DataLossError("an entry that is alive is not in the log");
  }
  absl::StatusOr<queue::PublishedView> view = entry->type == raft::EntryType::kCommand
                                                  ? queue::DecodeStored(entry->data)
                                                  : absl::NotFoundError("a no-op of consensus");
  if (absl::IsNotFound(view.status()) || machine.IsRefused(position.index())) {
    return NothingThere(position, "that log entry publishes nothing; `trireme queue browse` lists positions");
  }
  if (!view.ok()) return view.status();
  if (position.slot() >= view->count) {
    return NothingThere(position,
                        absl::StrCat("that log entry has ", view->count, " messages, slots 0 to ", view->count - 1));
  }
  if (view->parked()) explained.stand = {.state = MessageStand::State::kUnscheduled};
  explained.term = entry->term.value();
  explained.published_ms = view->time_ms;
  explained.producer = std::string(view->producer);
  explained.epoch = view->epoch;
  explained.sequence = view->producer.empty() ? 0 : view->first_sequence + position.slot();
  explained.batch_messages = view->count;
  absl::StatusOr<raft::Bytes> message = queue::CheckedMessages(*view, static_cast<uint32_t>(position.slot()), 1);
  if (!message.ok()) return message.status();
  queue::BatchWalker walker(message->view());
  walker.Next();
  explained.message = raft::Bytes::Copy(walker.message());
  return explained;
}

// The times of checkouts, from their entries as far as the log holds them.
class TimeLookup : public std::enable_shared_from_this<TimeLookup> {
 public:
  TimeLookup(QueueReplica* replica, LeasesPage page, Looked<LeasesPage> done)
      : replica_(replica), alive_(replica->alive()), page_(std::move(page)), done_(std::move(done)) {
    for (const Lease& lease : page_.leases) {
      if (times_.size() < kMaxTimes) times_.try_emplace(lease.run.checkout_index, 0);
    }
    next_ = times_.begin();
  }

  void Go() {
    for (; next_ != times_.end(); ++next_) {
      if (const raft::Entry* entry = replica_->group()->TailEntry(raft::Index(next_->first))) {
        next_->second = TimeOf(*entry);
        continue;
      }
      replica_->group()->ReadEntries(raft::Index(next_->first), raft::Index(next_->first), kReadBytes,
                                     [self = shared_from_this()](absl::StatusOr<std::vector<raft::Entry>> entries) {
                                       self->Read(std::move(entries));
                                     });
      return;
    }
    for (Lease& lease : page_.leases) {
      if (auto time = times_.find(lease.run.checkout_index); time != times_.end()) lease.since_ms = time->second;
    }
    done_(std::move(page_));
  }

 private:
  static int64_t TimeOf(const raft::Entry& entry) {
    if (entry.type != raft::EntryType::kCommand) return 0;
    absl::StatusOr<queue::DecodedEntry> decoded = queue::DecodeEntry(entry.data);
    return decoded.ok() ? decoded->time_ms : 0;
  }
  void Read(const absl::StatusOr<std::vector<raft::Entry>>& entries) {
    if (alive_.expired()) return done_(QueueReplica::MovedError());
    const bool there = entries.ok() && !entries->empty() && entries->front().index.value() == next_->first;
    if (there) next_->second = TimeOf(entries->front());
    ++next_;
    Go();
  }

  QueueReplica* const replica_;
  const std::weak_ptr<void> alive_;
  LeasesPage page_;
  Looked<LeasesPage> done_;
  absl::btree_map<uint64_t, int64_t> times_;
  absl::btree_map<uint64_t, int64_t>::iterator next_;
};

// Of a message that is stored for later; nothing: it is not.
using Scheduled = std::optional<BrowsedMessage>;

absl::StatusOr<BrowsedMessage> ScheduledOf(const raft::IndexRow& row) {
  const std::optional<queue::ScheduleKey> key = queue::ParseDueRowKey(row.key);
  const std::optional<queue::ScheduledMessage> message = queue::DecodeDueRow(row.value);
  // Safety rule 17.
  if (!key || !message || raft::Crc32c(message->message) != message->checksum)
    return absl::DataLossError("the index row of a message for later is damaged");
  return BrowsedMessage{.position = key->position,
                        .published_ms = message->published_ms,
                        .stand = {.state = MessageStand::State::kScheduled, .due_ms = key->due_ms},
                        .holder = {},
                        .message = raft::Bytes::Copy(message->message)};
}

void FindScheduled(QueueReplica& replica, Position position, Looked<Scheduled> done) {
  const std::string at = queue::PositionRowKey(position);
  replica.group()->ScanRows(
      at, raft::KeyBehind(at), 1,
      [&replica, position, alive = replica.alive(),
       done = std::move(done)](absl::StatusOr<raft::RowPage> page) mutable {
        if (alive.expired()) return done(QueueReplica::MovedError());
        if (!page.ok()) return done(page.status());
        if (page->rows.empty()) return done(Scheduled());
        const std::string key =
            queue::DueRowKey({queue::ParsePositionRow(page->rows.front().value).value_or(0), position});
        replica.group()->ScanRows(key, raft::KeyBehind(key), 1,
                                  [done = std::move(done)](absl::StatusOr<raft::RowPage> row) mutable {
                                    if (!row.ok()) return done(row.status());
                                    if (row->rows.empty()) return done(Scheduled());
                                    absl::StatusOr<BrowsedMessage> found = ScheduledOf(row->rows.front());
                                    if (!found.ok()) return done(found.status());
                                    done(Scheduled(*std::move(found)));
                                  });
      });
}

void ExplainStored(QueueReplica& replica, queue::SubscriptionId id, Position position, Looked<Explanation> done,
                   Scheduled scheduled) {
  const raft::Index index(position.index());
  replica.group()->ReadEntries(
      index, index, kReadBytes,
      [&replica, alive = replica.alive(), id, position, index, scheduled = std::move(scheduled),
       done = std::move(done)](absl::StatusOr<std::vector<raft::Entry>> entries) mutable {
        if (alive.expired()) return done(QueueReplica::MovedError());
        const queue::Subscription* subscription = Find(replica.machine(), id);
        if (subscription == nullptr) return done(NoSubscription());
        const bool there = entries.ok() && !entries->empty() && entries->front().index == index;
        absl::StatusOr<Explanation> explained =
            ExplainEntry(replica.machine(), *subscription, position, there ? &entries->front() : nullptr);
        if (scheduled && explained.ok()) {
          explained->stand = scheduled->stand;
          explained->published_ms = scheduled->published_ms;
          explained->message = std::move(scheduled->message);
        }
        done(std::move(explained));
      });
}

}  // namespace

MessageStand StandOf(const queue::Subscription& subscription, Position position) {
  MessageStand stand;
  if (position >= subscription.next) return stand;
  stand.state = MessageStand::State::kSettled;
  queue::VisitWithin(subscription.in_flight, {position, 1}, [&](Position, const queue::InFlight& run) {
    stand = {MessageStand::State::kInFlight, run.deliveries, run.checkout_index, run.holder, run.deadline_ms};
  });
  queue::VisitWithin(subscription.returned, {position, 1}, [&](Position, const queue::Returned& run) {
    stand = {.state = MessageStand::State::kReturned, .deliveries = run.deliveries};
  });
  return stand;
}

HolderName NameOfHolder(const queue::Subscription& subscription, uint64_t number) {
  if (number == 0) return {};
  for (const auto& [id, session] : subscription.sessions) {
    if (session.number == number) return {id, session.consumer};
  }
  return {};
}

void Browse(QueueReplica& replica, BrowseWanted wanted, Looked<BrowsedPage> done) {
  replica.Look([&replica, wanted, done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) return done(status);
    std::make_shared<Browsing>(&replica, wanted, std::move(done))->Go();
  });
}

void Explain(QueueReplica& replica, queue::SubscriptionId id, Position position, Looked<Explanation> done) {
  replica.Look([&replica, id, position, done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) return done(status);
    const uint64_t applied = replica.machine().applied();
    if (position.index() == 0 || position.index() > applied) {
      return done(NothingThere(position, absl::StrCat("the queue's log goes from 1 to ", applied)));
    }
    if (replica.machine().schedule().messages() == 0)
      return ExplainStored(replica, id, position, std::move(done), std::nullopt);
    FindScheduled(replica, position,
                  [&replica, id, position, done = std::move(done)](absl::StatusOr<Scheduled> found) mutable {
                    if (!found.ok()) return done(found.status());
                    ExplainStored(replica, id, position, std::move(done), *std::move(found));
                  });
  });
}

void BrowseSchedule(QueueReplica& replica, const ScheduleWanted& wanted, Looked<SchedulePage> done) {
  replica.Look([&replica, wanted, done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) return done(status);
    const queue::Schedule& schedule = replica.machine().schedule();
    SchedulePage page{.messages = {}, .next = {}, .at_index = replica.machine().applied()};
    if (schedule.messages() == 0) return done(std::move(page));
    std::string from = queue::DueRowKey(wanted.from);
    if (wanted.from <= schedule.bound()) from = raft::KeyBehind(queue::DueRowKey(schedule.bound()));
    replica.group()->ScanRows(
        std::move(from), queue::DueRowsEnd(), wanted.max_bytes,
        [wanted, page = std::move(page), done = std::move(done)](absl::StatusOr<raft::RowPage> rows) mutable {
          if (!rows.ok()) return done(rows.status());
          for (const raft::IndexRow& row : rows->rows) {
            absl::StatusOr<BrowsedMessage> found = ScheduledOf(row);
            if (!found.ok()) return done(found.status());
            if (page.messages.size() == wanted.max_messages) {
              page.next = {found->stand.due_ms, found->position};
              return done(std::move(page));
            }
            if (wanted.filter != nullptr && !wanted.filter->Matches(found->message.view())) continue;
            page.messages.push_back(*std::move(found));
          }
          if (rows->more) {
            const queue::ScheduleKey last = *queue::ParseDueRowKey(rows->rows.back().key);
            page.next = {last.due_ms, queue::Position(last.position.packed() + 1)};
          }
          done(std::move(page));
        });
  });
}

void ListLeases(QueueReplica& replica, queue::SubscriptionId id, Position from, uint32_t max_runs,
                Looked<LeasesPage> done) {
  replica.Look([&replica, id, from, max_runs, done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) return done(status);
    const queue::Machine& machine = replica.machine();
    const queue::Subscription* subscription = Find(machine, id);
    if (subscription == nullptr) return done(NoSubscription());
    LeasesPage page{.leases = {}, .next = {}, .at_index = machine.applied(), .queue_time_ms = machine.time_ms()};
    for (auto it = subscription->in_flight.lower_bound(from); it != subscription->in_flight.end(); ++it) {
      if (page.leases.size() == max_runs) {
        page.next = it->first;
        break;
      }
      const auto& [first, run] = *it;
      page.leases.push_back({{first, run.count}, run, NameOfHolder(*subscription, run.holder), 0});
    }
    std::make_shared<TimeLookup>(&replica, std::move(page), std::move(done))->Go();
  });
}

void Release(QueueReplica& replica, const ReleaseWanted& wanted, Looked<uint64_t> done) {
  replica.Look([&replica, wanted, done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) return done(status);
    const queue::Subscription* subscription = Find(replica.machine(), wanted.subscription);
    if (subscription == nullptr) return done(NoSubscription());
    std::vector<queue::Token> tokens;
    if (!wanted.session.empty()) {
      auto session = subscription->sessions.find(wanted.session);
      if (session == subscription->sessions.end()) {
        return done(absl::NotFoundError("no such session; `trireme lease list` says which there are"));
      }
      for (const auto& [first, run] : subscription->HeldBesides(session->second.number, {})) {
        tokens.push_back({{first, run.count}, run.checkout_index});
      }
    } else {
      queue::VisitWithin(subscription->in_flight, wanted.slots, [&](Position first, const queue::InFlight& run) {
        tokens.push_back({{first, run.count}, run.checkout_index});
      });
    }
    if (tokens.empty()) return done(uint64_t{0});
    std::vector<uint32_t> counts;
    for (const queue::Token& token : tokens) counts.push_back(token.slots.count);
    // What is settled or released by others meanwhile is not current, and stays as it is.
    replica.SettleTokens(wanted.subscription, queue::Disposition::kRequeue, std::move(tokens),
                         [counts, done = std::move(done)](absl::StatusOr<std::vector<bool>> current) mutable {
                           if (!current.ok()) return done(current.status());
                           uint64_t released = 0;
                           for (size_t i = 0; i < counts.size(); ++i) released += (*current)[i] ? counts[i] : 0;
                           done(released);
                         });
  });
}

}  // namespace trireme::broker
