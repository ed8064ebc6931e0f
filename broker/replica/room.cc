#include "broker/replica/room.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "broker/queue/batch.h"

namespace trireme::broker {
namespace {

queue::Amount MostOf(const queue::QueueSettings& settings) {
  auto most = [](uint64_t limit) { return limit == 0 ? std::numeric_limits<uint64_t>::max() : limit; };
  return {most(settings.max_messages), most(settings.max_bytes)};
}

}  // namespace

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
  const queue::Amount held = machine_->Holds().value_or(queue::Amount());
  const queue::Amount most = MostOf(machine_->settings());
  return {most.messages - std::min(most.messages, held.messages + total_.messages + beside.messages),
          most.bytes - std::min(most.bytes, held.bytes + total_.bytes + beside.bytes)};
}

bool Room::Takes(uint64_t messages, uint64_t batch_bytes) const {
  if (!machine_->settings().Limits()) return true;
  const queue::Amount left = Left({});
  return messages <= left.messages &&
         messages * queue::MessageBytes(batch_bytes, static_cast<uint32_t>(messages)) <= left.bytes;
}

bool Room::HasTooLarge(const raft::Bytes& batch, From from) const {
  const uint64_t most = machine_->settings().max_message_bytes;
  if (most == 0 || from == From::kOtherQueue) return false;
  for (queue::BatchWalker walker(batch.view()); walker.Next();) {
    if (walker.message().size() > most) return true;
  }
  return false;
}

Room::Verdict Room::Judge(const raft::Bytes& batch, uint32_t messages, const queue::Amount& beside, From from) const {
  const queue::QueueSettings& settings = machine_->settings();
  if (HasTooLarge(batch, from)) return {0, {Refusal::By::kMessageSize, settings.max_message_bytes}};
  if (!settings.Limits()) return {messages};
  Verdict verdict = Beginning(batch, messages, Left(beside));
  if (verdict.fits == messages) return verdict;
  if (from == From::kNobody) verdict.fits = 0;
  const uint64_t held = machine_->Holds().value_or(queue::Amount()).messages + total_.messages + beside.messages;
  if (from == From::kOtherQueue && verdict.fits == 0 && held == 0) {
    verdict.fits = 1;
    if (messages == 1) verdict.refusal = {};
  }
  if (const std::optional<Refusal> never = Never(batch, messages, verdict.fits, from)) verdict.refusal = *never;
  return verdict;
}

std::optional<Refusal> Room::Never(const raft::Bytes& batch, uint32_t messages, uint32_t at, From from) const {
  if (from == From::kOtherQueue) return std::nullopt;
  Verdict verdict;
  const queue::Amount most = MostOf(machine_->settings());
  if (from == From::kNobody) {
    verdict = Beginning(batch, messages, most);
  } else {
    verdict = Beginning(queue::SliceBatch(batch, at, 1), 1, most);
  }
  if (verdict.refusal.by == Refusal::By::kNothing) return std::nullopt;
  verdict.refusal.never = true;
  return verdict.refusal;
}

Room::Verdict Room::Beginning(const raft::Bytes& batch, uint32_t messages, const queue::Amount& left) const {
  const queue::QueueSettings& settings = machine_->settings();
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
      if (refusal.never) {
        return absl::StrCat("the queue can never hold so many: its limit is ", refusal.limit,
                            " messages, and without a producer's name a batch is stored whole or not at all; send "
                            "fewer at a time, or raise it");
      }
      return absl::StrCat("the queue is full: its limit is ", refusal.limit,
                          " messages, waiting, in flight and returned; consume some, or raise it");
    case Refusal::By::kQueueBytes:
      if (refusal.never) {
        return absl::StrCat("the queue can never hold so much: its limit is ", refusal.limit,
                            " bytes of messages; send less at a time, or raise it");
      }
      return absl::StrCat("the queue is full: its limit is ", refusal.limit,
                          " bytes of messages, waiting, in flight and returned; consume some, or raise it");
    case Refusal::By::kMessageSize:
      return absl::StrCat("a message is larger than ", refusal.limit, " bytes, the queue's limit for one");
    case Refusal::By::kKeyMissing:
      return "a message has no key, and a subscription of the queue keeps messages in order by their keys";
  }
  return "";
}

}  // namespace trireme::broker
