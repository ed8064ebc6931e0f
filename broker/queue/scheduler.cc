#include "broker/queue/scheduler.h"

#include <algorithm>
#include <bit>

#include "broker/queue/entry.h"
#include "raft/core/coding.h"

namespace trireme::queue {
namespace {

// Of a message in a release, beside its bytes: its checksum, its row's key, its record's tag and length.
constexpr size_t kOverhead = 4 + 20 + 6;
// From so far ahead on the clock is asked again half way: a timer cannot be taken back, and so there are only a few of
// a queue's at a time, however often something earlier comes.
constexpr int64_t kFarMs = 1024;

}  // namespace

void Scheduler::Parked(uint64_t index, int64_t earliest_ms) {
  Settle();
  parked_.push_back({index, earliest_ms});
  last_parked_ = index;
}

void Scheduler::Changing(uint64_t index) {
  changing_ = index;
  looking_ = false;
}

void Scheduler::Settle() {
  if (looking_) return;
  auto there = parked_.begin();
  for (; there != parked_.end() && there->index <= machine_->applied(); ++there)
    next_ms_ = std::min(next_ms_, there->earliest_ms);
  parked_.erase(parked_.begin(), there);
}

int64_t Scheduler::OnItsWay() const {
  int64_t earliest = Schedule::kNever;
  for (const Appended& parked : parked_) earliest = std::min(earliest, parked.earliest_ms);
  return earliest;
}

std::optional<Scheduler::Look> Scheduler::Begin(int64_t queue_time_ms) {
  Settle();
  const Schedule& schedule = machine_->schedule();
  if (!idle() || schedule.messages() == 0) return std::nullopt;
  // What is on its way into the schedule is not found, and what is due behind it stays behind it: so there is never a
  // row below the bound. (What is appended from here on is due later than this queue time.)
  const int64_t on_its_way = OnItsWay();
  until_ms_ = std::min(queue_time_ms, on_its_way == Schedule::kNever ? queue_time_ms : on_its_way - 1);
  if (next_ms_ > until_ms_) return std::nullopt;
  looking_ = true;
  return Look{schedule.bound()};
}

std::vector<Scheduler::Released> Scheduler::Decide(const std::vector<Row>& rows, bool more) {
  looking_ = false;
  const Schedule& schedule = machine_->schedule();
  size_t due = 0;
  while (due < rows.size() && rows[due].key.due_ms <= until_ms_) ++due;
  const int64_t next = due < rows.size() ? rows[due].key.due_ms
                       : more && due > 0 ? rows[due - 1].key.due_ms
                                         : Schedule::kNever;
  const int64_t on_its_way = OnItsWay();
  next_ms_ = next;
  Settle();

  std::vector<Released> all;
  size_t bytes = 0;
  for (size_t i = 0; i < due; ++i) {
    const Row& row = rows[i];
    const size_t size = row.message.size() + kOverhead;
    // Safety rule 17: an entry is of a bounded size, or has one message.
    if (all.empty() || bytes + size > kMaxFactsBytes || all.back().fact.count == kMaxBatchMessages) {
      if (!all.empty()) all.back().fact.release->next_ms = row.key.due_ms;
      const uint64_t changes = schedule.changes() + all.size();
      all.emplace_back().fact.release = Release{.changes = changes, .last_parked = last_parked_};
      bytes = 0;
    }
    Released& released = all.back();
    raft::Writer record;
    record.Byte(1 << 3 | 2);
    record.Counted(row.message);
    released.batch += record.bytes();
    released.fact.checksums.push_back(row.checksum);
    released.fact.release->rows.push_back(row.key);
    ++released.fact.count;
    bytes += size;
  }
  for (Released& released : all) {
    int64_t& of = released.fact.release->next_ms;
    if (&released == &all.back()) of = next;
    of = std::min(of, on_its_way);
  }
  return all;
}

std::optional<MonotonicMs> Scheduler::NextWake(MonotonicMs now, int64_t queue_time_ms) const {
  int64_t next = next_ms_, on_its_way = Schedule::kNever;
  for (const Appended& parked : parked_) {
    int64_t& of = parked.index <= machine_->applied() ? next : on_its_way;
    of = std::min(of, parked.earliest_ms);
  }
  // It is asked again when that is applied.
  if (!idle() || machine_->schedule().messages() == 0 || next == Schedule::kNever || on_its_way <= next)
    return std::nullopt;
  const int64_t distance = std::max<int64_t>(0, next - queue_time_ms);
  return now + (distance <= kFarMs ? distance : static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(distance))));
}

}  // namespace trireme::queue
