#include "client/cli/command.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/error.h"

namespace trireme::client {

namespace {

// What exit codes and JSON say of a status.
int CodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitNoAnswer;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kUnknown:
      return kExitUnknown;
    default:
      return kExitFailed;
  }
}

// How many letters have to be put in, taken out, changed, or swapped with their neighbour.
size_t Distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::atomic<bool> interrupted{false};

Command::Command(CLI::App& app) {
  app.add_option("--server", server_, "Nodes to ask, host:port[,host:port...]; any node serves")
      ->envname("TRIREME_SERVER")
      ->capture_default_str();
  app.add_option("--timeout", timeout_s_, "Seconds until a request is given up, retries included")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
  app.add_option("--output", output_, "How results are printed")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
}

CLI::App* Command::AddGroup(CLI::App& app, const std::string& name, const std::string& description) {
  CLI::App* group = app.add_subcommand(name, description);
  group->require_subcommand(1);
  group->fallthrough();
  group->footer("`trireme " + name + " COMMAND --help` says more, with examples.\n");
  return group;
}

CLI::App* Command::Add(CLI::App* parent, const std::string& name, const std::string& description,
                       const std::string& examples, std::function<int()> run) {
  CLI::App* sub = parent->add_subcommand(name, description);
  sub->footer(
      "Options of every command: --server ADDR[,ADDR...] (or TRIREME_SERVER), --timeout SECONDS,\n"
      "--output table|json; `trireme --help` says more of them.\n\nExamples:\n" +
      examples +
      "\nExit codes: 0 done; 1 failed, the message says why; 2 wrong usage; 3 no node answered;\n"
      "4 some messages may or may not be stored; 5 bench: confirmed messages were lost.\n");
  sub->callback([this, run = std::move(run)] { chosen_ = run; });
  return sub;
}

Client* Command::Connect() {
  if (client_ != nullptr) return client_.get();
  absl::StatusOr<std::vector<std::string>> servers = ParseServers(server_);
  if (!servers.ok()) {
    Usage(absl::StrCat("--server (or TRIREME_SERVER): ", servers.status().message()));
    return nullptr;
  }
  server_list_ = *servers;
  ClientOptions options;
  options.servers = server_list_;
  options.call_timeout = timeout();
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(std::move(options));
  if (!client.ok()) {
    Usage(std::string(client.status().message()));
    return nullptr;
  }
  client_ = *std::move(client);
  return client_.get();
}

int Command::Usage(const std::string& message) {
  std::fprintf(stderr, "trireme: %s\n", message.c_str());
  if (json()) std::printf("%s\n", Json({{"error", ErrorJson(absl::InvalidArgumentError(message))}}).dump().c_str());
  return exit_code_ = kExitUsage;
}

std::string Command::Advice(const absl::Status& status) const {
  const ErrorFacts facts = FactsOf(status);
  const std::string servers = absl::StrJoin(server_list_, ",");
  if (CodeOf(status) == kExitNoAnswer) {
    if (facts.reason == "NO_CLUSTER") {
      return absl::StrCat("Next, once the nodes of its join list run: trireme cluster init --server ", servers);
    }
    if (SaidByBroker(status)) {
      return absl::StrCat("Next: trireme cluster status --server ", servers,
                          "; a majority of a queue's nodes must be up.");
    }
    return absl::StrCat("Asked: ", absl::StrJoin(server_list_, ", "),
                        ". Check that the nodes run and that --server or TRIREME_SERVER names them; then\n"
                        "trireme cluster status --server ",
                        servers, ": a majority must be up.");
  }
  if (facts.reason == "QUEUE_NOT_FOUND") {
    return absl::StrCat("Next: trireme queue list names those that are there; trireme queue create ", facts.name,
                        " makes it.");
  }
  if (facts.reason == "TEMPORARY_QUEUE_GONE") {
    return "Next: a temporary queue does not come back; make another, or ask whoever gave its name for the present "
           "one.";
  }
  if (facts.reason == "EXCHANGE_NOT_FOUND") return "Next: trireme exchange list names those that are there.";
  return "";
}

Json Command::ErrorJson(const absl::Status& status) const {
  const ErrorFacts facts = FactsOf(status);
  Json error = {{"code", absl::StatusCodeToString(status.code())}, {"message", std::string(status.message())}};
  if (!facts.reason.empty()) error["reason"] = facts.reason;
  if (!facts.name.empty()) error["name"] = facts.name;
  if (!facts.limit.empty()) error["limit"] = facts.limit;
  if (const std::string next = Advice(status); !next.empty()) error["next"] = next;
  error["exit_code"] = CodeOf(status);
  return error;
}

int Command::Say(const absl::Status& status) {
  std::fflush(stdout);
  std::fprintf(stderr, "trireme: %s: %s\n", absl::StatusCodeToString(status.code()).c_str(),
               std::string(status.message()).c_str());
  if (const std::string next = Advice(status); !next.empty()) std::fprintf(stderr, "%s\n", next.c_str());
  return exit_code_ = CodeOf(status);
}

