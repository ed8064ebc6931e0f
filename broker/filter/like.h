// The patterns of LIKE.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::filter {

// A longer text is not looked at: matching takes, at worst, steps as many as the lengths of text and pattern
// multiplied.
inline constexpr size_t kMaxLikeBytes = 8'192;

// % stands for any number of characters, _ for one; with `escape` before them they stand for themselves. Characters are
// UTF-8's; a byte that belongs to none counts as one.
class LikePattern {
 public:
  LikePattern() = default;

  // Where in `pattern` (an offset in bytes) an escape is followed by something else than %, _ or itself; none: it is
  // good. `escape` is one character, or empty.
  static std::optional<size_t> FindBadEscape(std::string_view pattern, std::string_view escape);
  // A pattern without bad escapes.
  LikePattern(std::string_view pattern, std::string_view escape);

  bool Matches(std::string_view text) const;

 private:
  // Literal text, or one of the two that stand for something.
  struct Piece {
    enum class Kind : uint8_t { kText, kOne, kAny };
    Kind kind = Kind::kText;
    std::string text = {};
  };
  std::vector<Piece> pieces_;
};

// How many bytes the first character of a text takes, which is not empty.
size_t CharacterBytes(std::string_view text);

}  // namespace trireme::filter
