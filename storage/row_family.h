// The column family `index`: (group, generation, row's key) -> the row's value, and before a generation's rows, under
// its bare prefix, the mark of how far they are written (Safety rule 14). OldGeneration's part.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "raft/core/types.h"
#include "raft/host/index_rows.h"
#include "rocksdb/db.h"
#include "rocksdb/options.h"
#include "rocksdb/write_batch.h"
#include "storage/old_generation.h"

namespace trireme::storage {

// Not thread-safe, but for Scan.
class RowFamily {
 public:
  // `options` with what this family needs besides.
  static rocksdb::ColumnFamilyOptions Options(rocksdb::ColumnFamilyOptions options);

  // Both outlive it.
  RowFamily(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family) : db_(db), family_(family) {}

  // All of it in `batch`, which is not written in between: rows and mark are never apart.
  rocksdb::Status Change(rocksdb::WriteBatch* batch, raft::GroupId group, uint64_t generation, raft::Index mark,
                         absl::Span<const raft::RowChange> changes) const;
  // Deletes what lies in [from, to), if anything does.
  rocksdb::Status Delete(rocksdb::WriteBatch* batch, const std::string& from, const std::string& to) const;

  rocksdb::Status Scan(raft::GroupId group, uint64_t generation, const std::string& from, const std::string& to,
                       size_t max_bytes, raft::RowPage* page) const;
  // Of all that there are. Takes a step for each, not for each row.
  rocksdb::Status Marks(std::vector<RowMark>* found) const;

 private:
  rocksdb::DB* db_;
  rocksdb::ColumnFamilyHandle* family_;
};

}  // namespace trireme::storage
