// Small files that are read and written as a whole.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme::broker {

// Nothing if there is none. DATA_LOSS if it is larger than a mebibyte; else what the system says, naming the path.
absl::StatusOr<std::optional<std::string>> ReadSmallFile(const std::string& path);
// Durable when it returns: a temporary file `name`.new, synced, renamed over the old one, the directory synced. After a
// crash the file is the old one or the new one.
absl::Status WriteDurably(const std::string& directory, const std::string& name, std::string_view bytes);
// Makes the names in a directory durable.
absl::Status SyncDirectory(const std::string& path);

}  // namespace trireme::broker
