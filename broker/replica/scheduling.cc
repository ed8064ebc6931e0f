#include "broker/replica/scheduling.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/ops/log.h"
#include "broker/queue/entry.h"
#include "raft/core/check.h"
#include "raft/core/checksum.h"

namespace trireme::broker {
namespace {

// What is released at a time: a few entries, and then what else the queue has to do has its turn.
constexpr size_t kLookBytes = size_t{1} << 20;
constexpr int64_t kFullPauseMs = 20, kLowDiskPauseMs = 1'000;
// In one fact, and of those that wait.
constexpr size_t kMaxCancelled = 256, kMaxAsked = 10'000;

absl::Status Damaged(std::string_view key) {
  return absl::DataLossError(absl::StrCat("an index row of ", key.size(),
                                          " bytes of key, of a message for later, "
                                          "is damaged"));
}

absl::Status NotScheduled(queue::Position position) {
  return absl::NotFoundError(absl::StrCat("no message for later is at position ", position.index(), ":",
                                          position.slot(),
                                          "; it was due, cancelled or purged by now, or there never was one"));
}

}  // namespace

Scheduling::Scheduling(const LeaderPort* leader, const ReplicaLimits* limits, std::string queue_name)
    : leader_(leader), limits_(limits), queue_name_(std::move(queue_name)), scheduler_(leader->machine) {}

queue::MonotonicMs Scheduling::NowMs() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(leader_->shard->Now().time_since_epoch()).count();
}

// ---- releasing

void Scheduling::Go(int64_t queue_time_ms) {
  if (!cancels_ && !asked_.empty() && scheduler_.idle() && !found_) return BeginCancelling();
  if (cancels_ || found_ || NowMs() < not_before_) return;
  std::optional<queue::Scheduler::Look> look = scheduler_.Begin(queue_time_ms);
  if (!look) return;
  // What is released takes room before what it takes the place of gives it back.
  if ((limits_->low_disk != nullptr && limits_->low_disk()) || leader_->group->disk_low()) {
    scheduler_.GiveUp();
    return Later(kLowDiskPauseMs, "low on disk: what is due is released when there is room");
  }
  trouble_.clear();
  leader_->group->ScanRows(
      raft::KeyBehind(queue::DueRowKey(look->behind)), queue::DueRowsEnd(), kLookBytes,
      [this, alive = std::weak_ptr<bool>(alive_), number = ++looks_](absl::StatusOr<raft::RowPage> page) {
        if (alive.expired() || number != looks_ || !scheduler_.looking()) return;
        if (!page.ok()) {
          scheduler_.GiveUp();
          return leader_->damaged(page.status());
        }
        found_ = *std::move(page);
        leader_->flush_soon();
      });
}

bool Scheduling::Append(int64_t queue_time_ms) {
  if (!found_) return false;
  const raft::RowPage page = *std::exchange(found_, std::nullopt);
  // Purged meanwhile.
  if (!scheduler_.looking()) return false;
  // Nothing was taken out since the look began, and there was something.
  if (page.rows.empty()) {
    scheduler_.GiveUp();
    leader_->damaged(absl::DataLossError(absl::StrCat("the index rows of ", leader_->machine->schedule().messages(),
                                                      " messages for later are missing")));
    return false;
  }
  std::vector<queue::Scheduler::Row> rows;
  for (const raft::IndexRow& row : page.rows) {
    const std::optional<queue::ScheduleKey> key = queue::ParseDueRowKey(row.key);
    const std::optional<queue::ScheduledMessage> message = queue::DecodeDueRow(row.value);
    // Safety rule 17: checked before it is stored anew.
    if (!key || !message || raft::Crc32c(message->message) != message->checksum) {
      scheduler_.GiveUp();
      leader_->damaged(Damaged(row.key));
      return false;
    }
    rows.push_back({*key, message->checksum, message->message});
  }
  std::vector<queue::Scheduler::Released> released = scheduler_.Decide(rows, page.more);
  if (released.empty()) return false;
  std::vector<raft::Bytes> commands;
  for (const auto& one : released) commands.push_back(queue::EncodePublished(one.fact, queue_time_ms, one.batch));
  raft::Proposed proposed = leader_->group->Propose(std::move(commands), /*urgent=*/false);
  if (proposed.error) {
    scheduler_.GiveUp();
    Later(kFullPauseMs, trouble_);
    return false;
  }
  uint64_t index = proposed.first.value();
  for (const auto& one : released) {
    scheduler_.Changing(index);
    releases_.push_back(index);
    leader_->dispatchers->Appended(index, {.messages = one.fact.count, .bytes = one.batch.size()});
    ++index;
  }
  return true;
}

bool Scheduling::Applied(uint64_t index, const queue::Effect& effect) {
  if (releases_.empty() || releases_.front() != index) return false;
  releases_.pop_front();
  TRIREME_CHECK(std::get<queue::effect::Published>(effect).outcome == queue::effect::Published::Outcome::kStored)
      << "messages for later that their leader judged due were not released at index " << index;
  return true;
}

