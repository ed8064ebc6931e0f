// The node's log: one line per event on standard error, key=value, values quoted where they need it.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace trireme::broker {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarn, kError };

// "debug", "info", "warn" or "error".
absl::Status SetLogLevel(std::string_view level);

namespace log_internal {
bool Enabled(LogLevel level);
void Write(LogLevel level, std::string_view event, const std::string& fields);
void Append(std::string& out, std::string_view key, std::string_view value);

template <typename T>
std::string Text(const T& v) {
  if constexpr (std::is_same_v<T, absl::Status>) {
    return v.ToString();
  } else if constexpr (requires { v.value().value(); }) {
    return absl::StrCat(v.value().value());
  } else if constexpr (requires(uint64_t n) { n = v.value(); }) {
    return absl::StrCat(v.value());
  } else {
    return absl::StrCat(v);
  }
}

inline void Fields(std::string&) {}
template <typename T, typename... Rest>
void Fields(std::string& out, std::string_view key, const T& value, const Rest&... rest) {
  Append(out, key, Text(value));
  Fields(out, rest...);
}
}  // namespace log_internal

// Log(LogLevel::kInfo, "queue created", "queue", name, "group", group.value()); any thread.
template <typename... KeysAndValues>
void Log(LogLevel level, std::string_view event, const KeysAndValues&... fields) {
  static_assert(sizeof...(fields) % 2 == 0, "keys and values");
  if (!log_internal::Enabled(level)) return;
  std::string text;
  log_internal::Fields(text, fields...);
  log_internal::Write(level, event, text);
}

}  // namespace trireme::broker
