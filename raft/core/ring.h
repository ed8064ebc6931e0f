// A queue in one block of memory, indexed from its front.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "raft/core/check.h"

namespace trireme::raft {

// Takes no memory until something is put in; grows by doubling. T is default-constructible and movable; a slot that is
// given up is reset, so that it holds on to nothing.
template <typename T>
class Ring {
 public:
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }

  T& operator[](size_t i) { return slots_[(head_ + i) & (capacity_ - 1)]; }
  const T& operator[](size_t i) const { return slots_[(head_ + i) & (capacity_ - 1)]; }
  T& front() { return (*this)[0]; }
  const T& front() const { return (*this)[0]; }
  T& back() { return (*this)[size_ - 1]; }
  const T& back() const { return (*this)[size_ - 1]; }

  void push_back(T value) {
    if (size_ == capacity_) Grow();
    slots_[(head_ + size_) & (capacity_ - 1)] = std::move(value);
    ++size_;
  }
  void pop_front() {
    TRIREME_CHECK(size_ > 0);
    slots_[head_] = T();
    head_ = (head_ + 1) & (capacity_ - 1);
    --size_;
  }
  // Drops what is behind the first `count`.
  void Truncate(size_t count) {
    while (size_ > count) (*this)[--size_] = T();
  }
  void clear() { Truncate(0); }
  // Gives the memory back if nothing is in it.
  void Shrink() {
    if (size_ > 0) return;
    slots_.reset();
    capacity_ = 0;
    head_ = 0;
  }

 private:
  void Grow() {
    size_t capacity = capacity_ == 0 ? 4 : size_t{2} * capacity_;
    auto slots = std::make_unique<T[]>(capacity);
    for (size_t i = 0; i < size_; ++i) slots[i] = std::move((*this)[i]);
    slots_ = std::move(slots);
    capacity_ = static_cast<uint32_t>(capacity);
    head_ = 0;
  }

  std::unique_ptr<T[]> slots_;
  uint32_t capacity_ = 0;  // zero or a power of two
  uint32_t head_ = 0;
  uint32_t size_ = 0;
};

}  // namespace trireme::raft
