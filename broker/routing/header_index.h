// The bindings of a headers exchange.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "broker/routing/binding.h"
#include "broker/routing/by_name.h"

namespace trireme::broker {

// A binding matches when all of its conditions hold (none at all: always), or any does (none: never). Conditions are
// kept by header and value, and count up the bindings that they belong to: a message costs as much as it has conditions
// that hold, however many bindings there are.
class HeaderIndex {
 public:
  void Add(const Binding& binding, Target* target);
  // Whether it was there.
  bool Remove(const Binding& binding, Target* target);

  // Calls visit(Target*) for each target of a binding that matches `message` (an encoded trireme.v1.Message), in the
  // order of targets. What is no message has no headers.
  template <typename Visit>
  void Match(std::string_view message, Visit visit) {
    Count(message);
    for (Target* target : matched_) visit(target);
  }

  size_t names() const { return names_.size(); }

 private:
  using Slot = uint32_t;
  struct Entry {
    Target* target = nullptr;
    uint32_t bindings = 0;  // that are equal to each other
    uint32_t needed = 0;    // how many conditions have to hold
    uint32_t holding = 0;
    uint64_t counted = 0;  // the message that `holding` is of
  };
  struct Name {
    std::vector<Slot> present;         // those that ask for presence only
    ByName<std::vector<Slot>> values;  // by Canonical
    // Of the message under way: the last value of that name.
    message::Value value;
    uint64_t seen = 0;
  };

  // Equal values (message::Compare) have equal texts, and others have others.
  static std::string Canonical(const message::Value& value);
  static std::string Identity(const Binding& binding, const Target* target);
  void Count(std::string_view message);
  void Holds(const std::vector<Slot>& slots);

  // By identity, so that a binding is found again.
  ByName<Slot> slots_;
  std::vector<Entry> entries_;
  std::vector<Slot> free_;
  ByName<Name> names_;
  TargetSet always_;

  uint64_t message_ = 0;
  std::vector<Name*> seen_;
  std::vector<Target*> matched_;
};

}  // namespace trireme::broker
