#include "broker/replica/receiving.h"

#include <iterator>
#include <utility>

namespace trireme::broker {
namespace {

Outbox::Events WithDeliver(Outbox::Events events, std::function<void(std::vector<DeliveredRun>)> deliver) {
  events.deliver = std::move(deliver);
  return events;
}

}  // namespace

Receiving::Receiving(EntryReader* reader, Outbox::Events events, std::function<void()> arrived)
    : arrived_(std::move(arrived)),
      outbox_(reader,
              WithDeliver(std::move(events), [this](std::vector<DeliveredRun> runs) { Got(std::move(runs)); })) {}

void Receiving::Start(uint64_t checkout_index, std::vector<queue::effect::CheckedOut::Run> runs, uint64_t last_index) {
  checkout_index_ = checkout_index;
  runs_ = std::move(runs);
  last_index_ = last_index;
}

void Receiving::Got(std::vector<DeliveredRun> runs) {
  for (const DeliveredRun& run : runs) bytes_ += run.batch.size();
  std::move(runs.begin(), runs.end(), std::back_inserter(got_));
  if (!reading_) arrived_();
}

bool Receiving::ReadOn() {
  reading_ = true;
  while (outbox_.empty() && next_ < runs_.size() && bytes_ < kMaxBytes)
    outbox_.Put(checkout_index_, {runs_[next_++]}, last_index_);
  reading_ = false;
  return outbox_.empty();
}

Receiving::Result Receiving::Take() {
  Result result;
  // Only the last one that was read can be too much.
  if (got_.size() > 1 && bytes_ > kMaxBytes) {
    result.left.push_back({got_.back().slots, got_.back().checkout_index});
    got_.pop_back();
  }
  for (; next_ < runs_.size(); ++next_) result.left.push_back({runs_[next_].slots, checkout_index_});
  result.runs = std::move(got_);
  return result;
}

}  // namespace trireme::broker
