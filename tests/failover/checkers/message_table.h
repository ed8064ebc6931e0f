// Something for each message, by its name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "tests/failover/checkers/cast.h"

namespace trireme::failover {

// Sequences are dense, so that a vector per producer does.
template <class T>
class MessageTable {
 public:
  T& At(const MessageName& name) {
    std::vector<T>& row = rows_[name.producer];
    if (row.size() <= name.sequence) {
      row.resize(std::max<size_t>(name.sequence + 1, row.size() + row.size() / 2));
    }
    return row[name.sequence];
  }
  // visit(name, value), by producer and sequence. Those never asked for may be among them, as T().
  template <class Visit>
  void ForEach(Visit visit) const {
    for (const auto& [producer, row] : rows_) {
      for (uint64_t sequence = 1; sequence < row.size(); ++sequence) {
        visit(MessageName{producer, sequence}, row[sequence]);
      }
    }
  }

 private:
  std::map<uint32_t, std::vector<T>> rows_;
};

}  // namespace trireme::failover
