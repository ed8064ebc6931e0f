// A queue's settings as facts and snapshots hold them.
#include <cstdint>

#include "broker/queue/entry.h"

namespace trireme::queue {
namespace {

// Never reused.
constexpr uint64_t kMaxMessagesTag = 1, kMaxBytesTag = 2, kMaxMessageBytesTag = 3;
// Of kFactsOfExpiry.
constexpr uint64_t kTtlTag = 4;
// Of kFactsOfOverflow.
constexpr uint64_t kOverflowTag = 5;

}  // namespace

// As a subscription's: those that are set, ascending by tag.
void EncodeSettings(raft::Writer& out, const QueueSettings& settings) {
  raft::Writer fields;
  uint64_t count = 0;
  auto number = [&](uint64_t tag, uint64_t value) {
    if (value == 0) return;
    fields.Varint(tag);
    fields.Varint(value);
    ++count;
  };
  number(kMaxMessagesTag, settings.max_messages);
  number(kMaxBytesTag, settings.max_bytes);
  number(kMaxMessageBytesTag, settings.max_message_bytes);
  number(kTtlTag, settings.ttl_ms);
  number(kOverflowTag, static_cast<uint64_t>(settings.overflow));
  out.Varint(count);
  out.Raw(fields.bytes());
}

QueueSettings DecodeQueueSettings(raft::Reader& in) {
  QueueSettings settings;
  bool good = true;
  uint64_t last = 0;
  auto number = [&](uint64_t& value) {
    value = in.Varint();
    good &= value != 0;
  };
  const size_t count = in.Count(2);
  for (size_t i = 0; i < count && in.ok() && good; ++i) {
    const uint64_t tag = in.Varint();
    good = tag > last;
    last = tag;
    switch (tag) {
      case kMaxMessagesTag:
        number(settings.max_messages);
        break;
      case kMaxBytesTag:
        number(settings.max_bytes);
        break;
      case kMaxMessageBytesTag:
        number(settings.max_message_bytes);
        break;
      case kTtlTag:
        number(settings.ttl_ms);
        break;
      case kOverflowTag: {
        uint64_t overflow = 0;
        number(overflow);
        good &= overflow <= static_cast<uint64_t>(Overflow::kDeadLetter);
        settings.overflow = good ? static_cast<Overflow>(overflow) : Overflow::kReject;
        break;
      }
      default:
        good = false;
    }
  }
  // Fails the reader: what is behind it cannot be read.
  if (!good) in.Raw(in.rest().size() + 1);
  return settings;
}

}  // namespace trireme::queue
