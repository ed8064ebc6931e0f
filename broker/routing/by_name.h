// Maps by name that are asked with a std::string_view, without making a string of it.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"

namespace trireme::broker {

struct NameHash {
  using is_transparent = void;
  size_t operator()(std::string_view name) const {
    return absl::HashOf(absl::string_view(name.data(), name.size()));  // absl's own type, where the two differ
  }
};

template <typename Value>
using ByName = absl::flat_hash_map<std::string, Value, NameHash, std::equal_to<>>;

}  // namespace trireme::broker
