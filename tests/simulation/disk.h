// A simulated disk: what was written is durable some time later, in order; a crash takes what was not synced, or only
// the end of it. A sync that fails, or a write that finds no room, ends the process (Safety rule 16).
#pragma once

#include <deque>
#include <functional>
#include <utility>

#include "tests/simulation/chance.h"
#include "tests/simulation/clock.h"

namespace trireme::simulation {

struct DiskFaults {
  Micros sync = 300;       // usual time of a write with its sync
  Micros stall = 0;        // added to each
  bool fail_next = false;  // the next sync fails
  bool full = false;       // so does every one, as long as there is no room
  int64_t torn = 0;        // per mille of crashes in the midst of a write that leave a part of it
  bool lies = false;       // says "durable" when nothing is (a planted fault, never an honest one)
};

// `Image` is what the disk holds, `Record` one write: Image::Apply(const Record&) takes it in, Record::Part(size_t) is
// its beginning, for a number drawn at random.
template <typename Image, typename Record>
class Disk {
 public:
  // Both outlive the disk. `failed` is called instead of `done` when a sync fails, and has to Crash it.
  Disk(Clock* clock, Chance* chance, std::function<void()> failed)
      : clock_(clock), chance_(chance), failed_(std::move(failed)) {}

  DiskFaults& faults() { return faults_; }
  // Writes that a crash left a part of.
  uint64_t torn() const { return torn_; }
  // Writes that found no room.
  uint64_t no_room() const { return no_room_; }
  // With all that was written, synced or not: what a read sees.
  const Image& visible() const { return visible_; }
  const Image& durable() const { return durable_; }
  // For writes whose order against syncs does not matter.
  template <typename Change>
  void ChangeBoth(Change change) {
    change(visible_);
    change(durable_);
  }

  // `done` is called when the record, and all before it, are durable; not after a crash.
  void Write(Record record, std::function<void()> done) {
    visible_.Apply(record);
    waiting_.push_back({std::move(record), std::move(done)});
    if (waiting_.size() == 1) StartSync();
  }

  // Power off. A prefix of what was under way has reached the disk: `reached` is told of each record of it.
  template <typename Reached>
  void Crash(Reached reached) {
    ++life_;
    // Behind what a lying disk has not written nothing can be.
    for (size_t survive = faults_.lies ? 0 : chance_->Below(waiting_.size() + 1); survive > 0; --survive) {
      durable_.Apply(waiting_.front().record);
      reached(waiting_.front().record);
      waiting_.pop_front();
    }
    if (!waiting_.empty() && !faults_.lies && chance_->PerMille(faults_.torn)) {
      const Record part = waiting_.front().record.Part(chance_->Next());
      ++torn_;
      durable_.Apply(part);
      reached(part);
    }
    waiting_.clear();
    visible_ = durable_;
  }

 private:
  struct Waiting {
    Record record;
    std::function<void()> done;
  };

  void StartSync() {
    // What waits when the sync begins is part of it.
    size_t count = waiting_.size();
    clock_->After(chance_->Latency(faults_.sync) + faults_.stall, [this, count, life = life_] {
      if (life != life_) return;
      if (faults_.full) ++no_room_;
      if (faults_.full || std::exchange(faults_.fail_next, false)) return failed_();
      std::deque<Waiting> synced;
      for (size_t i = 0; i < count; ++i) {
        if (!faults_.lies) durable_.Apply(waiting_.front().record);
        synced.push_back(std::move(waiting_.front()));
        waiting_.pop_front();
      }
      if (!waiting_.empty()) StartSync();
      for (Waiting& write : synced) {
        if (write.done) write.done();
      }
    });
  }

  Clock* clock_;
  Chance* chance_;
  std::function<void()> failed_;
  DiskFaults faults_;
  Image visible_;
  Image durable_;
  std::deque<Waiting> waiting_;
  uint64_t life_ = 0;
  uint64_t torn_ = 0, no_room_ = 0;
};

}  // namespace trireme::simulation
