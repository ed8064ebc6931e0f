// What only a bug can make false. On in release: a broker that goes on with a broken invariant loses messages.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace trireme::raft {

// Collects the message of a failed check and ends the process when it goes out of scope.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition) {
    text_ << file << ':' << line << ": check failed: " << condition << ' ';
  }
  [[noreturn]] ~CheckFailure() {
    std::fprintf(stderr, "%s\n", text_.str().c_str());
    std::fflush(stderr);
    std::abort();
  }
  std::ostream& stream() { return text_; }

 private:
  std::ostringstream text_;
};

}  // namespace trireme::raft

// TRIREME_CHECK(a <= b) << "a is " << a;
#define TRIREME_CHECK(condition)      \
  switch (0)                          \
  case 0:                             \
  default:                            \
    if (static_cast<bool>(condition)) \
      [[likely]];                     \
    else                              \
      ::trireme::raft::CheckFailure(__FILE__, __LINE__, #condition).stream()
