// What the store asks of the operating system, so that tests can put a disk under it that tears, drops and flips.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme::storage {

// An open file. Thread-safe. Errors name the path; ResourceExhausted = the disk is full.
class File {
 public:
  virtual ~File() = default;

  // Returns the number of bytes read, less than `size` only at the end of the file.
  virtual absl::StatusOr<size_t> Read(uint64_t offset, char* to, size_t size) const = 0;
  // Writes all of it or fails. Not durable before Sync.
  virtual absl::Status Write(uint64_t offset, std::string_view bytes) = 0;
  // What was written before is durable, and so is the size. After a failure nothing is known of it, and the file must
  // not be written again (Safety rule 16).
  virtual absl::Status Sync() = 0;
  virtual absl::StatusOr<uint64_t> Size() const = 0;
};

// Held while it lives.
class DirectoryLock {
 public:
  virtual ~DirectoryLock() = default;
};

// Thread-safe. What is created, renamed or removed is durable only after SyncDirectory of its directory.
class FileSystem {
 public:
  enum class Mode : uint8_t {
    kRead,
    kReadWrite,  // must exist
    kCreate,     // read and write; truncated if it exists
  };

  virtual ~FileSystem() = default;

  // NotFound if there is no such file (and it is not to be created).
  virtual absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, Mode mode) = 0;
  // The parent must exist; no error if the directory does.
  virtual absl::Status CreateDirectory(const std::string& path) = 0;
  // Names, without "." and "..", in no order. NotFound if there is no such directory.
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& directory) = 0;
  // Replaces `to` if it exists.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;
  virtual absl::Status SyncDirectory(const std::string& directory) = 0;
  // That this process may still write where the directory lies.
  virtual absl::StatusOr<uint64_t> FreeBytes(const std::string& directory) = 0;
  // Keeps other processes and other stores of this one off. FailedPrecondition, naming the directory and the holder's
  // process id where it is known, if it is held already. `file` is the lock file's name in it.
  virtual absl::StatusOr<std::unique_ptr<DirectoryLock>> Lock(const std::string& directory,
                                                              const std::string& file) = 0;
};

// The one of this machine. Lives as long as the process.
FileSystem* PosixFileSystem();

}  // namespace trireme::storage
