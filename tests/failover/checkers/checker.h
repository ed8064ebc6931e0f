// One promise, held against a history.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/failover/history/history.h"

namespace trireme::failover {

struct Verdict {
  enum class Outcome : uint8_t { kHeld, kBroken, kUndecided };
  Outcome outcome = Outcome::kHeld;
  // How often it was broken, and the first of them in words.
  uint64_t violations = 0;
  std::vector<std::string> examples;
  // How many cases were looked at: a promise that was never put to the test was not kept, either.
  uint64_t cases = 0;
  // Why it is undecided.
  std::string why;
};

class Checker : public Observer {
 public:
  // Short, for options and tables; and what is promised, in a sentence.
  virtual std::string_view name() const = 0;
  virtual std::string_view promise() const = 0;
  // After the last event.
  virtual void Finish() {}

  const Verdict& verdict() const { return verdict_; }

 protected:
  template <class... Words>
  void Broken(uint64_t at_us, const Words&... words) {
    verdict_.outcome = Verdict::Outcome::kBroken;
    if (++verdict_.violations > kExamples) return;
    verdict_.examples.push_back(
        absl::StrCat("at ", at_us / 1'000, ".", absl::Dec(at_us % 1'000, absl::kZeroPad3), " ms: ", words...));
  }
  // Unless it is broken already.
  void Undecided(std::string why) {
    if (verdict_.outcome == Verdict::Outcome::kBroken) return;
    verdict_.outcome = Verdict::Outcome::kUndecided;
    verdict_.why = std::move(why);
  }
  void Case(uint64_t count = 1) { verdict_.cases += count; }

 private:
  static constexpr uint64_t kExamples = 10;
  Verdict verdict_;
};

// Every checker there is, in the order of the report.
std::vector<std::unique_ptr<Checker>> AllCheckers();

struct Judgement {
  HistoryRead read;
  std::vector<std::unique_ptr<Checker>> checkers;
  // All held, none broken or undecided.
  bool held() const;
};

// Shows the history to every checker, and to the others. The errors of ReadHistory.
absl::StatusOr<Judgement> Judge(const std::string& path, std::span<Observer* const> others = {});
absl::StatusOr<Judgement> JudgeText(std::string_view text);

}  // namespace trireme::failover
