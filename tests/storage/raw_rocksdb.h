// The store's RocksDB as it lies on the disk, past the store, which must be closed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "raft/core/types.h"
#include "rocksdb/db.h"
#include "tests/storage/fault_file_system.h"

namespace trireme::storage {

class RawRocksDb {
 public:
  explicit RawRocksDb(FaultFileSystem* disk);
  ~RawRocksDb();

  // Of the group's entries; or of what it has in another family whose keys begin like theirs.
  std::set<uint64_t> GenerationsOf(raft::GroupId group, const std::string& family = "log");
  // As a directory of an earlier version has none.
  void Drop(const std::string& family);
  // Changes the values of a family, "log", "raft" or "state", behind RocksDB's own checksums; and their keys.
  void Rewrite(const std::string& family, const std::function<void(std::string*)>& change);
  void RewriteKeys(const std::string& family, const std::function<void(std::string* key, std::string* value)>& change);

 private:
  rocksdb::ColumnFamilyHandle* Family(const std::string& name);

  std::shared_ptr<rocksdb::Env> env_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
};

}  // namespace trireme::storage
