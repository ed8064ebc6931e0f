// A deliberately plain twin of the filter: a tree of nodes that says itself what it means and how it is written.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "trireme/v1/message.pb.h"

namespace trireme::filter {

// std::monostate: NULL. A pair's second string is binary.
struct TwinBinary {
  std::string bytes;
};
using TwinValue = std::variant<std::monostate, std::string, int64_t, double, bool, TwinBinary>;
using TwinMessage = std::map<std::string, TwinValue>;  // by name; fields under "sys.key" and so on

class Twin {
 public:
  virtual ~Twin() = default;
  // Nothing: unknown.
  virtual std::optional<bool> Judge(const TwinMessage& message) const = 0;
  // With blanks, parentheses and the case of keywords at random.
  virtual std::string Write(std::mt19937_64& random) const = 0;
};

std::unique_ptr<Twin> RandomCondition(std::mt19937_64& random, int depth);
// A message as both see it.
TwinMessage RandomMessage(std::mt19937_64& random, trireme::v1::Message* encoded);

}  // namespace trireme::filter
