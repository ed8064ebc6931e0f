#include "client/cli/command.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace trireme::client {

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

CLI::App* Command::Add(CLI::App* parent, const std::string& name, const std::string& description,
                       const std::string& examples, std::function<int()> run) {
  CLI::App* sub = parent->add_subcommand(name, description);
  sub->footer("Examples:\n" + examples +
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
  return exit_code_ = kExitUsage;
}

int Command::Fail(const absl::Status& status) {
  std::string advice;
  exit_code_ = kExitFailed;
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      exit_code_ = kExitNoAnswer;
      advice = absl::StrCat("Asked: ", absl::StrJoin(server_list_, ", "),
                            ". Check that the nodes run and that --server or TRIREME_SERVER names them.");
      break;
    case absl::StatusCode::kInvalidArgument:
      exit_code_ = kExitUsage;
      break;
    case absl::StatusCode::kUnknown:
      exit_code_ = kExitUnknown;
      break;
    default:
      break;
  }
  std::fprintf(stderr, "trireme: %s: %s\n", absl::StatusCodeToString(status.code()).c_str(),
               std::string(status.message()).c_str());
  if (!advice.empty()) std::fprintf(stderr, "%s\n", advice.c_str());
  return exit_code_;
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

std::string PositionText(uint64_t position) {
  return absl::StrCat(position >> 16, ":", position & 0xffff);
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
