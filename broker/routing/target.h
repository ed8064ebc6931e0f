// What a binding leads to, and sets of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

namespace trireme::broker {

class RoutedExchange;

// A queue or an exchange, as a routing table knows it. The table owns it; its address does not change.
struct Target {
  enum class Kind : uint8_t { kQueue, kExchange };
  Kind kind = Kind::kQueue;
  std::string name = {};
  uint32_t queue = 0;                  // kQueue: its handle
  RoutedExchange* exchange = nullptr;  // kExchange: null while there is none of that name
  uint32_t references = 0;             // it is there, a binding leads to it, it is an alternate
  // Of the last message that came here, so that none comes twice.
  uint64_t visited = 0;

  friend bool operator<(const Target& a, const Target& b) {
    return std::tie(a.kind, a.name) < std::tie(b.kind, b.name);
  }
};

// The targets of bindings that match together, each with how many of the bindings lead there. In the order of kind and
// name, so that what is visited first does not depend on what was bound first.
class TargetSet {
 public:
  void Add(Target* target) {
    auto at = Find(target);
    if (at == entries_.end() || at->target != target) at = entries_.insert(at, {target, 0});
    ++at->bindings;
  }
  // Whether it was there.
  bool Remove(Target* target) {
    auto at = Find(target);
    if (at == entries_.end() || at->target != target) return false;
    if (--at->bindings == 0) entries_.erase(at);
    return true;
  }
  bool empty() const { return entries_.empty(); }

  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const Entry& entry : entries_) visit(entry.target);
  }

 private:
  struct Entry {
    Target* target;
    uint32_t bindings;
  };
  std::vector<Entry>::iterator Find(const Target* target) {
    return std::partition_point(entries_.begin(), entries_.end(), [&](const Entry& e) { return *e.target < *target; });
  }

  std::vector<Entry> entries_;
};

}  // namespace trireme::broker
