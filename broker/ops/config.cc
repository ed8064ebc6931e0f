#include "broker/ops/config.h"

#include <CLI/CLI.hpp>
// Compiled in here alone.
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "broker/ops/log.h"

namespace trireme::broker {
namespace {

absl::Status Bad(std::string_view value, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("\"", std::string(value), "\" ", why));
}

absl::StatusOr<uint64_t> Number(std::string_view text, uint64_t lowest, uint64_t highest) {
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error == std::errc::invalid_argument || end != text.data() + text.size()) {
    return Bad(text, absl::StrCat("is not a whole number from ", lowest, " to ", highest));
  }
  if (error == std::errc::result_out_of_range || value < lowest || value > highest) {
    return Bad(text, absl::StrCat("is out of range: it takes ", lowest, " to ", highest));
  }
  return value;
}

// Sets a number, multiplied by `scale`.
template <auto member, uint64_t lowest, uint64_t highest, uint64_t scale = 1>
absl::Status SetNumber(Config& config, std::string_view text) {
  absl::StatusOr<uint64_t> value = Number(text, lowest, highest);
  if (!value.ok()) return value.status();
  using Field = std::remove_reference_t<decltype(config.*member)>;
  config.*member = static_cast<Field>(*value * scale);
  return absl::OkStatus();
}

template <auto member>
absl::Status SetAddress(Config& config, std::string_view text) {
  absl::StatusOr<HostPort> parsed = ParseHostPort(text);
  if (!parsed.ok()) return parsed.status();
  config.*member = std::string(text);
  return absl::OkStatus();
}

absl::Status SetData(Config& config, std::string_view text) {
  if (text.empty()) return Bad(text, "is no directory: it must not be empty");
  config.data = std::string(text);
  return absl::OkStatus();
}

absl::Status SetJoin(Config& config, std::string_view text) {
  constexpr size_t kMost = 15;
  std::vector<std::string> list;
  for (const auto& part : absl::StrSplit(std::string(text), ',', absl::SkipWhitespace())) {
    std::string address(absl::StripAsciiWhitespace(part));
    absl::StatusOr<HostPort> parsed = ParseHostPort(address);
    if (!parsed.ok()) return parsed.status();
    if (std::find(list.begin(), list.end(), address) != list.end()) {
      return Bad(text, absl::StrCat("names ", address, " twice"));
    }
    list.push_back(std::move(address));
  }
  if (list.size() > kMost) return Bad(text, absl::StrCat("names ", list.size(), " nodes; the limit is ", kMost));
  config.join = std::move(list);
  return absl::OkStatus();
}

absl::Status SetMaxMessageBytes(Config& config, std::string_view text) {
  absl::Status set = SetNumber<&Config::max_message_bytes, 1024, kMostMessageBytes>(config, text);
  if (set.ok()) return set;
  return absl::Status(set.code(), absl::StrCat(set.message(), "; a message must fit into one frame between nodes"));
}

template <auto Field, uint64_t kLowest, uint64_t kHighest>
absl::Status SetMilliseconds(Config& config, std::string_view text) {
  absl::StatusOr<uint64_t> value = Number(text, kLowest, kHighest);
  if (!value.ok()) return value.status();
  config.*Field = std::chrono::milliseconds(*value);
  return absl::OkStatus();
}

absl::Status SetLevel(Config& config, std::string_view text) {
  constexpr std::array<std::string_view, 4> kLevels = {"debug", "info", "warn", "error"};
  if (std::find(kLevels.begin(), kLevels.end(), text) == kLevels.end()) {
    return Bad(text, "is none of debug, info, warn, error");
  }
  config.log_level = std::string(text);
  return absl::OkStatus();
}

absl::Status SetMetricsListen(Config& config, std::string_view text) {
  if (!text.empty()) {
    absl::StatusOr<HostPort> parsed = ParseHostPort(text, /*lowest=*/0);
    if (!parsed.ok()) return parsed.status();
  }
  config.metrics_listen = std::string(text);
  return absl::OkStatus();
}

std::string Underscored(std::string_view name) {
  return absl::StrReplaceAll(std::string(name), {{"-", "_"}});
}
std::string EnvironmentName(std::string_view name) {
  return absl::StrCat("TRIREME_", absl::AsciiStrToUpper(Underscored(name)));
}

