#include "broker/replica/producers.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace trireme::broker {

uint64_t Producers::EpochOf(const std::string& producer) const {
  auto opening = opening_.find(producer);
  auto known = machine_->producers().find(producer);
  return std::max(opening == opening_.end() ? 0 : opening->second,
                  known == machine_->producers().end() ? 0 : known->second.epoch);
}

absl::Status Producers::Fenced(const std::string& producer, uint64_t in_force, uint64_t epoch) const {
  return absl::AbortedError(
      absl::StrCat("producer '", producer, "' has epoch ", in_force, " in this queue; epoch ", epoch, " is fenced"));
}

absl::StatusOr<uint64_t> Producers::Open(const std::string& producer, uint64_t epoch) {
  uint64_t newest = EpochOf(producer);
  if (epoch != 0 && epoch < newest) return Fenced(producer, newest, epoch);
  // Safety rule 6: one that had an epoch here and is not known any more was forgotten, and its sequences with it: what
  // it sends again might be stored twice.
  if (epoch != 0 && newest == 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "producer '", producer, "' names epoch ", epoch,
        ", but this queue does not know it (any more): what it has not had confirmed is of unknown outcome; "
        "open with epoch 0 to begin anew"));
  }
  if (epoch > queue::kMaxNamedEpoch && epoch != newest) {
    return absl::InvalidArgumentError(absl::StrCat("producer '", producer, "' names epoch ", epoch, "; the limit is ",
                                                   queue::kMaxNamedEpoch,
                                                   "; open with epoch 0 to be given the next one"));
  }
  const bool known = machine_->producers().contains(producer);
  if (!known && !opening_.contains(producer) && machine_->producers().size() + opening_.size() >= most_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("queue '", queue_, "' knows ", most_,
                     " producers, which is the limit; idle ones are forgotten after a while: try again, use fewer "
                     "names, or publish without one"));
  }
  // What apply will do with a producer that is not known (any more) by then, so that the next one to open is above.
  if (epoch == 0 && (!known || IsForgetting(producer)))
    newest = std::max({newest, machine_->forgotten_epoch(), forgetting_epoch_});
  newest = epoch == 0 ? newest + 1 : epoch;
  opening_[producer] = newest;
  return newest;
}

absl::StatusOr<std::optional<OpenedProducer>> Producers::Join(const std::string& producer, uint64_t epoch,
                                                              uint64_t first_sequence) const {
  auto known = machine_->producers().find(producer);
  if (known == machine_->producers().end()) {
    // Safety rule 6: it may have been forgotten, and this be a retry of what was stored before.
    if (epoch == 0 && first_sequence > 1) {
      return absl::FailedPreconditionError(absl::StrCat(
          "queue '", queue_, "' does not know producer '", producer,
          "' (any more), whose first sequence would be 1, not ", first_sequence,
          ": whether it was stored before is not known; begin anew with sequence 1, or with another name"));
    }
    if (!opening_.contains(producer)) return std::nullopt;
    return absl::UnavailableError("the producer is being opened; the outcome is unknown");
  }
  const uint64_t in_force = known->second.epoch;
  if (epoch > in_force) return std::nullopt;
  if (epoch != 0 && epoch < in_force) return Fenced(producer, in_force, epoch);
  return OpenedProducer{in_force, known->second.window.highest()};
}

void Producers::Opened(const std::string& producer, uint64_t epoch) {
  auto it = opening_.find(producer);
  if (it != opening_.end() && it->second <= epoch) opening_.erase(it);
}

void Producers::Forgetting(const std::string& producer, uint64_t epoch) {
  forgetting_.insert(producer);
  forgetting_epoch_ = std::max(forgetting_epoch_, epoch);
}

}  // namespace trireme::broker
