#include "broker/replica/publishing.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "broker/message/dead_letter.h"
#include "broker/message/message.h"
#include "broker/queue/entry.h"
#include "broker/replica/moving.h"
#include "raft/core/check.h"

namespace trireme::broker {

using Fate = queue::ProducerWindow::Piece::Fate;
using Kind = PublishOutcome::Kind;

namespace {
// Lines are put together up to this size: then what an entry costs by itself hardly shows.
constexpr size_t kTogetherBytes = size_t{64} << 10;
// Without one, nobody could say where it belongs.
absl::Status CheckKeys(const raft::Bytes& batch) {
  size_t at = 0;
  for (queue::BatchWalker walker(batch.view()); walker.Next(); ++at) {
    if (!message::Key(walker.message()).empty()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("message ", at,
                     " of the batch has no key, and a subscription of this queue keeps messages in order by their "
                     "keys: give each message one"));
  }
  return absl::OkStatus();
}

}  // namespace

uint32_t MessagesIn(const raft::Bytes& batch) {
  uint32_t count = 0;
  for (queue::BatchWalker walker(batch.view()); walker.Next();) ++count;
  return std::max(1u, count);
}

void Publishing::Answer(const Publication& p, Kind kind, uint64_t first, uint32_t count, queue::Position position,
                        size_t bytes, std::string reason, absl::StatusCode code, Refusal refusal) {
  if (p.sink != nullptr)
    p.sink->Confirmed(p.alias, {kind, first, count, position, std::move(reason), code, refusal}, bytes);
}

// What was within the limit is so as a dead letter, too.
size_t Publishing::SlackOf(const Publication& p) {
  return MoverGroup(p.producer) == 0 ? 0 : message::kMaxDeadLetterBytes;
}

void Publishing::Refuse(const Publication& publication, const absl::Status& why, Refusal refusal) {
  Answer(publication, Kind::kRefused, publication.first_sequence, MessagesIn(publication.batch), {},
         publication.batch.size(), std::string(why.message()), why.code(), refusal);
}

void Publishing::Accept(Publication publication, int64_t queue_time_ms,
                        absl::FunctionRef<absl::Status()> may_schedule) {
  const size_t bytes = publication.batch.size();
  queue::BatchLimits limits = limits_;
  const bool moved = MoverGroup(publication.producer) != 0;
  limits.max_message_bytes += SlackOf(publication);
  std::vector<queue::MessageTimes> times;
  absl::StatusOr<std::vector<uint32_t>> checksums =
      queue::CheckBatch(publication.batch.view(), limits, moved ? nullptr : &times);
  absl::Status refused = checksums.status();
  std::vector<Due> later;
  for (const queue::MessageTimes& message : times) {
    const int64_t delay_ms = std::max(message.delay_ms, std::max<int64_t>(0, message.due_at_ms) - queue_time_ms);
    if (delay_ms <= 0 || !refused.ok()) continue;
    if (delay_ms > kMaxDelayMs) {
      refused = absl::InvalidArgumentError(absl::StrCat("message ", message.slot, " of the batch is due in ", delay_ms,
                                                        " ms; the limit is ", kMaxDelayMs, " ms (10 years)"));
    }
    later.push_back({message.slot, queue_time_ms + delay_ms});
  }
  if (refused.ok() && !later.empty()) refused = may_schedule();
  if (refused.ok() && !publication.producer.empty() && publication.first_sequence == 0) {
    refused = absl::InvalidArgumentError("first_sequence is 0; sequences start at 1");
  }
  if (refused.ok() && !publication.producer.empty() &&
      publication.first_sequence > std::numeric_limits<uint64_t>::max() - checksums->size()) {
    refused = absl::InvalidArgumentError(absl::StrCat("first_sequence is ", publication.first_sequence, "; a batch of ",
                                                      checksums->size(), " would run over the end of the sequences"));
  }
  // A dead letter comes as it is.
  if (refused.ok() && machine_->orders_by_key() && MoverGroup(publication.producer) == 0) {
    if (absl::Status keys = CheckKeys(publication.batch); !keys.ok())
      return Refuse(publication, keys, {.by = Refusal::By::kKeyMissing});
  }
  if (refused.ok() && !publication.windowed && waiting_bytes_ + bytes > max_waiting_bytes_ && !waiting_.empty()) {
    refused = absl::ResourceExhaustedError(
        absl::StrCat("more than ", max_waiting_bytes_, " bytes of batches wait to be stored in this queue"));
  }
  if (!refused.ok()) return Refuse(publication, refused);
  waiting_bytes_ += bytes;
  waiting_.push_back({std::move(publication), *std::move(checksums), std::move(later)});
}

bool Publishing::BehindUnderWay(const Line& line) const {
  auto it = under_way_.find(line.producer);
  return it != under_way_.end() && line.first_sequence < it->second.end;
}

std::optional<Publishing::Bar> Publishing::BarOf(const Line& line) const {
  auto known = machine_->producers().find(line.producer);
  if (producers_->EpochOf(line.producer) > line.epoch)
    return Bar{Kind::kFenced, "a newer stream of this producer was opened"};
  if (known == machine_->producers().end() || producers_->IsForgetting(line.producer)) {
    return Bar{Kind::kUnknown, "the producer was forgotten; open it again"};
  }
  // Forgotten and opened again since: its epochs began anew.
  if (known->second.epoch != line.epoch) {
    return Bar{Kind::kFenced,
               absl::StrCat("the producer has epoch ", known->second.epoch, " in this queue, not ", line.epoch)};
  }
  return std::nullopt;
}

// Runs of messages that are due, or not, each to be an entry. But what has no producer is not taken apart, for it is
// confirmed as one: what is due of that comes with the rest, and is released at once.
std::vector<Publishing::Part> Publishing::PartsOf(const Line& line, uint32_t from, uint32_t count,
                                                  int64_t queue_time_ms) {
  if (line.later.empty()) return {{.first_sequence = line.first_sequence + from, .count = count}};
  std::vector<Part> parts;
  auto later = std::lower_bound(line.later.begin(), line.later.end(), from,
                                [](const Due& due, uint32_t slot) { return due.slot < slot; });
  const bool whole = line.producer.empty() && std::any_of(line.later.begin(), line.later.end(),
                                                          [&](const Due& due) { return due.at_ms > queue_time_ms; });
  for (uint32_t slot = from; slot < from + count; ++slot) {
    int64_t due_ms = whole ? queue_time_ms + 1 : 0;
    if (later != line.later.end() && later->slot == slot) due_ms = std::max(due_ms, (later++)->at_ms);
    const bool waits = due_ms > queue_time_ms;
    if (parts.empty() || waits == parts.back().due_ms.empty())
      parts.push_back({.first_sequence = line.first_sequence + slot});
    ++parts.back().count;
    if (waits) parts.back().due_ms.push_back(due_ms);
  }
  return parts;
}

void Publishing::Tell(const Turn& turn, uint64_t index, const Part& part) {
  if (part.due_ms.empty()) return turn.dispatchers.Appended(index, {.messages = part.count, .bytes = part.bytes});
  turn.dispatchers.Appended(index, {});
  turn.scheduling.Parked(index, *std::min_element(part.due_ms.begin(), part.due_ms.end()));
}

bool Publishing::Flush(int64_t queue_time_ms, queue::Dispatchers& dispatchers, Scheduling& scheduling) {
  if (room_.changing()) return false;
  const Turn turn{queue_time_ms, dispatchers, scheduling};
  const size_t appended_before = appended_.size();
  std::deque<Line> later;
  absl::flat_hash_set<std::string> held_back;
  while (!waiting_.empty()) {
    // What a producer sent behind a line that has to wait waits, too: it is stored in the order sent.
    if (!held_back.empty() && held_back.contains(waiting_.front().producer)) {
      later.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
      continue;
    }
    if (const size_t lines = LinesTogether(queue_time_ms); lines > 1) {
      if (!AppendTogether(lines, turn)) break;
      for (size_t i = 0; i < lines; ++i) {
        waiting_bytes_ -= waiting_.front().batch.size();
        waiting_.pop_front();
      }
      continue;
    }
    Step step = Append(waiting_.front(), turn);
    if (step == Step::kFull) break;
    if (step == Step::kLater) {
      held_back.insert(waiting_.front().producer);
      later.push_back(std::move(waiting_.front()));
    } else {
      waiting_bytes_ -= waiting_.front().batch.size();
    }
    waiting_.pop_front();
  }
  // Those that wait for their first copy to be applied keep their place.
  for (; !later.empty(); later.pop_back()) waiting_.push_front(std::move(later.back()));
  return appended_.size() > appended_before;
}

size_t Publishing::LinesTogether(int64_t queue_time_ms) const {
  const Line& first = waiting_.front();
  // All of it is due, or nothing.
  auto waits = [queue_time_ms](const Line& line) -> std::optional<bool> {
    if (line.later.empty()) return false;
    const auto count = static_cast<uint32_t>(line.checksums.size());
    const std::vector<Part> parts = PartsOf(line, 0, count, queue_time_ms);
    if (parts.size() != 1) return std::nullopt;
    return !parts.front().due_ms.empty();
  };
  const std::optional<bool> first_waits = waits(first);
  if (!first_waits || (*first_waits && machine_->version() < queue::kScheduleVersion)) return 1;
  const queue::ProducerWindow* window = nullptr;
  if (!first.producer.empty()) {
    if (BarOf(first) || BehindUnderWay(first)) return 1;
    window = &machine_->producers().find(first.producer)->second.window;
  }
  // Well below the cap, which an entry that comes alone passes: settling would find no room (Safety rule 19).
  const size_t most = std::min(kTogetherBytes, group_->max_uncommitted_bytes() / 4);
  size_t bytes = 0, lines = 0;
  for (uint64_t messages = 0; lines < waiting_.size(); ++lines) {
    const Line& next = waiting_[lines];
    const auto count = static_cast<uint32_t>(next.checksums.size());
    if (next.producer != first.producer || next.epoch != first.epoch || waits(next) != first_waits) break;
    if (bytes + next.batch.size() > most || messages + count > queue::kMaxBatchMessages) break;
    // They follow each other, and nothing of them was stored before (Safety rule 6).
    if (window != nullptr &&
        (next.first_sequence != first.first_sequence + messages || !window->AllNew(next.first_sequence, count))) {
      break;
    }
    if (!room_.Takes(messages + count, bytes + next.batch.size()) || room_.HasTooLarge(next.batch, SlackOf(next)))
      break;
    bytes += next.batch.size();
    messages += count;
  }
  return std::max<size_t>(lines, 1);
}

bool Publishing::AppendTogether(size_t lines, const Turn& turn) {
  const Line& first = waiting_.front();
  queue::fact::Published fact{.producer = first.producer,
                              .epoch = first.epoch,
                              .first_sequence = first.first_sequence,
                              .count = 0,
                              .checksums = {}};
  std::vector<std::string_view> batches;
  size_t bytes = 0;
  for (size_t i = 0; i < lines; ++i) {
    const Line& line = waiting_[i];
    fact.checksums.insert(fact.checksums.end(), line.checksums.begin(), line.checksums.end());
    batches.push_back(line.batch.view());
    bytes += line.batch.size();
    if (line.later.empty()) continue;
    const auto count = static_cast<uint32_t>(line.checksums.size());
    const std::vector<Part> parts = PartsOf(line, 0, count, turn.queue_time_ms);
    fact.due_ms.insert(fact.due_ms.end(), parts.front().due_ms.begin(), parts.front().due_ms.end());
  }
  fact.count = static_cast<uint32_t>(fact.checksums.size());
  std::vector<raft::Bytes> entries;
  entries.push_back(queue::EncodePublished(fact, turn.queue_time_ms, batches));
  raft::Proposed proposed = group_->Propose(std::move(entries), /*urgent=*/false);
  if (proposed.error) return false;
  uint32_t slot = 0;
  for (size_t i = 0; i < lines; ++i) {
    const Line& line = waiting_[i];
    const auto count = static_cast<uint32_t>(line.checksums.size());
    NoteAppended(line, proposed.first.value(), slot, line.first_sequence, count, line.batch.size());
    slot += count;
  }
  room_.Appended(proposed.first.value(), fact.count, bytes);
  Tell(turn, proposed.first.value(), {.count = fact.count, .bytes = bytes, .due_ms = std::move(fact.due_ms)});
  return true;
}

void Publishing::NoteAppended(const Line& line, uint64_t index, uint32_t slot, uint64_t first_sequence, uint32_t count,
                              size_t bytes) {
  if (!line.producer.empty()) {
    UnderWay& under_way = under_way_[line.producer];
    under_way.end = std::max(under_way.end, first_sequence + count);
    // What follows the line before it in the same entry is answered with it. (Not without a name: there a confirm
    // counts frames.)
    if (Appended* last = appended_.empty() ? nullptr : &appended_.back();
        last != nullptr && last->index == index && last->producer == line.producer && last->sink == line.sink &&
        last->alias == line.alias) {
      last->count += count;
      last->bytes += bytes;
      return;
    }
    ++under_way.answers;
  }
  appended_.push_back({index, slot, line.sink, line.alias, line.producer, first_sequence, count, bytes});
}

Publishing::Step Publishing::Append(Line& line, const Turn& turn) {
  const auto count = static_cast<uint32_t>(line.checksums.size());
  std::vector<queue::ProducerWindow::Piece> pieces;
  if (line.producer.empty()) {
    pieces.push_back({Fate::kNew, line.first_sequence, count, {}});
  } else {
    if (std::optional<Bar> bar = BarOf(line)) {
      Answer(line, bar->kind, line.first_sequence, count, {}, line.batch.size(), std::move(bar->reason));
      return Step::kDone;
    }
    // What is behind something that is appended and not applied is judged when that is: it may be a retry of it, and
    // applying it may move the window over this one (Safety rule 6).
    if (BehindUnderWay(line)) return Step::kLater;
    pieces = machine_->producers().find(line.producer)->second.window.Judge(line.first_sequence, count);
  }

  std::vector<raft::Bytes> entries;
  // The version is being raised.
  const bool waits_for_time =
      std::any_of(line.later.begin(), line.later.end(), [&](const Due& due) { return due.at_ms > turn.queue_time_ms; });
  if (waits_for_time && machine_->version() < queue::kScheduleVersion) return Step::kLater;
  std::vector<Share> shares = Admit(line, pieces, turn.queue_time_ms, entries);
  raft::Proposed proposed;
  if (!entries.empty()) {
    proposed = group_->Propose(std::move(entries), /*urgent=*/false);
    // Not leading any more: RoleChanged follows, and answers.
    if (proposed.error) return Step::kFull;
  }
  uint64_t index = proposed.first.value();
  // The bytes count with the last answer: what is new is answered later than the rest.
  auto waits = [&](size_t i) { return pieces[i].fate == Fate::kNew && shares[i].stored > 0; };
  size_t last = pieces.size() - 1;
  while (last > 0 && !waits(last)) --last;
  if (!waits(last)) last = pieces.size() - 1;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto& piece = pieces[i];
    const size_t bytes = i == last ? line.batch.size() : 0;
    switch (piece.fate) {
      case Fate::kStored:
        Answer(line, Kind::kDuplicate, piece.first_sequence, piece.count, piece.first, bytes);
        break;
      case Fate::kUnknown:
        Answer(line, Kind::kUnknown, piece.first_sequence, piece.count, {}, bytes,
               "below the producer's de-duplication window");
        break;
      case Fate::kNew: {
        const Share& share = shares[i];
        for (const Part& part : share.parts) {
          NoteAppended(line, index, 0, part.first_sequence, part.count, &part == &share.parts.back() ? bytes : 0);
          room_.Appended(index, part.count, part.bytes);
          Tell(turn, index, part);
          ++index;
        }
        if (share.refused > 0) AnswerRefused(line, share, share.stored > 0 ? 0 : bytes);
        break;
      }
    }
  }
  return Step::kDone;
}

