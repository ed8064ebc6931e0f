// A producer's messages are stored in the order in which it sent them, and checked out for the first time in that
// order.
#pragma once

#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class ProducerOrder : public Checker {
 public:
  const char* name() const override { return "producer order"; }

  void Delivering(const Delivered& d) override {
    if (d.deliveries != 1 || IsForLater(d.body)) return;
    const size_t colon = d.body.find(':');
    auto& first = first_[d.body.substr(0, colon)];
    auto [it, is_new] = first.emplace(std::stoull(d.body.substr(colon + 1)), std::pair(d.position, d.checkout_index));
    if (!is_new) return;
    // What comes before and after it may have been seen already, by other consumers.
    if (it != first.begin()) Compare(*std::prev(it), *it);
    if (std::next(it) != first.end()) Compare(*it, *std::next(it));
  }

 private:
  using Seen = std::map<uint64_t, std::pair<Position, uint64_t>>;  // by sequence: position, checkout

  void Compare(const Seen::value_type& a, const Seen::value_type& b) {
    if (a.second.first >= b.second.first) Fail("sequence ", b.first, " is stored before ", a.first);
    if (a.second.second > b.second.second) Fail("sequence ", b.first, " was checked out before ", a.first);
  }

  std::map<std::string, Seen> first_;
};

}  // namespace trireme::queue_simulation
