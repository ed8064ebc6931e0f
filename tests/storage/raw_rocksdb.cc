#include "tests/storage/raw_rocksdb.h"

#include "raft/core/check.h"
#include "rocksdb/write_batch.h"
#include "tests/storage/rocksdb_adapter.h"

namespace trireme::storage {
namespace {

uint64_t Number(const rocksdb::Slice& key, size_t at) {
  TRIREME_CHECK(key.size() >= at + 8) << "a key of " << key.size() << " bytes";
  uint64_t v = 0;
  for (size_t i = at; i < at + 8; ++i) v = v << 8 | static_cast<uint8_t>(key[i]);
  return v;
}

}  // namespace

RawRocksDb::RawRocksDb(FaultFileSystem* disk) : env_(MakeRocksDbEnv(disk)) {
  rocksdb::DBOptions options;
  options.env = env_.get();
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const char* name : {"default", "log", "raft", "state", "index"}) {
    rocksdb::ColumnFamilyOptions family;
    family.disable_auto_compactions = true;
    families.emplace_back(name, family);
  }
  rocksdb::DB* opened = nullptr;
  rocksdb::Status s = rocksdb::DB::Open(options, "/disk/store/old", families, &families_, &opened);
  TRIREME_CHECK(s.ok()) << s.ToString();
  db_.reset(opened);
}

RawRocksDb::~RawRocksDb() {
  for (rocksdb::ColumnFamilyHandle* family : families_) db_->DestroyColumnFamilyHandle(family);
}

rocksdb::ColumnFamilyHandle* RawRocksDb::Family(const std::string& name) {
  for (rocksdb::ColumnFamilyHandle* family : families_) {
    if (family->GetName() == name) return family;
  }
  TRIREME_CHECK(false) << "no family " << name;
  return nullptr;
}

std::set<uint64_t> RawRocksDb::GenerationsOf(raft::GroupId group, const std::string& family) {
  std::set<uint64_t> found;
  std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(rocksdb::ReadOptions(), Family(family)));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    if (Number(it->key(), 0) == group.value()) found.insert(Number(it->key(), 8));
  }
  return found;
}

void RawRocksDb::Drop(const std::string& family) {
  rocksdb::Status s = db_->DropColumnFamily(Family(family));
  TRIREME_CHECK(s.ok()) << s.ToString();
}

void RawRocksDb::Rewrite(const std::string& family, const std::function<void(std::string*)>& change) {
  RewriteKeys(family, [&](std::string*, std::string* value) { change(value); });
}

void RawRocksDb::RewriteKeys(const std::string& family,
                             const std::function<void(std::string* key, std::string* value)>& change) {
  std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(rocksdb::ReadOptions(), Family(family)));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    std::string key = it->key().ToString(), value = it->value().ToString();
    change(&key, &value);
    rocksdb::WriteBatch batch;
    rocksdb::Status s = batch.Delete(Family(family), it->key());
    if (s.ok()) s = batch.Put(Family(family), key, value);
    if (s.ok()) s = db_->Write(rocksdb::WriteOptions(), &batch);
    TRIREME_CHECK(s.ok()) << s.ToString();
  }
  rocksdb::Status s = db_->Flush(rocksdb::FlushOptions(), families_);
  TRIREME_CHECK(s.ok()) << s.ToString();
}

}  // namespace trireme::storage
