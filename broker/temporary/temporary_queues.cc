#include "broker/temporary/temporary_queues.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "broker/cluster/cluster.h"
#include "broker/ops/error.h"
#include "broker/replica/publishing.h"

namespace trireme::broker {

namespace v1 = trireme::v1;

namespace {

constexpr std::chrono::milliseconds kSweepEvery{500};
// Of one queue: each costs memory.
constexpr size_t kMaxSubscriptions = 16;
constexpr size_t kMaxProducers = 1'000;

template <typename T>
absl::Status Within(absl::string_view field, T value, T low, T high, absl::string_view unit) {
  if (value >= low && value <= high) return absl::OkStatus();
  return Error(absl::StatusCode::kInvalidArgument,
               {.reason = "BAD_VALUE", .name = field, .limit = absl::StrCat(low, " to ", high)},
               absl::StrCat("temporary.", field, " is ", value, "; it takes ", low, " to ", high, " ", unit));
}

absl::Status FillIn(v1::TemporarySettings& settings) {
  using Queues = TemporaryQueues;
  if (settings.idle_timeout_ms() == 0) settings.set_idle_timeout_ms(uint32_t{Queues::kDefaultIdle.count()});
  if (settings.max_messages() == 0) settings.set_max_messages(Queues::kDefaultMessages);
  if (settings.max_bytes() == 0) settings.set_max_bytes(Queues::kDefaultBytes);
  absl::Status good = Within<int64_t>("idle_timeout_ms", settings.idle_timeout_ms(), Queues::kMinIdle.count(),
                                      Queues::kMaxIdle.count(), "ms");
  good.Update(Within<uint64_t>("max_messages", settings.max_messages(), 1, Queues::kMaxMessages, "messages"));
  good.Update(Within<uint64_t>("max_bytes", settings.max_bytes(), Queues::kMinBytes, Queues::kMaxBytes, "bytes"));
  return good;
}

absl::Status Exhausted(absl::string_view reason, const std::string& queue, uint64_t limit, absl::string_view message) {
  return Error(absl::StatusCode::kResourceExhausted, {.reason = reason, .name = queue, .limit = absl::StrCat(limit)},
               message);
}

}  // namespace

struct TemporaryQueues::Queue {
  QueuePtr info;
  std::string client;
  std::function<bool()> abandoned;
  // The only session that it gives messages to; empty: it is shared, or nobody has come yet.
  queue::SessionId owner;
  bool had_consumer = false;
  bool removing = false;
  raft::MonotonicTime idle_at;
  // As counted in the shard's total.
  size_t bytes = 0;
  // Taken in this turn and not in the log yet.
  uint64_t admitted_messages = 0;
  size_t admitted_bytes = 0;
  std::unique_ptr<MemoryGroup> group;
  std::unique_ptr<QueueReplica> replica;

