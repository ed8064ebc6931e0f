#include "broker/queue/lookahead.h"

#include <algorithm>
#include <utility>

#include "broker/message/message.h"
#include "broker/queue/batch.h"

namespace trireme::queue {

EntryShape ShapeOf(const PublishedView& published, const Judging& judging) {
  EntryShape shape{published.count, published.batch.size()};
  if (judging.filter == nullptr && !judging.keys) return shape;
  std::vector<EntryShape::Picked> picked;
  std::vector<KeyHash> keys;
  uint32_t slot = 0;
  for (BatchWalker walker(published.batch.view()); walker.Next(); ++slot) {
    if (judging.keys) keys.push_back(HashOfKey(message::Key(walker.message())));
    if (judging.filter == nullptr || !judging.filter->Matches(walker.message())) continue;
    if (!picked.empty() && picked.back().first + picked.back().count == slot) {
      ++picked.back().count;
    } else {
      picked.push_back({slot, 1});
    }
  }
  if (judging.filter != nullptr)
    shape.picked = std::make_shared<const std::vector<EntryShape::Picked>>(std::move(picked));
  if (judging.keys) shape.keys = std::make_shared<const std::vector<KeyHash>>(std::move(keys));
  return shape;
}

bool Picks(const EntryShape& shape, uint32_t slot) {
  if (shape.picked == nullptr) return true;
  return std::any_of(shape.picked->begin(), shape.picked->end(), [slot](const EntryShape::Picked& run) {
    return run.first <= slot && slot < run.first + run.count;
  });
}

namespace {

const KeyHash* KeysFrom(const EntryShape& shape, uint32_t slot) {
  return shape.keys == nullptr ? nullptr : shape.keys->data() + slot;
}

}  // namespace

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

uint64_t Lookahead::SizeOfFront() const {
  const uint64_t from = machine_->sized_from();
  const EntryShape& shape = shapes_.front();
  return from == 0 || shapes_first_ < from ? 0 : MessageBytes(shape.bytes, shape.messages);
}

void Lookahead::Pass(uint32_t count) {
  if (passed_ == 0) counted_at_ = machine_->applied();
  passed_ += count;
  passed_bytes_ += count * SizeOfFront();
  next_ = next_ + count;
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
    if (at_front && shape.picked == nullptr && slot < shape.messages)
      return Run{{next_, shape.messages - slot}, BytesEach(shape), SizeOfFront(), KeysFrom(shape, slot)};
    if (at_front && shape.picked != nullptr && slot < shape.messages) {
      for (const EntryShape::Picked& run : *shape.picked) {
        const uint32_t end = run.first + run.count;
        if (end <= slot) continue;
        if (run.first > slot) Pass(run.first - slot);
        return Run{{next_, end - next_.slot()}, BytesEach(shape), SizeOfFront(), KeysFrom(shape, next_.slot())};
      }
      Pass(shape.messages - slot);
    }
    Pop();
  }
  return std::nullopt;
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