std::vector<Publishing::Share> Publishing::Admit(Line& line, const std::vector<queue::ProducerWindow::Piece>& pieces,
                                                 int64_t queue_time_ms, std::vector<raft::Bytes>& entries) const {
  const auto count = static_cast<uint32_t>(line.checksums.size());
  std::vector<Share> shares(pieces.size());
  queue::Amount beside;
  Refusal refusal;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto& piece = pieces[i];
    if (piece.fate != Fate::kNew) continue;
    // A part of a batch is a batch: what was stored before is cut off.
    const auto from = static_cast<uint32_t>(piece.first_sequence - line.first_sequence);
    raft::Bytes batch = piece.count == count ? line.batch : queue::SliceBatch(line.batch, from, piece.count);
    Share& share = shares[i];
    // What follows something refused is refused, too: what is stored of a batch is its beginning.
    if (refusal.by == Refusal::By::kNothing) {
      const Room::Verdict verdict = room_.Judge(batch, piece.count, beside, SlackOf(line));
      // Without a name nobody could be told of a part.
      share.stored = line.producer.empty() && verdict.fits < piece.count ? 0 : verdict.fits;
      refusal = verdict.refusal;
    }
    share.refused = piece.count - share.stored;
    share.first_sequence = piece.first_sequence + share.stored;
    share.refusal = refusal;
    if (share.stored == 0) continue;
    if (share.refused > 0) batch = queue::SliceBatch(batch, 0, share.stored);
    share.bytes = batch.size();
    beside.messages += share.stored;
    beside.bytes += share.stored * queue::MessageBytes(share.bytes, share.stored);
    share.parts = PartsOf(line, from, share.stored, queue_time_ms);
    for (Part& part : share.parts) {
      const auto first = static_cast<uint32_t>(part.first_sequence - line.first_sequence);
      const raft::Bytes records =
          part.count == share.stored ? batch : queue::SliceBatch(batch, first - from, part.count);
      part.bytes = records.size();
      queue::fact::Published fact{.producer = line.producer,
                                  .epoch = line.epoch,
                                  .first_sequence = part.first_sequence,
                                  .count = part.count,
                                  .checksums = {},
                                  .due_ms = part.due_ms};
      const bool whole = part.count == count;
      if (whole) {
        fact.checksums = std::move(line.checksums);
      } else {
        fact.checksums.assign(line.checksums.begin() + first, line.checksums.begin() + first + part.count);
      }
      entries.push_back(queue::EncodePublished(fact, queue_time_ms, records.view()));
      if (whole) line.checksums = std::move(fact.checksums);
    }
  }
  return shares;
}

