// Random schedules against a queue on three simulated nodes: producers and consumers that retry and resume as clients
// do, while nodes die, lose their unsynced writes, and are cut off. Then all heals, and everything confirmed must come
// out exactly once.
//
//   broker_queue_simulation_test [--gtest_filter=...]     TRIREME_SEED=N runs that seed alone, TRIREME_SEEDS=N that
//   many
#include <cstdlib>

#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

constexpr uint32_t kSessionTimeoutMs = 600'000;  // longer than any run: a live consumer never loses what it holds

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : w_(seed), random_(seed * 77 + 1) {
    w_.world.net_latency_max = std::chrono::microseconds(200 + random_() % 3'000);
    w_.world.loss_percent = static_cast<int>(random_() % 3);
    w_.world.options.snapshot_entries = 20 + random_() % 200;
    if (Chance(50)) {
      w_.world.options.snapshot_entries = 20;
      w_.world.options.lag_entries = 20 + random_() % 60;
      w_.world.options.snapshot_bytes_per_second = 20'000 + random_() % 2'000'000;
    }
    // Safety rule 25: they never differ, whatever way each came to its state.
    w_.world.options.digest_entries = 1 + random_() % 16;
    w_.world.options.quiet_ticks = 1 + static_cast<int>(random_() % 5);
    for (uint64_t i = 0; i < 1 + random_() % 3; ++i) producers_.emplace_back().name = "p" + std::to_string(i);
    for (uint64_t i = 0; i < 1 + random_() % 3; ++i) consumers_.emplace_back().session = "s" + std::to_string(i);
  }

  // By nodes in their last lives: snapshots from another replica.
  uint64_t installed = 0;
  // And what they found when they compared their states.
  uint64_t compared = 0, differed = 0;

  void Run() {
    w_.Up();
    for (int step = 0; step < 150 && !::testing::Test::HasFatalFailure(); ++step) {
      if (Chance(6)) Fault();
      for (Producer& p : producers_) Produce(p, true);
      for (Consumer& c : consumers_) Consume(c);
      w_.world.Run(milliseconds(1 + random_() % 60));
      // A lull, in which the group goes quiet.
      if (Chance(5)) w_.world.Run(milliseconds(random_() % 2'500));
    }
    // Liveness on a healed cluster.
    w_.world.cut.clear();
    w_.world.cut_one_way.clear();
    w_.world.loss_percent = 0;
    for (uint64_t id = 1; id <= 3; ++id) {
      if (!w_.world.node(id).up()) w_.world.Start(id);
    }
    for (int step = 0; step < 2'000 && !Drained(); ++step) {
      for (Producer& p : producers_) Produce(p, false);
      for (Consumer& c : consumers_) Consume(c);
      w_.world.Run(milliseconds(20));
    }
    ASSERT_TRUE(Drained()) << "some of " << confirmed_.size() << " confirmed messages did not come out; "
                           << done_.size() << " did";
    for (const auto& [what, position] : confirmed_) {
      ASSERT_TRUE(done_.contains(what)) << what << " was confirmed and lost";
      ASSERT_EQ(positions_.at(what), position) << what;
    }
    for (uint64_t id = 1; id <= 3; ++id) {
      const raft::Host::Figures figures = w_.world.node(id).host->figures();
      installed += figures.snapshots_installed;
      compared += figures.digests_compared;
      differed += figures.digests_differed;
    }
    EXPECT_EQ(differed, 0u);
    // Safety rule 10: with nothing left to do nobody is ticked.
    EXPECT_TRUE(w_.world.RunUntil([&] {
      uint64_t active = 0;
      for (uint64_t id = 1; id <= 3; ++id) active += w_.world.node(id).host->figures().active;
      return active == 0;
    }));
  }

 private:
  struct Producer {
    std::string name;
    uint64_t epoch = 0;
    uint64_t next = 1;
    struct Batch {
      uint64_t first;
      std::vector<std::string> bodies;
    };
    std::vector<Batch> open;  // not confirmed in full
    enum { kUnbound, kBinding, kBound } state = kUnbound;
    uint64_t node = 0;
    uint64_t binding = 0;
    std::shared_ptr<NotingPublishSink> sink;
    size_t seen = 0;
  };
  struct Holding {
    queue::Position position;
    uint64_t checkout_index;
    std::string body;
  };
  struct Consumer {
    std::string session;
    uint64_t node = 0;
    std::shared_ptr<NotingConsumerSink> sink;
    size_t seen = 0;
    std::map<queue::Position, Holding> holds;
    // Settled, and the receipt did not come yet: sent again after a reconnect.
    std::map<uint64_t, std::pair<queue::Disposition, std::vector<Holding>>> settling;
    uint64_t last_receipt = 0;
    bool resend = false;
  };

  bool Chance(uint64_t percent) { return random_() % 100 < percent; }
  bool Alive(uint64_t node, std::optional<CutReason> cut) const {
    return node != 0 && w_.replicas.contains(node) && !cut.has_value();
  }

  void Fault() {
    const uint64_t id = 1 + random_() % 3;
    switch (random_() % 8) {
      case 0:
      case 1: {
        // At most one is down, so that there is a majority most of the time.
        bool all_up = true;
        for (uint64_t n = 1; n <= 3; ++n) all_up &= w_.world.node(n).up();
        if (all_up) w_.Kill(Chance(60) && w_.Leader() != 0 ? w_.Leader() : id);
        break;
      }
      case 2:
        for (uint64_t n = 1; n <= 3; ++n) {
          if (!w_.world.node(n).up()) w_.world.Start(n);
        }
        break;
      case 3:
        for (uint64_t n = 1; n <= 3; ++n) {
          if (n != id && Chance(70)) w_.world.cut.insert({raft::NodeId(id), raft::NodeId(n)});
        }
        break;
      case 4:
        w_.world.cut.clear();
        w_.world.cut_one_way.clear();
        break;
      case 5:
        w_.world.cut_one_way.insert({raft::NodeId(id), raft::NodeId(1 + id % 3)});
        break;
      case 6:
        if (w_.world.node(id).up()) w_.world.Pause(id, milliseconds(random_() % 2'000));
        break;
      case 7:
        if (w_.Serving() != nullptr) w_.Serving()->group()->HandOver();
        break;
    }
  }

  void Produce(Producer& p, bool more) {
    if (p.sink != nullptr) {
      for (; p.seen < p.sink->outcomes.size(); ++p.seen) Note(p, p.sink->outcomes[p.seen]);
    }
    if (p.state != Producer::kUnbound && !Alive(p.node, p.sink == nullptr ? std::nullopt : p.sink->cut))
      p.state = Producer::kUnbound;
    if (p.state == Producer::kBound && Chance(4)) {
      // Its stream breaks, and it comes back to the same node while its batches are under way.
      w_.replicas[p.node]->Forget(p.sink.get());
      p.state = Producer::kUnbound;
    }
    if (p.state == Producer::kUnbound) {
      p.node = w_.Leader();
      if (p.node == 0) return;
      p.state = Producer::kBinding;
      p.sink = std::make_shared<NotingPublishSink>();
      p.seen = 0;
      const uint64_t binding = ++p.binding;
      w_.replicas[p.node]->OpenProducer(
          p.name, p.epoch, [this, &p, binding](absl::StatusOr<QueueReplica::OpenedProducer> opened) {
            if (p.binding != binding) return;
            if (!opened.ok()) {
              ASSERT_EQ(opened.status().code(), absl::StatusCode::kUnavailable) << opened.status();
              p.state = Producer::kUnbound;
              return;
            }
            p.state = Producer::kBound;
            p.epoch = opened->epoch;
            // Everything that is not confirmed, with the same sequences.
            for (const Producer::Batch& batch : p.open) Send(p, batch);
          });
    }
    // Several in one turn share an entry.
    while (more && p.state == Producer::kBound && p.open.size() < 20 && Chance(60)) {
      Producer::Batch batch{p.next, {}};
      for (uint64_t n = 1 + random_() % 5; n > 0; --n) batch.bodies.push_back(p.name + ":" + std::to_string(p.next++));
      p.open.push_back(batch);
      Send(p, batch);
    }
  }
  void Send(Producer& p, const Producer::Batch& batch) {
    w_.replicas[p.node]->Publish({p.sink, 0, p.name, p.epoch, batch.first, BatchOf(batch.bodies)});
  }
  void Note(Producer& p, const PublishOutcome& outcome) {
    if (outcome.kind == PublishOutcome::Kind::kMoved) return;  // it is sent again once it is bound again
    ASSERT_TRUE(outcome.kind == PublishOutcome::Kind::kOk || outcome.kind == PublishOutcome::Kind::kDuplicate)
        << p.name << " " << outcome.first_sequence << ": " << outcome.reason;
    for (uint32_t i = 0; i < outcome.count; ++i) {
      const std::string what = p.name + ":" + std::to_string(outcome.first_sequence + i);
      auto [it, is_new] = confirmed_.emplace(what, outcome.first + i);
      ASSERT_EQ(it->second, outcome.first + i) << what << " was confirmed at two positions";
    }
    std::erase_if(p.open, [&](const Producer::Batch& batch) {
      for (const std::string& body : batch.bodies) {
        if (!confirmed_.contains(body)) return false;
      }
      return true;
    });
  }

  void Consume(Consumer& c) {
    if (c.sink != nullptr) Take(c);
    if (c.sink != nullptr && Chance(4) && Alive(c.node, c.sink->cut)) {
      w_.replicas[c.node]->Detach(c.session, c.sink.get(), false);
      c.sink = std::make_shared<NotingConsumerSink>();  // what was on its way is lost
      c.sink->cut = CutReason::kNotLeader;
      c.seen = 0;
    }
    if (!Alive(c.node, c.sink == nullptr ? std::nullopt : c.sink->cut)) {
      c.node = w_.Leader();
      if (c.node == 0) return;
      std::vector<queue::Token> held;
      for (const auto& [position, h] : c.holds) held.push_back({{position, 1}, h.checkout_index});
      for (const auto& [receipt, settling] : c.settling) {
        for (const Holding& h : settling.second) held.push_back({{h.position, 1}, h.checkout_index});
      }
      c.sink = std::make_shared<NotingConsumerSink>();
      c.seen = 0;
      w_.replicas[c.node]->Attach({c.session,
                                   "",
                                   kSessionTimeoutMs,
                                   {w_.group, std::move(held)},
                                   1 + static_cast<uint32_t>(random_() % 30),
                                   1 << 20},
                                  c.sink);
      c.resend = true;
      return;
    }
    if (!c.sink->attached) return;
    if (std::exchange(c.resend, false)) {
      for (const auto& [receipt, settling] : c.settling) SendSettle(c, receipt);
    }
    std::vector<Holding> some;
    for (auto it = c.holds.begin(); it != c.holds.end();) {
      if (!Chance(60)) {
        ++it;
        continue;
      }
      some.push_back(it->second);
      it = c.holds.erase(it);
    }
    if (some.empty()) return;
    const auto disposition = Chance(20) ? queue::Disposition::kRequeue : queue::Disposition::kAcknowledge;
    c.settling[++c.last_receipt] = {disposition, std::move(some)};
    SendSettle(c, c.last_receipt);
  }
  void SendSettle(Consumer& c, uint64_t receipt) {
    const auto& [disposition, holdings] = c.settling[receipt];
    std::vector<queue::Token> tokens;
    for (const Holding& h : holdings) {
      tokens.push_back({{h.position, 1}, h.checkout_index});
      // From when this is sent on it may be anybody's.
      if (disposition == queue::Disposition::kRequeue) holder_.erase(h.position);
    }
    w_.replicas[c.node]->Settle(c.session, c.sink.get(), disposition, {w_.group, std::move(tokens)}, receipt);
  }
  void Take(Consumer& c) {
    for (uint64_t receipt : c.sink->receipts) {
      auto it = c.settling.find(receipt);
      if (it == c.settling.end()) continue;
      // Whether it was settled now or by an earlier copy: it is settled.
      if (it->second.first == queue::Disposition::kAcknowledge) {
        for (const Holding& h : it->second.second) {
          done_.insert(h.body);
          holder_.erase(h.position);
        }
      }
      c.settling.erase(it);
    }
    for (; c.seen < c.sink->runs.size(); ++c.seen) {
      const DeliveredRun& run = c.sink->runs[c.seen];
      uint32_t slot = 0;
      for (const std::string& body : BodiesOf(run.batch)) {
        const queue::Position position = run.slots.first + slot++;
        ASSERT_FALSE(done_.contains(body)) << body << " was settled and delivered again";
        auto [known, is_new] = positions_.emplace(body, position);
        ASSERT_EQ(known->second, position) << body << " is stored twice";
        auto [holder, taken] = holder_.emplace(position, c.session);
        ASSERT_EQ(holder->second, c.session) << body << " has two holders";
        auto [last, first_time] = last_checkout_.emplace(position, std::pair(run.checkout_index, run.deliveries));
        if (first_time) {
          ASSERT_EQ(run.deliveries, 1u) << body;
        } else if (last->second.first != run.checkout_index) {
          ASSERT_GT(run.checkout_index, last->second.first) << body;
          ASSERT_EQ(run.deliveries, last->second.second + 1) << body << ": the delivery count is not exact";
          last->second = {run.checkout_index, run.deliveries};
        } else {
          ASSERT_EQ(run.deliveries, last->second.second) << body;
        }
        c.holds[position] = {position, run.checkout_index, body};
      }
      ASSERT_EQ(slot, run.slots.count);
    }
  }
  bool Drained() const {
    for (const Producer& p : producers_) {
      if (!p.open.empty()) return false;
    }
    return done_.size() >= confirmed_.size();
  }

  QueueWorld w_;
  std::mt19937_64 random_;
  std::vector<Producer> producers_;
  std::vector<Consumer> consumers_;
  std::map<std::string, queue::Position> confirmed_;
  std::map<std::string, queue::Position> positions_;  // as delivered
  std::map<queue::Position, std::string> holder_;
  std::map<queue::Position, std::pair<uint64_t, uint32_t>> last_checkout_;
  std::set<std::string> done_;
};

TEST(QueueSimulation, NothingConfirmedIsLostAndNothingHasTwoHolders) {
  const char* one = std::getenv("TRIREME_SEED");
  const char* many = std::getenv("TRIREME_SEEDS");
  const uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
  const uint64_t last = one != nullptr ? first : (many != nullptr ? std::strtoull(many, nullptr, 10) : 200);
  uint64_t installed = 0, compared = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE("replay: TRIREME_SEED=" + std::to_string(seed) + " build/dev/tests/broker_queue_simulation_test");
    Simulation simulation(seed);
    simulation.Run();
    if (HasFailure()) return;
    installed += simulation.installed;
    compared += simulation.compared;
  }
  if (last - first >= 100) {
    EXPECT_GT(installed, (last - first) / 10) << "snapshots were hardly tried";
    EXPECT_GT(compared, (last - first) * 10) << "states were hardly compared";
  }
  RecordProperty("compared", std::to_string(compared));
  RecordProperty("installed", std::to_string(installed));
}

}  // namespace
}  // namespace trireme::broker::testing
