#include "tests/failover/workload/body.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "raft/core/checksum.h"

namespace trireme::failover {
namespace {

constexpr uint32_t kMagic = 0x31424654;
constexpr size_t kNameBytes = 16;
constexpr size_t kSumBytes = 4;
static_assert(kNameBytes + kSumBytes == kMinBodyBytes);

template <class Number>
void Put(Number value, std::string& out) {
  for (size_t i = 0; i < sizeof value; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

template <class Number>
Number Get(std::string_view bytes) {
  Number value = 0;
  for (size_t i = 0; i < sizeof value; ++i)
    value |= static_cast<Number>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  return value;
}

}  // namespace

std::string MakeBody(const BodyName& name, size_t size) {
  std::string body;
  body.reserve(std::max(size, kMinBodyBytes));
  Put(kMagic, body);
  Put(name.producer, body);
  Put(name.sequence, body);
  // Different from message to message, so that bytes of one do not pass for another's.
  uint64_t filler = name.sequence * 0x9e3779b97f4a7c15 + name.producer;
  while (body.size() + kSumBytes + sizeof filler <= size) {
    Put(filler, body);
    filler = filler * 6364136223846793005 + 1442695040888963407;
  }
  while (body.size() + kSumBytes < size) body.push_back('.');
  Put(raft::Crc32c(body), body);
  return body;
}

absl::StatusOr<BodyName> ReadBody(std::string_view body) {
  if (body.size() < kMinBodyBytes || Get<uint32_t>(body) != kMagic) {
    return absl::DataLossError(absl::StrCat("a body of ", body.size(), " bytes is not one of ours"));
  }
  const size_t sum = body.size() - kSumBytes;
  if (Get<uint32_t>(body.substr(sum)) != raft::Crc32c(body.substr(0, sum))) {
    return absl::DataLossError(
        absl::StrCat("the checksum of a body of ", body.size(), " bytes does not fit; it says to be message ",
                     Get<uint64_t>(body.substr(8)), " of producer ", Get<uint32_t>(body.substr(4))));
  }
  return BodyName{Get<uint32_t>(body.substr(4)), Get<uint64_t>(body.substr(8))};
}

}  // namespace trireme::failover
