// What a real Host stands on, in a test: a network between nodes and a disk in memory, both over simulated time.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "raft/host/host.h"
#include "raft/host/log_store.h"
#include "raft/host/transport.h"
#include "tests/broker/fake_shard.h"

namespace trireme::broker {

// A disk that loses nothing: what was given to it is there for the next start. Completes after a millisecond.
class MemoryStore final : public raft::LogStore, public raft::SnapshotStaging {
 public:
  using Done = raft::LogStore::Done;
  explicit MemoryStore(FakeTime* time) : time_(time) {}

  std::vector<raft::StoredGroup> Recover() override {
    std::vector<raft::StoredGroup> out;
    for (const auto& [id, group] : groups_) {
      raft::StoredGroup stored = group.stored;
      stored.log.last_index = stored.log.snapshot_index;
      stored.log.compacted = group.compacted;
      if (group.members.has_value()) stored.log.memberships.push_back(*group.members);
      for (const auto& [index, entry] : group.entries) {
        if (index <= stored.log.snapshot_index) continue;
        if (stored.log.terms.empty() || stored.log.terms.back().term != entry.term) {
          stored.log.terms.push_back({index, entry.term});
        }
        stored.log.last_index = index;
        if (entry.type == raft::EntryType::kConfig) {
          stored.log.memberships.push_back({index, *raft::DecodeMembership(entry.data.view())});
        }
      }
      out.push_back(std::move(stored));
    }
    return out;
  }
  void CreateGroup(raft::GroupId group, raft::ReplicaId replica, raft::Bytes descriptor, Done done) override {
    Group& made = groups_[group];
    made.stored.group = group;
    made.stored.replica = replica;
    made.stored.descriptor = std::move(descriptor);
    ++created[group];
    Later(std::move(done));
  }
  void DeleteGroup(raft::GroupId group, Done done) override {
    groups_.erase(group);
    Later(std::move(done));
  }
  void Write(std::vector<raft::LogWrite> writes, Done done) override {
    for (raft::LogWrite& write : writes) {
      auto found = groups_.find(write.group);
      if (found == groups_.end()) continue;
      Group& group = found->second;
      if (write.hard_state.has_value()) group.stored.log.hard_state = *write.hard_state;
      if (write.entries.empty()) continue;
      group.entries.erase(group.entries.lower_bound(write.entries.front().index), group.entries.end());
      for (raft::Entry& entry : write.entries) group.entries[entry.index] = std::move(entry);
    }
    Later(std::move(done));
  }
  void Read(raft::GroupId group, raft::Index first, raft::Index last, size_t max_bytes, ReadDone done) override {
    std::vector<raft::Entry> out;
    size_t bytes = 0;
    const auto& entries = groups_[group].entries;
    for (auto it = entries.find(first); it != entries.end() && it->first <= last; ++it) {
      bytes += it->second.data.size();
      if (!out.empty() && bytes > max_bytes) break;
      out.push_back(it->second);
    }
    if (out.empty()) return done(absl::NotFoundError("no such entry"));
    done(std::move(out));
  }
  void SaveSnapshot(raft::GroupId group, raft::Index index, raft::Term term, raft::Bytes snapshot, Done done) override {
    auto found = groups_.find(group);
    if (found != groups_.end()) {
      for (const auto& [at, entry] : found->second.entries) {
        if (at > index || entry.type != raft::EntryType::kConfig) continue;
        found->second.members = {at, *raft::DecodeMembership(entry.data.view())};
      }
      found->second.stored.log.snapshot_index = index;
      found->second.stored.log.snapshot_term = term;
      found->second.stored.snapshot = std::move(snapshot);
    }
    Later(std::move(done));
  }
  void Compact(raft::GroupId group, raft::Index upto, std::vector<raft::IndexRange>) override {
    groups_[group].compacted = upto;
  }
  raft::Index Begin(raft::GroupId group, raft::Index, raft::Term) override {
    staged_[group].clear();
    return raft::Index();
  }
  void Stage(raft::GroupId group, std::vector<raft::Entry> entries, Done done) override {
    for (raft::Entry& entry : entries) {
      raft::Index index = entry.index;
      staged_[group][index] = std::move(entry);
    }
    Later(std::move(done));
  }
  // No host here gives it rows to keep.
  void StageRows(raft::GroupId, std::vector<raft::IndexRow>, Done done) override { Later(std::move(done)); }
  void Install(raft::GroupId id, const raft::HardState& hard_state, const raft::SnapshotMeta& snapshot,
               raft::Bytes state, Done done) override {
    Group& group = groups_[id];
    group.stored.log = {};
    group.stored.log.hard_state = hard_state;
    group.stored.log.snapshot_index = group.compacted = snapshot.index;
    group.stored.log.snapshot_term = snapshot.term;
    group.members = {snapshot.index, snapshot.membership};
    group.stored.snapshot = std::move(state);
    group.entries = std::exchange(staged_[id], {});
    Later(std::move(done));
  }
  void Drop(raft::GroupId group) override { staged_.erase(group); }
  uint64_t last_synced() const override { return synced_; }
  Figures figures() const override { return {}; }

