#include "broker/replica/publishing.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "broker/message/dead_letter.h"
#include "broker/queue/entry.h"
#include "broker/replica/moving.h"
#include "raft/core/check.h"

namespace trireme::broker {

using Fate = queue::ProducerWindow::Piece::Fate;
using Kind = PublishOutcome::Kind;

namespace {
// Lines are put together up to this size: then what an entry costs by itself hardly shows.
constexpr size_t kTogetherBytes = size_t{64} << 10;
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

void Publishing::Refuse(const Publication& publication, const absl::Status& why) {
  Answer(publication, Kind::kRefused, publication.first_sequence, MessagesIn(publication.batch), {},
         publication.batch.size(), std::string(why.message()), why.code());
}

void Publishing::Accept(Publication publication) {
  const size_t bytes = publication.batch.size();
  queue::BatchLimits limits = limits_;
  limits.max_message_bytes += SlackOf(publication);
  bool expires = false;
  absl::StatusOr<std::vector<uint32_t>> checksums = queue::CheckBatch(publication.batch.view(), limits, &expires);
  absl::Status refused = checksums.status();
  if (refused.ok() && !publication.producer.empty() && publication.first_sequence == 0) {
    refused = absl::InvalidArgumentError("first_sequence is 0; sequences start at 1");
  }
  if (refused.ok() && !publication.producer.empty() &&
      publication.first_sequence > std::numeric_limits<uint64_t>::max() - checksums->size()) {
    refused = absl::InvalidArgumentError(absl::StrCat("first_sequence is ", publication.first_sequence, "; a batch of ",
                                                      checksums->size(), " would run over the end of the sequences"));
  }
  if (refused.ok() && !publication.windowed && waiting_bytes_ + bytes > max_waiting_bytes_ && !waiting_.empty()) {
    refused = absl::ResourceExhaustedError(
        absl::StrCat("more than ", max_waiting_bytes_, " bytes of batches wait to be stored in this queue"));
  }
  if (!refused.ok()) return Refuse(publication, refused);
  waiting_bytes_ += bytes;
  waiting_.push_back({std::move(publication), *std::move(checksums), expires});
  expiring_ |= expires;
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

bool Publishing::Flush(int64_t queue_time_ms, queue::Dispatchers& dispatchers) {
  wanted_ = {};
  if (room_.changing()) return false;
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
    if (const size_t lines = LinesTogether(); lines > 1) {
      if (!AppendTogether(lines, queue_time_ms, dispatchers)) break;
      for (size_t i = 0; i < lines; ++i) {
        waiting_bytes_ -= waiting_.front().batch.size();
        waiting_.pop_front();
      }
      continue;
    }
    Step step = Append(waiting_.front(), queue_time_ms, dispatchers);
    if (step == Step::kFull || step == Step::kNoRoom) break;
    if (step == Step::kLater) {
      held_back.insert(waiting_.front().producer);
      later.push_back(std::move(waiting_.front()));
    } else {
      waiting_bytes_ -= waiting_.front().batch.size();
    }
    waiting_.pop_front();
  }
  none_leaves_ = false;
  // Those that wait for their first copy to be applied keep their place.
  for (; !later.empty(); later.pop_back()) waiting_.push_front(std::move(later.back()));
  return appended_.size() > appended_before;
}

size_t Publishing::LinesTogether() const {
  const Line& first = waiting_.front();
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
    // Those that expire have entries of their own, so that what is known of others is small.
    if (lines > 0 && (next.expires || first.expires)) break;
    if (next.producer != first.producer || next.epoch != first.epoch) break;
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

bool Publishing::AppendTogether(size_t lines, int64_t queue_time_ms, queue::Dispatchers& dispatchers) {
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
  }
  fact.count = static_cast<uint32_t>(fact.checksums.size());
  std::vector<raft::Bytes> entries;
  entries.push_back(queue::EncodePublished(fact, queue_time_ms, batches));
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
  dispatchers.Appended(proposed.first.value(), {.messages = fact.count, .bytes = bytes, .time_ms = queue_time_ms});
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

Publishing::Step Publishing::Append(Line& line, int64_t queue_time_ms, queue::Dispatchers& dispatchers) {
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

  // For those that are new alone.
  uint64_t new_messages = 0, new_bytes = 0;
  for (const auto& piece : pieces) {
    if (piece.fate != Fate::kNew) continue;
    new_messages += piece.count;
    const bool whole = piece.count == count;
    const size_t of_piece =
        (whole ? line.batch
               : queue::SliceBatch(line.batch, static_cast<uint32_t>(piece.first_sequence - line.first_sequence),
                                   piece.count))
            .size();
    new_bytes += piece.count * queue::MessageBytes(of_piece, piece.count);
  }
  wanted_ = new_messages == 0 || room_.HasTooLarge(line.batch, SlackOf(line)) ? queue::Amount()
                                                                              : room_.Lacks(new_messages, new_bytes);
  if (wanted_ != queue::Amount() && !std::exchange(none_leaves_, false)) return Step::kNoRoom;
  wanted_ = {};

  std::vector<raft::Bytes> entries;
  std::vector<Share> shares = Admit(line, pieces, queue_time_ms, entries);
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
        if (share.stored > 0) {
          NoteAppended(line, index, 0, piece.first_sequence, share.stored, bytes);
          room_.Appended(index, share.stored, share.bytes);
          dispatchers.Appended(
              index,
              {.messages = share.stored, .bytes = share.bytes, .time_ms = queue_time_ms, .expiring = share.expiring});
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
    if (line.expires) share.expiring = queue::ExpiringOf(batch.view());
    beside.messages += share.stored;
    beside.bytes += share.stored * queue::MessageBytes(share.bytes, share.stored);
    queue::fact::Published fact{.producer = line.producer,
                                .epoch = line.epoch,
                                .first_sequence = piece.first_sequence,
                                .count = share.stored,
                                .checksums = {}};
    const bool whole = share.stored == count;
    if (whole) {
      fact.checksums = std::move(line.checksums);
    } else {
      fact.checksums.assign(line.checksums.begin() + from, line.checksums.begin() + from + share.stored);
    }
    entries.push_back(queue::EncodePublished(fact, queue_time_ms, batch.view()));
    if (whole) line.checksums = std::move(fact.checksums);
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
