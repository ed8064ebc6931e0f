// What applying one entry did: what the leader's waiting clients are answered with, and what the dispatcher goes on
// from. One object is used again and again, so that apply allocates nothing once it is warm.
#pragma once

#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "broker/queue/facts.h"
#include "broker/queue/producer_window.h"

namespace trireme::queue {

// A session's number within its subscription: given when it first attaches, never used again. 0 is "no session": a
// single receive, whose lease is a deadline.
using SessionNumber = uint64_t;

// Messages that changed hands together. With slots and checkout index it is the token (Safety rule 4).
struct EffectRun {
  Slots slots;
  // Of the checkout that gave, or had given, them.
  uint64_t checkout_index = 0;
  // How often they have been delivered, the latest time included.
  uint32_t deliveries = 0;
  // Who holds them, or held them.
  SessionNumber holder = 0;

  friend bool operator==(const EffectRun&, const EffectRun&) = default;
};

// A token, or the part of one, that is not current.
struct LostLease {
  // Which token of the fact, from 0.
  uint32_t token = 0;
  Slots slots;

  friend bool operator==(const LostLease&, const LostLease&) = default;
};

enum class PublishOutcome : uint8_t {
  kStored,
  kDuplicate,  // every sequence was stored before; Effects::judged has the positions
  kUnknown,    // a sequence is below the window, or the producer or its epoch is not known
  kFenced,     // a higher epoch of the producer is open
  kPartly,  // some sequences were stored before and some not: refused as a whole; the leader trims before it proposes
};

// A part of Effects::runs, ::lost or ::judged: [begin, end).
struct Part {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool empty() const { return begin == end; }
};

// One per kind of fact. `accepted` false: what the fact was decided from no longer held, and nothing was changed
// (Safety rule 2).
namespace effect {

struct Published {
  PublishOutcome outcome = PublishOutcome::kStored;
  // kStored: of the first message; the others follow it slot by slot.
  Position first;
  uint32_t count = 0;
  uint64_t first_sequence = 0;
  Part judged;  // unless kStored
};
struct ProducerOpened {
  bool accepted = false;
  // As they are now, also when it was refused.
  uint64_t epoch = 0;
  uint64_t last_sequence = 0;
};
struct ProducerForgotten {
  bool accepted = false;
};
struct Attached {
  bool accepted = false;
  bool resumed = false;  // the session was known, and what it held is still its own
  SessionNumber session = 0;
  uint64_t epoch = 0;  // as it is now, also when it was refused
  Part held;           // runs
};
struct Detached {
  bool accepted = false;
  SessionNumber session = 0;
  Part returned;  // runs
};
struct CheckedOut {
  bool accepted = false;
  SessionNumber session = 0;
  int64_t deadline_ms = 0;
  // Runs, as they are to be delivered: returned ones first, then waiting ones. Of `returned` runs that no longer were
  // returned, nothing is here.
  Part runs;
};
struct Settled {
  Disposition disposition = Disposition::kAcknowledge;
  Part runs;
  Part lost;
};
struct LeaseExtended {
  int64_t deadline_ms = 0;
  Part runs;
  Part lost;
};
struct Expired {
  Part runs;
};
struct Purged {
  uint64_t messages = 0;  // over all subscriptions
};
struct VersionRaised {
  uint32_t version = 0;
};

}  // namespace effect

using Effect = std::variant<effect::Published, effect::ProducerOpened, effect::ProducerForgotten, effect::Attached,
                            effect::Detached, effect::CheckedOut, effect::Settled, effect::LeaseExtended,
                            effect::Expired, effect::Purged, effect::VersionRaised>;

struct Effects {
  uint64_t index = 0;
  // One per fact of the entry, in its order. Empty for an empty entry.
  std::vector<Effect> effects;
  std::vector<EffectRun> runs;
  std::vector<LostLease> lost;
  Judgement judged;

  std::span<const EffectRun> Runs(Part part) const {
    return std::span(runs).subspan(part.begin, part.end - part.begin);
  }
  std::span<const LostLease> Lost(Part part) const {
    return std::span(lost).subspan(part.begin, part.end - part.begin);
  }
  std::span<const JudgedRange> Judged(Part part) const {
    return std::span(judged).subspan(part.begin, part.end - part.begin);
  }

  void Clear() {
    index = 0;
    effects.clear();
    runs.clear();
    lost.clear();
    judged.clear();
  }
};

}  // namespace trireme::queue
