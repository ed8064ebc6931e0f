#include "broker/routing/header_index.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "raft/core/coding.h"

namespace trireme::broker {

std::string HeaderIndex::Canonical(const message::Value& value) {
  raft::Writer out;
  message::Value v = value;
  // A real that is a whole number is equal to that integer.
  constexpr double kTwoTo63 = 9223372036854775808.0;
  if (const auto* real = std::get_if<double>(&v); real != nullptr && *real >= -kTwoTo63 && *real < kTwoTo63) {
    if (std::trunc(*real) == *real) v = static_cast<int64_t>(*real);
  }
  out.Byte(static_cast<uint8_t>(v.index()));
  if (const auto* text = std::get_if<std::string_view>(&v)) out.Raw(*text);
  if (const auto* integer = std::get_if<int64_t>(&v)) out.Signed(*integer);
  if (const auto* real = std::get_if<double>(&v)) out.Fixed64(std::bit_cast<uint64_t>(*real));
  if (const auto* boolean = std::get_if<bool>(&v)) out.Byte(*boolean ? 1 : 0);
  if (const auto* binary = std::get_if<message::Binary>(&v)) out.Raw(binary->bytes);
  return out.Take();
}

std::string HeaderIndex::Identity(const Binding& binding, const Target* target) {
  raft::Writer out;
  out.Byte(static_cast<uint8_t>(target->kind));
  out.Counted(target->name);
  out.Byte(binding.all ? 1 : 0);
  for (const HeaderCondition& condition : binding.headers) {
    out.Counted(condition.name);
    out.Counted(Canonical(condition.value.view()));
  }
  return out.Take();
}

void HeaderIndex::Add(const Binding& binding, Target* target) {
  auto [at, added] = slots_.try_emplace(Identity(binding, target), 0);
  if (!added) {
    ++entries_[at->second].bindings;
    return;
  }
  Slot slot;
  if (free_.empty()) {
    slot = static_cast<Slot>(entries_.size());
    entries_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  at->second = slot;
  entries_[slot] = {
      .target = target, .bindings = 1, .needed = binding.all ? static_cast<uint32_t>(binding.headers.size()) : 1};
  if (binding.headers.empty() && binding.all) always_.Add(target);
  for (const HeaderCondition& condition : binding.headers) {
    Name& name = names_[condition.name];
    const message::Value value = condition.value.view();
    (message::IsNull(value) ? name.present : name.values[Canonical(value)]).push_back(slot);
  }
}

bool HeaderIndex::Remove(const Binding& binding, Target* target) {
  auto found = slots_.find(Identity(binding, target));
  if (found == slots_.end()) return false;
  const Slot slot = found->second;
  if (--entries_[slot].bindings > 0) return true;
  slots_.erase(found);
  free_.push_back(slot);
  entries_[slot] = {};
  if (binding.headers.empty() && binding.all) always_.Remove(target);
  for (const HeaderCondition& condition : binding.headers) {
    auto name = names_.find(condition.name);
    const message::Value value = condition.value.view();
    if (message::IsNull(value)) {
      std::erase(name->second.present, slot);
    } else {
      auto slots = name->second.values.find(Canonical(value));
      std::erase(slots->second, slot);
      if (slots->second.empty()) name->second.values.erase(slots);
    }
    if (name->second.present.empty() && name->second.values.empty()) names_.erase(name);
  }
  return true;
}

void HeaderIndex::Holds(const std::vector<Slot>& slots) {
  for (Slot slot : slots) {
    Entry& entry = entries_[slot];
    if (entry.counted != message_) {
      entry.counted = message_;
      entry.holding = 0;
    }
    if (++entry.holding == entry.needed) matched_.push_back(entry.target);
  }
}

void HeaderIndex::Count(std::string_view message) {
  ++message_;
  seen_.clear();
  matched_.clear();
  const bool whole = message::WalkHeaders(message, [this](std::string_view header, const message::Value& value) {
    auto found = names_.find(header);
    if (found == names_.end()) return;
    Name& name = found->second;
    name.value = value;
    if (name.seen == message_) return;
    name.seen = message_;
    seen_.push_back(&name);
  });
  if (!whole) seen_.clear();
  for (Name* name : seen_) {
    Holds(name->present);
    if (auto slots = name->values.find(Canonical(name->value)); slots != name->values.end()) Holds(slots->second);
  }
  always_.ForEach([this](Target* target) { matched_.push_back(target); });
  std::sort(matched_.begin(), matched_.end(), [](const Target* a, const Target* b) { return *a < *b; });
}

}  // namespace trireme::broker
