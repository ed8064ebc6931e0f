// Of each key one message at a time is with a client, and none is delivered after a later one of its key. From the
// moment that the subscription orders by key.
#pragma once

#include <map>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class InOrderOfKeys : public Checker {
 public:
  const char* name() const override { return "in order of keys"; }

  void Ordering() override { ordering_ = true; }
  void Delivering(const Delivered& d) override {
    if (!ordering_) return;
    Key& key = keys_[KeyOf(d.body)];
    if (key.out && *key.out != d.position) Fail(d.body, " goes to ", d.session, " while ", *key.out, " is out");
    if (d.position < key.last) Fail(d.body, " comes after ", key.last, " of its key");
    key.out = key.last = d.position;
  }
  void Returning(Position position) override { Free(position); }
  void Settling(Position position) override { Free(position); }

 private:
  struct Key {
    std::optional<Position> out;
    Position last;
  };
  void Free(Position position) {
    for (auto& [name, key] : keys_) {
      if (key.out == position) key.out.reset();
    }
  }

  bool ordering_ = false;
  std::map<std::string, Key> keys_;
};

}  // namespace trireme::queue_simulation
