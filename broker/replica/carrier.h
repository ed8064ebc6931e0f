// The port through which messages go from one queue's leader into another queue.
#pragma once

#include <cstdint>
#include <string>

#include "absl/functional/any_invocable.h"
#include "raft/core/bytes.h"
#include "raft/core/types.h"

namespace trireme::broker {

// Shard-owned; for one term. Nothing is called back once it is destroyed.
class Carrier {
 public:
  enum class Outcome : uint8_t {
    kStored,   // on the disks of a majority there, now or before
    kGone,     // the target queue was deleted, as of a linearizable read (Safety rule 21)
    kUnknown,  // not known to be stored: the same load may be tried again, with the same sequences
  };
  struct Load {
    raft::GroupId target;
    std::string producer;
    uint64_t first_sequence = 0;
    uint32_t count = 0;
    raft::Bytes batch;
  };
  using Done = absl::AnyInvocable<void(Outcome outcome, std::string reason)>;

  virtual ~Carrier() = default;
  // `done` is called once, from the loop and not from within.
  virtual void Carry(Load load, Done done) = 0;
};

}  // namespace trireme::broker
