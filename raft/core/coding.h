// The few primitives that what we write to disk and wire by hand is made of: varints, little-endian words, counted
// bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace trireme::raft {

// Appends to a string.
class Writer {
 public:
  void Varint(uint64_t v) {
    while (v >= 0x80) {
      out_.push_back(static_cast<char>(v | 0x80));
      v >>= 7;
    }
    out_.push_back(static_cast<char>(v));
  }
  // Zigzag: small for small magnitudes of either sign.
  void Signed(int64_t v) { Varint((static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63)); }
  void Fixed32(uint32_t v) { Fixed(&v, sizeof v); }
  void Fixed64(uint64_t v) { Fixed(&v, sizeof v); }
  void Byte(uint8_t v) { out_.push_back(static_cast<char>(v)); }
  // A length and the bytes.
  void Counted(std::string_view v) {
    Varint(v.size());
    out_.append(v);
  }
  void Raw(std::string_view v) { out_.append(v); }

  size_t size() const { return out_.size(); }
  const std::string& bytes() const { return out_; }
  std::string Take() { return std::move(out_); }

 private:
  // Little-endian hosts only, as all that we support are.
  void Fixed(const void* v, size_t n) { out_.append(static_cast<const char*>(v), n); }

  std::string out_;
};

// Reads what Writer wrote, from bytes that may be hostile. After a read past the end or a bad varint, ok() is false for
// good and every read gives zero or nothing, so that a decoder may check once at its end (and before it trusts a
// count).
class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}

  uint64_t Varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (in_.empty()) return Fail();
      auto b = static_cast<uint8_t>(in_.front());
      in_.remove_prefix(1);
      if (shift == 63 && b > 1) return Fail();
      v |= static_cast<uint64_t>(b & 0x7f) << shift;
      if (b < 0x80) return v;
    }
    return Fail();
  }
  int64_t Signed() {
    uint64_t v = Varint();
    return static_cast<int64_t>(v >> 1) ^ -static_cast<int64_t>(v & 1);
  }
  uint32_t Fixed32() { return Fixed<uint32_t>(); }
  uint64_t Fixed64() { return Fixed<uint64_t>(); }
  uint8_t Byte() { return Fixed<uint8_t>(); }
  std::string_view Raw(size_t n) {
    if (n > in_.size()) {
      Fail();
      return {};
    }
    std::string_view v = in_.substr(0, n);
    in_.remove_prefix(n);
    return v;
  }
  std::string_view Counted() {
    uint64_t n = Varint();
    if (n > in_.size()) {
      Fail();
      return {};
    }
    return Raw(n);
  }
  // A count of items that take at least `min_bytes` each: fails, rather than let a caller reserve what cannot be there.
  size_t Count(size_t min_bytes = 1) {
    uint64_t n = Varint();
    if (min_bytes > 0 && n > in_.size() / min_bytes) return Fail();
    return n;
  }

  bool ok() const { return ok_; }
  bool empty() const { return in_.empty(); }
  // Read to the last byte, and nothing was wrong.
  bool done() const { return ok_ && in_.empty(); }
  std::string_view rest() const { return in_; }

 private:
  template <typename T>
  T Fixed() {
    T v{};
    std::string_view raw = Raw(sizeof v);
    if (raw.size() == sizeof v) std::memcpy(&v, raw.data(), sizeof v);
    return v;
  }
  uint64_t Fail() {
    ok_ = false;
    in_ = {};
    return 0;
  }

  std::string_view in_;
  bool ok_ = true;
};

}  // namespace trireme::raft
