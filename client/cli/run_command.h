// Another program, run with some bytes as its input.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace trireme::client {

// What `/bin/sh -c command` writes to its standard output, given `input`. Its standard error is ours.
// FAILED_PRECONDITION: it ended with another code than 0, or by a signal. RESOURCE_EXHAUSTED: it wrote more than
// `limit` bytes. INTERNAL: it could not be run.
absl::StatusOr<std::string> RunShell(const std::string& command, std::string_view input, size_t limit);

}  // namespace trireme::client
