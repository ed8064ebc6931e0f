// Several hosts in one thread on simulated time: shards, disks and a network that a test can break.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "raft/core/check.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"
#include "raft/host/host.h"

namespace trireme::raft::testing {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// Events in order of time, and of their making among equals.
class Clock {
 public:
  MonotonicTime now() const { return now_; }
  void At(MonotonicTime when, std::function<void()> what) { events_.push({when, ++made_, std::move(what)}); }
  void In(microseconds delay, std::function<void()> what) { At(now_ + delay, std::move(what)); }
  bool RunOne(MonotonicTime until) {
    if (events_.empty() || events_.top().when > until) return false;
    Event event = events_.top();
    events_.pop();
    now_ = event.when;
    event.what();
    return true;
  }
  void Advance(MonotonicTime to) { now_ = std::max(now_, to); }

 private:
  struct Event {
    MonotonicTime when;
    uint64_t order;
    std::function<void()> what;
    bool operator<(const Event& o) const { return when != o.when ? when > o.when : order > o.order; }
  };
  MonotonicTime now_ = MonotonicTime(std::chrono::hours(1));
  uint64_t made_ = 0;
  std::priority_queue<Event> events_;
};

// How a node's clocks differ from the true time.
struct ClockError {
  int64_t wall_skew_ms = 0;
  int64_t fast_ppm = 0;        // the monotonic one
  milliseconds turn_lasts{0};  // by which the time of a turn lies behind that of this moment
};

class SimShard final : public Shard {
 public:
  SimShard(Clock* clock, const ClockError* error) : clock_(clock), error_(error) {}

  ShardId id() const override { return 0; }
  void Post(Task task) override {
    inbox_.push_back(std::move(task));
    Schedule();
  }
  MonotonicTime Now() const override {
    const auto since = clock_->now().time_since_epoch();
    return MonotonicTime(since + since * error_->fast_ppm / kMillion);
  }
  MonotonicTime PreciseNow() const override { return Now() + error_->turn_lasts; }
  int64_t WallMs() const override {
    auto since = std::chrono::duration_cast<milliseconds>(clock_->now().time_since_epoch()).count();
    return 1'700'000'000'000 + since + error_->wall_skew_ms;
  }
  void After(milliseconds delay, Task task) override {
    auto shared = std::make_shared<Task>(std::move(task));
    clock_->In(microseconds(delay) * kMillion / (kMillion + error_->fast_ppm),
               [this, shared, alive = std::weak_ptr<bool>(alive_)] {
                 if (!alive.expired()) Post([shared] { (*shared)(); });
               });
  }
  void AtTurnEnd(Task task) override {
    turn_end_.push_back(std::move(task));
    if (!in_turn_) Schedule();
  }
  bool OnThisThread() const override { return true; }
  uint64_t turns() const { return turns_; }
  // The thread stands still until then.
  void Pause(MonotonicTime until) { paused_until_ = until; }
  bool paused() const { return clock_->now() < paused_until_; }

 private:
  static constexpr int64_t kMillion = 1'000'000;

  void Schedule() {
    if (scheduled_) return;
    scheduled_ = true;
    clock_->In(microseconds(1), [this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) Turn();
    });
  }
  void Turn() {
    if (clock_->now() < paused_until_) {
      clock_->At(paused_until_, [this, alive = std::weak_ptr<bool>(alive_)] {
        if (!alive.expired()) Turn();
      });
      return;
    }
    scheduled_ = false;
    in_turn_ = true;
    ++turns_;
    for (auto tasks = std::exchange(inbox_, {}); Task & task : tasks) task();
    while (!turn_end_.empty()) {
      for (auto tasks = std::exchange(turn_end_, {}); Task & task : tasks) task();
    }
    in_turn_ = false;
  }

