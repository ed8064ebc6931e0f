#include "broker/api/checks.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "broker/cluster/names.h"
#include "broker/ops/error.h"
#include "broker/queue/facts.h"
#include "broker/replica/moving.h"
#include "trireme/v1/broker.pb.h"

namespace trireme::broker {
namespace {
constexpr size_t kMaxProducerBytes = 255;
constexpr char kAtExchange[] = "$exchange/";
}  // namespace

absl::Status CheckRange(absl::string_view field, uint64_t value, uint64_t low, uint64_t high, absl::string_view unit) {
  if (value >= low && value <= high) return absl::OkStatus();
  const std::string limit = absl::StrCat(low, " to ", high, unit.empty() ? "" : " ", unit);
  return Error(absl::StatusCode::kInvalidArgument, {.reason = "OUT_OF_RANGE", .name = field, .limit = limit},
               absl::StrCat(field, " is ", value, "; it must be ", limit));
}

absl::Status CheckRange(absl::string_view field, std::chrono::milliseconds value, std::chrono::milliseconds low,
                        std::chrono::milliseconds high) {
  auto number = [](std::chrono::milliseconds ms) { return static_cast<uint64_t>(ms.count()); };
  return CheckRange(field, number(value), number(low), number(high), "ms");
}

absl::Status CheckProducer(const std::string& name, bool by_node) {
  if (name.size() > kMaxProducerBytes) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_PRODUCER", .limit = "255 bytes"},
                 absl::StrCat("the producer's name has ", name.size(), " bytes; the limit is ", kMaxProducerBytes));
  }
  for (const char* kept : {kAtExchange, kMover}) {
    if (by_node || !absl::StartsWith(name, kept)) continue;
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_PRODUCER", .name = name},
                 absl::StrCat("the producer's name begins with '", kept,
                              "', which is for what the broker itself publishes; choose another name"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ProducerAtExchange(uint64_t exchange_id, const std::string& name) {
  if (name.empty()) return name;
  std::string at = absl::StrCat(kAtExchange, exchange_id, "/", name);
  if (at.size() <= kMaxProducerBytes) return at;
  const size_t limit = kMaxProducerBytes - (at.size() - name.size());
  return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_PRODUCER", .limit = absl::StrCat(limit, " bytes")},
               absl::StrCat("the producer's name has ", name.size(), " bytes; at this exchange the limit is ", limit));
}

absl::StatusOr<std::string> SubscriptionName(const std::string& name) {
  if (name.empty()) return std::string(queue::kDefaultSubscription);
  if (absl::Status good = ValidateSubscriptionName(name); !good.ok()) return good;
  return name;
}

absl::Status CheckDelay(uint32_t delay_ms) {
  return CheckRange("delay_ms", std::chrono::milliseconds{delay_ms}, std::chrono::milliseconds{0},
                    std::chrono::hours{12});
}

absl::Status CheckDisposition(int disposition) {
  if (disposition >= v1::DISPOSITION_ACKNOWLEDGE && disposition <= v1::DISPOSITION_REJECT) return absl::OkStatus();
  return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_DISPOSITION", .limit = "1 to 3"},
               absl::StrCat("disposition ", disposition, " is none of acknowledge, requeue, reject"));
}

}  // namespace trireme::broker
