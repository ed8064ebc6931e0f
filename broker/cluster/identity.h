// Whose a data directory is: its own id, the cluster that it pledged to, the node that it belongs to (Safety rule 23).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trireme/meta/v1/meta.pb.h"

namespace trireme::broker {

inline constexpr size_t kIdBytes = 16;

// Bytes as lower-case hexadecimal, the form in which ids are shown.
std::string ToHex(std::string_view bytes);

// A data directory, held by this process alone. Not thread-safe.
class DataDirectory {
 public:
  // Makes the directory where there is none, locks it, and reads whose it is; a new one gets an id of its own. Counts
  // the start, durably. Refuses, naming the path and what is wrong:
  //   UNAVAILABLE          another process holds it
  //   DATA_LOSS            the identity is damaged
  //   FAILED_PRECONDITION  it belongs to a node at another address, or holds data but no identity, or was condemned
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(const std::string& path, const std::string& address);
  ~DataDirectory();
  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;

  // From now on no process starts on that directory: what is in it may have forgotten something (Safety rule 12).
  // Durable when it returns. Any thread.
  static absl::Status Condemn(const std::string& path, const absl::Status& why);

  const std::string& path() const { return path_; }
  // Of this start: made of chance, not 0.
  uint64_t nonce() const { return nonce_; }
  const trireme::meta::v1::Identity& identity() const { return identity_; }
  // Durable when it returns (a temporary file, synced, renamed over the old one, the directory synced). On an error the
  // old identity stands, in memory and, unless the disk failed, on disk.
  absl::Status Save(const trireme::meta::v1::Identity& identity);

 private:
  DataDirectory(std::string path, int lock_fd);

  const std::string path_;
  const int lock_fd_;
  const uint64_t nonce_;
  trireme::meta::v1::Identity identity_;
};

// The file's content, for tests and tools. DATA_LOSS for anything but what EncodeIdentity made.
std::string EncodeIdentity(const trireme::meta::v1::Identity& identity);
absl::StatusOr<trireme::meta::v1::Identity> DecodeIdentity(std::string_view file);

}  // namespace trireme::broker
