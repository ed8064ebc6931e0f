#include "broker/queue/entry.h"

#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/queue/batch.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"

namespace trireme::queue {
namespace {

constexpr uint8_t kLayout = 1;
enum class Kind : uint8_t { kPublished = 1, kFacts = 2 };

// The first byte of an encoded fact. Never reused.
enum class Code : uint8_t {
  kProducerOpened = 1,
  kProducerForgotten = 2,
  kAttached = 3,
  kDetached = 4,
  kCheckedOut = 5,
  kSettled = 6,
  kLeaseExtended = 7,
  kExpired = 8,
  kPurged = 9,
  kVersionRaised = 10,
  // From here on of version 2.
  kCheckedOutPassing = 11,  // a CheckedOut with messages passed over
  kSkipped = 12,
  kSubscriptionCreated = 13,
  kSubscriptionChanged = 14,
  kSubscriptionDeleted = 15,
  // From here on of version 3.
  kSettledLater = 16,  // a Settled with times
  kDeadLettered = 17,
  // From here on of version 4.
  kSettledTo = 18,       // a Settled with a target
  kDeadLetteredTo = 19,  // likewise
  kArrived = 20,
  kRedirected = 21,
  // From here on of kFactsOfLimits.
  kCheckedOutSized = 22,  // a CheckedOut with bytes
  kSkippedSized = 23,     // likewise
  kSubscriptionCreatedSized = 24,
  kQueueChanged = 25,
  // From here on of kFactsOfExpiry.
  kDeadUnseen = 26,
};

// Of a setting in SubscriptionSettings. Never reused.
constexpr uint64_t kFilterTag = 1;
// From here on of version 3.
constexpr uint64_t kRetryDelayTag = 2, kRetryPercentTag = 3, kMaxRetryDelayTag = 4, kDeliveryLimitTag = 5;
// From here on of version 4.
constexpr uint64_t kDeadLetterGroupTag = 6, kDeadLetterQueueTag = 7, kDeadLetterRoutingKeyTag = 8;
// From here on of version 5.
constexpr uint64_t kSingleActiveTag = 9;
// Of kFactsOfLimits.
constexpr uint64_t kMaxInFlightTag = 10;

// ---------------------------------------------------------------- ranges, each told by its distance from the one
// before

void PutSlots(raft::Writer& out, const std::vector<Slots>& all) {
  out.Varint(all.size());
  uint64_t last = 0;
  for (const Slots& s : all) {
    out.Signed(static_cast<int64_t>(s.first.packed() - last));
    out.Varint(s.count);
    last = s.first.packed();
  }
}

std::vector<Slots> GetSlots(raft::Reader& in) {
  std::vector<Slots> all(in.Count(2));
  uint64_t last = 0;
  for (Slots& s : all) {
    last += static_cast<uint64_t>(in.Signed());
    s.first = Position(last);
    s.count = static_cast<uint32_t>(in.Varint());
  }
  return all;
}

void PutTokens(raft::Writer& out, const std::vector<Token>& all) {
  out.Varint(all.size());
  uint64_t last = 0, last_checkout = 0;
  for (const Token& t : all) {
    out.Signed(static_cast<int64_t>(t.slots.first.packed() - last));
    out.Varint(t.slots.count);
    out.Signed(static_cast<int64_t>(t.checkout_index - last_checkout));
    last = t.slots.first.packed();
    last_checkout = t.checkout_index;
  }
}

std::vector<Token> GetTokens(raft::Reader& in) {
  std::vector<Token> all(in.Count(3));
  uint64_t last = 0, last_checkout = 0;
  for (Token& t : all) {
    last += static_cast<uint64_t>(in.Signed());
    t.slots.first = Position(last);
    t.slots.count = static_cast<uint32_t>(in.Varint());
    last_checkout += static_cast<uint64_t>(in.Signed());
    t.checkout_index = last_checkout;
  }
  return all;
}

// Whatever the numbers are.
int64_t Plus(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

// ---------------------------------------------------------------- facts

struct Encoder {
  raft::Writer& out;

  void Put(Code code) { out.Byte(static_cast<uint8_t>(code)); }
  void operator()(const fact::Published&) {}  // has a layout of its own
  void operator()(const fact::ProducerOpened& f) {
    Put(Code::kProducerOpened);
    out.Counted(f.producer);
    out.Varint(f.epoch);
  }
  void operator()(const fact::ProducerForgotten& f) {
    Put(Code::kProducerForgotten);
    out.Counted(f.producer);
    out.Varint(f.epoch);
    out.Varint(f.last_sequence);
  }
  void operator()(const fact::Attached& f) {
    Put(Code::kAttached);
    out.Varint(f.subscription);
    out.Counted(f.session);
    out.Varint(f.epoch);
    out.Counted(f.consumer);
    out.Varint(f.timeout_ms);
  }
  void operator()(const fact::Detached& f) {
    Put(Code::kDetached);
    out.Varint(f.subscription);
    out.Counted(f.session);
    out.Varint(f.epoch);
  }
  void operator()(const fact::CheckedOut& f) {
    Put(f.sized ? Code::kCheckedOutSized : f.skipped == 0 ? Code::kCheckedOut : Code::kCheckedOutPassing);
    out.Varint(f.subscription);
    out.Counted(f.session);
    out.Varint(f.session_epoch);
    out.Signed(f.deadline_ms);
    out.Varint(f.from_next.packed());
    out.Varint(f.to_next.packed());
    PutSlots(out, f.waiting);
    PutSlots(out, f.returned);
    if (f.skipped == 0 && !f.sized) return;
    out.Varint(f.skipped);
    out.Varint(f.counted_at);
    if (!f.sized) return;
    out.Varint(f.sizes.size());
    for (uint64_t size : f.sizes) out.Varint(size);
    out.Varint(f.skipped_bytes);
  }
  void operator()(const fact::Settled& f) {
    Put(f.target != 0 ? Code::kSettledTo : f.due_ms.empty() ? Code::kSettled : Code::kSettledLater);
    out.Varint(f.subscription);
    out.Byte(static_cast<uint8_t>(f.disposition));
    PutTokens(out, f.tokens);
    if (f.target != 0) return out.Varint(f.target);
    int64_t last = 0;
    for (int64_t due : f.due_ms) {
      out.Signed(static_cast<int64_t>(static_cast<uint64_t>(due) - static_cast<uint64_t>(last)));
      last = due;
    }
  }
  void operator()(const fact::LeaseExtended& f) {
    Put(Code::kLeaseExtended);
    out.Varint(f.subscription);
    out.Signed(f.deadline_ms);
    PutTokens(out, f.tokens);
  }
  void operator()(const fact::Expired& f) {
    Put(Code::kExpired);
    out.Varint(f.subscription);
    out.Signed(f.now_ms);
    PutTokens(out, f.tokens);
  }
  void operator()(const fact::Purged&) { Put(Code::kPurged); }
  void operator()(const fact::VersionRaised& f) {
    Put(Code::kVersionRaised);
    out.Varint(f.version);
  }
  void operator()(const fact::Skipped& f) {
    Put(f.sized ? Code::kSkippedSized : Code::kSkipped);
    out.Varint(f.subscription);
    out.Varint(f.from_next.packed());
    out.Varint(f.to_next.packed());
    out.Varint(f.count);
    out.Varint(f.counted_at);
    PutSlots(out, f.returned);
    if (f.sized) out.Varint(f.bytes);
  }
  void operator()(const fact::SubscriptionCreated& f) {
    Put(f.sized ? Code::kSubscriptionCreatedSized : Code::kSubscriptionCreated);
    out.Counted(f.name);
    out.Varint(f.from.packed());
    out.Varint(f.ordinal);
    EncodeSettings(out, f.settings);
    if (f.sized) out.Varint(f.bytes);
  }
  void operator()(const fact::SubscriptionChanged& f) {
    Put(Code::kSubscriptionChanged);
    out.Varint(f.subscription);
    EncodeSettings(out, f.settings);
  }
  void operator()(const fact::DeadLettered& f) {
    Put(f.target == 0 ? Code::kDeadLettered : Code::kDeadLetteredTo);
    out.Varint(f.subscription);
    out.Byte(static_cast<uint8_t>(f.reason));
    out.Varint(f.deliveries);
    PutSlots(out, f.returned);
    if (f.target != 0) out.Varint(f.target);
  }
  void operator()(const fact::Arrived& f) {
    Put(Code::kArrived);
    out.Varint(f.subscription);
    out.Varint(f.first);
    out.Varint(f.count);
  }
  void operator()(const fact::Redirected& f) {
    Put(Code::kRedirected);
    out.Varint(f.subscription);
    out.Varint(f.from);
    out.Varint(f.to);
  }
  void operator()(const fact::DeadUnseen& f) {
    Put(Code::kDeadUnseen);
    out.Varint(f.subscription);
    out.Byte(static_cast<uint8_t>(f.reason));
    out.Varint(f.from_next.packed());
    out.Varint(f.to_next.packed());
    PutSlots(out, f.waiting);
    for (uint64_t size : f.sizes) out.Varint(size);  // as many
    out.Varint(f.skipped);
    out.Varint(f.skipped_bytes);
    out.Varint(f.counted_at);
    out.Varint(f.target);
  }
  void operator()(const fact::QueueChanged& f) {
    Put(Code::kQueueChanged);
    EncodeSettings(out, f.settings);
  }
  void operator()(const fact::SubscriptionDeleted& f) {
    Put(Code::kSubscriptionDeleted);
    out.Varint(f.subscription);
  }
};

absl::StatusOr<Fact> DecodeFact(raft::Reader& in) {
  const uint8_t code = in.Byte();
  switch (static_cast<Code>(code)) {
    case Code::kProducerOpened: {
      fact::ProducerOpened f;
      f.producer = in.Counted();
      f.epoch = in.Varint();
      return f;
    }
    case Code::kProducerForgotten: {
      fact::ProducerForgotten f;
      f.producer = in.Counted();
      f.epoch = in.Varint();
      f.last_sequence = in.Varint();
      return f;
    }
    case Code::kAttached: {
      fact::Attached f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      f.session = in.Counted();
      f.epoch = in.Varint();
      f.consumer = in.Counted();
      f.timeout_ms = static_cast<uint32_t>(in.Varint());
      return f;
    }
    case Code::kDetached: {
      fact::Detached f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      f.session = in.Counted();
      f.epoch = in.Varint();
      return f;
    }
    case Code::kCheckedOut:
    case Code::kCheckedOutSized:
    case Code::kCheckedOutPassing: {
      fact::CheckedOut f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      f.session = in.Counted();
      f.session_epoch = in.Varint();
      f.deadline_ms = in.Signed();
      f.from_next = Position(in.Varint());
      f.to_next = Position(in.Varint());
      f.waiting = GetSlots(in);
      f.returned = GetSlots(in);
      if (code == static_cast<uint8_t>(Code::kCheckedOut)) return f;
      f.skipped = in.Varint();
      f.counted_at = in.Varint();
      if (code == static_cast<uint8_t>(Code::kCheckedOutSized)) {
        f.sized = true;
        f.sizes.resize(in.Count());
        for (uint64_t& size : f.sizes) size = in.Varint();
        f.skipped_bytes = in.Varint();
        return f;
      }
      // One that passes over nothing has another code: each fact has one encoding.
      if (f.skipped == 0) return absl::DataLossError("a CheckedOut fact that passes over messages says of none");
      return f;
    }
    case Code::kSettled:
    case Code::kSettledTo:
    case Code::kSettledLater: {
      fact::Settled f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      const uint8_t disposition = in.Byte();
      const bool away = code == static_cast<uint8_t>(Code::kSettledTo);
      const auto first = away ? Disposition::kReject : Disposition::kAcknowledge;
      const auto last = away ? Disposition::kRedrive : Disposition::kUndelivered;
      if (disposition < static_cast<uint8_t>(first) || disposition > static_cast<uint8_t>(last)) {
        return absl::DataLossError(absl::StrCat("a Settled fact has disposition ", disposition));
      }
      f.disposition = static_cast<Disposition>(disposition);
      f.tokens = GetTokens(in);
      if (code == static_cast<uint8_t>(Code::kSettled)) return f;
      if (away) {
        f.target = in.Varint();
        if (f.target == 0 || f.disposition == Disposition::kUndelivered)
          return absl::DataLossError("a Settled fact has no target");
        return f;
      }
      int64_t due = 0;
      for (size_t i = 0; i < f.tokens.size() && in.ok(); ++i) f.due_ms.push_back(due = Plus(due, in.Signed()));
      return f;
    }
    case Code::kLeaseExtended: {
      fact::LeaseExtended f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      f.deadline_ms = in.Signed();
      f.tokens = GetTokens(in);
      return f;
    }
    case Code::kExpired: {
      fact::Expired f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      f.now_ms = in.Signed();
      f.tokens = GetTokens(in);
      return f;
    }
    case Code::kPurged:
      return fact::Purged{};
    case Code::kVersionRaised:
      return fact::VersionRaised{static_cast<uint32_t>(in.Varint())};
    case Code::kSkippedSized:
    case Code::kSkipped: {
      fact::Skipped f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      f.from_next = Position(in.Varint());
      f.to_next = Position(in.Varint());
      f.count = in.Varint();
      f.counted_at = in.Varint();
      f.returned = GetSlots(in);
      f.sized = code == static_cast<uint8_t>(Code::kSkippedSized);
      if (f.sized) f.bytes = in.Varint();
      return f;
    }
    case Code::kSubscriptionCreatedSized:
    case Code::kSubscriptionCreated: {
      fact::SubscriptionCreated f;
      f.name = in.Counted();
      f.from = Position(in.Varint());
      f.ordinal = in.Varint();
      f.settings = DecodeSettings(in);
      f.sized = code == static_cast<uint8_t>(Code::kSubscriptionCreatedSized);
      if (f.sized) f.bytes = in.Varint();
      return f;
    }
    case Code::kSubscriptionChanged: {
      fact::SubscriptionChanged f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      f.settings = DecodeSettings(in);
      return f;
    }
    case Code::kArrived: {
      fact::Arrived f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      f.first = in.Varint();
      f.count = in.Varint();
      return f;
    }
    case Code::kRedirected: {
      fact::Redirected f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      f.from = in.Varint();
      f.to = in.Varint();
      return f;
    }
    case Code::kDeadLetteredTo:
    case Code::kDeadLettered: {
      fact::DeadLettered f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      const uint8_t reason = in.Byte();
      if (!IsReason(reason)) return absl::DataLossError(absl::StrCat("a DeadLettered fact has reason ", reason));
      f.reason = static_cast<DeadReason>(reason);
      f.deliveries = static_cast<uint32_t>(in.Varint());
      f.returned = GetSlots(in);
      if (code == static_cast<uint8_t>(Code::kDeadLetteredTo)) f.target = in.Varint();
      return f;
    }
    case Code::kDeadUnseen: {
      fact::DeadUnseen f;
      f.subscription = static_cast<SubscriptionId>(in.Varint());
      const uint8_t reason = in.Byte();
      if (!IsReason(reason)) return absl::DataLossError(absl::StrCat("a DeadUnseen fact has reason ", reason));
      f.reason = static_cast<DeadReason>(reason);
      f.from_next = Position(in.Varint());
      f.to_next = Position(in.Varint());
      f.waiting = GetSlots(in);
      f.sizes.resize(f.waiting.size());
      for (uint64_t& size : f.sizes) size = in.Varint();
      f.skipped = in.Varint();
      f.skipped_bytes = in.Varint();
      f.counted_at = in.Varint();
      f.target = in.Varint();
      return f;
    }
    case Code::kQueueChanged:
      return fact::QueueChanged{DecodeQueueSettings(in)};
    case Code::kSubscriptionDeleted:
      return fact::SubscriptionDeleted{static_cast<SubscriptionId>(in.Varint())};
  }
  return absl::UnimplementedError(
      absl::StrCat("the log holds a fact of kind ", code, ", which facts of version ", kFactVersion,
                   " (this program's) do not have; run a newer version of trireme-broker on this node"));
}

// ---------------------------------------------------------------- the header around them

raft::Bytes Assemble(Kind kind, std::string_view header, std::span<const std::string_view> batches) {
  raft::Writer front;
  front.Byte(kLayout);
  front.Byte(static_cast<uint8_t>(kind));
  raft::Writer length;
  length.Varint(header.size());
  uint32_t crc = raft::Crc32c(front.bytes());
  crc = raft::Crc32c(length.bytes(), crc);
  front.Fixed32(raft::Crc32c(header, crc));
  front.Raw(length.bytes());

  size_t size = front.size() + header.size();
  for (std::string_view batch : batches) size += batch.size();
  auto buffer = std::make_shared_for_overwrite<char[]>(size);
  char* at = buffer.get();
  std::memcpy(at, front.bytes().data(), front.size());
  at += front.size();
  std::memcpy(at, header.data(), header.size());
  at += header.size();
  for (std::string_view batch : batches) at = std::copy(batch.begin(), batch.end(), at);
  const char* data = buffer.get();
  return raft::Bytes(std::move(buffer), data, size);
}

struct Opened {
  Kind kind = Kind::kFacts;
  std::string_view header;
  raft::Bytes batch;
};

absl::StatusOr<Opened> OpenEntry(const raft::Bytes& entry) {
  raft::Reader in(entry.view());
  const uint8_t layout = in.Byte();
  const uint8_t kind = in.Byte();
  const uint32_t crc = in.Fixed32();
  std::string_view after_crc = in.rest();
  std::string_view header = in.Counted();
  if (!in.ok()) return absl::DataLossError(absl::StrCat("an entry of ", entry.size(), " bytes is cut short"));
  const auto covered = static_cast<size_t>(header.data() + header.size() - after_crc.data());
  if (raft::Crc32c(after_crc.substr(0, covered), raft::Crc32c(entry.view().substr(0, 2))) != crc) {
    return absl::DataLossError(absl::StrCat("the header of an entry of ", entry.size(), " bytes has a wrong checksum"));
  }
  if (layout != kLayout) {
    return absl::UnimplementedError(absl::StrCat("an entry has layout ", layout, "; this program knows layout ",
                                                 kLayout, "; run a newer version of trireme-broker on this node"));
  }
  if (kind != static_cast<uint8_t>(Kind::kPublished) && kind != static_cast<uint8_t>(Kind::kFacts)) {
    return absl::UnimplementedError(
        absl::StrCat("an entry is of kind ", kind, ", which layout ", kLayout,
                     " (this program's) does not have; run a newer version of trireme-broker on this node"));
  }
  return Opened{static_cast<Kind>(kind), header, entry.Sub(entry.size() - in.rest().size(), in.rest().size())};
}

absl::Status Unparsable() {
  return absl::DataLossError("an entry's header does not parse though its checksum is right");
}

absl::StatusOr<PublishedView> ViewPublished(const Opened& opened) {
  PublishedView view;
  raft::Reader in(opened.header);
  view.time_ms = in.Signed();
  view.producer = in.Counted();
  view.epoch = in.Varint();
  view.first_sequence = in.Varint();
  const uint64_t count = in.Varint();
  if (!in.ok() || count == 0 || count > kMaxBatchMessages || in.rest().size() != count * 4) return Unparsable();
  view.count = static_cast<uint32_t>(count);
  view.checksums = in.rest();
  view.batch = opened.batch;
  return view;
}

}  // namespace

uint32_t VersionOf(const Fact& fact) {
  if (const auto* out = std::get_if<fact::CheckedOut>(&fact))
    return out->sized ? kFactsOfLimits : out->skipped == 0 ? 1 : 2;
  if (const auto* skipped = std::get_if<fact::Skipped>(&fact)) return skipped->sized ? kFactsOfLimits : 2;
  if (const auto* changed = std::get_if<fact::QueueChanged>(&fact)) return VersionOf(changed->settings);
  if (const auto* unseen = std::get_if<fact::DeadUnseen>(&fact))
    return unseen->reason == DeadReason::kOverflow ? kFactsOfOverflow : kFactsOfExpiry;
  if (const auto* settled = std::get_if<fact::Settled>(&fact))
    return settled->target != 0 ? 4 : settled->due_ms.empty() ? 1 : 3;
  if (const auto* dead = std::get_if<fact::DeadLettered>(&fact)) {
    if (dead->reason == DeadReason::kOverflow) return kFactsOfOverflow;
    return dead->reason == DeadReason::kExpired ? kFactsOfExpiry : dead->target == 0 ? 3 : 4;
  }
  if (std::holds_alternative<fact::Arrived>(fact) || std::holds_alternative<fact::Redirected>(fact)) return 4;
  if (const auto* made = std::get_if<fact::SubscriptionCreated>(&fact))
    return made->sized ? kFactsOfLimits : VersionOf(made->settings);
  if (const auto* changed = std::get_if<fact::SubscriptionChanged>(&fact)) return VersionOf(changed->settings);
  return std::holds_alternative<fact::SubscriptionDeleted>(fact) ? 2 : 1;
}

uint32_t VersionOf(const QueueSettings& settings) {
  if (settings.overflow != Overflow::kReject) return kFactsOfOverflow;
  return settings.ttl_ms == 0 ? kFactsOfLimits : kFactsOfExpiry;
}

uint32_t VersionOf(const SubscriptionSettings& settings) {
  if (settings.max_in_flight != 0) return kFactsOfLimits;
  if (settings.single_active) return 5;
  if (settings.dead_letter != DeadLetterTarget()) return 4;
  return settings == SubscriptionSettings{.filter = settings.filter} ? 2 : 3;
}

// Fields that are not as in a new subscription, ascending by tag: so a setting of a later version is nothing in what an
// earlier one reads. Settings have one encoding.
void EncodeSettings(raft::Writer& out, const SubscriptionSettings& settings) {
  raft::Writer fields;
  uint64_t count = 0;
  auto text = [&](uint64_t tag, const std::string& value) {
    if (value.empty()) return;
    fields.Varint(tag);
    fields.Counted(value);
    ++count;
  };
  text(kFilterTag, settings.filter);
  const SubscriptionSettings plain;
  auto number = [&](uint64_t tag, uint32_t value, uint32_t otherwise) {
    if (value == otherwise) return;
    fields.Varint(tag);
    fields.Varint(value);
    ++count;
  };
  number(kRetryDelayTag, settings.retry_delay_ms, plain.retry_delay_ms);
  number(kRetryPercentTag, settings.retry_percent, plain.retry_percent);
  number(kMaxRetryDelayTag, settings.max_retry_delay_ms, plain.max_retry_delay_ms);
  number(kDeliveryLimitTag, settings.delivery_limit, plain.delivery_limit);
  if (settings.dead_letter.group != 0) {
    fields.Varint(kDeadLetterGroupTag);
    fields.Varint(settings.dead_letter.group);
    ++count;
  }
  text(kDeadLetterQueueTag, settings.dead_letter.queue);
  text(kDeadLetterRoutingKeyTag, settings.dead_letter.routing_key);
  number(kSingleActiveTag, settings.single_active ? 1 : 0, 0);
  if (settings.max_in_flight != 0) {
    fields.Varint(kMaxInFlightTag);
    fields.Varint(settings.max_in_flight);
    ++count;
  }
  out.Varint(count);
  out.Raw(fields.bytes());
}

SubscriptionSettings DecodeSettings(raft::Reader& in) {
  SubscriptionSettings settings;
  bool good = true;
  uint64_t last = 0;
  auto number = [&](uint32_t& value) {
    const uint64_t read = in.Varint();
    good &= read != value && read <= std::numeric_limits<uint32_t>::max();
    value = static_cast<uint32_t>(read);
  };
  auto text = [&](std::string& value) {
    value = in.Counted();
    good &= !value.empty();
  };
  const size_t count = in.Count(2);
  for (size_t i = 0; i < count && in.ok() && good; ++i) {
    const uint64_t tag = in.Varint();
    good = tag > last;
    last = tag;
    switch (tag) {
      case kFilterTag:
        text(settings.filter);
        break;
      case kRetryDelayTag:
        number(settings.retry_delay_ms);
        break;
      case kRetryPercentTag:
        number(settings.retry_percent);
        break;
      case kMaxRetryDelayTag:
        number(settings.max_retry_delay_ms);
        break;
      case kDeliveryLimitTag:
        number(settings.delivery_limit);
        break;
      case kDeadLetterGroupTag:
        settings.dead_letter.group = in.Varint();
        good &= settings.dead_letter.group != 0;
        break;
      case kDeadLetterQueueTag:
        text(settings.dead_letter.queue);
        break;
      case kDeadLetterRoutingKeyTag:
        text(settings.dead_letter.routing_key);
        break;
      case kSingleActiveTag:
        settings.single_active = true;
        good &= in.Varint() == 1;
        break;
      case kMaxInFlightTag:
        settings.max_in_flight = in.Varint();
        good &= settings.max_in_flight != 0;
        break;
      default:
        good = false;
    }
  }
  // Fails the reader: what is behind it cannot be read.
  if (!good) in.Raw(in.rest().size() + 1);
  return settings;
}

raft::Bytes EncodePublished(const fact::Published& published, int64_t time_ms,
                            std::span<const std::string_view> batches) {
  raft::Writer header;
  header.Signed(time_ms);
  header.Counted(published.producer);
  header.Varint(published.epoch);
  header.Varint(published.first_sequence);
  header.Varint(published.count);
  header.Raw({reinterpret_cast<const char*>(published.checksums.data()), published.checksums.size() * 4});
  return Assemble(Kind::kPublished, header.bytes(), batches);
}

raft::Bytes EncodeFacts(std::span<const Fact> facts, int64_t time_ms) {
  raft::Writer header;
  header.Signed(time_ms);
  header.Varint(facts.size());
  for (const Fact& f : facts) std::visit(Encoder{header}, f);
  return Assemble(Kind::kFacts, header.bytes(), {});
}

FactsEntryBytes EncodeSomeFacts(std::span<const Fact> facts, int64_t time_ms) {
  // Layout, kind, checksum, length, time, count.
  constexpr size_t kAround = 1 + 1 + 4 + 10 + 10 + 10;
  raft::Writer body;
  size_t end = 0, count = 0;
  for (const Fact& f : facts) {
    std::visit(Encoder{body}, f);
    if (count > 0 && body.size() + kAround > kMaxFactsBytes) break;
    end = body.size();
    ++count;
  }
  raft::Writer header;
  header.Signed(time_ms);
  header.Varint(count);
  header.Raw(std::string_view(body.bytes()).substr(0, end));
  return {Assemble(Kind::kFacts, header.bytes(), {}), count};
}

absl::StatusOr<DecodedEntry> DecodeEntry(const raft::Bytes& entry) {
  absl::StatusOr<Opened> opened = OpenEntry(entry);
  if (!opened.ok()) return opened.status();
  DecodedEntry decoded;
  if (opened->kind == Kind::kPublished) {
    absl::StatusOr<PublishedView> view = ViewPublished(*opened);
    if (!view.ok()) return view.status();
    decoded.time_ms = view->time_ms;
    decoded.batch = view->batch;
    fact::Published f{.producer = std::string(view->producer),
                      .epoch = view->epoch,
                      .first_sequence = view->first_sequence,
                      .count = view->count,
                      .checksums = {}};
    for (uint32_t i = 0; i < view->count; ++i) f.checksums.push_back(view->checksum(i));
    decoded.facts.emplace_back(std::move(f));
    return decoded;
  }
  raft::Reader in(opened->header);
  decoded.time_ms = in.Signed();
  const size_t count = in.Count();
  decoded.facts.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    absl::StatusOr<Fact> f = DecodeFact(in);
    if (!in.ok()) return Unparsable();
    if (!f.ok()) return f.status();
    decoded.facts.push_back(*std::move(f));
  }
  if (!in.done() || !opened->batch.empty()) return Unparsable();
  return decoded;
}

uint32_t PublishedView::checksum(uint32_t slot) const {
  uint32_t crc;
  std::memcpy(&crc, checksums.data() + size_t{slot} * 4, 4);
  return crc;
}

absl::StatusOr<PublishedView> DecodePublished(const raft::Bytes& entry) {
  absl::StatusOr<Opened> opened = OpenEntry(entry);
  if (!opened.ok()) return opened.status();
  if (opened->kind != Kind::kPublished) return absl::NotFoundError("the entry publishes nothing");
  return ViewPublished(*opened);
}

absl::Status CheckEntry(const raft::Bytes& entry) {
  absl::StatusOr<Opened> opened = OpenEntry(entry);
  // Whole, and of a version to come: it is kept, and apply stops at it and says why (Safety rule 3). Refused here, it
  // would only be sent again and again.
  if (opened.status().code() == absl::StatusCode::kUnimplemented) return absl::OkStatus();
  if (!opened.ok()) return opened.status();
  if (opened->kind != Kind::kPublished) {
    return opened->batch.empty() ? absl::OkStatus() : absl::DataLossError("an entry of facts has bytes behind them");
  }
  absl::StatusOr<PublishedView> view = ViewPublished(*opened);
  if (!view.ok()) return view.status();
  BatchWalker walker(view->batch.view());
  uint32_t slot = 0;
  for (; walker.Next(); ++slot) {
    if (slot == view->count || raft::Crc32c(walker.message()) != view->checksum(slot)) {
      return absl::DataLossError(absl::StrCat("the message in slot ", slot, " has a wrong checksum"));
    }
  }
  if (!walker.whole() || slot != view->count)
    return absl::DataLossError(absl::StrCat("the batch has ", slot, " whole messages of ", view->count));
  return absl::OkStatus();
}

absl::StatusOr<raft::Bytes> CheckedMessages(const PublishedView& published, uint32_t from, uint32_t count) {
  BatchWalker walker(published.batch.view());
  const char *begin = nullptr, *end = nullptr;
  const uint64_t stop = uint64_t{from} + count;
  for (uint32_t slot = 0; slot < stop; ++slot) {
    if (slot == published.count || !walker.Next())
      return absl::DataLossError(absl::StrCat("there is no message in slot ", slot));
    if (slot < from) continue;
    if (raft::Crc32c(walker.message()) != published.checksum(slot)) {
      return absl::DataLossError(absl::StrCat("the message in slot ", slot, " has a wrong checksum"));
    }
    if (begin == nullptr) begin = walker.record().data();
    end = walker.record().data() + walker.record().size();
  }
  if (begin == nullptr) return raft::Bytes();
  return published.batch.Sub(static_cast<size_t>(begin - published.batch.data()), static_cast<size_t>(end - begin));
}

}  // namespace trireme::queue
