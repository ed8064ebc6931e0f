// The file by which a directory is known to hold a store, of which kind, and of how many segments.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/file_system.h"

namespace trireme::storage {

struct Format {
  // Seeds the log's checksums, so that bytes of another store's log are never taken for this one's.
  uint32_t salt = 0;
  uint64_t segment_bytes = 0;
  // Segments that were made, numbered from 1 on. Raised, durably, before each is used: so one that is lost is missed
  // (Safety rule 12). More may be there, unused. Version 2 did not count: 0.
  uint64_t segments = 0;
  // Whether it is of this program's version, and not an earlier one that is to be taken over by WriteFormat.
  bool current = true;
};

// Reads directory/FORMAT, or makes it with `fresh` where there is none and no log either. Errors: FailedPrecondition
// for another format or a later version, DataLoss when it is damaged, missing beside a log, or missing though it
// `must_exist`.
absl::StatusOr<Format> ReadOrMakeFormat(FileSystem* fs, const std::string& directory, const Format& fresh,
                                        bool must_exist);

// Durable, in place of the one before, when it returns.
absl::Status WriteFormat(FileSystem* fs, const std::string& directory, const Format& format);

// What an operator is told to do when the store has lost something.
extern const char kWhatToDoAboutLoss[];

}  // namespace trireme::storage