  Clock* const clock_;
  const ClockError* const error_;
  std::vector<Task> inbox_, turn_end_;
  bool scheduled_ = false;
  bool in_turn_ = false;
  uint64_t turns_ = 0;
  MonotonicTime paused_until_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// A disk that keeps only what was synced.
class SimStore final : public LogStore, public SnapshotStaging, public IndexRows {
 public:
  using Done = LogStore::Done;
  struct Stored {
    ReplicaId replica;
    Bytes descriptor;
    HardState hard_state;
    std::map<Index, Entry> log;
    Index snapshot_index{};
    Term snapshot_term{};
    Bytes snapshot;
    Index compacted{};
    std::vector<IndexRange> live;
    // As of the snapshot, if the log had said so by then.
    std::optional<MembershipAt> members;
    std::map<std::string, std::string> rows;
    Index rows_mark{};
    uint64_t installs = 0;
  };

  SimStore(Clock* clock, uint64_t seed) : clock_(clock), random_(seed) {}

  std::vector<StoredGroup> Recover() override {
    std::vector<StoredGroup> all;
    for (const auto& [id, g] : durable_) {
      StoredGroup out{id, g.replica, g.descriptor, {}, g.snapshot};
      out.log.hard_state = g.hard_state;
      out.log.snapshot_index = out.log.last_index = g.snapshot_index;
      out.log.snapshot_term = g.snapshot_term;
      out.log.compacted = std::min(g.compacted, g.snapshot_index);
      if (g.members) out.log.memberships = {*g.members};
      for (const auto& [index, entry] : g.log) {
        if (index <= g.snapshot_index) continue;
        if (out.log.terms.empty() || out.log.terms.back().term != entry.term) {
          out.log.terms.push_back({index, entry.term});
        }
        out.log.last_index = index;
        if (entry.type == EntryType::kConfig) {
          out.log.memberships.push_back({index, *DecodeMembership(entry.data.view())});
        }
      }
      all.push_back(std::move(out));
    }
    return all;
  }
  void CreateGroup(GroupId group, ReplicaId replica, Bytes descriptor, Done done) override {
    TRIREME_CHECK(!durable_.contains(group)) << "group " << group << " exists";
    Submit(
        [group, replica, descriptor](auto& all) {
          all[group].replica = replica;
          all[group].descriptor = descriptor;
        },
        std::move(done));
  }
  void DeleteGroup(GroupId group, Done done) override {
    staged_.erase(group);
    std::erase_if(damaged, [group](const auto& entry) { return entry.first == group; });
    Submit([group](auto& all) { all.erase(group); }, std::move(done));
  }
  void Write(std::vector<LogWrite> writes, Done done) override {
    for (const LogWrite& write : writes) {
      TRIREME_CHECK(seen_.contains(write.group)) << "group " << write.group << " does not exist";
    }
    ++figures_.syncs;
    groups_written += writes.size();
    for (const LogWrite& write : writes) {
      for (const Entry& entry : write.entries) damaged.erase({write.group, entry.index});
    }
    Submit(
        [writes](auto& all) {
          for (const LogWrite& write : writes) {
            Stored& g = all[write.group];
            if (write.hard_state) g.hard_state = *write.hard_state;
            if (!write.entries.empty()) {
              g.log.erase(g.log.lower_bound(write.entries.front().index), g.log.end());
              for (const Entry& entry : write.entries) g.log[entry.index] = entry;
            }
          }
        },
        std::move(done));
  }
  void Read(GroupId group, Index first, Index last, size_t max_bytes, ReadDone done) override {
    ++reads;
    std::vector<Entry> entries;
    size_t bytes = 0;
    const auto& log = seen_[group].log;
    const bool broken = damaged.contains({group, first});
    for (Index i = first; i <= last && !damaged.contains({group, i}); ++i) {
      auto found = log.find(i);
      if (found == log.end()) break;
      if (absl::Status failed = read_fails ? read_fails(group, i) : absl::OkStatus(); !failed.ok()) {
        if (entries.empty()) read_error = failed;
        break;
      }
      bytes += found->second.data.size();
      if (!entries.empty() && bytes > max_bytes) break;
      entries.push_back(found->second);
    }
    auto shared = std::make_shared<ReadDone>(std::move(done));
    if (broken) read_error = absl::DataLossError("entry " + std::to_string(first.value()) + " is damaged");
    if (read_error.ok() && entries.empty()) read_error = absl::NotFoundError("no such entry");
    absl::Status error = std::exchange(read_error, absl::OkStatus());
    clock_->In(Latency() + read_delay, [this, shared, entries, error, life = life_] {
      if (life != life_) return;
      if (error.ok()) {
        (*shared)(entries);
      } else {
        (*shared)(error);
      }
    });
  }
  void SaveSnapshot(GroupId group, Index index, Term term, Bytes snapshot, Done done) override {
    ++snapshots;
    Submit(
        [=, this, given = rows_given_](auto& all) {
          // Safety rule 14.
          if (&all == &durable_) FlushRows(given);
          Stored& g = all[group];
          for (const auto& [at, entry] : g.log) {
            if (at <= index && entry.type == EntryType::kConfig) {
              g.members = {at, *DecodeMembership(entry.data.view())};
            }
          }
          g.snapshot_index = index;
          g.snapshot_term = term;
          g.snapshot = snapshot;
        },
        std::move(done));
  }
  void Compact(GroupId group, Index upto, std::vector<IndexRange> live) override {
    Submit(
        [=](auto& all) {
          Stored& g = all[group];
          g.compacted = std::max(g.compacted, upto);
          g.live = live;
          std::erase_if(g.log, [&](const auto& item) {
            for (const IndexRange& range : live) {
              if (item.first >= range.first && item.first <= range.last) return false;
            }
            return item.first <= upto;
          });
        },
        [] {});
  }
  uint64_t last_synced() const override { return last_synced_; }

