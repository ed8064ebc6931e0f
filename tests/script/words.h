// A command of a scenario, taken apart: a verb, words, and options "key=value".
#pragma once

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "raft/core/check.h"

namespace trireme::script {

using Words = std::vector<std::string>;

inline Words Split(const std::string& text, char separator = ' ') {
  Words words;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, separator);) {
    if (!word.empty()) words.push_back(word);
  }
  return words;
}

inline uint64_t Number(const std::string& word) {
  char* end = nullptr;
  uint64_t value = std::strtoull(word.c_str(), &end, 10);
  TRIREME_CHECK(end != word.c_str() && *end == 0) << "not a number: " << word;
  return value;
}

// The value of "key=value" among the words.
inline std::optional<std::string> Option(const Words& words, const std::string& key) {
  for (const std::string& word : words) {
    if (word.rfind(key + "=", 0) == 0) return word.substr(key.size() + 1);
  }
  return std::nullopt;
}

inline uint64_t Option(const Words& words, const std::string& key, uint64_t fallback) {
  std::optional<std::string> value = Option(words, key);
  return value ? Number(*value) : fallback;
}

inline bool IsOption(const std::string& word) {
  return word.find('=') != std::string::npos;
}

}  // namespace trireme::script
