// A producer's frames from the time that they have sequences until each of their messages is resolved.
#pragma once

#include <grpcpp/support/slice.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "client/loop.h"
#include "client/producer.h"
#include "client/range_set.h"

namespace trireme::client {

// An encoded batch. Tickets are consecutive.
struct Batch {
  grpc::Slice bytes;
  uint64_t first_ticket = 0;
  uint32_t count = 0;
  // When its first message was published.
  Time published;
  // Slot and callback, ascending.
  std::vector<std::pair<uint32_t, Producer::Callback>> callbacks;
};

// Messages that are resolved, and the callback of the one message if it has one.
struct Resolved {
  Confirmation confirmation;
  std::string reason;
  Producer::Callback callback;
};

// For one thread. A frame keeps its sequences and its bytes for as long as it is here, so that a retry is known to the
// broker as one (Safety rule 6). With sequences off, frames are numbered from 1 on each binding instead, and none is
// sent twice.
//
// No more is unresolved than the broker remembers of a producer: 1,024 frames, and 65,536 sequences from the lowest
// that is unresolved to the highest.
class SendWindow {
 public:
  static constexpr size_t kMaxFrames = 1'024;
  static constexpr uint64_t kMaxSequences = 65'536;
  // A frame whose outcome the broker calls unknown is sent again so often, where it is safe.
  static constexpr uint32_t kMaxRetries = 3;

  struct Out {
    uint64_t first_sequence = 0;
    grpc::Slice bytes;
  };

  // `first_sequence`: of the first message, whatever the broker has; 0 = the one after the last that it has.
  explicit SendWindow(bool sequences, uint64_t first_sequence = 0)
      : sequences_(sequences), numbered_(first_sequence != 0), next_sequence_(std::max<uint64_t>(first_sequence, 1)) {}

  // A binding begins: nothing of it has been sent. `last_sequence`: the highest that the broker has; new frames are
  // numbered above it, unless the first one's sequence was given. `window_bytes`: how much may be under way.
  // `window_messages`: from the lowest sequence that is unresolved to the highest; 0 = kMaxSequences.
  void Bound(uint64_t last_sequence, uint64_t window_bytes, uint64_t window_messages = 0);
  // The binding is gone. With sequences, what was under way is to be sent again; without, its outcome is unknown.
  void Lost(const std::string& reason, std::vector<Resolved>& resolved);

  // Whether a batch of `count` messages may be added.
  bool Admits(uint32_t count) const;
  void Add(Batch batch);
  // A batch that never gets there.
  void Refuse(Batch batch, v1::Outcome outcome, const std::string& reason, std::vector<Resolved>& resolved);

  // The next frame to be sent, if there is one and the byte window has room for it; it counts as sent.
  bool Next(Out& out);

  // What the broker says of some sequences. Sequences that are not under way are ignored.
  void Confirm(const v1::Confirm& confirm, std::vector<Resolved>& resolved);
  // Everything published at or before `time`.
  void Expire(Time time, std::vector<Resolved>& resolved);
  // Everything. What was never sent gets `unsent`, the rest UNKNOWN.
  void Abort(v1::Outcome unsent, const std::string& reason, std::vector<Resolved>& resolved);

  // Not resolved.
  size_t frames() const { return frames_.size(); }
  // Of those, sent on this binding and so awaiting a confirm.
  size_t under_way() const { return under_way_; }
  // To be sent, for the first time or again.
  size_t waiting() const { return frames_.size() - under_way_ - done_; }
  uint64_t next_sequence() const { return next_sequence_; }
  // Bytes of frames that became wholly resolved since the last call.
  uint64_t TakeFreedBytes() { return std::exchange(freed_bytes_, 0); }

 private:
  struct Frame {
    Batch batch;
    // The first message's, or, without sequences, the frame's number on this binding.
    uint64_t first_sequence = 0;
    // On any binding.
    uint32_t sends = 0;
    uint32_t retries = 0;
    bool under_way = false;
    uint32_t resolved_count = 0;
    RangeSet resolved;
    bool done() const { return resolved_count == batch.count; }
  };

  uint64_t Span(const Frame& frame) const { return sequences_ ? frame.batch.count : 1; }
  // The first frame whose sequences reach to `sequence` or beyond.
  size_t Find(uint64_t sequence) const;
  void Resolve(Frame& frame, uint32_t from, uint32_t to, v1::Outcome outcome, uint64_t position,
               const std::string& reason, std::vector<Resolved>& resolved);
  void EndSending(Frame& frame);
  void DropDone();

  const bool sequences_;
  // The caller numbers, by the first sequence.
  const bool numbered_;
  uint64_t next_sequence_;
  uint64_t window_bytes_ = 0;
  uint64_t window_messages_ = kMaxSequences;
  uint64_t under_way_bytes_ = 0;
  size_t under_way_ = 0;
  uint64_t freed_bytes_ = 0;
  // Frames in frames_ that are done.
  size_t done_ = 0;
  // By sequence, without gaps; the first one is not done. Without sequences, those under way come first.
  std::deque<Frame> frames_;
  // Frames below this index have been sent on this binding (or are done).
  size_t sent_ = 0;
  // First sequences of frames to be sent again on this binding.
  std::deque<uint64_t> again_;
};

}  // namespace trireme::client
