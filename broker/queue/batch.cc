#include "broker/queue/batch.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "broker/message/message.h"
#include "broker/queue/position.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"

namespace trireme::queue {
namespace {

using message::Field;
using message::WireType;

// Of trireme.v1.MessageBatch, whose only field it is.
constexpr uint32_t kMessages = 1;

bool IsUtf8(std::string_view s) {
  const auto* p = reinterpret_cast<const unsigned char*>(s.data());
  const unsigned char* end = p + s.size();
  for (uint64_t word; end - p >= 8; p += 8) {
    std::memcpy(&word, p, 8);
    if ((word & 0x8080808080808080) != 0) break;
  }
  auto continued = [&](int n) {
    if (end - p < n) return false;
    for (int i = 1; i < n; ++i) {
      if ((p[i] & 0xc0) != 0x80) return false;
    }
    return true;
  };
  while (p < end) {
    if (*p < 0x80) {
      ++p;
    } else if (*p >= 0xc2 && *p <= 0xdf) {
      if (!continued(2)) return false;
      p += 2;
    } else if (*p >= 0xe0 && *p <= 0xef) {
      if (!continued(3)) return false;
      if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f)) return false;  // overlong, surrogates
      p += 3;
    } else if (*p >= 0xf0 && *p <= 0xf4) {
      if (!continued(4)) return false;
      if ((*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f)) return false;
      p += 4;
    } else {
      return false;
    }
  }
  return true;
}

// A string, where the field is of that type; of another one it is unknown to parsers, and passed over.
bool IsText(const Field& field) {
  return field.type != WireType::kCounted || IsUtf8(field.contents);
}

bool HeaderIsGood(std::string_view entry) {
  return message::WalkFields(entry, [](const Field& field) {
    if (field.number == message::kMapKey) return IsText(field);
    if (field.number != message::kMapValue || field.type != WireType::kCounted) return true;
    return message::WalkFields(field.contents,
                               [](const Field& kind) { return kind.number != message::kText || IsText(kind); });
  });
}

absl::Status CheckMessage(std::string_view encoded, size_t slot, bool* expires) {
  size_t too_long = 0;
  const char* field = "";
  bool good = message::WalkFields(encoded, [&](const Field& f) {
    switch (f.number) {
      case message::kKey:
      case message::kId:
        if (f.contents.size() > kMaxKeyBytes) {
          too_long = f.contents.size();
          field = f.number == message::kKey ? "key" : "id";
        }
        return IsText(f);
      case message::kHeaders:
        return f.type != WireType::kCounted || HeaderIsGood(f.contents);
      case message::kReplyTo:
      case message::kCorrelationId:
      case message::kContentType:
      case message::kRoutingKey:
        return IsText(f);
      case message::kExpiresAtMs:
        if (expires != nullptr) *expires |= f.integer != 0;
        return true;
      default:
        return true;
    }
  });
  if (too_long > 0) {
    return absl::InvalidArgumentError(absl::StrCat("the ", field, " of message ", slot, " of the batch has ", too_long,
                                                   " bytes; the limit is ", kMaxKeyBytes));
  }
  if (!good)
    return absl::InvalidArgumentError(
        absl::StrCat("message ", slot, " of the batch does not parse as a trireme.v1.Message"));
  return absl::OkStatus();
}

}  // namespace

bool BatchWalker::Next() {
  if (rest_.empty()) return false;
  raft::Reader in(rest_);
  if (in.Byte() != (kMessages << 3 | static_cast<uint32_t>(WireType::kCounted))) return false;
  std::string_view contents;
  if (!message::ReadCounted(in, &contents)) return false;
  message_ = contents;
  record_ = rest_.substr(0, rest_.size() - in.rest().size());
  rest_ = in.rest();
  return true;
}

absl::StatusOr<std::vector<uint32_t>> CheckBatch(std::string_view batch, const BatchLimits& limits, bool* expires) {
  std::vector<uint32_t> checksums;
  BatchWalker walker(batch);
  while (walker.Next()) {
    std::string_view message = walker.message();
    if (message.size() > limits.max_message_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat("message ", checksums.size(), " of the batch has ",
                                                       message.size(), " bytes; the limit is ",
                                                       limits.max_message_bytes));
    }
    if (absl::Status good = CheckMessage(message, checksums.size(), expires); !good.ok()) return good;
    if (checksums.size() == kMaxBatchMessages) {
      return absl::InvalidArgumentError(
          absl::StrCat("the batch has more than ", kMaxBatchMessages, " messages, which is the limit"));
    }
    checksums.push_back(raft::Crc32c(message));
  }
  if (!walker.whole()) {
    return absl::InvalidArgumentError(absl::StrCat("the batch of ", batch.size(),
                                                   " bytes does not parse as a trireme.v1.MessageBatch after message ",
                                                   checksums.size()));
  }
  if (checksums.empty()) return absl::InvalidArgumentError("the batch has no messages; it must have at least 1");
  if (checksums.size() > 1 && batch.size() > limits.max_batch_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the batch has ", batch.size(), " bytes; the limit for more than one message is ", limits.max_batch_bytes));
  }
  return checksums;
}

raft::Bytes SliceBatch(const raft::Bytes& batch, uint32_t from, uint32_t count) {
  BatchWalker walker(batch.view());
  for (uint32_t i = 0; i < from; ++i) {
    if (!walker.Next()) return {};
  }
  if (count == 0 || !walker.Next()) return {};
  const char* begin = walker.record().data();
  for (uint32_t i = 1; i < count; ++i) {
    if (!walker.Next()) return {};
  }
  const char* end = walker.record().data() + walker.record().size();
  return batch.Sub(static_cast<size_t>(begin - batch.data()), static_cast<size_t>(end - begin));
}

}  // namespace trireme::queue