  Index Begin(GroupId group, Index index, Term term) override {
    Staged& staged = staged_[group];
    if (staged.index != index || staged.term != term) staged = {index, term, {}};
    return staged.entries.empty() ? Index() : staged.entries.rbegin()->first;
  }
  void Stage(GroupId group, std::vector<Entry> entries, Done done) override {
    for (Entry& entry : entries) {
      Index index = entry.index;
      staged_.at(group).entries[index] = std::move(entry);
    }
    ++stages;
    clock_->In(Latency(), [done = std::make_shared<Done>(std::move(done)), this, life = life_] {
      if (life == life_) (*done)();
    });
  }
  void StageRows(GroupId group, std::vector<IndexRow> rows, Done done) override {
    for (IndexRow& row : rows) {
      const bool fresh = staged_.at(group).rows.emplace(std::move(row.key), std::move(row.value)).second;
      TRIREME_CHECK(fresh) << "a row of group " << group << " is staged twice";
    }
    Stage(group, {}, std::move(done));
  }
  void Install(GroupId group, const HardState& hard_state, const SnapshotMeta& snapshot, Bytes state,
               Done done) override {
    Staged staged = std::move(staged_.at(group));
    staged_.erase(group);
    if (spoil_install) spoil_install(&staged.entries);
    Submit(
        [=](auto& all) {
          Stored& g = all[group];
          g.hard_state = hard_state;
          g.snapshot_index = g.compacted = snapshot.index;
          g.snapshot_term = snapshot.term;
          g.snapshot = state;
          g.members = {snapshot.index, snapshot.membership};
          g.log = staged.entries;
          g.rows = staged.rows;
          g.rows_mark = staged.rows.empty() ? Index() : snapshot.index;
          ++g.installs;
        },
        std::move(done));
  }
  void WriteRows(GroupId group, Index mark, std::vector<RowChange> changes) override {
    Stored& g = seen_.at(group);
    if (mark <= std::max(g.rows_mark, g.snapshot_index)) return;
    ++rows_given_;
    unflushed_rows_.push_back({group, g.installs, mark, std::move(changes)});
    Change(g, unflushed_rows_.back());
  }
  void ScanRows(GroupId group, std::string from, std::string to, size_t max_bytes, ScanDone done) override {
    const Stored& g = seen_.at(group);
    RowPage page{.rows = {}, .more = false, .mark = g.rows_mark};
    if (g.rows_mark == Index()) return done(std::move(page));
    size_t bytes = 0;
    for (auto it = g.rows.lower_bound(from); it != g.rows.end() && (to.empty() || it->first < to); ++it) {
      bytes += it->first.size() + it->second.size();
      page.more = !page.rows.empty() && bytes > max_bytes;
      if (page.more) break;
      page.rows.push_back({it->first, it->second});
    }
    clock_->In(Latency() + read_delay, [done = std::make_shared<ScanDone>(std::move(done)), page, this, life = life_] {
      if (life == life_) (*done)(page);
    });
  }
  void Drop(GroupId group) override { staged_.erase(group); }
  Figures figures() const override { return figures_; }

