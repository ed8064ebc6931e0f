// A history's lines: the time, the event's word, its fields, and a full stop, separated by blanks. Made for eyes, grep
// and other people's programs; a line without its full stop was torn by the death of its writer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tests/failover/history/event.h"

namespace trireme::failover {

struct TimedEvent {
  uint64_t at_us = 0;
  Event event;
};

// Appends the line, with its newline. Texts have their blanks, percent signs and control characters as %20 and so on;
// an empty one is a minus.
void AppendLine(uint64_t at_us, const Event& event, std::string& out);

// INVALID_ARGUMENT names the line and what is wrong with it.
absl::StatusOr<TimedEvent> ParseLine(std::string_view line);

// DATA_LOSS-free shortcut for sorting: the time that a line begins with; false if it begins with none or is torn.
bool LineTime(std::string_view line, uint64_t& at_us);

}  // namespace trireme::failover
