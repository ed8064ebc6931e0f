#include "broker/queue/schedule.h"

#include <algorithm>
#include <cstring>

#include "broker/queue/batch.h"

namespace trireme::queue {
namespace {

// What the keys of rows begin with. Never reused.
constexpr char kDue = 'd', kPosition = 'p';

void PutBig(std::string& out, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

uint64_t GetBig(std::string_view bytes) {
  uint64_t value = 0;
  for (const char byte : bytes.substr(0, 8)) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

// Of one row. Rows that differ in anything most likely have others.
uint64_t SumOf(const ScheduleKey& key, uint32_t checksum, uint64_t bytes) {
  uint64_t sum = 0;
  for (const uint64_t part : {static_cast<uint64_t>(key.due_ms), key.position.packed(), uint64_t{checksum}, bytes}) {
    sum += part + 0x9e3779b97f4a7c15;
    sum = (sum ^ (sum >> 30)) * 0xbf58476d1ce4e5b9;
    sum = (sum ^ (sum >> 27)) * 0x94d049bb133111eb;
    sum ^= sum >> 31;
  }
  return sum;
}

uint32_t ChecksumAt(std::string_view checksums, size_t i) {
  uint32_t crc;
  std::memcpy(&crc, checksums.data() + i * 4, 4);
  return crc;
}

// Numbers by their distance from the one before, whatever they are.
struct Distance {
  uint64_t last = 0;
  void Put(raft::Writer& out, uint64_t value) {
    out.Signed(static_cast<int64_t>(value - last));
    last = value;
  }
  uint64_t Get(raft::Reader& in) { return last += static_cast<uint64_t>(in.Signed()); }
};

}  // namespace

std::string DueRowKey(const ScheduleKey& key) {
  std::string row(1, kDue);
  PutBig(row, static_cast<uint64_t>(key.due_ms));
  PutBig(row, key.position.packed());
  return row;
}

std::optional<ScheduleKey> ParseDueRowKey(std::string_view key) {
  if (key.size() != 17 || key.front() != kDue) return std::nullopt;
  return ScheduleKey{static_cast<int64_t>(GetBig(key.substr(1))), Position(GetBig(key.substr(9)))};
}

std::string PositionRowKey(Position position) {
  std::string row(1, kPosition);
  PutBig(row, position.packed());
  return row;
}

std::optional<int64_t> ParsePositionRow(std::string_view value) {
  if (value.size() != 8) return std::nullopt;
  return static_cast<int64_t>(GetBig(value));
}

std::string DueRowsEnd() {
  return std::string(1, kDue + 1);
}

std::string EncodeDueRow(const ScheduledMessage& message) {
  raft::Writer out;
  out.Fixed32(message.checksum);
  out.Signed(message.published_ms);
  out.Raw(message.message);
  return out.Take();
}

std::optional<ScheduledMessage> DecodeDueRow(std::string_view value) {
  raft::Reader in(value);
  ScheduledMessage message;
  message.checksum = in.Fixed32();
  message.published_ms = in.Signed();
  if (!in.ok()) return std::nullopt;
  message.message = in.rest();
  return message;
}

void Schedule::Park(uint64_t index, int64_t time_ms, const std::vector<int64_t>& due_ms, std::string_view batch,
                    std::string_view checksums, std::vector<RowChange>& rows) {
  uint32_t slot = 0;
  for (BatchWalker walker(batch); slot < due_ms.size() && walker.Next(); ++slot) {
    // Behind the bound, whatever it was told.
    const ScheduleKey key{std::max(due_ms[slot], bound_.due_ms), Position(index, slot)};
    const uint32_t checksum = ChecksumAt(checksums, slot);
    rows.push_back({RowChange::Kind::kPut, DueRowKey(key),
                    EncodeDueRow({.published_ms = time_ms, .checksum = checksum, .message = walker.message()})});
    std::string at;
    PutBig(at, static_cast<uint64_t>(key.due_ms));
    rows.push_back({RowChange::Kind::kPut, PositionRowKey(key.position), std::move(at)});
    ++messages_;
    bytes_ += walker.message().size();
    sum_ += SumOf(key, checksum, walker.message().size());
    next_ms_ = std::min(next_ms_, key.due_ms);
  }
  last_parked_ = index;
}

bool Schedule::Allows(const Release& release, int64_t time_ms) const {
  if (release.changes != changes_ || release.last_parked != last_parked_ || release.rows.empty() ||
      release.rows.size() > messages_ || release.rows.back().due_ms > time_ms ||
      (release.rows.size() < messages_) != (release.next_ms != kNever)) {
    return false;
  }
  const ScheduleKey* last = &bound_;
  for (const ScheduleKey& key : release.rows) {
    if (key <= *last) return false;
    last = &key;
  }
  return true;
}

void Schedule::Take(const Release& release, std::string_view batch, std::string_view checksums,
                    std::vector<RowChange>& rows) {
  BatchWalker walker(batch);
  for (size_t i = 0; i < release.rows.size(); ++i) {
    const size_t bytes = walker.Next() ? walker.message().size() : 0;
    Forget(release.rows[i], ChecksumAt(checksums, i), bytes, rows);
  }
  released_ += release.rows.size();
  bound_ = release.rows.back();
  next_ms_ = messages_ == 0 ? kNever : release.next_ms;
  ++changes_;
}

bool Schedule::Cancel(const fact::Cancelled& cancelled, std::vector<RowChange>& rows) {
  if (cancelled.changes != changes_ || cancelled.messages.size() > messages_) return false;
  for (const auto& message : cancelled.messages) {
    if (message.key <= bound_ || message.bytes > bytes_) return false;
  }
  for (const auto& message : cancelled.messages) Forget(message.key, message.checksum, message.bytes, rows);
  cancelled_ += cancelled.messages.size();
  if (messages_ == 0) next_ms_ = kNever;
  ++changes_;
  return true;
}

uint64_t Schedule::Drop(std::vector<RowChange>& rows) {
  const uint64_t dropped = messages_;
  if (dropped == 0) return 0;
  rows.push_back({RowChange::Kind::kEraseRange, std::string(1, kDue), std::string(1, kDue + 1)});
  rows.push_back({RowChange::Kind::kEraseRange, std::string(1, kPosition), std::string(1, kPosition + 1)});
  messages_ = bytes_ = sum_ = 0;
  next_ms_ = kNever;
  ++changes_;
  return dropped;
}

void Schedule::Forget(const ScheduleKey& key, uint32_t checksum, uint64_t bytes, std::vector<RowChange>& rows) {
  rows.push_back({RowChange::Kind::kErase, DueRowKey(key)});
  rows.push_back({RowChange::Kind::kErase, PositionRowKey(key.position)});
  --messages_;
  bytes_ -= bytes;
  sum_ -= SumOf(key, checksum, bytes);
}

void Schedule::Encode(raft::Writer& out) const {
  out.Varint(messages_);
  out.Varint(bytes_);
  out.Varint(sum_);
  out.Signed(bound_.due_ms);
  out.Varint(bound_.position.packed());
  out.Signed(next_ms_);
  out.Varint(last_parked_);
  out.Varint(changes_);
  out.Varint(released_);
  out.Varint(cancelled_);
}

bool Schedule::Decode(raft::Reader& in, uint64_t applied) {
  messages_ = in.Varint();
  bytes_ = in.Varint();
  sum_ = in.Varint();
  bound_.due_ms = in.Signed();
  bound_.position = Position(in.Varint());
  next_ms_ = in.Signed();
  last_parked_ = in.Varint();
  changes_ = in.Varint();
  released_ = in.Varint();
  cancelled_ = in.Varint();
  return in.ok() && bound_.due_ms >= 0 && bound_.position.index() <= applied && last_parked_ <= applied &&
         (messages_ > 0) == (next_ms_ != kNever);
}

void PutDueTimes(raft::Writer& out, const std::vector<int64_t>& due_ms) {
  Distance distance;
  for (const int64_t due : due_ms) distance.Put(out, static_cast<uint64_t>(due));
}

std::vector<int64_t> GetDueTimes(raft::Reader& in, uint32_t count) {
  std::vector<int64_t> all;
  Distance distance;
  for (uint32_t i = 0; i < count && in.ok(); ++i) all.push_back(static_cast<int64_t>(distance.Get(in)));
  return all;
}

void PutRelease(raft::Writer& out, const Release& release) {
  out.Varint(release.changes);
  out.Varint(release.last_parked);
  out.Signed(release.next_ms);
  Distance due, position;
  for (const ScheduleKey& key : release.rows) {
    due.Put(out, static_cast<uint64_t>(key.due_ms));
    position.Put(out, key.position.packed());
  }
}

Release GetRelease(raft::Reader& in, uint32_t count) {
  Release release;
  release.changes = in.Varint();
  release.last_parked = in.Varint();
  release.next_ms = in.Signed();
  Distance due, position;
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    const auto due_ms = static_cast<int64_t>(due.Get(in));
    release.rows.push_back({due_ms, Position(position.Get(in))});
  }
  return release;
}

void PutCancelled(raft::Writer& out, const fact::Cancelled& cancelled) {
  out.Varint(cancelled.changes);
  out.Varint(cancelled.messages.size());
  for (const auto& message : cancelled.messages) {
    out.Signed(message.key.due_ms);
    out.Varint(message.key.position.packed());
    out.Fixed32(message.checksum);
    out.Varint(message.bytes);
  }
}

fact::Cancelled GetCancelled(raft::Reader& in) {
  fact::Cancelled cancelled;
  cancelled.changes = in.Varint();
  cancelled.messages.resize(in.Count(7));
  for (auto& message : cancelled.messages) {
    message.key.due_ms = in.Signed();
    message.key.position = Position(in.Varint());
    message.checksum = in.Fixed32();
    message.bytes = in.Varint();
  }
  return cancelled;
}

}  // namespace trireme::queue
