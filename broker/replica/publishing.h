// The publishing half of a queue's leader: from a client's batch to a Published fact in the log, and back to its
// outcome.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "broker/queue/batch.h"
#include "broker/queue/dispatchers.h"
#include "broker/queue/effects.h"
#include "broker/queue/machine.h"
#include "broker/replica/producers.h"
#include "broker/replica/room.h"
#include "broker/replica/sinks.h"
#include "raft/core/bytes.h"
#include "raft/host/host.h"

namespace trireme::broker {

// One batch that a producer wants stored.
struct Publication {
  std::shared_ptr<PublishSink> sink;
  uint32_t alias = 0;
  std::string producer;  // empty: no de-duplication; then first_sequence is only echoed
  uint64_t epoch = 0;
  uint64_t first_sequence = 0;
  raft::Bytes batch;
  // A window of its stream bounds what may wait: it is held back there, and not refused here.
  bool windowed = false;
};

// How many messages a batch holds as far as it parses, and at least one: for answers about batches that nobody has
// checked.
uint32_t MessagesIn(const raft::Bytes& batch);

// For one term of leadership. Judges on applied state plus what it has appended itself (Safety rule 2), so that every
// entry it appends will be stored when it is applied. Shard-owned.
class Publishing {
 public:
  // `producers` outlives it.
  Publishing(const queue::Machine* machine, const Producers* producers, raft::Group* group, queue::BatchLimits limits,
             size_t max_waiting_bytes)
      : machine_(machine),
        producers_(producers),
        group_(group),
        limits_(limits),
        max_waiting_bytes_(max_waiting_bytes),
        room_(machine) {}

  // Checks the batch and puts it in line; what is refused is answered at once.
  void Accept(Publication publication);
  // Answers the whole batch with why it is not taken.
  static void Refuse(const Publication& publication, const absl::Status& why);
  bool waiting() const { return !waiting_.empty(); }
  Room& room() { return room_; }
  // Whether messages came, since this was asked, that say when they expire.
  bool TakeExpiring() { return std::exchange(expiring_, false); }
  // What has to leave so that what is next in line is stored; nothing: it needs none.
  const queue::Amount& wanted() const { return wanted_; }
  // It cannot: what is next in line is refused.
  void NoneLeaves() { none_leaves_ = true; }
  // Messages that the queue's settings have refused.
  uint64_t refused() const { return refused_; }

  // Appends what is in line, as far as the group takes it, and tells the dispatcher. Whether it appended anything.
  bool Flush(int64_t queue_time_ms, queue::Dispatchers& dispatchers);

  // The entry at `index` was applied; false if it was not one of ours.
  bool Applied(uint64_t index, const queue::effect::Published& effect);

  // The sink is not called any more.
  void Forget(const PublishSink* sink);
  // Nothing more will be answered: what was not appended has moved, the rest is unknown. Tells each sink once.
  void Cut(CutReason reason, const std::string& text);

 private:
  struct Line : Publication {
    std::vector<uint32_t> checksums;
    bool expires = false;  // a message in it says when
  };
  // In the log, and to be answered: a line, the part of one that was new, or several lines of an entry.
  struct Appended {
    uint64_t index = 0;
    uint32_t slot = 0;  // of its first message
    std::shared_ptr<PublishSink> sink;
    uint32_t alias = 0;
    std::string producer;
    uint64_t first_sequence = 0;
    uint32_t count = 0;
    size_t bytes = 0;  // to be given back with the answer
  };
  // Sequences of a producer that are appended and not applied.
  struct UnderWay {
    size_t answers = 0;  // due
    uint64_t end = 0;    // above all of them
  };
  enum class Step : uint8_t { kDone, kLater, kFull, kNoRoom };
  // Why a line is not to be stored.
  struct Bar {
    PublishOutcome::Kind kind;
    std::string reason;
  };

  // How many of the lines that wait, from the first on, make one entry together: more than one where small frames of
  // one producer have gathered and all of them are new.
  size_t LinesTogether() const;
  bool AppendTogether(size_t lines, int64_t queue_time_ms, queue::Dispatchers& dispatchers);
  Step Append(Line& line, int64_t queue_time_ms, queue::Dispatchers& dispatchers);
  void NoteAppended(const Line& line, uint64_t index, uint32_t slot, uint64_t first_sequence, uint32_t count,
                    size_t bytes);
  std::optional<Bar> BarOf(const Line& line) const;
  bool BehindUnderWay(const Line& line) const;
  // A part of what is new in a line: what of it is stored, and why not all.
  struct Share {
    uint64_t first_sequence = 0;
    uint32_t stored = 0, refused = 0;
    size_t bytes = 0;  // of the batch that is stored
    std::shared_ptr<const std::vector<queue::EntryShape::Expiring>> expiring = nullptr;
    Refusal refusal = {};
  };
  // Splits what is new by the room that there is; entries for what is stored.
  std::vector<Share> Admit(Line& line, const std::vector<queue::ProducerWindow::Piece>& pieces, int64_t queue_time_ms,
                           std::vector<raft::Bytes>& entries) const;
  void AnswerRefused(const Line& line, const Share& share, size_t bytes);
  static size_t SlackOf(const Publication& p);
  static void Answer(const Publication& p, PublishOutcome::Kind kind, uint64_t first, uint32_t count,
                     queue::Position position, size_t bytes, std::string reason = "",
                     absl::StatusCode code = absl::StatusCode::kInvalidArgument, Refusal refusal = {});

  const queue::Machine* const machine_;
  const Producers* const producers_;
  raft::Group* const group_;
  const queue::BatchLimits limits_;
  const size_t max_waiting_bytes_;
  std::deque<Line> waiting_;
  size_t waiting_bytes_ = 0;
  std::deque<Appended> appended_;  // by index
  absl::flat_hash_map<std::string, UnderWay> under_way_;
  Room room_;
  uint64_t refused_ = 0;
  bool expiring_ = false;
  queue::Amount wanted_;
  bool none_leaves_ = false;
};

}  // namespace trireme::broker
