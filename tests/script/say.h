// Values one behind the other, as text.
#pragma once

#include <sstream>
#include <string>

namespace trireme::script {

template <typename... Args>
std::string Say(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

}  // namespace trireme::script
