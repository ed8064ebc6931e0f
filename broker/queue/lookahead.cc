#include "broker/queue/lookahead.h"

#include <algorithm>
#include <utility>

#include "broker/message/message.h"
#include "broker/queue/batch.h"

namespace trireme::queue {

std::shared_ptr<const std::vector<EntryShape::Expiring>> ExpiringOf(std::string_view batch) {
  std::vector<EntryShape::Expiring> expiring;
  uint32_t slot = 0;
  for (BatchWalker walker(batch); walker.Next(); ++slot) {
    const int64_t at_ms = message::ExpiresAtMs(walker.message());
    if (at_ms == 0) continue;
    if (!expiring.empty() && expiring.back().first + expiring.back().count == slot && expiring.back().at_ms == at_ms) {
      ++expiring.back().count;
    } else {
      expiring.push_back({slot, 1, at_ms});
    }
  }
  if (expiring.empty()) return nullptr;
  return std::make_shared<const std::vector<EntryShape::Expiring>>(std::move(expiring));
}

Deadline DeadlineOf(const EntryShape& shape, uint32_t slot, const QueueSettings& settings) {
  Deadline deadline{kNever, std::max(slot + 1, shape.messages)};
  if (settings.ttl_ms != 0) deadline.at_ms = shape.time_ms + static_cast<int64_t>(settings.ttl_ms);
  if (shape.expiring == nullptr) return deadline;
  auto run = std::partition_point(shape.expiring->begin(), shape.expiring->end(),
                                  [slot](const auto& r) { return r.first + r.count <= slot; });
  if (run == shape.expiring->end()) return deadline;
  if (run->first > slot) {
    deadline.end = run->first;
  } else {
    deadline = {std::min(deadline.at_ms, run->at_ms), run->first + run->count};
  }
  return deadline;
}

EntryShape ShapeOf(const PublishedView& published, const filter::Filter* filter, bool expires) {
  EntryShape shape{.messages = published.count, .bytes = published.batch.size(), .time_ms = published.time_ms};
  if (expires) shape.expiring = ExpiringOf(published.batch.view());
  if (filter == nullptr) return shape;
  std::vector<EntryShape::Picked> picked;
  uint32_t slot = 0;
  for (BatchWalker walker(published.batch.view()); walker.Next(); ++slot) {
    if (!filter->Matches(walker.message())) continue;
    if (!picked.empty() && picked.back().first + picked.back().count == slot) {
      ++picked.back().count;
    } else {
      picked.push_back({slot, 1});
    }
  }
  shape.picked = std::make_shared<const std::vector<EntryShape::Picked>>(std::move(picked));
  return shape;
}

uint64_t Lookahead::PickedFrom(const EntryShape& shape, uint32_t from) {
  if (shape.picked == nullptr) return shape.messages - std::min(from, shape.messages);
  uint64_t picked = 0;
  for (const EntryShape::Picked& run : *shape.picked) {
    const uint32_t end = run.first + run.count;
    if (end > from) picked += end - std::max(run.first, from);
  }
  return picked;
}

uint32_t Lookahead::FrontSlot() const {
  return next_.index() == shapes_first_ ? next_.slot() : 0;
}

void Lookahead::Restart() {
  if (const Subscription* s = state()) next_ = s->next;
  // Shapes are found out again: where the cursor stands they may have been dropped.
  shapes_.clear();
  messages_ = bytes_ = passed_ = passed_bytes_ = 0;
  shapes_first_ = 1;
  SkipSettled();
}

void Lookahead::Purge(uint64_t index) {
  while (!shapes_.empty() && shapes_first_ < index) Pop();
  if (shapes_.empty()) shapes_first_ = std::max(shapes_first_, index);
  next_ = std::max(next_, Position(index, 0));
  passed_ = passed_bytes_ = 0;
}

void Lookahead::SkipSettled() {
  const Subscription* s = state();
  if (s == nullptr) return;
  const uint64_t floor = s->Floor(machine_->applied());
  while (!shapes_.empty() && shapes_first_ <= floor) Pop();
  shapes_first_ = std::max(shapes_first_, floor + 1);
}

void Lookahead::Push(EntryShape shape) {
  // A batch that apply refused has no messages, whatever the log says.
  const uint64_t index = shapes_first_ + shapes_.size();
  if (machine_->IsRefused(index)) shape = {};
  bytes_ += shape.bytes;
  messages_ += PickedFrom(shape, next_.index() == index ? next_.slot() : 0);
  shapes_.push_back(std::move(shape));
}

void Lookahead::Pop() {
  const EntryShape& shape = shapes_.front();
  if (next_.index() <= shapes_first_) messages_ -= PickedFrom(shape, FrontSlot());
  bytes_ -= shape.bytes;
  shapes_.pop_front();
  ++shapes_first_;
  if (next_.index() < shapes_first_) next_ = Position(shapes_first_, 0);
}

void Lookahead::Appended(uint64_t index, const EntryShape* shape) {
  last_index_ = index;
  SkipSettled();
  if (shape != nullptr && index == shapes_first_ + shapes_.size() && shapes_.size() < limits_.entries) Push(*shape);
}

std::optional<Lookahead::Range> Lookahead::Wanted() const {
  const uint64_t first = shapes_first_ + shapes_.size();
  if (first > last_index_ || shapes_.size() > limits_.entries / 2) return std::nullopt;
  return Range{first, std::min(last_index_, shapes_first_ + limits_.entries - 1)};
}

void Lookahead::Shapes(uint64_t first, const std::vector<EntryShape>& shapes) {
  for (const EntryShape& shape : shapes) {
    if (first == shapes_first_ + shapes_.size() && shapes_.size() < limits_.entries) Push(shape);
    ++first;
  }
}

uint64_t Lookahead::SizeOf(uint64_t index, const EntryShape& shape) const {
  const uint64_t from = machine_->sized_from();
  return from == 0 || index < from ? 0 : MessageBytes(shape.bytes, shape.messages);
}

uint64_t Lookahead::SizeOfFront() const {
  return SizeOf(shapes_first_, shapes_.front());
}

void Lookahead::Pass(uint32_t count) {
  if (passed_ == 0) counted_at_ = machine_->applied();
  passed_ += count;
  passed_bytes_ += count * SizeOfFront();
  next_ = next_ + count;
}

Lookahead::Run Lookahead::RunTo(uint32_t end) const {
  const EntryShape& shape = shapes_.front();
  Run run{.slots = {next_, end - next_.slot()}, .bytes_each = BytesEach(shape), .size = SizeOfFront(), .shape = &shape};
  if (!machine_->expires()) return run;
  const Deadline deadline = DeadlineOf(shape, next_.slot(), machine_->settings());
  run.expires_at_ms = deadline.at_ms;
  run.slots.count = std::min(end, deadline.end) - next_.slot();
  return run;
}

std::optional<Lookahead::Run> Lookahead::Next() {
  // Leaves entries behind that are used up or publish nothing, and what the filter passes over.
  while (!shapes_.empty()) {
    // Its shape may have come before apply refused it: then it has no messages, and none to pass over either.
    if (machine_->IsRefused(shapes_first_)) {
      Pop();
      continue;
    }
    if (next_.index() < shapes_first_) next_ = Position(shapes_first_, 0);
    const EntryShape& shape = shapes_.front();
    const uint32_t slot = FrontSlot();
    const bool at_front = next_.index() == shapes_first_;
    if (at_front && shape.picked == nullptr && slot < shape.messages) return RunTo(shape.messages);
    if (at_front && shape.picked != nullptr && slot < shape.messages) {
      for (const EntryShape::Picked& run : *shape.picked) {
        const uint32_t end = run.first + run.count;
        if (end <= slot) continue;
        if (run.first > slot) Pass(run.first - slot);
        return RunTo(end);
      }
      Pass(shape.messages - slot);
    }
    Pop();
  }
  return std::nullopt;
}

Position Lookahead::EndOf(Amount& wanted) const {
  Position end = next_;
  for (size_t i = 0; i < shapes_.size() && wanted != Amount(); ++i) {
    const uint64_t index = shapes_first_ + i;
    const EntryShape& shape = shapes_[i];
    const uint32_t slot = next_.index() == index ? next_.slot() : 0;
    if (index < next_.index() || machine_->IsRefused(index) || slot >= shape.messages) continue;
    end = Position(index, slot) + wanted.Take(shape.messages - slot, SizeOf(index, shape));
  }
  return end;
}

void Lookahead::Take(uint32_t count) {
  messages_ -= count;
  next_ = next_ + count;
  // An entry that is used up is left at once, so that the cursor does not keep it.
  const EntryShape& shape = shapes_.front();
  if (PickedFrom(shape, next_.slot()) > 0) return;
  if (next_.slot() < shape.messages) Pass(shape.messages - next_.slot());
  Pop();
}

}  // namespace trireme::queue
