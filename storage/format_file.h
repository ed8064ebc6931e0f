// The file by which a directory is known to hold a store, and of which kind.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "storage/file_system.h"

namespace trireme::storage {

struct Format {
  // Seeds the log's checksums, so that bytes of another store's log are never taken for this one's.
  uint32_t salt = 0;
  uint64_t segment_bytes = 0;
};

// Reads directory/FORMAT, or makes it with `fresh` where there is none and no log either. Errors: FailedPrecondition
// for another format or a later version, DataLoss when it is damaged or missing beside a log.
absl::StatusOr<Format> ReadOrMakeFormat(FileSystem* fs, const std::string& directory, const Format& fresh);

}  // namespace trireme::storage
