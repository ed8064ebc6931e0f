#include "broker/replica/blocked_keys.h"

#include <memory>
#include <utility>

#include "absl/container/btree_set.h"
#include "broker/message/message.h"
#include "broker/ops/error.h"
#include "broker/queue/entry.h"

namespace trireme::broker {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;

// The keys of those messages and the times of those checkouts, from the log, one entry after the other.
class Lookup : public std::enable_shared_from_this<Lookup> {
 public:
  Lookup(QueueReplica* replica, BlockedKeysPage page, Looked<BlockedKeysPage> done)
      : replica_(replica), alive_(replica->alive()), page_(std::move(page)), done_(std::move(done)) {
    for (const BlockedKey& key : page_.keys) {
      entries_.insert(key.by.index());
      if (key.stand.checkout_index != 0) entries_.insert(key.stand.checkout_index);
    }
    next_ = entries_.begin();
  }

  void Go() {
    for (; next_ != entries_.end(); ++next_) {
      if (const raft::Entry* entry = replica_->group()->TailEntry(raft::Index(*next_))) {
        Take(*entry);
        continue;
      }
      replica_->group()->ReadEntries(raft::Index(*next_), raft::Index(*next_), kReadBytes,
                                     [self = shared_from_this()](absl::StatusOr<std::vector<raft::Entry>> entries) {
                                       self->Read(std::move(entries));
                                     });
      return;
    }
    done_(std::move(page_));
  }

 private:
  // An entry that is gone was settled meanwhile, or is a checkout of long ago: the rest is told all the same.
  void Read(const absl::StatusOr<std::vector<raft::Entry>>& entries) {
    if (alive_.expired()) return done_(QueueReplica::MovedError());
    if (entries.ok() && !entries->empty() && entries->front().index.value() == *next_) Take(entries->front());
    ++next_;
    Go();
  }

  void Take(const raft::Entry& entry) {
    if (entry.type != raft::EntryType::kCommand) return;
    const uint64_t index = entry.index.value();
    absl::StatusOr<queue::PublishedView> view = queue::DecodePublished(entry.data);
    absl::StatusOr<queue::DecodedEntry> decoded =
        view.ok() ? absl::NotFoundError("it is a batch") : queue::DecodeEntry(entry.data);
    for (BlockedKey& key : page_.keys) {
      if (decoded.ok() && key.stand.checkout_index == index) key.since_ms = decoded->time_ms;
      if (!view.ok() || key.by.index() != index) continue;
      const absl::StatusOr<raft::Bytes> message =
          queue::CheckedMessages(*view, static_cast<uint32_t>(key.by.slot()), 1);
      if (!message.ok()) continue;
      queue::BatchWalker walker(message->view());
      if (walker.Next()) key.key = std::string(message::Key(walker.message()));
    }
  }

  QueueReplica* const replica_;
  const std::weak_ptr<void> alive_;
  BlockedKeysPage page_;
  Looked<BlockedKeysPage> done_;
  absl::btree_set<uint64_t> entries_;
  absl::btree_set<uint64_t>::iterator next_;
};

absl::StatusOr<const queue::KeyOrder*> KeysOf(const QueueReplica& replica, queue::SubscriptionId id) {
  const queue::Subscription* s = replica.machine().FindSubscription(id);
  const queue::Dispatcher* dispatcher = replica.DispatcherOf(id);
  if (s == nullptr) return absl::NotFoundError("there is no such subscription");
  if (dispatcher == nullptr) return QueueReplica::MovedError();
  if (!s->settings.order_by_key) {
    return Error(absl::StatusCode::kFailedPrecondition, {.reason = "NOT_ORDERED_BY_KEY", .name = s->name},
                 "the subscription does not keep messages in order by their keys, so none are blocked");
  }
  if (dispatcher->keys() == nullptr) {
    return Error(absl::StatusCode::kUnavailable, {.reason = "KEYS_NOT_KNOWN", .name = s->name},
                 "the leader is new, and looks the keys up once a consumer is there; try again then");
  }
  return dispatcher->keys();
}

}  // namespace

void ListBlockedKeys(QueueReplica& replica, queue::SubscriptionId id, queue::Position from, size_t most,
                     Looked<BlockedKeysPage> done) {
  replica.Look([&replica, id, from, most, done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) return done(status);
    absl::StatusOr<const queue::KeyOrder*> keys = KeysOf(replica, id);
    if (!keys.ok()) return done(keys.status());
    const queue::Machine& machine = replica.machine();
    const queue::Subscription& s = machine.subscription(id);
    BlockedKeysPage page{.keys = {},
                         .next = {},
                         .at_index = machine.applied(),
                         .queue_time_ms = machine.time_ms(),
                         .blocked = (*keys)->blocked(),
                         .full = replica.DispatcherOf(id)->waits_for_keys()};
    for (const queue::KeyOrder::Blocked& blocked : (*keys)->List(from, most + 1)) {
      if (page.keys.size() == most) {
        page.next = blocked.by;
        break;
      }
      const MessageStand stand = StandOf(s, blocked.by);
      const bool put_off = blocked.state == queue::KeyOrder::State::kWaits && blocked.due_ms != queue::KeyOrder::kNever;
      page.keys.push_back({.key = {},
                           .by = blocked.by,
                           .stand = stand,
                           .holder = NameOfHolder(s, stand.holder),
                           .since_ms = 0,
                           .due_ms = put_off ? blocked.due_ms : 0,
                           .waiting = blocked.waiting});
    }
    std::make_shared<Lookup>(&replica, std::move(page), std::move(done))->Go();
  });
}

void UnblockKey(QueueReplica& replica, const UnblockWanted& wanted, Looked<uint64_t> done) {
  replica.Look([&replica, wanted, done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) return done(status);
    absl::StatusOr<const queue::KeyOrder*> keys = KeysOf(replica, wanted.subscription);
    if (!keys.ok()) return done(keys.status());
    queue::Position position = wanted.position;
    if (!wanted.key.empty()) {
      const auto first = (*keys)->FirstOf(queue::HashOfKey(wanted.key));
      if (!first) return done(uint64_t{0});
      position = *first;
    }
    replica.Unblock(wanted.subscription, position, wanted.how, std::move(done));
  });
}

}  // namespace trireme::broker
