// What each entry of a group changes of its index rows, in tests, and what they are after all entries up to one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "raft/host/index_rows.h"

namespace trireme::storage {

using Rows = std::map<std::string, std::string>;

inline std::string RowKey(uint64_t n) {
  return absl::StrCat("key ", absl::Dec(n * 37 % 101, absl::kZeroPad3));
}

// Keys come again, so that what is written twice, or not at all, shows.
inline std::vector<raft::RowChange> RowChangesOf(uint64_t index) {
  using Kind = raft::RowChange::Kind;
  std::vector<raft::RowChange> changes;
  changes.push_back({Kind::kPut, RowKey(index), absl::StrCat("of ", index)});
  if (index % 3 == 0) changes.push_back({Kind::kErase, RowKey(index - 2)});
  if (index % 29 == 0) changes.push_back({Kind::kEraseRange, RowKey(index % 7), RowKey(index % 7) + "z"});
  if (index % 71 == 0) changes.push_back({Kind::kEraseRange, "key 02", "key 06"});
  return changes;
}

inline void Apply(const raft::RowChange& change, Rows* rows) {
  switch (change.kind) {
    case raft::RowChange::Kind::kPut:
      (*rows)[change.key] = change.value;
      break;
    case raft::RowChange::Kind::kErase:
      rows->erase(change.key);
      break;
    case raft::RowChange::Kind::kEraseRange:
      rows->erase(rows->lower_bound(change.key), change.value.empty() ? rows->end() : rows->lower_bound(change.value));
      break;
  }
}

inline Rows RowsAsOf(uint64_t index) {
  Rows rows;
  for (uint64_t i = 1; i <= index; ++i) {
    for (const raft::RowChange& change : RowChangesOf(i)) Apply(change, &rows);
  }
  return rows;
}

}  // namespace trireme::storage