  // The machine stops here: what was not synced is gone, or only the end of it, and nothing calls back any more.
  void Crash() {
    ++life_;
    if (survives_percent > 0 && static_cast<int>(random_() % 100) < survives_percent) {
      std::vector<Waiting> unsynced = in_flight_;
      unsynced.insert(unsynced.end(), waiting_.begin(), waiting_.end());
      unsynced.resize(random_() % (unsynced.size() + 1));
      for (Waiting& w : unsynced) w.change(durable_);
    }
    // RocksDB may have been flushed at any time.
    if (!unflushed_rows_.empty()) {
      FlushRows(rows_given_ - unflushed_rows_.size() + random_() % (unflushed_rows_.size() + 1));
    }
    unflushed_rows_.clear();
    in_flight_.clear();
    waiting_.clear();
    staged_.clear();
    writing_ = false;
    seen_ = durable_;
  }
  const Stored& durable(GroupId group) { return durable_[group]; }
  // Null if nothing is durable of it.
  const Stored* FindDurable(GroupId group) const {
    auto found = durable_.find(group);
    return found == durable_.end() ? nullptr : &found->second;
  }
  const Stored& seen(GroupId group) { return seen_[group]; }
  // A bit flips in an entry that it holds, if it holds any: among the last `among`.
  void Damage(GroupId group, uint64_t among) {
    auto stored = durable_.find(group);
    if (stored == durable_.end() || stored->second.log.empty()) return;
    const auto& log = stored->second.log;
    auto it = std::prev(log.end());
    for (uint64_t back = random_() % among; back > 0 && it != log.begin(); --back) --it;
    damaged.insert({group, it->first});
  }
  // Whether that is found at a start (Safety rule 15): what no snapshot covers is read then.
  bool DamagedAhead() const {
    for (const auto& [group, index] : damaged) {
      auto stored = durable_.find(group);
      if (stored == durable_.end()) continue;
      if (index > stored->second.snapshot_index && stored->second.log.contains(index)) return true;
    }
    return false;
  }
  // What an image of the disk holds, and a disk made anew from one. While the process is down.
  struct Image;
  Image TakeImage() const;
  void Restore(const Image& image);

  microseconds latency_max{500};
  bool stalled = false;                  // nothing completes
  bool fail_next = false;                // the next sync fails, which ends the process (Safety rule 16)
  bool full = false;                     // so does each: there is no room
  std::function<void()> failed = [] {};  // has to crash it
  // A planted bug: what an install is about to put in place.
  std::function<void(std::map<Index, Entry>*)> spoil_install;
  int survives_percent = 0;                     // of the crashes: those that leave a part of what was not synced
  std::set<std::pair<GroupId, Index>> damaged;  // entries whose checksum is wrong, until they are written again
  microseconds read_delay{0};                   // beside its latency
  absl::Status read_error;                      // of the next read
  std::function<absl::Status(GroupId, Index)> read_fails;
  uint64_t reads = 0, snapshots = 0, groups_written = 0, stages = 0;