void Scheduling::Later(int64_t pause_ms, std::string trouble) {
  if (trouble_.empty() && !trouble.empty())
    Log(LogLevel::kWarn, "messages are not released though they are due", "queue", queue_name_, "reason", trouble);
  trouble_ = std::move(trouble);
  not_before_ = NowMs() + pause_ms;
}

std::optional<queue::MonotonicMs> Scheduling::NextWake(queue::MonotonicMs now, int64_t queue_time_ms) const {
  if (cancels_ || found_) return std::nullopt;
  if (!asked_.empty() && scheduler_.idle()) return now;
  std::optional<queue::MonotonicMs> wake = scheduler_.NextWake(now, queue_time_ms);
  return wake ? std::max(*wake, not_before_) : wake;
}

// ---- cancelling

void Scheduling::Cancel(queue::Position position, CancelDone done) {
  if (asked_.size() >= kMaxAsked) {
    return done(absl::ResourceExhaustedError(
        absl::StrCat("more than ", kMaxAsked, " messages of this queue are being cancelled; try again")));
  }
  asked_.push_back({position, std::move(done)});
  leader_->flush_soon();
}

void Scheduling::BeginCancelling() {
  cancels_ = true;
  while (!asked_.empty() && cancelling_.size() < kMaxCancelled) {
    cancelling_.push_back(std::move(asked_.front()));
    asked_.pop_front();
  }
  FindRow(0);
}

void Scheduling::FindRow(size_t i) {
  if (i == cancelling_.size()) return CancelFound();
  const std::string key = queue::PositionRowKey(cancelling_[i].position);
  leader_->group->ScanRows(key, raft::KeyBehind(key), 1,
                           [this, alive = std::weak_ptr<bool>(alive_), i](absl::StatusOr<raft::RowPage> page) {
                             if (alive.expired()) return;
                             if (!page.ok()) return leader_->damaged(page.status());
                             if (page->rows.empty()) return FindRow(i + 1);
                             const std::optional<int64_t> due = queue::ParsePositionRow(page->rows.front().value);
                             if (!due) return leader_->damaged(Damaged(page->rows.front().key));
                             ReadRow(i, {*due, cancelling_[i].position});
                           });
}

void Scheduling::ReadRow(size_t i, const queue::ScheduleKey& row) {
  const std::string key = queue::DueRowKey(row);
  leader_->group->ScanRows(key, raft::KeyBehind(key), 1,
                           [this, alive = std::weak_ptr<bool>(alive_), i, row](absl::StatusOr<raft::RowPage> page) {
                             if (alive.expired()) return;
                             if (!page.ok()) return leader_->damaged(page.status());
                             if (page->rows.empty()) return FindRow(i + 1);  // purged since
                             const auto message = queue::DecodeDueRow(page->rows.front().value);
                             if (!message) return leader_->damaged(Damaged(queue::DueRowKey(row)));
                             cancelling_[i].message = {row, message->checksum, message->message.size()};
                             FindRow(i + 1);
                           });
}

// Nothing was released since they were asked for; what was purged is no longer there, so that it is looked up anew.
void Scheduling::CancelFound() {
  std::vector<Cancelling> all = std::exchange(cancelling_, {});
  queue::fact::Cancelled fact{.changes = leader_->machine->schedule().changes(), .messages = {}};
  CancelWaiter waiter;
  std::vector<queue::Position> named;
  const std::weak_ptr<bool> alive = alive_;
  for (Cancelling& one : all) {
    // One that is named twice is gone the second time.
    if (!one.message || std::find(named.begin(), named.end(), one.position) != named.end()) {
      one.done(NotScheduled(one.position));
      if (alive.expired()) return;
      continue;
    }
    named.push_back(one.position);
    fact.messages.push_back(*one.message);
    waiter.asked.push_back({one.position, std::move(one.done)});
  }
  if (fact.messages.empty()) {
    cancels_ = false;
    return leader_->flush_soon();
  }
  leader_->add(std::move(fact), std::move(waiter));
}

void Scheduling::Cancelled(CancelWaiter& waiter, bool accepted) {
  cancels_ = false;
  const std::weak_ptr<bool> alive = alive_;
  for (CancelWaiter::Asked& asked : waiter.asked) {
    if (accepted) {
      asked.done(absl::OkStatus());
      if (alive.expired()) return;
    } else {
      asked_.push_back({asked.position, std::move(asked.done)});
    }
  }
  leader_->flush_soon();
}

void Scheduling::Fail(const absl::Status& not_done) {
  alive_.reset();
  for (Cancelling& one : cancelling_) one.done(not_done);
  for (Cancelling& one : asked_) one.done(not_done);
}

}  // namespace trireme::broker
