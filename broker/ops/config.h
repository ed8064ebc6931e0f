// What an operator can set. From a file, the environment, and flags, the later ones first.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme::broker {

// One entry, and so one message, must fit into a frame between nodes, with room around it.
inline constexpr uint64_t kMostMessageBytes = uint64_t{15} << 20;

struct Config {
  std::string data;
  std::string listen = "127.0.0.1:7650";
  std::string advertise;          // as listen, when empty
  std::vector<std::string> join;  // this node alone, when empty
  uint32_t shards = 1;
  std::chrono::milliseconds tick{50};
  int election_ticks = 10;
  std::chrono::milliseconds read_lease{0};     // 0 = none
  std::chrono::milliseconds hand_over{5'000};  // on a clean stop
  std::string log_level = "info";
  std::string metrics_listen;  // empty = none
  uint64_t young_log_bytes = uint64_t{512} << 20;
  uint64_t replica_lag_bytes = uint64_t{256} << 20;
  uint64_t replica_lag_entries = 1'000'000;
  uint32_t max_message_bytes = 3'670'016;  // 3.5 MiB
  uint64_t low_disk_bytes = uint64_t{1024} << 20;
};

// One option: the single source of --help, of the documentation, and of what the three places accept.
struct OptionSpec {
  std::string_view name;      // the flag without dashes; the file's key and TRIREME_NAME have _ for -
  std::string_view argument;  // what --help shows for the value, e.g. DIR
  std::string_view unit;      // "", "MiB", ...
  std::string_view default_text;
  std::string_view help;
  // INVALID_ARGUMENT names the value and the limit.
  absl::Status (*set)(Config& config, std::string_view value);
};
const std::vector<OptionSpec>& Options();

// What the command line asked for.
struct CommandLine {
  enum class Action : uint8_t { kRun, kPrint };
  Action action = Action::kRun;
  std::string text;  // to print, for kPrint
  Config config;
  std::vector<std::string> warnings;
};

// Reads flags (argv without the program's name), the environment ("NAME=value" each) and the file named by --config or
// TRIREME_CONFIG, and checks what they say together. INVALID_ARGUMENT or NOT_FOUND says which source holds what.
absl::StatusOr<CommandLine> ReadConfig(const std::vector<std::string>& args,
                                       const std::vector<std::string>& environment);

// "host:port", the port from `lowest` to 65,535. Splits off the port.
struct HostPort {
  std::string host;
  uint16_t port = 0;
};
absl::StatusOr<HostPort> ParseHostPort(std::string_view text, uint16_t lowest = 1);

// The options as a Markdown table.
std::string ConfigDocs();

}  // namespace trireme::broker