  const v1::TemporarySettings& settings() const { return info->settings.temporary(); }
  std::chrono::milliseconds idle_timeout() const { return std::chrono::milliseconds{settings().idle_timeout_ms()}; }
  // Waiting or unsettled, for the subscription that has the most.
  uint64_t messages() const {
    uint64_t most = 0;
    for (const auto& [id, s] : replica->machine().subscriptions())
      most = std::max(most, s.waiting + s.returned_messages + s.in_flight_messages);
    return most;
  }
  bool has_consumer() const {
    const auto& subscriptions = replica->machine().subscriptions();
    return std::any_of(subscriptions.begin(), subscriptions.end(),
                       [](const auto& subscription) { return !subscription.second.sessions.empty(); });
  }
};

TemporaryQueues::TemporaryQueues(raft::Shard* shard, Limits limits, Hooks hooks)
    : shard_(shard), limits_(limits), hooks_(std::move(hooks)) {}

TemporaryQueues::~TemporaryQueues() {
  Clear();
}

absl::StatusOr<QueuePtr> TemporaryQueues::Create(const Place& place, Wish wish) {
  if (absl::Status good = FillIn(wish.settings); !good.ok()) return good;
  if (queues_.size() >= limits_.queues) {
    return Exhausted("TOO_MANY_TEMPORARY_QUEUES", "", limits_.queues,
                     absl::StrCat("this node holds ", limits_.queues,
                                  " temporary queues, which is the limit; close some, or make them at another node"));
  }
  size_t& of_client = by_client_[wish.client];
  if (of_client >= limits_.queues_per_client) {
    return Exhausted("TOO_MANY_TEMPORARY_QUEUES", "", limits_.queues_per_client,
                     absl::StrCat("this connection has ", limits_.queues_per_client,
                                  " temporary queues at this node, which is the limit; close some"));
  }
  TemporaryName name{place.node, place.incarnation, 0};
  do {
    name.number = ++last_number_;
  } while (ShardOf(GroupOf(name), place.shards) != shard_->id());
  const raft::GroupId group = GroupOf(name);

  auto info = std::make_shared<QueueInfo>();
  info->name = ToString(name);
  info->group = group;
  info->settings.set_replicas(1);
  *info->settings.mutable_temporary() = wish.settings;
  info->replicas = {raft::Member{.replica = raft::ReplicaId(1), .node = place.node}};
  info->created_at_ms = shard_->WallMs();

  auto queue = std::make_unique<Queue>();
  Queue& made = *queue;
  made.info = std::move(info);
  made.client = std::move(wish.client);
  made.abandoned = std::move(wish.abandoned);
  if (!wish.settings.shared()) made.owner = std::move(wish.session);
  made.idle_at = shard_->Now() + made.idle_timeout();
  made.group = std::make_unique<MemoryGroup>(shard_, group, place.node);
  ReplicaLimits limits;
  limits.max_message_bytes = limits_.max_message_bytes;
  limits.max_subscriptions = kMaxSubscriptions;
  limits.max_producers = kMaxProducers;
  limits.keeps_rows = false;
  limits.admits = [this, &made](const raft::Bytes& batch) { return Room(made, batch); };
  made.replica = std::make_unique<QueueReplica>(shard_, std::move(limits), made.info->name);
  made.group->Drive(made.replica.get(), [this, &made] { Applied(made); });
  queues_[group] = std::move(queue);
  ++of_client;
  ++created_;
  made.replica->Start(made.group.get());
  hooks_.added(group, made.replica.get());
  SweepLater();
  return made.info;
}

absl::StatusOr<QueuePtr> TemporaryQueues::Find(const Place& here, const TemporaryName& name) const {
  // Safety rule 24: numbers begin anew with each process, so one of an earlier process is another queue's by now.
  if (name.incarnation != here.incarnation) {
    return TemporaryQueueGone(
        ToString(name), absl::StrCat("node ", here.node.value(), " has been started again since (its incarnation is ",
                                     here.incarnation, " now), and what it held in memory is gone"));
  }
  auto found = queues_.find(GroupOf(name));
  if (found == queues_.end() || found->second->removing) {
    return TemporaryQueueGone(ToString(name), "its consumer has left, it was idle for too long, or it was deleted");
  }
  return found->second->info;
}

absl::Status TemporaryQueues::Admit(raft::GroupId group, const queue::SessionId& session) {
  auto found = queues_.find(group);
  if (found == queues_.end()) return absl::OkStatus();
  Queue& queue = *found->second;
  if (queue.settings().shared()) return absl::OkStatus();
  if (queue.owner.empty() || queue.owner == session) {
    queue.owner = session;
    return absl::OkStatus();
  }
  return Error(absl::StatusCode::kFailedPrecondition, {.reason = "EXCLUSIVE_QUEUE", .name = queue.info->name},
               absl::StrCat("the temporary queue ", queue.info->name,
                            " gives its messages to one consumer alone, which it has; make it shared to have several"));
}

void TemporaryQueues::Use(raft::GroupId group, std::chrono::milliseconds time) {
  auto found = queues_.find(group);
  if (found == queues_.end()) return;
  Queue& queue = *found->second;
  queue.idle_at = std::max(queue.idle_at, shard_->Now() + time + queue.idle_timeout());
}

absl::Status TemporaryQueues::Room(Queue& queue, const raft::Bytes& batch) {
  const v1::TemporarySettings& settings = queue.settings();
  const uint64_t messages = MessagesIn(batch);
  const uint64_t held = queue.messages() + queue.admitted_messages;
  if (held + messages > settings.max_messages()) {
    return Exhausted("TEMPORARY_QUEUE_FULL", queue.info->name, settings.max_messages(),
                     absl::StrCat("the temporary queue ", queue.info->name, " holds ", held, " messages; with ",
                                  messages, " more it would pass its limit of ", settings.max_messages()));
  }
  const auto taken = [&] { return queue.group->bytes() + queue.admitted_bytes + batch.size(); };
  const auto over = [&] { return taken() > settings.max_bytes() || bytes_ - queue.bytes + taken() > limits_.bytes; };
  // Some of it may have died.
  if (over()) queue.group->Trim();
  if (taken() > settings.max_bytes()) {
    return Exhausted(
        "TEMPORARY_QUEUE_FULL", queue.info->name, settings.max_bytes(),
        absl::StrCat("the temporary queue ", queue.info->name, " holds ", queue.group->bytes(), " bytes; with ",
                     batch.size(), " more it would pass its limit of ", settings.max_bytes(), " bytes"));
  }
  if (over()) {
    return Exhausted("TEMPORARY_QUEUES_FULL", queue.info->name, limits_.bytes,
                     absl::StrCat("the temporary queues of this node hold ", bytes_, " bytes together; the limit is ",
                                  limits_.bytes, ": consume what waits in them"));
  }
  if (queue.admitted_messages == 0) {
    shard_->AtTurnEnd([this, alive = std::weak_ptr<bool>(alive_), group = queue.info->group] {
      if (alive.expired()) return;
      if (auto found = queues_.find(group); found != queues_.end()) {
        found->second->admitted_messages = 0;
        found->second->admitted_bytes = 0;
      }
    });
  }
  queue.admitted_messages += messages;
  queue.admitted_bytes += batch.size();
  return absl::OkStatus();
}

void TemporaryQueues::Applied(Queue& queue) {
  bytes_ += queue.group->bytes() - queue.bytes;
  queue.bytes = queue.group->bytes();
  queue.idle_at = std::max(queue.idle_at, shard_->Now() + queue.idle_timeout());
  const bool has_consumer = queue.has_consumer();
  if (queue.had_consumer && !has_consumer) RemoveSoon(queue.info->group);
  queue.had_consumer |= has_consumer;
}

void TemporaryQueues::RemoveSoon(raft::GroupId group) {
  auto found = queues_.find(group);
  if (found == queues_.end() || std::exchange(found->second->removing, true)) return;
  shard_->AtTurnEnd([this, alive = std::weak_ptr<bool>(alive_), group] {
    if (!alive.expired()) Remove(group);
  });
}

void TemporaryQueues::Remove(raft::GroupId group) {
  auto extracted = queues_.extract(group);
  if (extracted.empty()) return;
  const std::unique_ptr<Queue> queue = std::move(extracted.mapped());
  bytes_ -= queue->bytes;
  auto client = by_client_.find(queue->client);
  if (--client->second == 0) by_client_.erase(client);
  hooks_.removed(group);
  queue->replica->Stop(CutReason::kQueueDeleted);
}

void TemporaryQueues::Clear() {
  while (!queues_.empty()) Remove(queues_.begin()->first);
}

void TemporaryQueues::SweepLater() {
  if (queues_.empty() || std::exchange(sweep_due_, true)) return;
  shard_->After(kSweepEvery, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    sweep_due_ = false;
    Sweep();
    SweepLater();
  });
}

void TemporaryQueues::Sweep() {
  for (auto& [group, queue] : queues_) {
    // A session that is silent ends by its own timeout.
    if (queue->has_consumer()) queue->idle_at = shard_->Now() + queue->idle_timeout();
    const bool abandoned = queue->abandoned != nullptr && queue->abandoned();
    if (abandoned || shard_->Now() >= queue->idle_at) RemoveSoon(group);
  }
}

}  // namespace trireme::broker
