// Exchanges and bindings, as they are defined.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "broker/message/message.h"
#include "broker/routing/target.h"

namespace trireme::broker {

enum class ExchangeType : uint8_t { kDirect, kFanout, kTopic, kHeaders };

// A null value asks for the header's presence only.
struct HeaderCondition {
  std::string name;
  message::OwnedValue value;
};

struct Binding {
  std::string exchange;
  Target::Kind kind = Target::Kind::kQueue;  // of what it leads to
  std::string to;
  // At a direct exchange the message's own, at a topic exchange a pattern. Others do not look at it.
  std::string routing_key = {};
  // At a headers exchange: all of them, or any. No two have one name.
  bool all = true;
  std::vector<HeaderCondition> headers = {};
};

}  // namespace trireme::broker
