// What happened in a run, as one number: equal for equal runs. And as text, for whoever looks into a failing seed.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "tests/simulation/clock.h"

namespace trireme::simulation {

class Trace {
 public:
  explicit Trace(bool print) : print_(print) {}

  bool printing() const { return print_; }
  uint64_t hash() const { return hash_; }

  template <typename... Values>
  void Add(Values... values) {
    (Mix(static_cast<uint64_t>(values)), ...);
  }
  void Print(Micros now, const std::string& text) const {
    if (print_) std::printf("%10.3f ms  %s\n", static_cast<double>(now) / 1000, text.c_str());
  }

 private:
  void Mix(uint64_t value) {
    hash_ = (hash_ ^ value) * 0x9e3779b97f4a7c15;
    hash_ ^= hash_ >> 32;
  }

  const bool print_;
  uint64_t hash_ = 0x243f6a8885a308d3;
};

}  // namespace trireme::simulation
