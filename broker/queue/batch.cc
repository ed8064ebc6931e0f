#include "broker/queue/batch.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "broker/queue/position.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"

namespace trireme::queue {
namespace {

// Field numbers of trireme.v1.Message and what it holds; the wire format of protobuf.
constexpr uint32_t kMessages = 1;
constexpr uint32_t kKey = 2, kId = 3, kHeaders = 4, kReplyTo = 8, kCorrelationId = 9, kContentType = 10,
                   kRoutingKey = 11;
constexpr uint32_t kMapKey = 1, kMapValue = 2, kText = 1;
constexpr uint32_t kVarint = 0, kFixed64 = 1, kCounted = 2, kFixed32 = 5;

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

// Parsers take tags and lengths of at most 5 bytes, however small the number is.
constexpr size_t kMaxTagBytes = 5;

// A varint of at most kMaxTagBytes.
bool ShortVarint(raft::Reader& in, uint64_t* value) {
  const size_t before = in.rest().size();
  *value = in.Varint();
  return in.ok() && before - in.rest().size() <= kMaxTagBytes;
}

// A length of at most kMaxTagBytes, and the bytes.
bool Counted(raft::Reader& in, std::string_view* contents) {
  uint64_t size;
  if (!ShortVarint(in, &size) || size > in.rest().size()) return false;
  *contents = in.Raw(size);
  return true;
}

// Calls visit(field number, contents) for each length-delimited field; false if the bytes are no message or visit says
// so.
template <typename Visit>
bool WalkFields(std::string_view bytes, Visit visit) {
  raft::Reader in(bytes);
  while (!in.empty()) {
    uint64_t tag;
    if (!ShortVarint(in, &tag)) return false;
    const uint64_t number = tag >> 3;
    if (number == 0 || number > 0x1fffffff) return false;
    switch (tag & 7) {
      case kVarint:
        in.Varint();
        break;
      case kFixed64:
        in.Fixed64();
        break;
      case kFixed32:
        in.Fixed32();
        break;
      case kCounted: {
        std::string_view contents;
        if (!Counted(in, &contents) || !visit(static_cast<uint32_t>(number), contents)) return false;
        break;
      }
      default:  // groups are not written by anyone, and not every parser takes them
        return false;
    }
    if (!in.ok()) return false;
  }
  return true;
}

bool HeaderIsGood(std::string_view entry) {
  return WalkFields(entry, [](uint32_t number, std::string_view contents) {
    if (number == kMapKey) return IsUtf8(contents);
    if (number != kMapValue) return true;
    return WalkFields(contents, [](uint32_t kind, std::string_view value) { return kind != kText || IsUtf8(value); });
  });
}

absl::Status CheckMessage(std::string_view message, size_t slot) {
  size_t too_long = 0;
  const char* field = "";
  bool good = WalkFields(message, [&](uint32_t number, std::string_view contents) {
    switch (number) {
      case kKey:
      case kId:
        if (contents.size() > kMaxKeyBytes) {
          too_long = contents.size();
          field = number == kKey ? "key" : "id";
        }
        return IsUtf8(contents);
      case kHeaders:
        return HeaderIsGood(contents);
      case kReplyTo:
      case kCorrelationId:
      case kContentType:
      case kRoutingKey:
        return IsUtf8(contents);
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
  if (in.Byte() != (kMessages << 3 | kCounted)) return false;
  std::string_view message;
  if (!Counted(in, &message)) return false;
  message_ = message;
  record_ = rest_.substr(0, rest_.size() - in.rest().size());
  rest_ = in.rest();
  return true;
}

absl::StatusOr<std::vector<uint32_t>> CheckBatch(std::string_view batch, const BatchLimits& limits) {
  std::vector<uint32_t> checksums;
  BatchWalker walker(batch);
  while (walker.Next()) {
    std::string_view message = walker.message();
    if (message.size() > limits.max_message_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat("message ", checksums.size(), " of the batch has ",
                                                       message.size(), " bytes; the limit is ",
                                                       limits.max_message_bytes));
    }
    if (absl::Status good = CheckMessage(message, checksums.size()); !good.ok()) return good;
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