const OptionSpec* Find(const std::vector<OptionSpec>& options, const std::string& underscored) {
  for (const OptionSpec& option : options) {
    if (Underscored(option.name) == underscored) return &option;
  }
  return nullptr;
}

absl::Status Set(const OptionSpec& option, Config& config, const std::string& source, std::string_view value) {
  absl::Status status = option.set(config, value);
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(source, ": ", status.message()));
}

absl::StatusOr<std::string> TomlValue(const toml::node& node) {
  if (auto text = node.value_exact<std::string>()) return *text;
  if (auto number = node.value_exact<int64_t>()) return absl::StrCat(*number);
  if (const toml::array* array = node.as_array()) {
    std::vector<std::string> parts;
    for (const toml::node& item : *array) {
      auto text = item.value_exact<std::string>();
      if (!text.has_value()) return absl::InvalidArgumentError("a list takes strings only");
      parts.push_back(*text);
    }
    return absl::StrJoin(parts, ",");
  }
  return absl::InvalidArgumentError("takes a string, a whole number, or a list of strings");
}

// `source` has named the file: --config or TRIREME_CONFIG.
absl::Status ReadFile(const std::string& path, const char* source, Config& config) {
  const auto bad = [&](const std::string& why) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": \"", path, "\" ", why));
  };
  std::error_code error;
  const std::filesystem::file_status found = std::filesystem::status(path, error);
  if (found.type() == std::filesystem::file_type::not_found) return bad("is not there: it takes a TOML file");
  if (error) return bad(absl::StrCat("cannot be read: ", error.message()));
  // A directory can be opened, and then holds nothing.
  if (found.type() == std::filesystem::file_type::directory) return bad("is a directory: it takes a TOML file");
  toml::table table;
  try {  // toml++ reports by exception; nothing throws past here
    table = toml::parse_file(path);
  } catch (const toml::parse_error& failure) {
    if (failure.source().begin.line == 0) return bad(absl::StrCat("cannot be read: ", failure.what()));
    return absl::InvalidArgumentError(
        absl::StrCat(path, ", line ", failure.source().begin.line, ": ", std::string(failure.description())));
  }
  for (const auto& [key, node] : table) {
    std::string name(key.str());
    std::string place = absl::StrCat(path, ", line ", node.source().begin.line, ": ", name);
    const OptionSpec* option = Find(Options(), name);
    if (option == nullptr) return absl::InvalidArgumentError(absl::StrCat(place, ": no such option"));
    absl::StatusOr<std::string> value = TomlValue(node);
    if (!value.ok()) return absl::InvalidArgumentError(absl::StrCat(place, ": ", value.status().message()));
    absl::Status status = Set(*option, config, place, *value);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

bool Wildcard(const std::string& host) {
  return host == "0.0.0.0" || host == "::" || host == "[::]" || host == "*";
}

// What the options say together.
absl::Status Complete(Config& config) {
  if (config.data.empty()) {
    return absl::InvalidArgumentError("no data directory: name one with --data, TRIREME_DATA or the file's data");
  }
  if (config.advertise.empty()) {
    absl::StatusOr<HostPort> listen = ParseHostPort(config.listen);
    if (!listen.ok()) return listen.status();
    if (Wildcard(listen->host)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--listen ", config.listen,
                       " is every address of this machine: say with --advertise which one others reach"));
    }
    config.advertise = config.listen;
  }
  if (config.join.empty()) config.join = {config.advertise};
  if (std::find(config.join.begin(), config.join.end(), config.advertise) == config.join.end()) {
    return absl::InvalidArgumentError(absl::StrCat("--advertise ", config.advertise, " is not on the join list ",
                                                   absl::StrJoin(config.join, ","),
                                                   ": the list names every node, this one included, as it advertises"));
  }
  return absl::OkStatus();
}

std::string HelpText(const OptionSpec& option) {
  std::string text(option.help);
  if (!option.unit.empty()) absl::StrAppend(&text, " In ", std::string(option.unit), ".");
  return absl::StrCat(text, " Default: ", std::string(option.default_text));
}

}  // namespace

