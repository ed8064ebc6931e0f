// Which messages a leader may append: producers' windows as they will be once everything it has appended is applied.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "broker/queue/facts.h"
#include "broker/queue/machine.h"
#include "broker/queue/producer_window.h"

namespace trireme::queue {

struct ProducerLimits {
  // More than these are forgotten, the one that was idle for longest first.
  size_t producers = 10'000;
  int64_t idle_ms = int64_t{7} * 24 * 3'600'000;
};

// On the leader only, for one term: made once the first entry of the term is applied, dropped with leadership (Safety
// rule 2). Judges on the applied state plus what this leader has appended itself.
//
// The order within a turn: append what Open and Idle gave (as one entry, with Appended), then the batches (each with
// Appended), then the dispatcher's facts.
class PublishJudge {
 public:
  // `machine` outlives this.
  explicit PublishJudge(const Machine* machine, ProducerLimits limits = {});

  // What becomes of a batch. `first_sequence` is at least 1 and the last one at most 2^63 - 1, or all is kUnknown.
  // kStore: append that part now (CutBatch) and call Appended. kDuplicate: answer with the position, but not before
  // the index of that position is applied: the first one may still be under way.
  // An empty producer has no window: everything is kStore.
  Judgement Judge(std::string_view producer, uint64_t epoch, uint64_t first_sequence, uint32_t count) const;
  // A batch was appended at `index`, as Judge allowed.
  void Appended(std::string_view producer, uint64_t first_sequence, uint32_t count, uint64_t index);

  // A producer binds. `epoch` 0 picks the next one. The fact to append (then call Appended with it), whose effect
  // answers the client; or nothing: `epoch` is below the one in use (fenced), which is then current_epoch. With the
  // epoch in use nothing needs to be appended: fact is empty and fenced false.
  struct Opening {
    std::optional<fact::ProducerOpened> fact;
    bool fenced = false;
    uint64_t epoch = 0;  // from now on, or the one in use
    // As projected: what is at or below it and not confirmed may be sent again. Tell it to the client once
    // `applied_at` is applied.
    uint64_t last_sequence = 0;
    // The index of the last entry of this producer that this leader has appended; 0 if it is applied long since.
    uint64_t applied_at = 0;
  };
  Opening Open(std::string_view producer, uint64_t epoch) const;
  // Producers to forget: idle for too long, or too many of them. At most `max` facts; append them and call Appended.
  // Cheap unless something is due; call it once per turn or less. `queue_now_ms` is queue time.
  std::vector<fact::ProducerForgotten> Idle(int64_t queue_now_ms, size_t max = 256);
  void Appended(const fact::ProducerOpened& fact, uint64_t index);
  void Appended(const fact::ProducerForgotten& fact, uint64_t index);

 private:
  struct Projection {
    bool known = false;
    uint64_t epoch = 0;
    ProducerWindow window;
    uint64_t appended_index = 0;  // of the last entry that changed it
  };
  const Projection* Projected(std::string_view producer) const;
  Projection* Project(std::string_view producer);
  void Sweep();

  const Machine* machine_;
  const ProducerLimits limits_;
  // Producers that this leader has appended something for. Equal to the machine's once appended_index is applied, and
  // dropped some time after.
  absl::flat_hash_map<std::string, Projection> projected_;
  size_t sweep_at_ = 1024;
  uint64_t forgotten_epoch_ = 0;
  int64_t next_idle_check_ms_ = 0;
};

}  // namespace trireme::queue
