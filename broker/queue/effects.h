// What applying a fact came to: the leader's answers to those who wait, and what its dispatcher must know.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "broker/queue/facts.h"
#include "broker/queue/producer_window.h"

namespace trireme::queue {

namespace effect {

struct Published {
  enum class Outcome : uint8_t {
    kStored,
    kNotNew,     // part of it was stored before, or is below the window: nothing was stored; `pieces` says what is what
    kFenced,     // the producer has another epoch
    kForgotten,  // the producer is not known
  };
  Outcome outcome = Outcome::kStored;
  uint32_t count = 0;
  std::vector<ProducerWindow::Piece> pieces;  // with kNotNew
};

struct ProducerOpened {
  bool accepted = false;
  uint64_t epoch = 0;  // now in force
  uint64_t last_sequence = 0;
};

struct ProducerForgotten {
  bool accepted = false;
};

struct Attached {
  bool accepted = false;
  bool resumed = false;
  uint64_t number = 0;
  uint64_t epoch = 0;
};

struct Detached {
  bool accepted = false;
  uint64_t number = 0;
};

struct CheckedOut {
  bool accepted = false;
  // With the delivery counts, in the order in which they are to be delivered: the returned ones first. A returned one
  // that was gone is missing.
  struct Run {
    Slots slots;
    uint32_t deliveries = 0;
  };
  std::vector<Run> runs;
};

// Of Settled, LeaseExtended and Expired.
struct Settled {
  // Of the tokens, by their place in the fact: the parts that were not current.
  struct Lost {
    uint32_t token = 0;
    Slots slots;
  };
  std::vector<Lost> lost;
  // Messages that left the hands of their holders.
  struct Freed {
    uint64_t holder = 0;
    uint32_t count = 0;
  };
  std::vector<Freed> freed;
};

struct Purged {
  uint64_t messages = 0;
};

struct Skipped {
  bool accepted = false;
};

struct SubscriptionCreated {
  enum class Outcome : uint8_t {
    kCreated,
    kExists,  // there is one of that name
    kWrong,   // its place in the log cannot be
  };
  Outcome outcome = Outcome::kWrong;
  SubscriptionId id = 0;  // of the new one, or of the one that has the name
};

// Of SubscriptionChanged and SubscriptionDeleted.
struct SubscriptionChanged {
  bool accepted = false;
};

struct DeadLettered {
  uint64_t messages = 0;
};

struct DeadUnseen {
  bool accepted = false;
};

// Of Arrived and Redirected.
struct Departures {
  uint64_t messages = 0;
};

struct None {};

}  // namespace effect

using Effect = std::variant<effect::None, effect::Published, effect::ProducerOpened, effect::ProducerForgotten,
                            effect::Attached, effect::Detached, effect::CheckedOut, effect::Settled, effect::Purged,
                            effect::Skipped, effect::SubscriptionCreated, effect::SubscriptionChanged,
                            effect::DeadLettered, effect::Departures, effect::DeadUnseen>;

// Of one entry.
struct Effects {
  // One per fact, in order.
  std::vector<Effect> facts;
  // Runs that are to be delivered again, with the deliveries so far.
  struct Back {
    SubscriptionId subscription = 0;
    Slots slots;
    uint32_t deliveries = 0;
  };
  std::vector<Back> returned;
};

}  // namespace trireme::queue