  bool Has(raft::GroupId group) const { return groups_.contains(group); }
  size_t size() const { return groups_.size(); }

  std::map<raft::GroupId, int> created;  // how often each group was born here

 private:
  struct Group {
    raft::StoredGroup stored;
    std::map<raft::Index, raft::Entry> entries;
    raft::Index compacted;
    std::optional<raft::MembershipAt> members = {};  // as of the snapshot
  };
  void Later(Done done) {
    ++synced_;
    time_->Add(std::chrono::milliseconds(1), std::move(done));
  }

  FakeTime* const time_;
  uint64_t synced_ = 0;
  std::map<raft::GroupId, Group> groups_;
  std::map<raft::GroupId, std::map<raft::Index, raft::Entry>> staged_;
};

class FakeTransport;

// The nodes that run, per shard, and who cannot hear whom.
struct FakeNetwork {
  std::map<std::pair<raft::NodeId, raft::ShardId>, FakeTransport*> ends = {};
  std::set<std::pair<raft::NodeId, raft::NodeId>> cut = {};  // from, to
};

class FakeTransport final : public raft::Transport {
 public:
  FakeTransport(raft::NodeId node, FakeShard* shard, FakeNetwork* network)
      : node_(node), shard_(shard), network_(network) {
    network_->ends[{node_, shard_->id()}] = this;
  }
  ~FakeTransport() override {
    network_->ends.erase({node_, shard_->id()});
    for (auto& [end, transport] : network_->ends) {
      if (end.second == shard_->id()) transport->Tell(node_, false);
    }
  }

  void Send(raft::NodeId to, raft::Frame frame) override {
    auto found = network_->ends.find({to, shard_->id()});
    if (found == network_->ends.end() || network_->cut.contains({node_, to})) return;
    found->second->Arrive(node_, std::move(frame));
  }
  void SetReceiver(Receiver receiver) override {
    receiver_ = std::move(receiver);
    for (auto& [end, transport] : network_->ends) {
      if (end.second != shard_->id() || end.first == node_) continue;
      transport->Tell(node_, true);
      Tell(end.first, true);
    }
  }
  bool Up(raft::NodeId node) const {
    return network_->ends.contains({node, shard_->id()}) && !network_->cut.contains({node_, node}) &&
           !network_->cut.contains({node, node_});
  }

 private:
  void Arrive(raft::NodeId from, raft::Frame frame) {
    auto shared = std::make_shared<raft::Frame>(std::move(frame));
    shard_->After(std::chrono::milliseconds(1), [this, from, shared] { receiver_.frame(from, std::move(*shared)); });
  }
  void Tell(raft::NodeId node, bool up) {
    shard_->Post([this, node, up] {
      auto& tell = up ? receiver_.up : receiver_.down;
      if (tell) tell(node);
    });
  }

  const raft::NodeId node_;
  FakeShard* const shard_;
  FakeNetwork* const network_;
  Receiver receiver_;
};

}  // namespace trireme::broker
