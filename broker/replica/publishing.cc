#include "broker/replica/publishing.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "broker/queue/entry.h"
#include "raft/core/check.h"

namespace trireme::broker {

using Fate = queue::ProducerWindow::Piece::Fate;
using Kind = PublishOutcome::Kind;

uint32_t MessagesIn(const raft::Bytes& batch) {
  uint32_t count = 0;
  for (queue::BatchWalker walker(batch.view()); walker.Next();) ++count;
  return std::max(1u, count);
}

void Publishing::Answer(const Publication& p, Kind kind, uint64_t first, uint32_t count, queue::Position position,
                        size_t bytes, std::string reason, absl::StatusCode code) {
  if (p.sink != nullptr) p.sink->Confirmed(p.alias, {kind, first, count, position, std::move(reason), code}, bytes);
}

void Publishing::Refuse(const Publication& publication, const absl::Status& why) {
  Answer(publication, Kind::kRefused, publication.first_sequence, MessagesIn(publication.batch), {},
         publication.batch.size(), std::string(why.message()), why.code());
}

void Publishing::Accept(Publication publication) {
  const size_t bytes = publication.batch.size();
  absl::StatusOr<std::vector<uint32_t>> checksums = queue::CheckBatch(publication.batch.view(), limits_);
  absl::Status refused = checksums.status();
  if (refused.ok() && !publication.producer.empty() && publication.first_sequence == 0) {
    refused = absl::InvalidArgumentError("first_sequence is 0; sequences start at 1");
  }
  if (refused.ok() && !publication.producer.empty() &&
      publication.first_sequence > std::numeric_limits<uint64_t>::max() - checksums->size()) {
    refused = absl::InvalidArgumentError(absl::StrCat("first_sequence is ", publication.first_sequence, "; a batch of ",
                                                      checksums->size(), " would run over the end of the sequences"));
  }
  if (refused.ok() && waiting_bytes_ + bytes > max_waiting_bytes_ && !waiting_.empty()) {
    refused = absl::ResourceExhaustedError(
        absl::StrCat("more than ", max_waiting_bytes_, " bytes of batches wait to be stored in this queue"));
  }
  if (!refused.ok()) return Refuse(publication, refused);
  waiting_bytes_ += bytes;
  waiting_.push_back({std::move(publication), *std::move(checksums)});
}

uint64_t Publishing::EpochOf(const std::string& producer) const {
  auto opening = opening_.find(producer);
  auto known = machine_->producers().find(producer);
  return std::max(opening == opening_.end() ? 0 : opening->second,
                  known == machine_->producers().end() ? 0 : known->second.epoch);
}

bool Publishing::BehindUnderWay(const Line& line) const {
  auto it = under_way_.find(line.producer);
  return it != under_way_.end() && line.first_sequence < it->second.end;
}

bool Publishing::Flush(int64_t queue_time_ms, queue::Dispatcher& dispatcher) {
  const size_t appended_before = appended_.size();
  std::deque<Line> later;
  while (!waiting_.empty()) {
    Step step = Append(waiting_.front(), queue_time_ms, dispatcher);
    if (step == Step::kFull) break;
    if (step == Step::kLater) {
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

Publishing::Step Publishing::Append(Line& line, int64_t queue_time_ms, queue::Dispatcher& dispatcher) {
  const auto count = static_cast<uint32_t>(line.checksums.size());
  std::vector<queue::ProducerWindow::Piece> pieces;
  if (line.producer.empty()) {
    pieces.push_back({Fate::kNew, line.first_sequence, count, {}});
  } else {
    auto known = machine_->producers().find(line.producer);
    if (EpochOf(line.producer) > line.epoch) {
      Answer(line, Kind::kFenced, line.first_sequence, count, {}, line.batch.size(),
             "a newer stream of this producer was opened");
      return Step::kDone;
    }
    if (known == machine_->producers().end() || forgetting_.contains(line.producer)) {
      Answer(line, Kind::kUnknown, line.first_sequence, count, {}, line.batch.size(),
             "the producer was forgotten; open it again");
      return Step::kDone;
    }
    // Forgotten and opened again since: its epochs began anew.
    if (known->second.epoch != line.epoch) {
      Answer(line, Kind::kFenced, line.first_sequence, count, {}, line.batch.size(),
             absl::StrCat("the producer has epoch ", known->second.epoch, " in this queue, not ", line.epoch));
      return Step::kDone;
    }
    // What is behind something that is appended and not applied is judged when that is: it may be a retry of it, and
    // applying it may move the window over this one (Safety rule 6).
    if (BehindUnderWay(line)) return Step::kLater;
    pieces = known->second.window.Judge(line.first_sequence, count);
  }

  std::vector<raft::Bytes> entries;
  for (const auto& piece : pieces) {
    if (piece.fate != Fate::kNew) continue;
    // A part of a batch is a batch: what was stored before is cut off.
    const auto from = static_cast<uint32_t>(piece.first_sequence - line.first_sequence);
    const bool whole = piece.count == count;
    raft::Bytes batch = whole ? line.batch : queue::SliceBatch(line.batch, from, piece.count);
    queue::fact::Published fact{.producer = line.producer,
                                .epoch = line.epoch,
                                .first_sequence = piece.first_sequence,
                                .count = piece.count,
                                .checksums = {}};
    if (whole) {
      fact.checksums = std::move(line.checksums);
    } else {
      fact.checksums.assign(line.checksums.begin() + from, line.checksums.begin() + from + piece.count);
    }
    entries.push_back(queue::EncodePublished(fact, queue_time_ms, batch.view()));
    if (whole) line.checksums = std::move(fact.checksums);
  }
  raft::Proposed proposed;
  if (!entries.empty()) {
    proposed = group_->Propose(std::move(entries), /*urgent=*/false);
    // Not leading any more: RoleChanged follows, and answers.
    if (proposed.error) return Step::kFull;
  }
  uint64_t index = proposed.first.value();
  // The bytes count with the last answer: what is new is answered later than the rest.
  size_t last = pieces.size() - 1;
  while (last > 0 && pieces[last].fate != Fate::kNew) --last;
  if (pieces[last].fate != Fate::kNew) last = pieces.size() - 1;
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
        if (!line.producer.empty()) {
          UnderWay& under_way = under_way_[line.producer];
          ++under_way.entries;
          under_way.end = std::max(under_way.end, piece.first_sequence + piece.count);
        }
        appended_.push_back({index, line.sink, line.alias, line.producer, piece.first_sequence, piece.count, bytes});
        dispatcher.Appended(index, {piece.count, line.batch.size() * piece.count / count});
        ++index;
        break;
      }
    }
  }
  return Step::kDone;
}

void Publishing::Opening(const std::string& producer, uint64_t epoch) {
  uint64_t& pending = opening_[producer];
  pending = std::max(pending, epoch);
}

void Publishing::Opened(const std::string& producer, uint64_t epoch) {
  auto it = opening_.find(producer);
  if (it != opening_.end() && it->second <= epoch) opening_.erase(it);
}

bool Publishing::Applied(uint64_t index, const queue::effect::Published& effect) {
  if (appended_.empty() || appended_.front().index != index) return false;
  Appended done = std::move(appended_.front());
  appended_.pop_front();
  TRIREME_CHECK(effect.outcome == queue::effect::Published::Outcome::kStored)
      << "a batch that its leader judged new was not stored when applied at index " << index;
  if (!done.producer.empty()) {
    auto it = under_way_.find(done.producer);
    if (--it->second.entries == 0) under_way_.erase(it);
  }
  if (done.sink != nullptr)
    done.sink->Confirmed(
        done.alias, {Kind::kOk, done.first_sequence, done.count, queue::Position(index, 0), "", absl::StatusCode::kOk},
        done.bytes);
  return true;
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
