#include "tests/simulation/queue/clients.h"

#include <algorithm>

namespace trireme::queue_simulation {

using broker::testing::BatchOf;
using broker::testing::BodiesOf;
using queue::Disposition;
using queue::Token;

namespace {

// Longer than any run: a live consumer never loses what it holds.
constexpr std::chrono::hours kForever(1);
constexpr size_t kOpenBatchesMax = 20;
constexpr size_t kOldTokensMax = 50;

Token TokenOf(Position position, uint64_t checkout_index) {
  return {{position, 1}, checkout_index};
}

// With their keys.
raft::Bytes KeyedBatchOf(const std::vector<std::string>& bodies) {
  raft::Writer batch;
  for (const std::string& body : bodies) {
    raft::Writer message;
    message.Byte(1 << 3 | 2);
    message.Counted(body);
    message.Byte(2 << 3 | 2);
    message.Counted(KeyOf(body));
    batch.Byte(1 << 3 | 2);
    batch.Counted(message.bytes());
  }
  return raft::Bytes::Take(batch.Take());
}

bool Has(const Token& token, Position position, uint64_t checkout_index) {
  if (token.checkout_index != checkout_index) return false;
  for (uint32_t i = 0; i < token.slots.count; ++i) {
    if (token.slots.first + i == position) return true;
  }
  return false;
}

}  // namespace

Clients::Clients(QueueWorld* queue, Chance* chance, Suite* suite, Trace* trace, Plant plant)
    : queue_(queue), chance_(chance), suite_(suite), trace_(trace), plant_(plant) {
  producers_.resize(1 + chance_->Below(3));
  for (size_t i = 0; i < producers_.size(); ++i) producers_[i].name = "p" + std::to_string(i);
  consumers_.resize(1 + chance_->Below(3));
  for (size_t i = 0; i < consumers_.size(); ++i) {
    consumers_[i].session = "s" + std::to_string(i);
    consumers_[i].heard = queue_->world.clock().now();
  }
  const bool mortal = chance_->PerMille(500);
  session_timeout_ = mortal ? std::chrono::milliseconds(chance_->Between(2'000, 6'000)) : kForever;
  deaths_per_mille_ = mortal ? chance_->Between(0, 10) : 0;
  settings_.order_by_key = chance_->PerMille(300) || plant == Plant::kForgetsKeys;
  if (settings_.order_by_key && chance_->PerMille(500))
    settings_.key_window = static_cast<uint32_t>(chance_->Between(1, 8));
  settings_.single_active = chance_->PerMille(200);
}

QueueReplica* Clients::At(const Stream& stream) const {
  auto replica = queue_->replicas.find(stream.node);
  auto life = lives_.find(stream.node);
  if (replica == queue_->replicas.end() || (life != lives_.end() && life->second != stream.life)) return nullptr;
  return replica->second;
}

bool Clients::Connect(Stream* stream) {
  stream->node = queue_->Leader();
  stream->life = lives_[stream->node];
  return stream->node != 0;
}

void Clients::SetUp() {
  if (settings_ == queue::SubscriptionSettings()) set_up_ = true;
  Stream& stream = setting_up_at_;
  // A process that is gone answers nothing.
  if (setting_up_ && At(stream) == nullptr) setting_up_ = false;
  if (set_up_ || setting_up_ || !Connect(&stream)) return;
  setting_up_ = true;
  queue::SubscriptionSettings settings = settings_;
  if (plant_ == Plant::kForgetsKeys) settings.order_by_key = false;
  At(stream)->ChangeSubscription("default", settings, [this](const absl::StatusOr<broker::SubscriptionMade>& made) {
    setting_up_ = false;
    set_up_ = made.ok();
    if (set_up_ && settings_.order_by_key) suite_->Tell([](Checker& c) { c.Ordering(); });
  });
}

void Clients::Step(bool publish) {
  if (!set_up_) return SetUp();
  // Before anyone is sent what another had.
  for (Consumer& c : consumers_) {
    MindSilence(c);
    if (publish && chance_->PerMille(deaths_per_mille_)) Die(c);
    if (publish && chance_->PerMille(2 * deaths_per_mille_)) Leave(c);
  }
  for (Producer& p : producers_) Produce(p, publish);
  for (Consumer& c : consumers_) Consume(c);
  if (!old_.empty() && Percent(10)) {
    UseOldToken(old_[chance_->Below(old_.size())]);
  }
  if (Percent(20)) AskFigures();
}

bool Clients::Drained() const {
  return std::all_of(producers_.begin(), producers_.end(), [](const Producer& p) { return p.open.empty(); }) &&
         std::all_of(confirmed_.begin(), confirmed_.end(), [this](const auto& message) {
           return settled_.contains(message.first) || open_.contains(message.first);
         });
}

// ---- producers

void Clients::Produce(Producer& p, bool more) {
  if (p.sink != nullptr) {
    for (; p.seen < p.sink->outcomes.size(); ++p.seen) Note(p, p.sink->outcomes[p.seen]);
  }
  QueueReplica* replica = At(p.stream);
  if (replica == nullptr || p.sink == nullptr || p.sink->cut) {
    p.state = Producer::State::kUnbound;
  } else if (p.state == Producer::State::kBound && Percent(4)) {
    // Its stream breaks, and it comes back to the same node while its batches are under way.
    replica->Forget(p.sink.get());
    p.state = Producer::State::kUnbound;
  }
  if (p.state == Producer::State::kUnbound) return Bind(p);
  if (!more || p.state != Producer::State::kBound || p.open.size() >= kOpenBatchesMax || !Percent(70)) return;
  Batch batch{p.next, {}};
  for (uint64_t n = 1 + chance_->Below(5); n > 0; --n) batch.bodies.push_back(p.name + ":" + std::to_string(p.next++));
  if (plant_ == Plant::kConfirmsEarly && batch.first > 1) {
    for (const std::string& body : batch.bodies) confirmed_.emplace(body, Position());
    for (const std::string& body : batch.bodies) {
      suite_->Tell([&](Checker& c) { c.Confirming(body, Position()); });
    }
    Send(p, batch);
    return;
  }
  p.open.push_back(batch);
  Send(p, batch);
}

void Clients::Bind(Producer& p) {
  if (!Connect(&p.stream)) return;
  p.state = Producer::State::kBinding;
  p.sink = std::make_shared<NotingPublishSink>();
  p.seen = 0;
  const uint64_t binding = ++p.binding;
  At(p.stream)->OpenProducer(p.name, p.epoch,
                             [this, &p, binding](const absl::StatusOr<QueueReplica::OpenedProducer>& opened) {
                               if (p.binding != binding) return;
                               if (!opened.ok()) {
                                 if (opened.status().code() != absl::StatusCode::kUnavailable)
                                   suite_->Violated(opened.status().ToString());
                                 p.state = Producer::State::kUnbound;
                                 return;
                               }
                               p.state = Producer::State::kBound;
                               p.epoch = opened->epoch;
                               // Everything that is not confirmed, with the same sequences.
                               for (const Batch& batch : p.open) Send(p, batch);
                             });
}

void Clients::Send(Producer& p, const Batch& batch) {
  if (QueueReplica* replica = At(p.stream)) {
    replica->Publish({p.sink, 0, p.name, p.epoch, batch.first, KeyedBatchOf(batch.bodies)});
  }
}

void Clients::Note(Producer& p, const PublishOutcome& outcome) {
  if (outcome.kind == PublishOutcome::Kind::kRefused && outcome.code == absl::StatusCode::kResourceExhausted) {
    // No room on the disk: it comes again, from where it was refused. What was behind it was refused as well.
    p.state = Producer::State::kUnbound;
    return;
  }
  // It is sent again once it is bound again.
  if (outcome.kind == PublishOutcome::Kind::kMoved) return;
  if (outcome.kind != PublishOutcome::Kind::kOk && outcome.kind != PublishOutcome::Kind::kDuplicate) {
    return suite_->Violated(p.name + " " + std::to_string(outcome.first_sequence) + ": " + outcome.reason);
  }
  for (uint32_t i = 0; i < outcome.count; ++i) {
    const std::string body = p.name + ":" + std::to_string(outcome.first_sequence + i);
    const Position position = outcome.first + i;
    confirmed_.emplace(body, position);
    trace_->Add(3, position.packed());
    if (plant_ != Plant::kConfirmsEarly) suite_->Tell([&](Checker& c) { c.Confirming(body, position); });
  }
  std::erase_if(p.open, [&](const Batch& batch) {
    return std::all_of(batch.bodies.begin(), batch.bodies.end(),
                       [&](const std::string& body) { return confirmed_.contains(body); });
  });
}

// ---- consumers

void Clients::Say(const Consumer& c, const std::string& what) const {
  if (trace_->printing()) trace_->Print(queue_->Elapsed(), c.session + " " + what);
}

void Clients::MindSilence(Consumer& c) {
  const raft::MonotonicTime now = queue_->world.clock().now();
  QueueReplica* replica = At(c.stream);
  const bool hears = c.sink != nullptr && c.sink->attached && !c.sink->cut && replica != nullptr &&
                     replica->serving() && !queue_->world.node(c.stream.node).shard->paused();
  // The broker's clock may be fast, and one that leads no more may be heard for some ticks after the next began to
  // wait.
  const int tenths = plant_ == Plant::kKeepsTooLong ? 50 : 8;
  if (now - c.heard >= session_timeout_ * tenths / 10) GiveUp(c);
  if (hears) c.heard = now;
}

void Clients::GiveUp(Consumer& c) {
  Say(c, "gives up what it holds");
  c.heard = queue_->world.clock().now();
  ++lapses_;
  suite_->Tell([](Checker& checker) { checker.Lapsing(); });
  // A stream that was silent for so long is ended, and what is still to be read from it is not.
  Break(c);
  auto give_up = [this](const Held& h) {
    suite_->Tell([&](Checker& checker) { checker.Returning(h.position); });
    given_up_[h.position] = h;
  };
  for (const auto& [position, h] : c.holds) give_up(h);
  c.holds.clear();
  for (auto& [receipt, settling] : c.settling) {
    for (Held& h : settling.messages) {
      if (!std::exchange(h.lapsed, true)) give_up(h);
    }
  }
}

// Its stream goes, and what was on its way with it.
void Clients::Break(Consumer& c) {
  if (QueueReplica* replica = At(c.stream); replica != nullptr && c.sink != nullptr) {
    replica->Detach({c.session, c.sink.get()}, false);
  }
  c.sink = nullptr;
}

void Clients::Leave(Consumer& c) {
  Say(c, "loses the network");
  Break(c);
  c.away_until = queue_->world.clock().now() +
                 std::chrono::milliseconds(chance_->Below(static_cast<uint64_t>(2 * session_timeout_.count())));
}

void Clients::Die(Consumer& c) {
  Say(c, "dies");
  GiveUp(c);
  for (const auto& [receipt, settling] : c.settling) {
    if (settling.disposition != Disposition::kAcknowledge) continue;
    for (const Held& h : settling.messages) {
      open_.insert(h.body);
      suite_->Tell([&](Checker& checker) { checker.LeftOpen(h.body); });
    }
  }
  Consumer next;
  next.lives = c.lives + 1;
  next.session = c.session.substr(0, c.session.find('.')) + "." + std::to_string(next.lives);
  next.heard = queue_->world.clock().now();
  c = std::move(next);
}

// The broker says that the session does not hold them any more.
void Clients::DropLost(Consumer& c) {
  for (; c.lost_seen < c.sink->lost.size(); ++c.lost_seen) {
    for (const auto& [position, h] : c.holds) {
      if (!Has(c.sink->lost[c.lost_seen], position, h.checkout_index)) continue;
      suite_->Violated(c.session + " lost " + h.body + " before the broker was silent for its timeout");
    }
  }
}

void Clients::Consume(Consumer& c) {
  if (c.sink != nullptr) {
    DropLost(c);
    TakeReceipts(c);
    TakeDeliveries(c);
  }
  QueueReplica* replica = At(c.stream);
  if (replica != nullptr && c.sink != nullptr && !c.sink->cut && Percent(4)) Break(c);
  if (queue_->world.clock().now() < c.away_until) return;
  if (replica == nullptr || c.sink == nullptr || c.sink->cut) return Attach(c);
  if (!c.sink->attached) return;
  if (std::exchange(c.resend, false)) {
    for (const auto& [receipt, settling] : c.settling) SendSettle(c, receipt);
  }
  SettleSome(c);
}

void Clients::Attach(Consumer& c) {
  if (!Connect(&c.stream)) return;
  std::vector<Token> held;
  for (const auto& [position, h] : c.holds) held.push_back(TokenOf(position, h.checkout_index));
  for (const auto& [receipt, settling] : c.settling) {
    for (const Held& h : settling.messages) held.push_back(TokenOf(h.position, h.checkout_index));
  }
  Say(c, "attaches to node " + std::to_string(c.stream.node) + ", holding " + std::to_string(held.size()));
  c.sink = std::make_shared<NotingConsumerSink>();
  c.seen = c.lost_seen = 0;
  c.resend = true;
  At(c.stream)->Attach({c.session,
                        "",
                        static_cast<uint32_t>(std::chrono::milliseconds(session_timeout_).count()),
                        {queue_->group, std::move(held)},
                        1 + static_cast<uint32_t>(chance_->Below(30)),
                        1 << 20},
                       c.sink);
}

void Clients::SettleSome(Consumer& c) {
  std::vector<Held> some;
  for (auto it = c.holds.begin(); it != c.holds.end();) {
    if (!Percent(60)) {
      ++it;
      continue;
    }
    some.push_back(it->second);
    it = c.holds.erase(it);
  }
  if (some.empty()) return;
  const auto disposition = Percent(20) ? Disposition::kRequeue : Disposition::kAcknowledge;
  c.settling[++c.last_receipt] = {disposition, std::move(some)};
  SendSettle(c, c.last_receipt);
}

void Clients::SendSettle(Consumer& c, uint64_t receipt) {
  const Settling& settling = c.settling[receipt];
  std::vector<Token> tokens;
  for (const Held& h : settling.messages) {
    tokens.push_back(TokenOf(h.position, h.checkout_index));
    if (!h.lapsed) suite_->Tell([&](Checker& checker) { checker.Settling(h.position); });
    if (settling.disposition == Disposition::kRequeue && !h.lapsed) {
      suite_->Tell([&](Checker& checker) { checker.Returning(h.position); });
    }
  }
  if (QueueReplica* replica = At(c.stream)) {
    replica->Settle({c.session, c.sink.get()}, settling.disposition, {queue_->group, std::move(tokens)}, receipt);
  }
}

void Clients::TakeReceipts(Consumer& c) {
  for (uint64_t receipt : c.sink->receipts) {
    auto it = c.settling.find(receipt);
    if (it == c.settling.end()) continue;
    for (const Held& h : it->second.messages) {
      if (old_.size() == kOldTokensMax) old_.pop_front();
      old_.push_back(h);
      suite_->Tell([&](Checker& checker) { checker.UsedUp(h.position, h.checkout_index); });
      if (it->second.disposition != Disposition::kAcknowledge) continue;
      if (h.lapsed && std::any_of(c.sink->lost.begin(), c.sink->lost.end(),
                                  [&](const Token& t) { return Has(t, h.position, h.checkout_index); })) {
        // By an earlier copy, or it is another's by now.
        open_.insert(h.body);
        suite_->Tell([&](Checker& checker) { checker.LeftOpen(h.body); });
        continue;
      }
      // Whether it was settled now or by an earlier copy: it is settled.
      settled_.emplace(h.body, h);
      suite_->Tell([&](Checker& checker) { checker.Acknowledged(h.body, h.position); });
    }
    c.settling.erase(it);
  }
}

void Clients::TakeDeliveries(Consumer& c) {
  Spoil(&c.sink->runs, c.seen);
  for (; c.seen < c.sink->runs.size(); ++c.seen) {
    const DeliveredRun& run = c.sink->runs[c.seen];
    uint32_t slot = 0;
    for (const std::string& body : BodiesOf(run.batch)) {
      const Position position = run.slots.first + slot++;
      const Delivered delivered{c.session, body, position, run.checkout_index, run.deliveries};
      trace_->Add(4, position.packed(), run.checkout_index, run.deliveries);
      Say(c, "gets " + body + ", checkout " + std::to_string(run.checkout_index));
      suite_->Tell([&](Checker& checker) { checker.Delivering(delivered); });
      if (plant_ == Plant::kMixesSessions && consumers_.size() > 1 && Percent(5)) {
        Delivered other = delivered;
        other.session = consumers_[(&c - consumers_.data() + 1) % static_cast<int64_t>(consumers_.size())].session;
        suite_->Tell([&](Checker& checker) { checker.Delivering(other); });
      }
      c.holds[position] = {position, run.checkout_index, body};
      // Safety rule 4: the token of one that had it before is void for good.
      auto old = given_up_.find(position);
      if (old == given_up_.end() || old->second.checkout_index >= run.checkout_index) continue;
      suite_->Tell([&](Checker& checker) { checker.UsedUp(position, old->second.checkout_index); });
      if (old_.size() == kOldTokensMax) old_.pop_front();
      old_.push_back(old->second);
      given_up_.erase(old);
    }
    if (slot != run.slots.count) suite_->Violated("a run is said to have more messages than came with it");
  }
}

void Clients::Spoil(std::vector<DeliveredRun>* runs, size_t from) {
  if (from == runs->size()) return;
  if (plant_ == Plant::kMiscounts && Percent(10)) ++(*runs)[from].deliveries;
  if (plant_ == Plant::kSwapsRuns && runs->size() > from + 1) {
    std::swap((*runs)[from].batch, (*runs)[from + 1].batch);
    std::swap((*runs)[from].slots.count, (*runs)[from + 1].slots.count);
  }
  if (plant_ == Plant::kRepeatsSettled && !settled_.empty() && Percent(10)) {
    const Held& h = settled_.begin()->second;
    runs->push_back({{h.position, 1}, h.checkout_index, 1, BatchOf({h.body})});
  }
}

// It may have been given to somebody else meanwhile, or settled; or not have been used up at all, if its return was
// not.
void Clients::UseOldToken(const Held& held) {
  Stream stream;
  if (!Connect(&stream)) return;
  const uint64_t ask = ++old_asks_;
  suite_->Tell([&](Checker& c) { c.AskingWithOldToken(ask, held.position, held.checkout_index); });
  At(stream)->SettleTokens(0, Disposition::kAcknowledge, {TokenOf(held.position, held.checkout_index)},
                           [this, ask](const absl::StatusOr<std::vector<bool>>& answer) {
                             if (!answer.ok()) return;
                             const bool current = answer->front() || plant_ == Plant::kTakesOldTokens;
                             suite_->Tell([&](Checker& c) { c.AnsweringOldToken(ask, current); });
                           });
}

void Clients::AskFigures() {
  Stream stream;
  if (!Connect(&stream)) return;
  const uint64_t ask = ++figures_asks_;
  suite_->Tell([&](Checker& c) { c.AskingFigures(ask); });
  At(stream)->Describe([this, ask](const absl::StatusOr<broker::QueueFigures>& answer) {
    if (!answer.ok()) return;
    ++figures_;
    if (plant_ != Plant::kOldFigures || first_figures_.at_index == 0) first_figures_ = *answer;
    suite_->Tell([&](Checker& c) {
      c.AnsweringFigures(ask, first_figures_.published, first_figures_.subscriptions[0].acknowledged);
    });
  });
}

}  // namespace trireme::queue_simulation