 private:
  using All = std::map<GroupId, Stored>;
  struct Staged {
    Index index{};
    Term term{};
    std::map<Index, Entry> entries{};
    std::map<std::string, std::string> rows{};
  };
  struct GivenRows {
    GroupId group;
    uint64_t installs = 0;
    Index mark{};
    std::vector<RowChange> changes{};
  };
  static void Change(Stored& g, const GivenRows& given) {
    for (const RowChange& change : given.changes) {
      if (change.kind == RowChange::Kind::kPut) {
        g.rows[change.key] = change.value;
      } else if (change.kind == RowChange::Kind::kErase) {
        g.rows.erase(change.key);
      } else {
        g.rows.erase(g.rows.lower_bound(change.key),
                     change.value.empty() ? g.rows.end() : g.rows.lower_bound(change.value));
      }
    }
    g.rows_mark = given.mark;
  }
  // Those that were given up to that number; of groups and states that are there still.
  void FlushRows(uint64_t upto) {
    while (!unflushed_rows_.empty() && rows_given_ - unflushed_rows_.size() < upto) {
      const GivenRows& given = unflushed_rows_.front();
      auto found = durable_.find(given.group);
      if (found != durable_.end() && found->second.installs == given.installs) Change(found->second, given);
      unflushed_rows_.pop_front();
    }
  }
  struct Waiting {
    std::function<void(All&)> change;
    std::shared_ptr<Done> done;
  };
  microseconds Latency() { return microseconds(20 + random_() % static_cast<uint64_t>(latency_max.count())); }
  void Submit(std::function<void(All&)> change, Done done) {
    change(seen_);
    waiting_.push_back({std::move(change), std::make_shared<Done>(std::move(done))});
    Sync();
  }
  // One at a time; what arrives meanwhile shares the next one.
  void Sync() {
    if (writing_ || waiting_.empty()) return;
    writing_ = true;
    in_flight_ = std::exchange(waiting_, {});
    Complete(life_);
  }
  void Complete(uint64_t life) {
    clock_->In(Latency(), [this, life] {
      if (life != life_) return;
      if (stalled) return Complete(life);
      if (full || std::exchange(fail_next, false)) return failed();
      std::vector<Waiting> batch = std::exchange(in_flight_, {});
      for (Waiting& w : batch) w.change(durable_);
      ++last_synced_;
      writing_ = false;
      for (Waiting& w : batch) (*w.done)();
      Sync();
    });
  }

  Clock* const clock_;
  std::mt19937_64 random_;
  All durable_, seen_;
  std::map<GroupId, Staged> staged_;
  std::deque<GivenRows> unflushed_rows_;
  uint64_t rows_given_ = 0;
  std::vector<Waiting> waiting_, in_flight_;
  bool writing_ = false;
  uint64_t life_ = 0;
  uint64_t last_synced_ = 0;
  Figures figures_;
};

struct SimStore::Image {
  All all;
  uint64_t last_synced = 0;
};
inline SimStore::Image SimStore::TakeImage() const {
  return {durable_, last_synced_};
}
inline void SimStore::Restore(const Image& image) {
  durable_ = seen_ = image.all;
  last_synced_ = image.last_synced;
}

// Applies commands by keeping them. Some have a meaning:
//   "poison..."  cannot be applied
//   "ask..."     the leader answers with a command "answer..." of its own, at the end of the turn
class TextMachine final : public StateMachine {
 public:
  struct Log {
    std::vector<std::string> applied;  // in order, without no-ops
    std::vector<std::pair<RoleChange, bool>> roles;
    int batches = 0;
    Index floor{};
    std::vector<IndexRange> live;
    Index last{};
    std::function<void(const std::string&)> on_apply = [](const std::string&) {};
  };
  TextMachine(Log* log, std::function<Group*()> group) : log_(log), group_(std::move(group)) {}

