#include "broker/replica/room.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "broker/queue/batch.h"

namespace trireme::broker {

void Room::Appended(uint64_t index, uint32_t messages, uint64_t batch_bytes) {
  if (!machine_->settings().Limits()) return;
  const queue::Amount amount{messages, messages * queue::MessageBytes(batch_bytes, messages)};
  under_way_.push_back({index, amount});
  total_.messages += amount.messages;
  total_.bytes += amount.bytes;
}

void Room::Applied(uint64_t index) {
  while (!under_way_.empty() && under_way_.front().index <= index) {
    total_.messages -= under_way_.front().amount.messages;
    total_.bytes -= under_way_.front().amount.bytes;
    under_way_.pop_front();
  }
}

queue::Amount Room::Left(const queue::Amount& beside) const {
  const queue::QueueSettings& settings = machine_->settings();
  const queue::Amount held = machine_->Holds().value_or(queue::Amount());
  auto left = [](uint64_t limit, uint64_t used) {
    return limit == 0 ? std::numeric_limits<uint64_t>::max() : limit - std::min(limit, used);
  };
  return {left(settings.max_messages, held.messages + total_.messages + beside.messages),
          left(settings.max_bytes, held.bytes + total_.bytes + beside.bytes)};
}

queue::Amount Room::Lacks(uint64_t messages, uint64_t bytes) const {
  const queue::QueueSettings& settings = machine_->settings();
  if (settings.overflow == queue::Overflow::kReject || !settings.Limits()) return {};
  const queue::Amount left = Left({});
  auto lacks = [](uint64_t limit, uint64_t needs, uint64_t has) {
    needs = limit == 0 ? 0 : std::min(needs, limit);
    return needs - std::min(needs, has);
  };
  return {lacks(settings.max_messages, messages, left.messages), lacks(settings.max_bytes, bytes, left.bytes)};
}

bool Room::Takes(uint64_t messages, uint64_t batch_bytes) const {
  if (!machine_->settings().Limits()) return true;
  const queue::Amount left = Left({});
  return messages <= left.messages &&
         messages * queue::MessageBytes(batch_bytes, static_cast<uint32_t>(messages)) <= left.bytes;
}

bool Room::HasTooLarge(const raft::Bytes& batch, size_t slack) const {
  const uint64_t most = machine_->settings().max_message_bytes;
  if (most == 0) return false;
  for (queue::BatchWalker walker(batch.view()); walker.Next();) {
    if (walker.message().size() > most + slack) return true;
  }
  return false;
}

Room::Verdict Room::Judge(const raft::Bytes& batch, uint32_t messages, const queue::Amount& beside,
                          size_t slack) const {
  const queue::QueueSettings& settings = machine_->settings();
  if (HasTooLarge(batch, slack)) return {0, {Refusal::By::kMessageSize, settings.max_message_bytes}};
  if (!settings.Limits()) return {messages};
  const queue::Amount left = Left(beside);
  Verdict verdict{messages};
  if (left.messages < messages) {
    verdict = {static_cast<uint32_t>(left.messages), {Refusal::By::kQueueMessages, settings.max_messages}};
  }
  // What each counts for depends on how many share the entry, so of all that fit the most.
  uint32_t count = 0, fits = 0;
  uint64_t bytes = 0;
  for (queue::BatchWalker walker(batch.view()); count < verdict.fits && walker.Next();) {
    bytes += walker.record().size();
    ++count;
    if (count * queue::MessageBytes(bytes, count) <= left.bytes) fits = count;
  }
  if (fits < verdict.fits) verdict = {fits, {Refusal::By::kQueueBytes, settings.max_bytes}};
  return verdict;
}

std::string ReasonOf(const Refusal& refusal) {
  switch (refusal.by) {
    case Refusal::By::kNothing:
      return "";
    case Refusal::By::kQueueMessages:
      return absl::StrCat("the queue is full: its limit is ", refusal.limit,
                          " messages, waiting, in flight and returned; consume some, or raise it");
    case Refusal::By::kQueueBytes:
      return absl::StrCat("the queue is full: its limit is ", refusal.limit,
                          " bytes of messages, waiting, in flight and returned; consume some, or raise it");
    case Refusal::By::kMessageSize:
      return absl::StrCat("a message is larger than ", refusal.limit, " bytes, the queue's limit for one");
  }
  return "";
}

}  // namespace trireme::broker
