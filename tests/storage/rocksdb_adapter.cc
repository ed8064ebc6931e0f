#include "tests/storage/rocksdb_adapter.h"

#include "absl/strings/str_cat.h"
#include "rocksdb/env.h"
#include "rocksdb/file_system.h"
#include "rocksdb/system_clock.h"

namespace trireme::storage {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

IOStatus Convert(const absl::Status& s) {
  if (s.ok()) return IOStatus::OK();
  std::string text(s.message());
  if (absl::IsResourceExhausted(s)) return IOStatus::NoSpace(text);
  return absl::IsNotFound(s) ? IOStatus::PathNotFound(text) : IOStatus::IOError(text);
}

class Readable final : public rocksdb::FSRandomAccessFile {
 public:
  explicit Readable(std::unique_ptr<File> file) : file_(std::move(file)) {}
  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    absl::StatusOr<size_t> got = file_->Read(offset, scratch, n);
    if (!got.ok()) return Convert(got.status());
    *result = Slice(scratch, *got);
    return IOStatus::OK();
  }

 private:
  const std::unique_ptr<File> file_;
};

class Sequential final : public rocksdb::FSSequentialFile {
 public:
  explicit Sequential(std::unique_ptr<File> file) : file_(std::move(file)) {}
  IOStatus Read(size_t n, const IOOptions&, Slice* result, char* scratch, IODebugContext*) override {
    absl::StatusOr<size_t> got = file_->Read(at_, scratch, n);
    if (!got.ok()) return Convert(got.status());
    at_ += *got;
    *result = Slice(scratch, *got);
    return IOStatus::OK();
  }
  IOStatus Skip(uint64_t n) override {
    at_ += n;
    return IOStatus::OK();
  }

 private:
  const std::unique_ptr<File> file_;
  uint64_t at_ = 0;
};

class Writable final : public rocksdb::FSWritableFile {
 public:
  Writable(std::unique_ptr<File> file, uint64_t at) : file_(std::move(file)), at_(at) {}
  using rocksdb::FSWritableFile::Append;
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    absl::Status s = file_->Write(at_, {data.data(), data.size()});
    if (s.ok()) at_ += data.size();
    return Convert(s);
  }
  IOStatus Truncate(uint64_t, const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override { return Convert(file_->Sync()); }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override { return at_; }

 private:
  const std::unique_ptr<File> file_;
  uint64_t at_;
};

class Directory final : public rocksdb::FSDirectory {
 public:
  Directory(FaultFileSystem* fs, std::string path) : fs_(fs), path_(std::move(path)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override { return Convert(fs_->SyncDirectory(path_)); }

 private:
  FaultFileSystem* const fs_;
  const std::string path_;
};

class Lock final : public rocksdb::FileLock {
 public:
  explicit Lock(std::unique_ptr<DirectoryLock> held) : held_(std::move(held)) {}

 private:
  const std::unique_ptr<DirectoryLock> held_;
};

class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
  size_t GetLogFileSize() const override { return 0; }
};

class Adapter final : public rocksdb::FileSystem {
 public:
  explicit Adapter(FaultFileSystem* fs) : fs_(fs) {}
  const char* Name() const override { return "FaultFileSystem"; }