int Command::Fail(const absl::Status& status) {
  if (json()) std::printf("%s\n", Json({{"error", ErrorJson(status)}}).dump().c_str());
  return Say(status);
}

int Command::Finish(Json result, const absl::Status& status) {
  if (json()) {
    if (!status.ok()) result["error"] = ErrorJson(status);
    std::printf("%s\n", result.dump(2).c_str());
  }
  return status.ok() ? kExitOk : Say(status);
}

int Command::Run() {
  return chosen_ ? chosen_() : kExitUsage;
}

std::string Table::Text() const {
  std::vector<size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
    }
    text += line + "\n";
  }
  return text;
}

CLI::Validator Positive() {
  const auto check = [](std::string& text) {
    double number = 0;
    if (absl::SimpleAtod(text, &number) && number > 0) return std::string();
    return text + " is no number above 0";
  };
  return CLI::Validator(check, "POSITIVE");
}

std::string Nearest(const std::string& given, const std::vector<std::string>& known) {
  std::string nearest;
  size_t least = std::max<size_t>(given.size() / 3, 1) + 1;
  for (const std::string& name : known) {
    if (const size_t distance = Distance(given, name); distance < least) {
      least = distance;
      nearest = name;
    }
  }
  return nearest;
}

absl::StatusOr<std::vector<std::string>> ExpandNames(const std::string& pattern, uint32_t count) {
  const bool has_number = pattern.find("%d") != std::string::npos;
  if (!has_number && count == 1) return std::vector<std::string>{pattern};
  if (!has_number) {
    return absl::InvalidArgumentError(
        absl::StrCat("--count is ", count, ", so the name needs a %d for the number: ", pattern, "-%d"));
  }
  std::vector<std::string> names;
  for (uint32_t i = 1; i <= count; ++i) names.push_back(absl::StrReplaceAll(pattern, {{"%d", absl::StrCat(i)}}));
  return names;
}

absl::StatusOr<Header> ParseHeader(const std::string& text) {
  Header header;
  const size_t equals = text.find('=');
  if (equals == std::string::npos) {
    header.name = text;
  } else if (equals > 0 && text[equals - 1] == ':') {
    header.name = text.substr(0, equals - 1);
    const Json json = Json::parse(text.substr(equals + 1), nullptr, /*allow_exceptions=*/false);
    if (json.is_boolean()) {
      header.value.set_boolean(json.get<bool>());
    } else if (json.is_number_integer() && (!json.is_number_unsigned() || json.get<uint64_t>() <= INT64_MAX)) {
      header.value.set_integer(json.get<int64_t>());
    } else if (json.is_number()) {
      header.value.set_real(json.get<double>());
    } else if (json.is_string()) {
      header.value.set_text(json.get<std::string>());
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--header ", text, ": after := comes a number, true, false or a text in double quotes"));
    }
  } else {
    header.name = text.substr(0, equals);
    header.value.set_text(text.substr(equals + 1));
  }
  if (header.name.empty()) return absl::InvalidArgumentError(absl::StrCat("--header ", text, " has no name"));
  return header;
}

Json ValueJson(const v1::Value& value) {
  switch (value.kind_case()) {
    case v1::Value::kText:
      return value.text();
    case v1::Value::kInteger:
      return value.integer();
    case v1::Value::kReal:
      return value.real();
    case v1::Value::kBoolean:
      return value.boolean();
    case v1::Value::kBinary:
      return Json{{"base64", absl::Base64Escape(value.binary())}};
    case v1::Value::KIND_NOT_SET:
      return nullptr;
  }
  return nullptr;
}

std::string Thousands(uint64_t number) {
  std::string digits = absl::StrCat(number);
  for (size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  return digits;
}

std::string Hex(const std::string& bytes) {
  return absl::BytesToHexString(bytes);
}

absl::StatusOr<std::string> ParseClusterId(const std::string& hex) {
  if (hex.size() != 32 || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("--cluster-id is \"", hex, "\"; it must be 32 hexadecimal digits (16 bytes)"));
  }
  return absl::HexStringToBytes(hex);
}

absl::StatusOr<std::string> ParseHex(const std::string& hex) {
  if (hex.size() % 2 != 0 || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("\"", hex, "\" is not an even number of hexadecimal digits"));
  }
  return absl::HexStringToBytes(hex);
}

std::string PositionText(uint64_t position) {
  return absl::StrCat(position >> 16, ":", position & 0xffff);
}

absl::StatusOr<uint64_t> ParsePosition(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  uint64_t index = 0, slot = 0;
  if (parts.size() == 1 && absl::SimpleAtoi(parts[0], &index)) return index;
  if (parts.size() == 2 && absl::SimpleAtoi(parts[0], &index) && absl::SimpleAtoi(parts[1], &slot) &&
      index < uint64_t{1} << 48 && slot < 65'535) {
    return index << 16 | slot;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", text, "\" is no position; it is INDEX:SLOT, as `trireme queue browse` prints it, or the number in JSON"));
}

std::string TimeText(int64_t ms) {
  const std::time_t seconds = static_cast<std::time_t>(ms / 1000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

}  // namespace trireme::client