  absl::Status Check(const Entry& entry) const override {
    if (entry.data.view().starts_with("damaged")) return absl::DataLossError("the checksum is wrong");
    return absl::OkStatus();
  }
  absl::Status Apply(const Entry& entry) override {
    if (entry.index != log_->last + 1) return absl::InternalError("a gap");
    if (entry.data.view().starts_with("poison")) return absl::UnimplementedError("needs version 9");
    log_->last = entry.index;
    if (entry.type != EntryType::kCommand) return absl::OkStatus();
    std::string text(entry.data.view());
    log_->applied.push_back(text);
    if (text.starts_with("ask") && leading_) answers_.push_back(Bytes::Copy("answer" + text.substr(3)));
    log_->on_apply(text);
    return absl::OkStatus();
  }
  void AppliedBatch() override {
    ++log_->batches;
    if (!answers_.empty()) group_()->Propose(std::exchange(answers_, {}), false);
  }
  void RoleChanged(const RoleChange& change, bool leading) override {
    leading_ = leading;
    if (!leading) answers_.clear();
    log_->roles.emplace_back(change, leading);
  }
  Bytes Snapshot() const override {
    Writer out;
    for (const std::string& text : log_->applied) out.Counted(text);
    return Bytes::Take(out.Take());
  }
  absl::Status CheckSnapshot(const Bytes& snapshot, Index) const override {
    Reader in(snapshot.view());
    while (in.ok() && !in.empty()) {
      if (in.Counted().starts_with("unknown")) return absl::UnimplementedError("needs version 9");
    }
    return in.ok() ? absl::OkStatus() : absl::DataLossError("a broken snapshot");
  }
  absl::Status Restore(const Bytes& snapshot, Index index) override {
    log_->applied.clear();
    Reader in(snapshot.view());
    while (in.ok() && !in.empty()) log_->applied.emplace_back(in.Counted());
    log_->last = index;
    return in.ok() ? absl::OkStatus() : absl::DataLossError("a broken snapshot");
  }
  uint64_t Digest() const override { return Crc32c(Snapshot().view()); }
  Liveness Live() const override { return {log_->floor, log_->live}; }

 private:
  Log* const log_;
  std::function<Group*()> group_;
  std::vector<Bytes> answers_;
  bool leading_ = false;
};

class World;

class SimTransport final : public Transport {
 public:
  SimTransport(World* world, NodeId node) : world_(world), node_(node) {}
  void Send(NodeId to, Frame frame) override;
  void SetReceiver(Receiver receiver) override { this->receiver = std::move(receiver); }
  Receiver receiver;

 private:
  World* const world_;
  const NodeId node_;
};

// One node's process while it lives, and its disk.
struct SimNode {
  NodeId id;
  ClockError clock_error;
  uint64_t starts = 0;
  std::unique_ptr<SimStore> store;
  // What applying has made of each group, in this life.
  std::map<GroupId, TextMachine::Log> logs;
  std::unique_ptr<SimShard> shard;
  std::unique_ptr<SimTransport> transport;
  std::unique_ptr<Host> host;
  std::vector<absl::Status> forgot;  // what it was told by others (Safety rule 12)
  // What it remembers of others over its own starts.
  std::map<NodeId, NodeMemory> announced;
  // Replicas that were found to differ, over its own starts (Safety rule 25).
  std::map<GroupId, absl::Status> stopped;

  bool up() const { return host != nullptr; }
};

class World {
 public:
  explicit World(uint64_t seed, int nodes = 3) : seed_(seed), random_(seed) {
    for (int i = 1; i <= nodes; ++i) {
      auto node = std::make_unique<SimNode>();
      node->id = NodeId(static_cast<uint64_t>(i));
      node->store = std::make_unique<SimStore>(&clock_, seed * 31 + static_cast<uint64_t>(i));
      nodes_[node->id] = std::move(node);
    }
    options.seed = seed;
  }

