#include "tests/failover/history/codec.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace trireme::failover {
namespace {

constexpr std::array<std::string_view, 4> kStored = {"stored", "duplicate", "refused", "unknown"};
constexpr std::array<std::string_view, 3> kSettling = {"ok", "lost", "unknown"};
constexpr std::array<std::string_view, 3> kDisposition = {"acknowledge", "requeue", "reject"};

bool Plain(char c) {
  return c > ' ' && c != '%' && c != 0x7f;
}

struct FieldWriter {
  std::string& out;

  template <class Number>
  void Digits(Number value) {
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof digits, value);
    out.push_back(' ');
    out.append(digits, end.ptr);
  }
  void operator()(uint32_t value) { Digits(value); }
  void operator()(uint64_t value) { Digits(value); }
  void operator()(bool value) { out += value ? " yes" : " no"; }
  void operator()(Stored value) { Word(kStored[static_cast<size_t>(value)]); }
  void operator()(Settling value) { Word(kSettling[static_cast<size_t>(value)]); }
  void operator()(Disposition value) { Word(kDisposition[static_cast<size_t>(value)]); }
  void Word(std::string_view word) {
    out.push_back(' ');
    out += word;
  }
  void operator()(const std::string& text) {
    out.push_back(' ');
    // A lone minus would read as nothing.
    if (text.empty() || text == "-") {
      out += text.empty() ? "-" : "%2d";
      return;
    }
    for (char c : text) {
      if (Plain(c)) {
        out.push_back(c);
      } else {
        char escape[4];
        std::snprintf(escape, sizeof escape, "%%%02x", static_cast<unsigned char>(c));
        out += escape;
      }
    }
  }
};

// Takes words off the front; stays false once something did not fit.
struct FieldReader {
  std::string_view rest;
  bool good = true;

  std::string_view Next() {
    if (rest.empty() || rest.front() != ' ') {
      good = false;
      return {};
    }
    rest.remove_prefix(1);
    const std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(word.size());
    good &= !word.empty();
    return word;
  }
  template <class Number>
  void Digits(Number& value) {
    const std::string_view word = Next();
    const auto end = std::from_chars(word.data(), word.data() + word.size(), value);
    good &= end.ec == std::errc() && end.ptr == word.data() + word.size();
  }
  void operator()(uint32_t& value) { Digits(value); }
  void operator()(uint64_t& value) { Digits(value); }
  void operator()(bool& value) {
    const std::string_view word = Next();
    value = word == "yes";
    good &= value || word == "no";
  }
  template <class Enum, size_t N>
  void OneOf(const std::array<std::string_view, N>& words, Enum& value) {
    const std::string_view word = Next();
    for (size_t i = 0; i < N; ++i) {
      if (words[i] == word) {
        value = static_cast<Enum>(i);
        return;
      }
    }
    good = false;
  }
  void operator()(Stored& value) { OneOf(kStored, value); }
  void operator()(Settling& value) { OneOf(kSettling, value); }
  void operator()(Disposition& value) { OneOf(kDisposition, value); }
  void operator()(std::string& text) {
    const std::string_view word = Next();
    if (word == "-") return;
    for (size_t i = 0; i < word.size(); ++i) {
      if (word[i] != '%') {
        text.push_back(word[i]);
        continue;
      }
      unsigned code = 0;
      const char* digits = word.data() + i + 1;
      if (i + 2 >= word.size() || std::from_chars(digits, digits + 2, code, 16).ptr != digits + 2) {
        good = false;
        return;
      }
      text.push_back(static_cast<char>(code));
      i += 2;
    }
  }
};

template <size_t I = 0>
bool ParseEvent(std::string_view word, FieldReader& in, Event& event) {
  if constexpr (I == std::variant_size_v<Event>) {
    return false;
  } else {
    using Candidate = std::variant_alternative_t<I, Event>;
    if (word != Candidate::kWord) return ParseEvent<I + 1>(word, in, event);
    Candidate& made = event.emplace<I>();
    made.Fields(in);
    return true;
  }
}

}  // namespace

void AppendLine(uint64_t at_us, const Event& event, std::string& out) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, at_us);
  out.append(digits, end.ptr);
  std::visit(
      [&](const auto& known) {
        FieldWriter writer{out};
        writer.Word(known.kWord);
        // Fields() is one function for both directions; a writer only reads.
        const_cast<std::remove_cvref_t<decltype(known)>&>(known).Fields(writer);
      },
      event);
  out += " .\n";
}

bool LineTime(std::string_view line, uint64_t& at_us) {
  if (!line.ends_with(" .")) return false;
  const auto end = std::from_chars(line.data(), line.data() + line.size(), at_us);
  return end.ec == std::errc() && *end.ptr == ' ';
}

absl::StatusOr<TimedEvent> ParseLine(std::string_view line) {
  auto bad = [&](const std::string& what) {
    return absl::InvalidArgumentError(
        absl::StrCat("not an event of a history (", what, "): ", std::string(line.substr(0, 200))));
  };
  TimedEvent timed;
  if (!LineTime(line, timed.at_us)) return bad("no time in front, or no full stop at the end");
  FieldReader in{line.substr(line.find(' '))};
  const std::string_view word = in.Next();
  if (!ParseEvent(word, in, timed.event)) return bad(absl::StrCat("the word '", std::string(word), "' is unknown"));
  if (!in.good) return bad("a field is missing or is not what it should be");
  if (in.rest != " .") return bad("more fields than there should be");
  return timed;
}

}  // namespace trireme::failover
