// The command `trireme` as a function of its arguments.
#pragma once

#include <string>
#include <vector>

namespace trireme::client {

// Parses and runs; the exit code. What goes wrong is on standard error, each error with "trireme: " before it.
int RunProgram(const std::vector<std::string>& arguments);

}  // namespace trireme::client