  uint64_t nodes() const { return nodes_.size(); }
  SimNode& node(uint64_t id) { return *nodes_.at(NodeId(id)); }
  Clock& clock() { return clock_; }

  // Node n's replica of group g is n * 1000 + g. Node 1 is preferred.
  static ReplicaId Replica(uint64_t node, uint64_t group) { return ReplicaId(node * 1000 + group); }
  GroupSpec Spec(uint64_t node, uint64_t group) const {
    GroupSpec spec{GroupId(group), Replica(node, group), {}};
    for (const auto& [id, n] : nodes_) spec.members.push_back({Replica(id.value(), group), id});
    spec.prompt = prompt.contains(spec.group);
    return spec;
  }

  // Starts the process; what its disk holds is hosted again.
  void Start(uint64_t id) {
    SimNode& n = node(id);
    n.logs.clear();
    n.shard = std::make_unique<SimShard>(&clock_, &n.clock_error);
    n.transport = std::make_unique<SimTransport>(this, n.id);
    HostOptions o = options;
    o.node = n.id;
    o.incarnation = ++n.starts;
    o.seed = options.seed * 7 + id;
    o.announced = n.announced;
    if (!o.disk_low) o.disk_low = [this, id] { return low_disks.contains(id); };
    o.stopped = [&n](GroupId group, ReplicaId, const absl::Status& why) { n.stopped[group] = why; };
    o.forgot = [&n](absl::Status status) { n.forgot.push_back(std::move(status)); };
    n.host = std::make_unique<Host>(o, n.shard.get(), n.store.get(), n.store.get(), n.store.get(), n.transport.get());
    std::vector<StoredGroup> all = n.store->Recover();
    if (adopt) {
      adopt(n, std::move(all));
    } else {
      for (StoredGroup& stored : all) {
        GroupSpec spec = Spec(id, stored.group.value());
        (void)AddReplica(n, spec, std::move(stored));
      }
    }
    Tell(id, true);
  }
  // The thread of a node stands still, and nobody notices but by its silence.
  void Pause(uint64_t id, milliseconds time) { node(id).shard->Pause(clock_.now() + time); }
  // `told`: the others see its connections close.
  void Kill(uint64_t id, bool told = true) {
    SimNode& n = node(id);
    n.announced = n.host->announced();
    n.store->Crash();
    n.host.reset();
    n.transport.reset();
    n.shard.reset();
    if (told) Tell(id, false);
  }
  std::unique_ptr<StateMachine> Machine(SimNode& n, uint64_t group) {
    if (make_machine) return make_machine(n, group);
    return std::make_unique<TextMachine>(&n.logs[GroupId(group)], [&n, group] { return n.host->Find(GroupId(group)); });
  }
  absl::StatusOr<Group*> AddGroup(uint64_t id, uint64_t group) {
    return AddReplica(node(id), Spec(id, group), std::nullopt);
  }
  absl::StatusOr<Group*> AddReplica(SimNode& n, GroupSpec spec, std::optional<StoredGroup> stored) {
    if (stored.has_value()) spec.stopped = n.stopped[spec.group];
    auto added = n.host->Add(spec, Machine(n, spec.group.value()), std::move(stored));
    if (!added.ok()) {
      add_errors.push_back(added.status());
    } else if (on_added) {
      on_added(n, *added);
    }
    return added;
  }
  void StartAll() {
    for (auto& [id, n] : nodes_) Start(id.value());
  }
  void AddEverywhere(uint64_t group) {
    for (auto& [id, n] : nodes_) {
      if (n->up()) (void)*AddGroup(id.value(), group);
    }
  }

