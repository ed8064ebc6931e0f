// The producers of a queue, as its leader knows them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/queue/machine.h"

namespace trireme::broker {

// What a producer that was opened goes on from.
struct OpenedProducer {
  uint64_t epoch = 0;
  uint64_t last_sequence = 0;
};

// The applied ones, and the facts about them that are appended and not applied: an epoch fences older ones from the
// first moment on. For one term of leadership. Shard-owned.
class Producers {
 public:
  // At most `most` are known; more are refused. `queue`: its name, for errors.
  Producers(const queue::Machine* machine, size_t most, std::string queue)
      : machine_(machine), most_(most), queue_(std::move(queue)) {}

  // The highest epoch, applied or not; 0 = it is not known.
  uint64_t EpochOf(const std::string& producer) const;
  bool IsForgetting(const std::string& producer) const { return forgetting_.contains(producer); }

  // The epoch that its ProducerOpened fact is to have; the fact must be appended. As QueueReplica::OpenProducer.
  absl::StatusOr<uint64_t> Open(const std::string& producer, uint64_t epoch);
  // What a call goes on from that fences nobody; nothing: it has to be opened first. As QueueReplica::JoinProducer.
  absl::StatusOr<std::optional<OpenedProducer>> Join(const std::string& producer, uint64_t epoch,
                                                     uint64_t first_sequence) const;

  // A ProducerOpened fact was applied.
  void Opened(const std::string& producer, uint64_t epoch);
  // A ProducerForgotten fact was appended, and later applied.
  void Forgetting(const std::string& producer, uint64_t epoch);
  void Forgotten(const std::string& producer) { forgetting_.erase(producer); }

 private:
  absl::Status Fenced(const std::string& producer, uint64_t in_force, uint64_t epoch) const;

  const queue::Machine* const machine_;
  const size_t most_;
  const std::string queue_;
  absl::flat_hash_map<std::string, uint64_t> opening_;  // epochs of facts under way
  absl::flat_hash_set<std::string> forgetting_;
  uint64_t forgetting_epoch_ = 0;  // the highest that was given up in this term
};

}  // namespace trireme::broker
