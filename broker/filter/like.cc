#include "broker/filter/like.h"

namespace trireme::filter {

size_t CharacterBytes(std::string_view text) {
  size_t n = 1;
  while (n < text.size() && n < 4 && (static_cast<unsigned char>(text[0]) & 0xc0) == 0xc0 &&
         (static_cast<unsigned char>(text[n]) & 0xc0) == 0x80) {
    ++n;
  }
  return n;
}

std::optional<size_t> LikePattern::FindBadEscape(std::string_view pattern, std::string_view escape) {
  if (escape.empty()) return std::nullopt;
  for (size_t at = 0; at < pattern.size();) {
    const std::string_view rest = pattern.substr(at);
    if (!rest.starts_with(escape)) {
      at += CharacterBytes(rest);
      continue;
    }
    const std::string_view next = rest.substr(escape.size());
    if (next.empty() || (next[0] != '%' && next[0] != '_' && !next.starts_with(escape))) return at;
    at += escape.size() + CharacterBytes(next);
  }
  return std::nullopt;
}

LikePattern::LikePattern(std::string_view pattern, std::string_view escape) {
  bool literal = false;
  for (size_t at = 0; at < pattern.size();) {
    const std::string_view character = pattern.substr(at, CharacterBytes(pattern.substr(at)));
    at += character.size();
    if (!literal && !escape.empty() && character == escape) {
      literal = true;
      continue;
    }
    if (!literal && character == "%") {
      // A run of them means no more than one.
      if (pieces_.empty() || pieces_.back().kind != Piece::Kind::kAny) pieces_.push_back({Piece::Kind::kAny});
    } else if (!literal && character == "_") {
      pieces_.push_back({Piece::Kind::kOne});
    } else {
      if (pieces_.empty() || pieces_.back().kind != Piece::Kind::kText) pieces_.push_back({Piece::Kind::kText});
      pieces_.back().text += character;
    }
    literal = false;
  }
}

bool LikePattern::Matches(std::string_view text) const {
  // Where to go on when what follows the last % does not fit: that % then takes one character more. Earlier ones need
  // no other try, because they took as little as possible.
  size_t at = 0, piece = 0;
  size_t any = pieces_.size(), any_at = 0;
  while (true) {
    bool fits = true;
    if (piece == pieces_.size()) {
      if (at == text.size()) return true;
      fits = false;
    } else if (pieces_[piece].kind == Piece::Kind::kAny) {
      any = piece++;
      any_at = at;
      if (piece == pieces_.size()) return true;
      continue;
    } else if (pieces_[piece].kind == Piece::Kind::kOne) {
      fits = at < text.size();
      if (fits) at += CharacterBytes(text.substr(at));
    } else {
      fits = text.substr(at).starts_with(pieces_[piece].text);
      if (fits) at += pieces_[piece].text.size();
    }
    if (fits) {
      ++piece;
      continue;
    }
    if (any == pieces_.size() || any_at == text.size()) return false;
    any_at += CharacterBytes(text.substr(any_at));
    at = any_at;
    piece = any + 1;
  }
}

}  // namespace trireme::filter