const std::vector<OptionSpec>& Options() {
  static const auto& options = *new std::vector<OptionSpec>{
      {"data", "DIR", "", "none, must be named", "The node's data directory; made if it is not there.", &SetData},
      {"listen", "HOST:PORT", "", "127.0.0.1:7650", "Where clients and other nodes are served.",
       &SetAddress<&Config::listen>},
      {"advertise", "HOST:PORT", "", "as --listen",
       "How clients and other nodes reach this node. Part of its identity.", &SetAddress<&Config::advertise>},
      {"join", "ADDR,ADDR,...", "", "this node alone",
       "The nodes to form a cluster with, as they advertise themselves, this one included; the same on each.",
       &SetJoin},
      {"shards", "N", "", "1", "Threads that serve queues. Must be the same on every node of a cluster. 1 to 64.",
       &SetNumber<&Config::shards, 1, 64>},
      {"tick-ms", "N", "milliseconds", "50", "Raft's clock: heartbeats are sent at this interval. 5 to 10000.",
       &SetMilliseconds<&Config::tick, 5, 10'000>},
      {"election-ticks", "N", "ticks", "10",
       "Without a leader for this long, to twice as long, a replica starts an election. 3 to 1000.",
       &SetNumber<&Config::election_ticks, 3, 1000>},
      {"read-lease-ms", "N", "milliseconds", "0",
       "A leader that a majority answered serves reads for so long without asking again, and for so long nobody else "
       "is elected. Only where no machine's clock runs wrong by more than 5 % or stands still while the machine goes "
       "on, so not where virtual machines are suspended or moved. The same on every node. 0 = it asks each time. 0 to "
       "10000.",
       &SetMilliseconds<&Config::read_lease, 0, 10'000>},
      {"hand-over-ms", "N", "milliseconds", "5000",
       "On SIGTERM or SIGINT this node hands the queues that it leads to others before it stops serving, and waits so "
       "long for that at most. 0 = not at all. 0 to 600000.",
       &SetMilliseconds<&Config::hand_over, 0, 600'000>},
      {"log-level", "LEVEL", "", "info", "debug, info, warn or error.", &SetLevel},
      {"metrics-listen", "HOST:PORT", "", "none",
       "Where /metrics (Prometheus), /healthz and /readyz are served over HTTP. Port 0 picks a free one.",
       &SetMetricsListen},
      {"young-log-mb", "N", "MiB", "512",
       "How much of the write-ahead log is kept before what is still alive in it moves to RocksDB. 128 to 1048576.",
       &SetNumber<&Config::young_log_bytes, 128, 1'048'576, (uint64_t{1} << 20)>},
      {"replica-lag-mb", "N", "MiB", "256",
       "How much of a queue's log is kept for a replica that is away or slow. Beyond it the log goes, and the replica "
       "gets the queue's state instead once it is back. 1 to 1048576.",
       &SetNumber<&Config::replica_lag_bytes, 1, 1'048'576, (uint64_t{1} << 20)>},
      {"replica-lag-entries", "N", "entries", "1000000",
       "The same, as a number of the log's entries; what is reached first counts. 1000 to 1000000000.",
       &SetNumber<&Config::replica_lag_entries, 1000, 1'000'000'000>},
      {"max-message-bytes", "N", "bytes", "3670016",
       "The largest message that is taken. No more than fits a frame between nodes, of 16 MiB, with room around it. "
       "1024 to 15728640.",
       &SetMaxMessageBytes},
      {"low-disk-mb", "N", "MiB", "1024",
       "With less free space than this where the data lies, publishing is refused. 0 = never. 0 to 1073741824.",
       &SetNumber<&Config::low_disk_bytes, 0, 1'073'741'824, (uint64_t{1} << 20)>},
  };
  return options;
}

absl::StatusOr<HostPort> ParseHostPort(std::string_view text, uint16_t lowest) {
  constexpr size_t kMostBytes = 255;
  if (text.size() > kMostBytes) {
    return Bad(text.substr(0, 64), absl::StrCat("... has ", text.size(), " bytes; the limit is ", kMostBytes));
  }
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return Bad(text, "is no address: it takes host:port");
  HostPort out;
  out.host = std::string(text.substr(0, colon));
  bool bracketed = out.host.size() > 2 && out.host.front() == '[' && out.host.back() == ']';
  for (char c : out.host) {
    bool allowed = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '_' ||
                   (bracketed && (c == ':' || c == '[' || c == ']'));
    if (!allowed) return Bad(text, "is no address: it takes host:port, an IPv6 host in brackets");
  }
  absl::StatusOr<uint64_t> port = Number(text.substr(colon + 1), lowest, 65'535);
  if (!port.ok()) return Bad(text, absl::StrCat("has a bad port: ", port.status().message()));
  out.port = static_cast<uint16_t>(*port);
  return out;
}

std::string ConfigDocs() {
  std::string out =
      "| flag | environment | file | unit | default | meaning |\n"
      "| --- | --- | --- | --- | --- | --- |\n";
  for (const OptionSpec& option : Options()) {
    absl::StrAppend(&out, "| `--", std::string(option.name), " ", std::string(option.argument), "` | `",
                    EnvironmentName(option.name), "` | `", Underscored(option.name), "` | ", std::string(option.unit),
                    " | ", std::string(option.default_text), " | ", std::string(option.help), " |\n");
  }
  return out;
}

absl::StatusOr<CommandLine> ReadConfig(const std::vector<std::string>& args,
                                       const std::vector<std::string>& environment) {
  CommandLine out;
  CLI::App app{
      "A node of a Trireme cluster. Options come from a file, the environment (TRIREME_ and the option's name in "
      "capitals,\n"
      "_ for -) and flags; the later ones win. Once every node of the join list runs, say `trireme cluster init` to "
      "one.",
      "trireme-broker"};
  app.footer(
      "Examples:\n"
      "  trireme-broker --data /var/lib/trireme --listen 127.0.0.1:7650\n"
      "  trireme-broker --data /var/lib/trireme --listen 0.0.0.0:7650 --advertise a:7650 --join a:7650,b:7650,c:7650");
  std::string file;
  std::string file_source = "--config";
  bool print_docs = false;
  bool print_version = false;
  app.add_option("--config", file, "A TOML file with these options, without dashes and with _ for -. TRIREME_CONFIG")
      ->type_name("FILE");
  app.add_flag("--print-config-docs", print_docs, "Prints the options as a Markdown table");
  app.add_flag("--version", print_version, "Prints the version");
  std::map<std::string_view, std::optional<std::string>> flags;
  for (const OptionSpec& option : Options()) {
    app.add_option(absl::StrCat("--", std::string(option.name)), flags[option.name], HelpText(option))
        ->type_name(std::string(option.argument));
  }
  try {  // CLI11 reports by exception; nothing throws past here
    std::vector<std::string> reversed(args.rbegin(), args.rend());
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    out.action = CommandLine::Action::kPrint;
    out.text = app.help();
    return out;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  if (print_docs || print_version) {
    out.action = CommandLine::Action::kPrint;
    out.text = print_docs ? ConfigDocs() : absl::StrCat(TRIREME_VERSION, "\n");
    return out;
  }

  std::vector<std::pair<const OptionSpec*, std::string>> from_environment;
  for (const std::string& variable : environment) {
    std::vector<std::string> parts = absl::StrSplit(variable, absl::MaxSplits('=', 1));
    if (parts.size() != 2 || parts[0].rfind("TRIREME_", 0) != 0) continue;
    if (parts[0] == "TRIREME_CONFIG") {
      if (file.empty()) {
        file = parts[1];
        file_source = parts[0];
      }
      continue;
    }
    const OptionSpec* option = nullptr;
    for (const OptionSpec& candidate : Options()) {
      if (EnvironmentName(candidate.name) == parts[0]) option = &candidate;
    }
    if (option != nullptr) {
      from_environment.emplace_back(option, parts[1]);
    } else if (parts[0] != "TRIREME_SERVER") {  // the command's
      out.warnings.push_back(absl::StrCat("environment variable ", parts[0], " is no option"));
    }
  }

  if (!file.empty()) {
    absl::Status status = ReadFile(file, file_source.c_str(), out.config);
    if (!status.ok()) return status;
  }
  for (const auto& [option, value] : from_environment) {
    absl::Status status = Set(*option, out.config, EnvironmentName(option->name), value);
    if (!status.ok()) return status;
  }
  for (const OptionSpec& option : Options()) {
    const std::optional<std::string>& value = flags[option.name];
    if (!value.has_value()) continue;
    absl::Status status = Set(option, out.config, absl::StrCat("--", std::string(option.name)), *value);
    if (!status.ok()) return status;
  }
  absl::Status status = Complete(out.config);
  if (!status.ok()) return status;
  return out;
}

}  // namespace trireme::broker
