// The segments of the write-ahead log: which are in use, in which order, and which may be written over.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/file_system.h"
#include "storage/group_index.h"

namespace trireme::storage {

// A segment's file and its present use.
struct Slot {
  std::shared_ptr<File> file;
  std::string path;
  // Of the batches in it, in this use.
  uint64_t first_sequence = 0;
  uint64_t last_sequence = 0;
  uint64_t end = 0;  // where the next batch goes
  // What in it is needed: live entries, and records that are the last of their kind for a group.
  uint64_t live = 0;
  // Readers at work in it.
  int pins = 0;
};

// A queue of slots: the oldest in use leave first, also when a younger one has died before them, so that what is in use
// is always one run of batches, and to replay it from any state that it was moved to leads to the same end.
//
// in use -> retired (nothing in it is needed) -> free (a durable batch says so, and no reader is in it) -> in use
//
// Not thread-safe: the store's mutex guards it.
class Segments {
 public:
  explicit Segments(uint64_t segment_bytes) : segment_bytes_(segment_bytes) {}

  // Adds a file. Free until it is taken.
  SlotId Add(std::shared_ptr<File> file, std::string path);
  Slot& operator[](SlotId id) { return *slots_[id]; }

  // At start: the slot is in use, behind those that were adopted before it.
  void Adopt(SlotId id, uint64_t first_sequence, uint64_t last_sequence, uint64_t end);
  // Takes a free slot, of which there must be one; it becomes the current one.
  void Rotate(uint64_t next_sequence);

  bool empty() const { return in_use_.empty(); }
  SlotId current() const { return in_use_.back(); }
  SlotId oldest() const { return in_use_.front(); }
  // The first batch that is needed; what a batch says as its `begin`.
  uint64_t begin() const { return slots_[in_use_.front()]->first_sequence; }
  // Bytes that the current slot has left.
  uint64_t room() const { return segment_bytes_ - slots_[in_use_.back()]->end; }

  // Retires the oldest while nothing in it is needed; never the current one. Returns how many.
  size_t Retire();
  // Frees what was retired, given the `begin` of the last durable batch. Returns whether any slot became free.
  bool Free(uint64_t durable_begin);
  // Whether Free would have something to free if a batch with the present begin() were durable.
  bool WouldFree() const;

  size_t in_use() const { return in_use_.size(); }
  size_t retired() const { return retired_.size(); }
  size_t free() const { return free_.size(); }
  size_t size() const { return slots_.size(); }

 private:
  const uint64_t segment_bytes_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::deque<SlotId> in_use_;
  std::vector<SlotId> retired_;
  std::deque<SlotId> free_;
};

// Makes a segment's file of zeroes with its header, durable under its name. `stop` is asked now and then; if it says
// so the result is Cancelled. ResourceExhausted, leaving nothing, when the disk is full.
absl::StatusOr<std::shared_ptr<File>> MakeSegmentFile(FileSystem* fs, const std::string& directory,
                                                      const std::string& name, std::string_view header,
                                                      uint64_t segment_bytes, absl::FunctionRef<bool()> stop);
std::string SegmentName(uint64_t number);
// The number in a segment's name, if it is one.
bool ParseSegmentName(std::string_view name, uint64_t* number);

}  // namespace trireme::storage
