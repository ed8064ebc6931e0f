// What a queue holds for later. The messages are index rows, and a row is the record that its message is alive (Safety
// rules 1 and 14); the state has their number, what they come to, and the place below which none is left.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/queue/facts.h"
#include "broker/queue/position.h"
#include "raft/core/bytes.h"
#include "raft/core/coding.h"

namespace trireme::queue {

// A change of the queue's index rows, as applying an entry makes it. The last one of a key is what counts.
struct RowChange {
  enum class Kind : uint8_t {
    kPut,         // `key` has `value`
    kErase,       // `key` is gone
    kEraseRange,  // all from `key` up to, without, `value` are gone
  };
  Kind kind = Kind::kPut;
  std::string key;
  std::string value = {};
};

// ---- the rows of what is scheduled: one in the order of due times, which has the message, and one by position, which
// says where that is

std::string DueRowKey(const ScheduleKey& key);
std::optional<ScheduleKey> ParseDueRowKey(std::string_view key);
std::string PositionRowKey(Position position);
std::optional<int64_t> ParsePositionRow(std::string_view value);
// All due rows lie before it.
std::string DueRowsEnd();

struct ScheduledMessage {
  int64_t published_ms = 0;  // queue time
  uint32_t checksum = 0;     // of its encoding, CRC-32C, made by the leader (Safety rule 17)
  std::string_view message;  // encoded
};
std::string EncodeDueRow(const ScheduledMessage& message);
// Shares the row's memory. Nothing: the row is damaged.
std::optional<ScheduledMessage> DecodeDueRow(std::string_view value);

// ---- the state

class Schedule {
 public:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  // The messages of the batch stored in the entry at `index` wait for their times, one for each.
  void Park(uint64_t index, int64_t time_ms, const std::vector<int64_t>& due_ms, std::string_view batch,
            std::string_view checksums, std::vector<RowChange>& rows);
  // Whether the release holds (Safety rule 2): decided from this state, in order, and of nothing that is not due at
  // `time_ms` (Safety rule 7).
  bool Allows(const Release& release, int64_t time_ms) const;
  // As it was allowed; `batch` are the messages.
  void Take(const Release& release, std::string_view batch, std::string_view checksums, std::vector<RowChange>& rows);
  // False, and nothing is changed, if it was not decided from this state.
  bool Cancel(const fact::Cancelled& cancelled, std::vector<RowChange>& rows);
  // All of it. How many there were.
  uint64_t Drop(std::vector<RowChange>& rows);

  uint64_t messages() const { return messages_; }
  uint64_t bytes() const { return bytes_; }  // of their encodings
  // No message is due before; kNever without any. It may be earlier than the first one's.
  int64_t next_ms() const { return next_ms_; }
  // Every row is above it.
  const ScheduleKey& bound() const { return bound_; }
  // Of entries.
  uint64_t last_parked() const { return last_parked_; }
  // How often something was released, cancelled or dropped.
  uint64_t changes() const { return changes_; }
  uint64_t released() const { return released_; }
  uint64_t cancelled() const { return cancelled_; }

  void Encode(raft::Writer& out) const;
  // False if it does not parse, or cannot be after the entry `applied`.
  bool Decode(raft::Reader& in, uint64_t applied);

 private:
  void Forget(const ScheduleKey& key, uint32_t checksum, uint64_t bytes, std::vector<RowChange>& rows);

  uint64_t messages_ = 0;
  uint64_t bytes_ = 0;
  uint64_t sum_ = 0;  // over the rows that there should be, in any order: a digest covers it (Safety rule 25)
  ScheduleKey bound_;
  int64_t next_ms_ = kNever;
  uint64_t last_parked_ = 0;
  uint64_t changes_ = 0;
  uint64_t released_ = 0;
  uint64_t cancelled_ = 0;
};

// ---- how entries and facts say it, for entry.cc

void PutDueTimes(raft::Writer& out, const std::vector<int64_t>& due_ms);
std::vector<int64_t> GetDueTimes(raft::Reader& in, uint32_t count);
void PutRelease(raft::Writer& out, const Release& release);
Release GetRelease(raft::Reader& in, uint32_t count);
void PutCancelled(raft::Writer& out, const fact::Cancelled& cancelled);
fact::Cancelled GetCancelled(raft::Reader& in);

}  // namespace trireme::queue
