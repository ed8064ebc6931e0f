#include "tests/queue/scenario.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "raft/core/check.h"
#include "tests/queue/invariants.h"
#include "tests/queue/log.h"
#include "tests/queue/sealed.h"
#include "tests/queue/text.h"
#include "tests/script/say.h"

namespace trireme::queue {

using script::Number;
using script::Option;
using script::Say;
using script::Split;
using script::Words;

std::string Scenario::Do(const std::string& command) {
  out_.str("");
  Words words = Split(command);
  if (words.size() > 2 && words[1] == "=") {
    names_[words[0]] = machine_.applied() + 1;
    words.erase(words.begin(), words.begin() + 2);
  }
  for (std::string& word : words) word = Resolve(word);
  Dispatch(words);
  if (auto problem = ProblemOf(machine_)) Violated(*problem);
  return out_.str();
}

// Puts the indexes in for "$name".
std::string Scenario::Resolve(const std::string& word) const {
  std::string text;
  for (size_t at = 0; at < word.size();) {
    if (word[at] != '$') {
      text += word[at++];
      continue;
    }
    size_t end = at + 1;
    while (end < word.size() && std::isalnum(static_cast<unsigned char>(word[end])) != 0) ++end;
    auto found = names_.find(word.substr(at + 1, end - at - 1));
    TRIREME_CHECK(found != names_.end()) << "no entry is called " << word;
    text += std::to_string(found->second);
    at = end;
  }
  return text;
}

void Scenario::Dispatch(const Words& words) {
  const std::string& verb = words.at(0);
  if (verb == "time") {
    time_ms_ = static_cast<int64_t>(Number(words.at(1)));
  } else if (verb == "publish") {
    Publish(words);
  } else if (verb == "noop") {
    ApplyEntry({});
  } else if (verb == "entry") {
    // A whole one, as a version to come may write it.
    raft::Writer header;
    header.Signed(time_ms_);
    header.Varint(1);
    header.Byte(static_cast<uint8_t>(Option(words, "fact", 9)));
    ApplyEntry(SealedEntry(static_cast<uint8_t>(Option(words, "layout", 1)),
                           static_cast<uint8_t>(Option(words, "kind", kFactsKind)), header.bytes()));
  } else if (verb == "judge") {
    Judge(words);
  } else if (verb == "lacks") {
    const Subscription& s = machine_.subscription(0);
    std::vector<Token> held;
    for (size_t i = 2; i < words.size(); ++i) held.push_back(ParseToken(words[i]));
    for (const auto& [first, run] : s.HeldBesides(s.sessions.at(words.at(1)).number, held))
      out_ << first << '+' << run.count << '@' << run.checkout_index << ", delivery " << run.deliveries << '\n';
  } else if (verb == "live") {
    const Machine::Liveness live = machine_.Live();
    out_ << "above " << live.floor;
    for (const EntryRange& range : live.live) out_ << ", " << range.first << " to " << range.last;
    out_ << '\n';
  } else if (verb == "state") {
    out_ << Describe(machine_);
  } else {
    ApplyFacts(words);
  }
}

void Scenario::Publish(const Words& words) {
  std::string producer;
  uint64_t epoch = 0;
  if (auto as = Option(words, "as")) {
    const Words who = Split(*as, '@');
    producer = who.at(0);
    epoch = Number(who.at(1));
  }
  ApplyEntry(
      PublishedEntry(static_cast<uint32_t>(Number(words.at(1))), producer, epoch, Option(words, "seq", 0), time_ms_));
}

void Scenario::ApplyFacts(const Words& words) {
  std::vector<Fact> facts;
  for (auto begin = words.begin(); begin != words.end();) {
    const auto end = std::find(begin, words.end(), ";");
    const Words fact(begin, end);
    const auto about = static_cast<SubscriptionId>(Option(fact, "subscription", 0));
    const Subscription* subscription = machine_.FindSubscription(about);
    facts.push_back(ParseFact(fact, subscription == nullptr ? Position() : subscription->next));
    begin = end == words.end() ? end : std::next(end);
  }
  ApplyEntry(FactsEntry(facts, time_ms_));
}

void Scenario::ApplyEntry(const raft::Bytes& entry) {
  const uint64_t index = machine_.applied() + 1;
  const raft::Bytes before = machine_.Snapshot();
  auto apply = [&](Machine& machine) -> absl::StatusOr<Effects> {
    if (!entry.empty()) return machine.Apply(index, entry);
    machine.ApplyNoop(index);
    return Effects{};
  };
  const absl::StatusOr<Effects> effects = apply(machine_);
  if (!effects.ok()) {
    out_ << index << ": stops: " << effects.status().message() << '\n';
    if (machine_.Snapshot() != before) Violated("an entry that could not be applied changed the state");
    return;
  }
  if (entry.empty()) out_ << index << ": no-op\n";
  for (const Effect& effect : effects->facts) out_ << index << ": " << Describe(effect) << '\n';
  for (const auto& back : effects->returned)
    out_ << "   back " << Describe(back.slots) << " after delivery " << back.deliveries << '\n';

  followers_.emplace_back();
  TRIREME_CHECK(followers_.back().Restore(before).ok());
  // Every entry changes the state, if only by its index (Safety rule 25).
  if (machine_.Digest() == followers_.back().Digest()) Violated("another state has the same digest");
  for (Machine& follower : followers_) {
    const absl::StatusOr<Effects> same = apply(follower);
    if (!same.ok() || follower.Snapshot() != machine_.Snapshot() || follower.Digest() != machine_.Digest()) {
      return Violated(Say("a replica that began with the snapshot of index ", index - followers_.size(),
                          " or later has other bytes"));
    }
  }
}

void Scenario::Judge(const Words& words) {
  const Words range = Split(words.at(2), '-');
  const uint64_t first = Number(range.at(0)), last = Number(range.back());
  const ProducerWindow& window = machine_.producers().at(words[1]).window;
  const auto pieces = window.Judge(first, static_cast<uint32_t>(last - first + 1));
  out_ << Describe(pieces) << '\n';
}

void Scenario::Violated(const std::string& what) {
  violated_ = true;
  out_ << "VIOLATED: " << what << '\n';
}

}  // namespace trireme::queue
