#include "broker/ops/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <ctime>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"

namespace trireme::broker {
namespace {

constexpr std::array<std::pair<std::string_view, spdlog::level::level_enum>, 4> kLevels = {{
    {"debug", spdlog::level::debug},
    {"info", spdlog::level::info},
    {"warn", spdlog::level::warn},
    {"error", spdlog::level::err},
}};

// One vocabulary, that of the option: spdlog's own has "warning" for warn, and "critical", which nobody says here.
class LevelName final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    std::string_view text = "error";
    for (const auto& [name, level] : kLevels) {
      if (level == message.level) text = name;
    }
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<LevelName>(); }
};

// `event`: how the text becomes the line's event. In it %* is the level.
std::unique_ptr<spdlog::formatter> LineOf(const char* event) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<LevelName>('*').set_pattern(std::string("time=%Y-%m-%dT%H:%M:%S.%eZ level=%* ") + event);
  return formatter;
}

// What the layers below say, which know of spdlog only: the same form, the whole text as the event.
void TakeOverDefault(spdlog::level::level_enum level) {
  auto logger = std::make_shared<spdlog::logger>("default", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(LineOf("event=\"%v\""));
  logger->flush_on(spdlog::level::debug);
  logger->set_level(level);
  spdlog::set_default_logger(std::move(logger));
}

spdlog::logger& Logger() {
  // Never destroyed, so that the last threads may still log.
  static spdlog::logger& logger = *[] {
    auto* made = new spdlog::logger("trireme", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_formatter(LineOf("%v"));
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return logger;
}

}  // namespace

absl::Status SetLogLevel(std::string_view level) {
  for (const auto& [name, value] : kLevels) {
    if (name != level) continue;
    Logger().set_level(value);
    TakeOverDefault(value);
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("log level \"", absl::CHexEscape(std::string(level)), "\" is none of debug, info, warn, error"));
}

namespace log_internal {

bool Enabled(LogLevel level) {
  return Logger().should_log(kLevels[static_cast<size_t>(level)].second);
}

void Append(std::string& out, std::string_view key, std::string_view value) {
  out.push_back(' ');
  out.append(key);
  out.push_back('=');
  bool plain = !value.empty();
  for (char c : value) plain = plain && c > ' ' && c != '"' && c != '=' && c != '\\' && c < 0x7f;
  if (plain) {
    out.append(value);
    return;
  }
  constexpr char kHex[] = "0123456789abcdef";
  out.push_back('"');
  for (char c : value) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < ' ' || byte == 0x7f) {
      out += "\\x";
      out.push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

void Write(LogLevel level, std::string_view event, const std::string& fields) {
  std::string text;
  Append(text, "event", event);
  text.erase(0, 1);
  text += fields;
  Logger().log(kLevels[static_cast<size_t>(level)].second, "{}", text);
}

}  // namespace log_internal
}  // namespace trireme::broker
