#include "tests/routing/twin.h"

#include <algorithm>
#include <optional>

namespace trireme::broker {
namespace {

std::vector<std::string> Words(const std::string& key) {
  std::vector<std::string> words;
  if (key.empty()) return words;
  words.emplace_back();
  for (char c : key) {
    if (c == '.') {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  return words;
}

bool Fits(const std::vector<std::string>& pattern, size_t p, const std::vector<std::string>& key, size_t k) {
  if (p == pattern.size()) return k == key.size();
  if (pattern[p] == "#") return Fits(pattern, p + 1, key, k) || (k < key.size() && Fits(pattern, p, key, k + 1));
  return k < key.size() && (pattern[p] == "*" || pattern[p] == key[k]) && Fits(pattern, p + 1, key, k + 1);
}

message::Value ValueOf(const trireme::v1::Value& value) {
  if (value.has_text()) return std::string_view(value.text());
  if (value.has_integer()) return value.integer();
  if (value.has_real()) return value.real();
  if (value.has_boolean()) return value.boolean();
  if (value.has_binary()) return message::Binary{value.binary()};
  return {};
}

}  // namespace

bool RoutingTwin::Matches(const Binding& binding, const std::string& key, const trireme::v1::Message& message) const {
  switch (exchanges.at(binding.exchange).type) {
    case ExchangeType::kDirect:
      return binding.routing_key == key;
    case ExchangeType::kFanout:
      return true;
    case ExchangeType::kTopic:
      return Fits(Words(binding.routing_key), 0, Words(key), 0);
    case ExchangeType::kHeaders: {
      size_t holding = 0;
      for (const HeaderCondition& condition : binding.headers) {
        auto found = message.headers().find(condition.name);
        if (found == message.headers().end()) continue;
        const message::Value wanted = condition.value.view();
        holding += message::IsNull(wanted) || message::Compare(wanted, ValueOf(found->second)) == 0 ? 1 : 0;
      }
      return binding.all ? holding == binding.headers.size() : holding > 0;
    }
  }
  return false;
}

std::set<std::string> RoutingTwin::Route(const std::string& exchange, const std::string& key,
                                         const trireme::v1::Message& message) const {
  std::set<std::string> reached, passed;
  if (exchange.empty()) {
    if (queues.contains(key)) reached.insert(key);
    return reached;
  }
  std::vector<std::string> work = {exchange};
  while (!work.empty()) {
    const std::string name = work.back();
    work.pop_back();
    if (!exchanges.contains(name) || !passed.insert(name).second) continue;
    bool matched = false;
    for (const Binding& binding : bindings) {
      if (binding.exchange != name || !Matches(binding, key, message)) continue;
      matched = true;
      if (binding.kind == Target::Kind::kQueue) {
        reached.insert(binding.to);
      } else {
        work.push_back(binding.to);
      }
    }
    if (!matched) work.push_back(exchanges.at(name).alternate);
  }
  return reached;
}

}  // namespace trireme::broker
