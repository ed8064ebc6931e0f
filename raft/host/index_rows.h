// Rows in an order that is not the log's (due times, priorities, message ids): a group's state machine writes them as
// it applies entries, and never reads them; whoever decides on the leader scans them (Safety rule 14).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "raft/core/bytes.h"
#include "raft/core/types.h"

namespace trireme::raft {

// Ordered by its key, which is not empty. Key and value have at most kRowBytesMax together.
struct IndexRow {
  std::string key;
  std::string value;

  friend bool operator==(const IndexRow&, const IndexRow&) = default;
};
// Above the largest message, which may be a row's value.
inline constexpr size_t kRowBytesMax = (size_t{15} << 20) + (size_t{64} << 10);

// The last change of a key is what counts of it, whatever there was before: so what a group's log made may be made
// again, from any index on, and comes to the same.
struct RowChange {
  enum class Kind : uint8_t {
    kPut,         // `key` has `value` now
    kErase,       // `key` is gone, if it was there
    kEraseRange,  // so are all from `key` up to, without, `value`. For what goes at once: single ones are cheaper so
  };
  Kind kind = Kind::kPut;
  std::string key;
  std::string value{};
};

// Rows of one moment.
struct RowPage {
  // Ascending.
  std::vector<IndexRow> rows;
  // There are others behind the last one.
  bool more = false;
  // As far in the log as they are written. After a restart that may be ahead of what is applied; on a leader it never
  // is.
  Index mark;
};

// The store's port. storage/ implements it beside LogStore; thread-safe.
//
// Rows are not durable by themselves. What was given before a call of SaveSnapshot is durable, with its mark, before
// that snapshot is; what came behind the last snapshot is made again from the log. A group that never had any costs
// nothing.
class IndexRows {
 public:
  using ScanDone = absl::AnyInvocable<void(absl::StatusOr<RowPage>)>;

  virtual ~IndexRows() = default;

  // What applying the entries up to `mark` has changed since the last call for the group, in order. Nothing is done
  // when that is there: before a crash, or by an installed snapshot.
  virtual void WriteRows(GroupId group, Index mark, std::vector<RowChange> changes) = 0;

  // The rows from `from` on, before `to` (empty = all), until they take `max_bytes`; at least one if there is any. Sees
  // all that was written before. A scan passes what was erased lately, so it should begin where the first row can be.
  // `done` may be called before this returns if there are none.
  virtual void ScanRows(GroupId group, std::string from, std::string to, size_t max_bytes, ScanDone done) = 0;
};

// The key that comes first behind this one.
inline std::string KeyBehind(std::string_view key) {
  return std::string(key) + '\0';
}

// A part of a snapshot's rows on the wire. Decodes nothing when they are not ascending, not all behind `behind`, or no
// rows.
Bytes EncodeRows(const std::vector<IndexRow>& rows);
std::optional<std::vector<IndexRow>> DecodeRows(std::string_view bytes, std::string_view behind);

}  // namespace trireme::raft
