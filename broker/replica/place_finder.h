// Where in a queue's log something begins, and how many messages were stored before it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "broker/queue/machine.h"
#include "broker/queue/position.h"
#include "raft/host/host.h"

namespace trireme::broker {

// What waits is not recorded (Safety rule 1), so a place is found by walking the log, from where on everything is still
// there. As a fact of the log it stays true, whatever is consumed meanwhile. Shard-owned; one search.
class PlaceFinder : public std::enable_shared_from_this<PlaceFinder> {
 public:
  struct Place {
    queue::Position position;
    uint64_t ordinal = 0;  // messages stored before it
    uint64_t bytes = 0;    // of those, as far as the state counts them
  };
  // The first message at or behind a position, or the first entry of a queue time. Behind the log's end, and where
  // nothing is of that time yet: what is still to come.
  struct Wanted {
    queue::Position position;
    std::optional<int64_t> time_ms;
  };
  using Done = absl::AnyInvocable<void(absl::StatusOr<Place>)>;

  // `machine` and `group` are not used any more once `alive` is gone, nor is `done` called.
  static void Find(const queue::Machine* machine, raft::Group* group, std::weak_ptr<void> alive, Wanted wanted,
                   Done done);

 private:
  PlaceFinder(const queue::Machine* machine, raft::Group* group, std::weak_ptr<void> alive, Wanted wanted, Done done);

  void Begin();
  void ReadOn();
  // Whether the entry holds the place; else it is behind.
  absl::StatusOr<bool> Pass(const raft::Entry& entry);

  const queue::Machine* const machine_;
  raft::Group* const group_;
  const std::weak_ptr<void> alive_;
  const Wanted wanted_;
  Done done_;
  int begun_ = 0;
  Place at_;
};

}  // namespace trireme::broker
