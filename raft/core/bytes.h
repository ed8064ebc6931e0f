// A piece of immutable bytes with shared ownership of whatever they lie in.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace trireme::raft {

// Copies are cheap and share. Any thread may hold one; the bytes never change once a Bytes was made of them.
class Bytes {
 public:
  Bytes() = default;
  // `owner` keeps data[0, size) alive: a buffer of ours, a slice of gRPC's, a block of the store's.
  Bytes(std::shared_ptr<const void> owner, const char* data, size_t size)
      : owner_(std::move(owner)), data_(data), size_(size) {}

  static Bytes Copy(std::string_view from) {
    if (from.empty()) return {};
    auto buffer = std::make_shared_for_overwrite<char[]>(from.size());
    std::memcpy(buffer.get(), from.data(), from.size());
    const char* data = buffer.get();
    return Bytes(std::move(buffer), data, from.size());
  }
  static Bytes Take(std::string from) {
    auto owner = std::make_shared<const std::string>(std::move(from));
    std::string_view v = *owner;
    return Bytes(std::move(owner), v.data(), v.size());
  }

  const char* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::string_view view() const { return {data_, size_}; }
  const std::shared_ptr<const void>& owner() const { return owner_; }

  // The part [from, from + count), which must lie within. Shares ownership.
  Bytes Sub(size_t from, size_t count) const { return Bytes(owner_, data_ + from, count); }

  friend bool operator==(const Bytes& a, const Bytes& b) { return a.view() == b.view(); }

 private:
  std::shared_ptr<const void> owner_;
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace trireme::raft