  void Run(milliseconds time) {
    MonotonicTime until = clock_.now() + time;
    while (clock_.RunOne(until)) {
    }
    clock_.Advance(until);
  }
  // False if that did not come true within the time.
  bool RunUntil(const std::function<bool()>& condition, milliseconds time = milliseconds(20'000)) {
    MonotonicTime until = clock_.now() + time;
    while (!condition()) {
      if (!clock_.RunOne(until)) return condition();
    }
    return true;
  }
  Group* Leader(uint64_t group) {
    Group* best = nullptr;
    for (auto& [id, n] : nodes_) {
      Group* g = n->up() ? n->host->Find(GroupId(group)) : nullptr;
      if (g != nullptr && g->leading() && (best == nullptr || g->term() > best->term())) best = g;
    }
    return best;
  }
  bool AwaitLeader(uint64_t group) {
    return RunUntil([&] { return Leader(group) != nullptr; });
  }
  Proposed Propose(uint64_t group, const std::string& text) {
    Group* leader = Leader(group);
    if (leader == nullptr) return {.error = ProposeError::kNotLeader};
    return leader->Propose({Bytes::Copy(text)}, false);
  }
  const std::vector<std::string>& Applied(uint64_t id, uint64_t group) { return node(id).logs[GroupId(group)].applied; }

  void Deliver(NodeId from, NodeId to, Frame frame) {
    if (on_send) on_send(from, to, frame);
    if (Cut(from, to) || !nodes_.contains(to)) return;
    if (loss_percent > 0 && static_cast<int>(random_() % 100) < loss_percent) return;
    if (duplicate_percent > 0 && static_cast<int>(random_() % 100) < duplicate_percent) Launch(from, to, frame);
    Launch(from, to, std::move(frame));
  }
  void Launch(NodeId from, NodeId to, Frame frame) {
    auto shared = std::make_shared<Frame>(std::move(frame));
    clock_.In(microseconds(50 + random_() % static_cast<uint64_t>(net_latency_max.count())), [this, from, to, shared] {
      SimNode& n = *nodes_.at(to);
      if (!n.up() || Cut(from, to)) return;
      n.shard->Post([&n, from, shared, t = n.transport.get()] {
        if (n.transport.get() == t && t->receiver.frame) t->receiver.frame(from, std::move(*shared));
      });
    });
  }

  HostOptions options;
  std::set<GroupId> prompt;
  std::set<std::pair<NodeId, NodeId>> cut;          // both ways
  std::set<std::pair<NodeId, NodeId>> cut_one_way;  // from, to
  std::set<uint64_t> low_disks;                     // ids of nodes; options.disk_low goes before it
  int loss_percent = 0, duplicate_percent = 0;
  microseconds net_latency_max{300};
  std::function<void(NodeId, NodeId, Frame&)> on_send;
  std::vector<absl::Status> add_errors;
  // Instead of a TextMachine; and what is told of its group once it is hosted.
  std::function<std::unique_ptr<StateMachine>(SimNode&, uint64_t)> make_machine;
  std::function<void(SimNode&, Group*)> on_added;
  // Instead of hosting whatever a disk holds when the process starts.
  std::function<void(SimNode&, std::vector<StoredGroup>)> adopt;

 private:
  bool Cut(NodeId from, NodeId to) const {
    return cut.contains({from, to}) || cut.contains({to, from}) || cut_one_way.contains({from, to});
  }
  // Connections that open and close are noticed.
  void Tell(uint64_t about, bool up) {
    for (auto& [id, n] : nodes_) {
      if (!n->up() || id == NodeId(about)) continue;
      n->shard->Post([this, &n = *n, about, up, t = n->transport.get()] {
        if (n.transport.get() != t) return;
        auto& call = up ? t->receiver.up : t->receiver.down;
        if (call) call(NodeId(about));
      });
    }
  }

  const uint64_t seed_;
  std::mt19937_64 random_;
  Clock clock_;
  std::map<NodeId, std::unique_ptr<SimNode>> nodes_;
};

inline void SimTransport::Send(NodeId to, Frame frame) {
  world_->Deliver(node_, to, std::move(frame));
}

}  // namespace trireme::raft::testing
