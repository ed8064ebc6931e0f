#include "storage/row_family.h"

#include <memory>

#include "rocksdb/utilities/table_properties_collectors.h"
#include "storage/old_keys.h"

namespace trireme::storage {

using raft::GroupId;
using raft::Index;
using raft::RowChange;

namespace {

// A file with so many deletions among so many neighbouring keys is compacted soon: scans pass them one by one.
constexpr size_t kDeletionWindow = 4096;
constexpr size_t kDeletionsMax = 2048;
// Values of this size lie apart from the tree, so that they are not rewritten with it.
constexpr uint64_t kBlobBytes = 4096;

}  // namespace

rocksdb::ColumnFamilyOptions RowFamily::Options(rocksdb::ColumnFamilyOptions options) {
  options.table_properties_collector_factories.push_back(
      rocksdb::NewCompactOnDeletionCollectorFactory(kDeletionWindow, kDeletionsMax));
  options.enable_blob_files = true;
  options.min_blob_size = kBlobBytes;
  options.blob_compression_type = rocksdb::kNoCompression;
  // Compactions, which deletions bring about, take over what is alive in the oldest files: rows are erased about in the
  // order in which they came, so that is little.
  options.enable_blob_garbage_collection = true;
  return options;
}

rocksdb::Status RowFamily::Change(rocksdb::WriteBatch* batch, GroupId group, uint64_t generation, Index mark,
                                  absl::Span<const RowChange> changes) const {
  const std::string prefix = GenerationKey(group, generation);
  rocksdb::Status s;
  for (const RowChange& change : changes) {
    const std::string key = prefix + change.key;
    switch (change.kind) {
      case RowChange::Kind::kPut:
        s = batch->Put(family_, key, change.value);
        break;
      case RowChange::Kind::kErase:
        s = batch->Delete(family_, key);
        break;
      case RowChange::Kind::kEraseRange:
        s = batch->DeleteRange(family_, key,
                               change.value.empty() ? GenerationKey(group, generation + 1) : prefix + change.value);
        break;
    }
    if (!s.ok()) return s;
  }
  std::string value;
  PutBig(&value, mark.value(), 8);
  return batch->Put(family_, prefix, value);
}

rocksdb::Status RowFamily::Delete(rocksdb::WriteBatch* batch, const std::string& from, const std::string& to) const {
  std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(rocksdb::ReadOptions(), family_));
  it->Seek(from);
  if (!it->status().ok()) return it->status();
  if (!it->Valid() || it->key().compare(to) >= 0) return rocksdb::Status::OK();
  return batch->DeleteRange(family_, from, to);
}

rocksdb::Status RowFamily::Scan(GroupId group, uint64_t generation, const std::string& from, const std::string& to,
                                size_t max_bytes, raft::RowPage* page) const {
  const std::string prefix = GenerationKey(group, generation);
  const std::string end = to.empty() ? GenerationKey(group, generation + 1) : prefix + to;
  const rocksdb::Slice bound(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &bound;
  options.fill_cache = false;
  // One iterator, so that mark and rows are of one moment.
  std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options, family_));
  it->Seek(prefix);
  if (it->Valid() && it->key() == rocksdb::Slice(prefix)) {
    if (it->value().size() != 8) return rocksdb::Status::Corruption("the mark of a group's rows");
    page->mark = Index(GetBig(it->value().data(), 8));
  }
  size_t bytes = 0;
  // Behind the mark, whatever `from` is.
  for (it->Seek(prefix + (from.empty() ? std::string(1, '\0') : from)); it->Valid(); it->Next()) {
    const size_t size = it->key().size() - kGenerationKeyBytes + it->value().size();
    page->more = !page->rows.empty() && bytes + size > max_bytes;
    if (page->more) break;
    bytes += size;
    page->rows.push_back({std::string(it->key().ToStringView().substr(kGenerationKeyBytes)), it->value().ToString()});
  }
  return it->status();
}

rocksdb::Status RowFamily::Marks(std::vector<RowMark>* found) const {
  std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(rocksdb::ReadOptions(), family_));
  it->SeekToFirst();
  while (it->Valid()) {
    if (it->key().size() != kGenerationKeyBytes || it->value().size() != 8) {
      return rocksdb::Status::Corruption("rows without a mark, at " + it->key().ToString(true));
    }
    found->push_back(
        {GroupId(GetBig(it->key().data(), 8)), GetBig(it->key().data() + 8, 8), Index(GetBig(it->value().data(), 8))});
    it->Seek(GenerationKey(found->back().group, found->back().generation + 1));
  }
  return it->status();
}

}  // namespace trireme::storage
