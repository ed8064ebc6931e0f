#include "tests/queue/text.h"

#include <sstream>
#include <variant>

#include "raft/core/check.h"
#include "tests/script/say.h"

namespace trireme::queue {
namespace {

using script::Number;
using script::Option;
using script::Say;
using script::Split;
using script::Words;

Position ParsePosition(const std::string& text) {
  const Words parts = Split(text, ':');
  TRIREME_CHECK(parts.size() == 2) << "not index:slot: " << text;
  return Position(Number(parts[0]), static_cast<uint32_t>(Number(parts[1])));
}

std::vector<Slots> ParseRuns(const Words& words, const std::string& key) {
  std::vector<Slots> runs;
  for (const std::string& run : Split(Option(words, key).value_or(""), ',')) runs.push_back(ParseSlots(run));
  return runs;
}

std::vector<Token> ParseTokens(const Words& words) {
  std::vector<Token> tokens;
  for (const std::string& word : words) {
    if (word.find('@') != std::string::npos) tokens.push_back(ParseToken(word));
  }
  return tokens;
}

Disposition ParseDisposition(const std::string& word) {
  if (word == "ack") return Disposition::kAcknowledge;
  if (word == "requeue") return Disposition::kRequeue;
  if (word == "undelivered") return Disposition::kUndelivered;
  if (word == "redrive") return Disposition::kRedrive;
  TRIREME_CHECK(word == "reject") << "not ack, requeue, undelivered, redrive or reject: " << word;
  return Disposition::kReject;
}

const char* NameOf(Disposition disposition) {
  switch (disposition) {
    case Disposition::kAcknowledge:
      return "ack";
    case Disposition::kRequeue:
      return "requeue";
    case Disposition::kReject:
      return "reject";
    case Disposition::kUndelivered:
      return "undelivered";
    case Disposition::kRedrive:
      return "redrive";
  }
  return "?";
}

fact::CheckedOut ParseCheckout(const Words& words, SubscriptionId subscription, Position cursor) {
  fact::CheckedOut f{.subscription = subscription,
                     .session = {},
                     .session_epoch = 0,
                     .deadline_ms = static_cast<int64_t>(Option(words, "until", 0)),
                     .from_next = cursor,
                     .to_next = {},
                     .waiting = ParseRuns(words, "waiting"),
                     .returned = ParseRuns(words, "returned"),
                     .skipped = Option(words, "skipped", 0),
                     .counted_at = 0};
  if (!script::IsOption(words.at(1))) {
    const Words who = Split(words[1], '@');
    f.session = who.at(0);
    f.session_epoch = Number(who.at(1));
  }
  if (auto from = Option(words, "from")) f.from_next = ParsePosition(*from);
  f.to_next = f.waiting.empty() ? f.from_next : f.waiting.back().first + f.waiting.back().count;
  if (auto to = Option(words, "to")) f.to_next = ParsePosition(*to);
  f.counted_at = f.skipped == 0 ? 0 : Option(words, "counted", kMaxLogIndex);
  f.sized = Option(words, "sizes").has_value();
  for (const std::string& size : Split(Option(words, "sizes").value_or(""), ',')) f.sizes.push_back(Number(size));
  f.skipped_bytes = Option(words, "passed", 0);
  return f;
}

std::string DescribeRuns(const char* key, const std::vector<Slots>& runs) {
  std::string text;
  for (const Slots& run : runs) text += (text.empty() ? Say(" ", key, "=") : ",") + Describe(run);
  return text;
}

std::string DescribeTokens(const std::vector<Token>& tokens) {
  std::string text;
  for (const Token& token : tokens) text += Say(" ", Describe(token.slots), "@", token.checkout_index);
  return text;
}

SubscriptionSettings ParseSettings(const Words& words) {
  SubscriptionSettings settings;
  settings.filter = Option(words, "filter").value_or("");
  settings.retry_delay_ms = static_cast<uint32_t>(Option(words, "retry", 0));
  settings.delivery_limit = static_cast<uint32_t>(Option(words, "limit", 0));
  settings.dead_letter.group = Option(words, "dead", 0);
  settings.max_in_flight = Option(words, "inflight", 0);
  return settings;
}

std::string DescribeSettings(const SubscriptionSettings& settings) {
  std::string text = settings.filter.empty() ? "" : " filter=" + settings.filter;
  if (settings.retry_delay_ms != 0) text += Say(" retry=", settings.retry_delay_ms);
  if (settings.delivery_limit != 0) text += Say(" limit=", settings.delivery_limit);
  if (settings.dead_letter.group != 0) text += Say(" dead=", settings.dead_letter.group);
  if (settings.max_in_flight != 0) text += Say(" inflight=", settings.max_in_flight);
  return text;
}

// A fact, without the subscription that it may name.
struct Teller {
  std::string operator()(const fact::Published& f) {
    std::string text = Say("publish ", f.count);
    if (!f.producer.empty()) text += Say(" as=", f.producer, "@", f.epoch);
    return f.first_sequence == 0 ? text : text + Say(" seq=", f.first_sequence);
  }
  std::string operator()(const fact::ProducerOpened& f) { return Say("open ", f.producer, " epoch=", f.epoch); }
  std::string operator()(const fact::ProducerForgotten& f) {
    return Say("forget ", f.producer, " epoch=", f.epoch, " last=", f.last_sequence);
  }
  std::string operator()(const fact::Attached& f) {
    std::string text = Say("attach ", f.session, " epoch=", f.epoch);
    if (!f.consumer.empty()) text += Say(" consumer=", f.consumer);
    return f.timeout_ms == 0 ? text : text + Say(" timeout=", f.timeout_ms);
  }
  std::string operator()(const fact::Detached& f) { return Say("detach ", f.session, " epoch=", f.epoch); }
  std::string operator()(const fact::CheckedOut& f) {
    std::string skipped = f.skipped == 0 ? "" : Say(" skipped=", f.skipped);
    for (size_t i = 0; i < f.sizes.size(); ++i) skipped += Say(i == 0 ? " sizes=" : ",", f.sizes[i]);
    return Say("checkout ", f.session.empty() ? Say("until=", f.deadline_ms) : Say(f.session, "@", f.session_epoch),
               " from=", f.from_next, " to=", f.to_next, DescribeRuns("waiting", f.waiting),
               DescribeRuns("returned", f.returned), skipped);
  }
  std::string operator()(const fact::Settled& f) {
    std::string text = Say("settle ", NameOf(f.disposition), DescribeTokens(f.tokens));
    for (size_t i = 0; i < f.due_ms.size(); ++i) text += Say(i == 0 ? " due=" : ",", f.due_ms[i]);
    return f.target == 0 ? text : text + Say(" target=", f.target);
  }
  std::string operator()(const fact::LeaseExtended& f) {
    return Say("extend until=", f.deadline_ms, DescribeTokens(f.tokens));
  }
  std::string operator()(const fact::Expired& f) { return Say("expire now=", f.now_ms, DescribeTokens(f.tokens)); }
  std::string operator()(const fact::Purged&) { return "purge"; }
  std::string operator()(const fact::VersionRaised& f) { return Say("raise ", f.version); }
  std::string operator()(const fact::Skipped& f) {
    return Say("skip ", f.count, " from=", f.from_next, " to=", f.to_next, DescribeRuns("returned", f.returned));
  }
  std::string operator()(const fact::SubscriptionCreated& f) {
    return Say("create ", f.name, " from=", f.from, " ordinal=", f.ordinal, DescribeSettings(f.settings));
  }
  std::string operator()(const fact::SubscriptionChanged& f) { return "change" + DescribeSettings(f.settings); }
  std::string operator()(const fact::QueueChanged& f) {
    return Say("limits messages=", f.settings.max_messages, " bytes=", f.settings.max_bytes,
               " size=", f.settings.max_message_bytes, " ttl=", f.settings.ttl_ms);
  }
  std::string operator()(const fact::DeadUnseen& f) {
    return Say("unseen from=", f.from_next, " to=", f.to_next, DescribeRuns("waiting", f.waiting),
               " target=", f.target);
  }
  std::string operator()(const fact::SubscriptionDeleted&) { return "delete"; }
  std::string operator()(const fact::DeadLettered& f) {
    const std::string text = Say("bury deliveries=", f.deliveries, DescribeRuns("returned", f.returned));
    return f.target == 0 ? text : text + Say(" target=", f.target);
  }
  std::string operator()(const fact::Arrived& f) { return Say("arrived ", f.first, " count=", f.count); }
  std::string operator()(const fact::Redirected& f) { return Say("redirect ", f.from, " to=", f.to); }
};

struct EffectTeller {
  std::string operator()(const effect::None&) { return "done"; }
  std::string operator()(const effect::Published& e) {
    switch (e.outcome) {
      case effect::Published::Outcome::kStored:
        return Say("stored ", e.count);
      case effect::Published::Outcome::kNotNew:
        return "not stored: " + Describe(e.pieces);
      case effect::Published::Outcome::kFenced:
        return "not stored: fenced";
      case effect::Published::Outcome::kForgotten:
        return "not stored: the producer is not known";
    }
    return "?";
  }
  std::string operator()(const effect::ProducerOpened& e) {
    return Say(e.accepted ? "opened with epoch " : "ignored, in force is epoch ", e.epoch, ", last sequence ",
               e.last_sequence);
  }
  std::string operator()(const effect::ProducerForgotten& e) { return e.accepted ? "forgotten" : "ignored"; }
  std::string operator()(const effect::Attached& e) {
    if (!e.accepted) return Say("ignored, in force is epoch ", e.epoch);
    return Say(e.resumed ? "resumed as session " : "new as session ", e.number, ", epoch ", e.epoch);
  }
  std::string operator()(const effect::Detached& e) {
    return e.accepted ? Say("ended session ", e.number) : std::string("ignored");
  }
  std::string operator()(const effect::CheckedOut& e) {
    if (!e.accepted) return "ignored";
    std::string text = "given";
    for (const auto& run : e.runs) text += Say(" ", Describe(run.slots), " (delivery ", run.deliveries, ")");
    return e.runs.empty() ? "given nothing" : text;
  }
  std::string operator()(const effect::Settled& e) {
    std::string text;
    for (const auto& freed : e.freed) {
      text += Say(text.empty() ? "" : ", ", freed.count, " of ",
                  freed.holder == 0 ? std::string("a receive") : Say("session ", freed.holder));
    }
    for (const auto& lost : e.lost) text += Say(text.empty() ? "" : ", ", "lease lost ", Describe(lost.slots));
    return text.empty() ? "done" : text;
  }
  std::string operator()(const effect::Purged& e) { return Say("dropped ", e.messages); }
  std::string operator()(const effect::Skipped& e) { return e.accepted ? "skipped" : "ignored"; }
  std::string operator()(const effect::SubscriptionCreated& e) {
    using Outcome = effect::SubscriptionCreated::Outcome;
    if (e.outcome == Outcome::kWrong) return "ignored";
    return Say(e.outcome == Outcome::kCreated ? "created as subscription " : "ignored, there is subscription ", e.id);
  }
  std::string operator()(const effect::SubscriptionChanged& e) { return e.accepted ? "done" : "ignored"; }
  std::string operator()(const effect::DeadLettered& e) { return Say("dead ", e.messages); }
  std::string operator()(const effect::DeadUnseen& e) { return e.accepted ? "dead" : "ignored"; }
  std::string operator()(const effect::Departures& e) { return Say(e.messages, " of those on their way"); }
};

}  // namespace

Slots ParseSlots(const std::string& text) {
  const Words parts = Split(text, '+');
  TRIREME_CHECK(parts.size() == 2) << "not index:slot+count: " << text;
  return {ParsePosition(parts[0]), static_cast<uint32_t>(Number(parts[1]))};
}

Token ParseToken(const std::string& text) {
  const Words parts = Split(text, '@');
  TRIREME_CHECK(parts.size() == 2) << "not slots@checkout: " << text;
  return {ParseSlots(parts[0]), Number(parts[1])};
}

Fact ParseFact(const Words& words, Position cursor) {
  const std::string& verb = words.at(0);
  const auto subscription = static_cast<SubscriptionId>(Option(words, "subscription", 0));
  const uint64_t epoch = Option(words, "epoch", 0);
  if (verb == "open") return fact::ProducerOpened{words.at(1), epoch};
  if (verb == "forget") return fact::ProducerForgotten{words.at(1), epoch, Option(words, "last", 0)};
  if (verb == "attach") {
    return fact::Attached{subscription, words.at(1), epoch, Option(words, "consumer").value_or(""),
                          static_cast<uint32_t>(Option(words, "timeout", 0))};
  }
  if (verb == "detach") return fact::Detached{subscription, words.at(1), epoch};
  if (verb == "checkout") return ParseCheckout(words, subscription, cursor);
  if (verb == "settle") {
    fact::Settled f{subscription, ParseDisposition(words.at(1)), ParseTokens(words)};
    for (const std::string& due : Split(Option(words, "due").value_or(""), ','))
      f.due_ms.push_back(static_cast<int64_t>(Number(due)));
    f.target = Option(words, "target", 0);
    return f;
  }
  if (verb == "bury") {
    return fact::DeadLettered{subscription, Option(words, "reason") ? DeadReason::kExpired : DeadReason::kDeliveryLimit,
                              static_cast<uint32_t>(Option(words, "deliveries", 0)), ParseRuns(words, "returned"),
                              Option(words, "target", 0)};
  }
  if (verb == "arrived") return fact::Arrived{subscription, Number(words.at(1)), Option(words, "count", 1)};
  if (verb == "redirect") return fact::Redirected{subscription, Number(words.at(1)), Option(words, "to", 0)};
  if (verb == "extend") {
    return fact::LeaseExtended{subscription, static_cast<int64_t>(Option(words, "until", 0)), ParseTokens(words)};
  }
  if (verb == "expire") {
    return fact::Expired{subscription, static_cast<int64_t>(Option(words, "now", 0)), ParseTokens(words)};
  }
  if (verb == "purge") return fact::Purged{};
  auto position = [&](const char* key, Position otherwise) {
    auto text = Option(words, key);
    return text ? ParsePosition(*text) : otherwise;
  };
  if (verb == "skip") {
    return fact::Skipped{.subscription = subscription,
                         .from_next = position("from", cursor),
                         .to_next = position("to", cursor),
                         .count = Number(words.at(1)),
                         .counted_at = Option(words, "counted", kMaxLogIndex),
                         .returned = ParseRuns(words, "returned"),
                         .sized = Option(words, "bytes").has_value(),
                         .bytes = Option(words, "bytes", 0)};
  }
  if (verb == "unseen") {
    const fact::CheckedOut like = ParseCheckout(words, subscription, cursor);
    const bool overflow = Option(words, "reason") == "overflow";
    return fact::DeadUnseen{.subscription = subscription,
                            .reason = overflow ? DeadReason::kOverflow : DeadReason::kExpired,
                            .from_next = like.from_next,
                            .to_next = like.to_next,
                            .waiting = like.waiting,
                            .sizes = like.sizes,
                            .skipped = like.skipped,
                            .skipped_bytes = like.skipped_bytes,
                            .counted_at = like.counted_at,
                            .target = Option(words, "target", 0)};
  }
  if (verb == "limits") {
    return fact::QueueChanged{{.max_messages = Option(words, "messages", 0),
                               .max_bytes = Option(words, "bytes", 0),
                               .max_message_bytes = Option(words, "size", 0),
                               .ttl_ms = Option(words, "ttl", 0)}};
  }
  if (verb == "create") {
    // Without from=, of what is still to come.
    return fact::SubscriptionCreated{
        words.at(1),          position("from", Position(kMaxLogIndex, 0)), Option(words, "ordinal", 0),
        ParseSettings(words), Option(words, "bytes").has_value(),          Option(words, "bytes", 0)};
  }
  if (verb == "change") return fact::SubscriptionChanged{subscription, ParseSettings(words)};
  if (verb == "delete") return fact::SubscriptionDeleted{subscription};
  TRIREME_CHECK(verb == "raise") << "not a fact: " << verb;
  return fact::VersionRaised{static_cast<uint32_t>(Number(words.at(1)))};
}

std::string Describe(const Slots& slots) {
  return Say(slots.first, "+", slots.count);
}

std::string Describe(const Fact& fact) {
  std::string text = std::visit(Teller{}, fact);
  std::visit(
      [&](const auto& f) {
        if constexpr (requires { f.subscription; }) {
          if (f.subscription != 0) text += Say(" subscription=", f.subscription);
        }
      },
      fact);
  return text;
}

std::string Describe(const std::vector<ProducerWindow::Piece>& pieces) {
  std::string text;
  for (const auto& piece : pieces) {
    if (!text.empty()) text += ", ";
    text += Say(piece.first_sequence);
    if (piece.count > 1) text += Say("-", piece.first_sequence + piece.count - 1);
    switch (piece.fate) {
      case ProducerWindow::Piece::Fate::kNew:
        text += " new";
        break;
      case ProducerWindow::Piece::Fate::kStored:
        text += Say(" stored at ", piece.first);
        break;
      case ProducerWindow::Piece::Fate::kUnknown:
        text += " unknown";
        break;
    }
  }
  return text;
}

std::string Describe(const Effect& effect) {
  return std::visit(EffectTeller{}, effect);
}

std::string Describe(const Machine& machine) {
  std::ostringstream out;
  out << "applied " << machine.applied() << ", time " << machine.time_ms() << ", published " << machine.published()
      << '\n';
  if (const auto holds = machine.Holds()) out << "holds " << holds->messages << ", " << holds->bytes << " bytes\n";
  for (const auto& [name, p] : machine.producers()) {
    out << "producer " << name << ": epoch " << p.epoch << ", sequences " << p.window.lowest() << " to "
        << p.window.highest() << '\n';
  }
  for (const auto& [id, s] : machine.subscriptions()) {
    if (id != 0) out << "subscription " << id << ", " << s.name << DescribeSettings(s.settings) << '\n';
    out << "next " << s.next << ", waiting " << s.waiting << ", in flight " << s.in_flight_messages << ", returned "
        << s.returned_messages << ", acknowledged " << s.acknowledged << ", rejected " << s.rejected << ", purged "
        << s.purged;
    if (s.skipped != 0) out << ", skipped " << s.skipped;
    if (s.dead != 0) out << ", dead " << s.dead;
    if (s.redriven != 0) out << ", redriven " << s.redriven;
    if (s.expired != 0) out << ", expired " << s.expired;
    if (s.overflowed != 0) out << ", overflowed " << s.overflowed;
    if (s.departures.last_ordinal() != 0) {
      out << ", left " << s.departures.last_ordinal() << ", on their way " << s.departures.messages() << ", arrived "
          << s.arrived;
    }
    out << '\n';
    for (const auto& [name, session] : s.sessions)
      out << "session " << name << ": number " << session.number << ", epoch " << session.epoch << '\n';
    for (const auto& [first, run] : s.in_flight) {
      out << "in flight " << first << '+' << run.count << '@' << run.checkout_index << ", delivery " << run.deliveries
          << ", held by ";
      if (run.holder != 0) {
        out << "session " << run.holder << '\n';
      } else {
        out << "a receive until " << run.deadline_ms << '\n';
      }
    }
    for (const auto& [first, run] : s.returned) {
      out << "returned " << first << '+' << run.count << " after delivery " << run.deliveries;
      if (run.due_ms != 0) out << ", due at " << run.due_ms;
      out << '\n';
    }
    for (const auto& [ordinal, run] : s.departures.runs()) {
      out << "departure " << ordinal << ": " << run.first << '+' << run.count << " after delivery " << run.deliveries
          << " at " << run.time_ms << " to " << run.target << ", "
          << (run.reason == DeadReason::kRejected   ? "rejected"
              : run.reason == DeadReason::kRedriven ? "redriven"
              : run.reason == DeadReason::kExpired  ? "expired"
              : run.reason == DeadReason::kOverflow ? "overflowed"
                                                    : "delivered too often")
          << '\n';
    }
  }
  return out.str();
}

}  // namespace trireme::queue