void Publishing::AnswerRefused(const Line& line, const Share& share, size_t bytes) {
  refused_ += share.refused;
  Answer(line, Kind::kRefused, share.first_sequence, share.refused, {}, bytes, ReasonOf(share.refusal),
         absl::StatusCode::kResourceExhausted, share.refusal);
}

bool Publishing::Applied(uint64_t index, const queue::effect::Published& effect) {
  bool ours = false;
  room_.Applied(index);
  while (!appended_.empty() && appended_.front().index == index) {
    ours = true;
    const Appended done = std::move(appended_.front());
    appended_.pop_front();
    TRIREME_CHECK(effect.outcome == queue::effect::Published::Outcome::kStored)
        << "a batch that its leader judged new was not stored when applied at index " << index;
    if (!done.producer.empty()) {
      auto it = under_way_.find(done.producer);
      if (--it->second.answers == 0) under_way_.erase(it);
    }
    if (done.sink == nullptr) continue;
    done.sink->Confirmed(
        done.alias,
        {Kind::kOk, done.first_sequence, done.count, queue::Position(index, done.slot), "", absl::StatusCode::kOk},
        done.bytes);
  }
  return ours;
}

void Publishing::Forget(const PublishSink* sink) {
  for (Line& line : waiting_) {
    if (line.sink.get() == sink) line.sink.reset();
  }
  // What nobody waits for is not appended: its sender was told that it is unknown, and sends it again.
  std::erase_if(waiting_, [&](const Line& line) {
    if (line.sink != nullptr) return false;
    waiting_bytes_ -= line.batch.size();
    return true;
  });
  for (Appended& entry : appended_) {
    if (entry.sink.get() == sink) entry.sink.reset();
  }
}

void Publishing::Cut(CutReason reason, const std::string& text) {
  absl::flat_hash_map<PublishSink*, std::pair<std::shared_ptr<PublishSink>, uint32_t>> sinks;
  for (Line& line : waiting_) {
    if (line.sink != nullptr) sinks.try_emplace(line.sink.get(), line.sink, line.alias);
    Answer(line, Kind::kMoved, line.first_sequence, static_cast<uint32_t>(line.checksums.size()), {}, line.batch.size(),
           absl::StrCat(text, "; nothing was stored, send it again"), absl::StatusCode::kUnavailable);
  }
  for (Appended& entry : appended_) {
    if (entry.sink != nullptr) sinks.try_emplace(entry.sink.get(), entry.sink, entry.alias);
  }
  waiting_.clear();
  waiting_bytes_ = 0;
  appended_.clear();
  for (auto& [raw, sink] : sinks) sink.first->Cut(sink.second, reason, text);
}

}  // namespace trireme::broker
