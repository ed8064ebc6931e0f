#include "client/bench/process_usage.h"

#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace trireme::client {
namespace {

// The number after "NAME:" in a file of such lines; 0 where there is none.
uint64_t Field(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, name.size() + 1, name + ":") == 0)
      return std::stoull("0" + line.substr(line.find_first_of("0123456789")));
  }
  return 0;
}

}  // namespace

absl::StatusOr<ProcessUsage> ReadProcessUsage(pid_t pid) {
  const std::string folder = absl::StrCat("/proc/", pid);
  std::ifstream file(folder + "/stat");
  std::string stat;
  // The second field, a name in brackets, may hold blanks.
  if (!std::getline(file, stat) || stat.rfind(')') == std::string::npos) {
    return absl::NotFoundError(absl::StrCat("no process ", pid, " on this machine"));
  }
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string skipped;
  // From field 3 (state) to field 13.
  for (int field = 3; field < 14; ++field) fields >> skipped;
  uint64_t user = 0, system = 0;
  fields >> user >> system;
  ProcessUsage usage;
  usage.pid = pid;
  usage.cpu_seconds = static_cast<double>(user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
  usage.resident_bytes = Field(folder + "/status", "VmRSS") * 1024;
  usage.peak_resident_bytes = Field(folder + "/status", "VmHWM") * 1024;
  usage.written_bytes = Field(folder + "/io", "write_bytes");
  return usage;
}

}  // namespace trireme::client