  IOStatus NewSequentialFile(const std::string& path, const FileOptions&,
                             std::unique_ptr<rocksdb::FSSequentialFile>* result, IODebugContext*) override {
    auto file = fs_->Open(Clean(path), FaultFileSystem::Mode::kRead);
    if (file.ok()) *result = std::make_unique<Sequential>(*std::move(file));
    return Convert(file.status());
  }
  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions&,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* result, IODebugContext*) override {
    auto file = fs_->Open(Clean(path), FaultFileSystem::Mode::kRead);
    if (file.ok()) *result = std::make_unique<Readable>(*std::move(file));
    return Convert(file.status());
  }
  IOStatus NewWritableFile(const std::string& path, const FileOptions&,
                           std::unique_ptr<rocksdb::FSWritableFile>* result, IODebugContext*) override {
    auto file = fs_->Open(Clean(path), FaultFileSystem::Mode::kCreate);
    if (file.ok()) *result = std::make_unique<Writable>(*std::move(file), 0);
    return Convert(file.status());
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions&, std::unique_ptr<rocksdb::FSDirectory>* result,
                        IODebugContext*) override {
    *result = std::make_unique<Directory>(fs_, Clean(path));
    return IOStatus::OK();
  }
  IOStatus FileExists(const std::string& path, const IOOptions&, IODebugContext*) override {
    if (fs_->IsDirectory(Clean(path))) return IOStatus::OK();
    absl::Status s = fs_->Open(Clean(path), FaultFileSystem::Mode::kRead).status();
    return absl::IsNotFound(s) ? IOStatus::NotFound() : Convert(s);
  }
  IOStatus GetChildren(const std::string& path, const IOOptions&, std::vector<std::string>* result,
                       IODebugContext*) override {
    auto names = fs_->List(Clean(path));
    if (names.ok()) *result = *names;
    return Convert(names.status());
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) override {
    return Convert(fs_->Remove(Clean(path)));
  }
  IOStatus CreateDir(const std::string& path, const IOOptions&, IODebugContext*) override {
    return Convert(fs_->CreateDirectory(Clean(path)));
  }
  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions&, IODebugContext*) override {
    return Convert(fs_->CreateDirectory(Clean(path)));
  }
  IOStatus DeleteDir(const std::string&, const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus GetFileSize(const std::string& path, const IOOptions&, uint64_t* size, IODebugContext*) override {
    auto file = fs_->Open(Clean(path), FaultFileSystem::Mode::kRead);
    if (!file.ok()) return Convert(file.status());
    auto bytes = (*file)->Size();
    if (bytes.ok()) *size = *bytes;
    return Convert(bytes.status());
  }
  IOStatus GetFileModificationTime(const std::string&, const IOOptions&, uint64_t* time, IODebugContext*) override {
    *time = 0;
    return IOStatus::OK();
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions&, IODebugContext*) override {
    return Convert(fs_->Rename(Clean(from), Clean(to)));
  }
  IOStatus LockFile(const std::string& path, const IOOptions&, rocksdb::FileLock** lock, IODebugContext*) override {
    std::string clean = Clean(path);
    size_t slash = clean.rfind('/');
    auto held = fs_->Lock(clean.substr(0, slash), clean.substr(slash + 1));
    if (held.ok()) *lock = new Lock(*std::move(held));
    return Convert(held.status());
  }
  IOStatus UnlockFile(rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) override {
    delete lock;
    return IOStatus::OK();
  }
  IOStatus GetTestDirectory(const IOOptions&, std::string* path, IODebugContext*) override {
    *path = "/test";
    return IOStatus::OK();
  }
  IOStatus NewLogger(const std::string&, const IOOptions&, std::shared_ptr<rocksdb::Logger>* result,
                     IODebugContext*) override {
    *result = std::make_shared<NoLog>();
    return IOStatus::OK();
  }
  IOStatus GetAbsolutePath(const std::string& path, const IOOptions&, std::string* result, IODebugContext*) override {
    *result = path;
    return IOStatus::OK();
  }
  IOStatus IsDirectory(const std::string& path, const IOOptions&, bool* is, IODebugContext*) override {
    *is = fs_->IsDirectory(Clean(path));
    return IOStatus::OK();
  }

 private:
  // Without doubled or trailing slashes.
  static std::string Clean(const std::string& path) {
    std::string clean;
    for (char c : path) {
      if (c != '/' || clean.empty() || clean.back() != '/') clean.push_back(c);
    }
    while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
    return clean;
  }

  FaultFileSystem* const fs_;
};

class NoSleepClock final : public rocksdb::SystemClockWrapper {
 public:
  NoSleepClock() : SystemClockWrapper(rocksdb::SystemClock::Default()) {}
  const char* Name() const override { return "NoSleepClock"; }
  void SleepForMicroseconds(int) override {}
};

class TestEnv final : public rocksdb::EnvWrapper {
 public:
  explicit TestEnv(const std::shared_ptr<rocksdb::FileSystem>& fs) : EnvWrapper(rocksdb::NewCompositeEnv(fs)) {
    system_clock_ = std::make_shared<NoSleepClock>();
  }
};

}  // namespace

std::shared_ptr<rocksdb::Env> MakeRocksDbEnv(FaultFileSystem* fs) {
  return std::make_shared<TestEnv>(std::make_shared<Adapter>(fs));
}

}  // namespace trireme::storage
