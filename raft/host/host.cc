#include "raft/host/host.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "raft/host/host_core.h"

namespace trireme::raft {
namespace {

// A preferred member of a new group tries again so often, and so soon, because the others are born at their own pace.
constexpr int kBirthCampaigns = 30;
constexpr int kTicksBetweenCampaigns = 2;

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15 + (a << 6) + (a >> 2))) * 0xbf58476d1ce4e5b9;
  return x ^ (x >> 31);
}

absl::Status CheckSpec(const GroupSpec& spec, NodeId node) {
  auto name = absl::StrCat("group ", spec.group.value());
  int selves = 0;
  for (size_t i = 0; i < spec.members.size(); ++i) {
    const Member& member = spec.members[i];
    if (member.replica == ReplicaId() || member.node == NodeId()) {
      return absl::InvalidArgumentError(absl::StrCat(name, " has a member without an id"));
    }
    for (size_t j = 0; j < i; ++j) {
      if (spec.members[j].replica == member.replica || spec.members[j].node == member.node) {
        return absl::InvalidArgumentError(
            absl::StrCat(name, " has replica ", member.replica.value(), " or node ", member.node.value(), " twice"));
      }
    }
    selves += member.replica == spec.self && member.node == node ? 1 : 0;
  }
  if (selves == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " has no replica ", spec.self.value(), " on node ", node.value()));
}

}  // namespace

// ---- a group

HostedGroup::HostedGroup(HostCore* host, GroupSpec spec, std::unique_ptr<StateMachine> its_machine,
                         const Config& config, const Restored& restored)
    : machine(std::move(its_machine)),
      replica(config, restored),
      host_(host),
      max_uncommitted_bytes_(config.max_uncommitted_bytes),
      spec_(std::move(spec)) {}

NodeId HostedGroup::NodeOf(ReplicaId which) const {
  for (const Member& member : spec_.members) {
    if (member.replica == which) return member.node;
  }
  return NodeId();
}

Proposed HostedGroup::Propose(std::vector<Bytes> commands, bool urgent) {
  if (!live()) return {.error = ProposeError::kNotLeader};
  host_->CountProposal();
  Proposed proposed = replica.Propose(std::move(commands), urgent);
  if (!proposed.error.has_value()) host_->MarkDirty(this);
  return proposed;
}

void HostedGroup::ReadBarrier(absl::AnyInvocable<void(absl::Status)> done) {
  if (!live()) {
    done(halted_.ok() ? absl::UnavailableError("the replica is not there") : halted_);
    return;
  }
  new_barriers.push_back(std::move(done));
  host_->MarkDirty(this);
}

void HostedGroup::ReadEntries(Index first, Index last, size_t max_bytes, LogStore::ReadDone done) {
  host_->ReadEntries(this, first, last, max_bytes, std::move(done));
}

void HostedGroup::StepDown() {
  if (!live()) return;
  replica.StepDown();
  host_->MarkDirty(this);
}

// ---- groups come and go

HostCore::HostCore(HostOptions options, Shard* shard, LogStore* store, Transport* transport)
    : options_(options), shard_(shard), store_(store), transport_(transport), trim_above_(options_.tail_budget_bytes) {
  transport_->SetReceiver({[this](NodeId from, Frame frame) { Receive(from, std::move(frame)); },
                           [this](NodeId node) { PeerChanged(node, true); },
                           [this](NodeId node) { PeerChanged(node, false); }});
  shard_->After(options_.tick, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) Tick();
  });
}

HostCore::~HostCore() {
  transport_->SetReceiver({});
}

absl::StatusOr<Group*> HostCore::Add(const GroupSpec& spec, std::unique_ptr<StateMachine> machine,
                                     std::optional<StoredGroup> stored) {
  absl::Status valid = CheckSpec(spec, options_.node);
  if (!valid.ok()) return valid;
  if (groups_.contains(spec.group)) {
    return absl::AlreadyExistsError(absl::StrCat("group ", spec.group.value(), " is hosted already"));
  }
  Config config;
  config.id = spec.self;
  config.birth.members = spec.members;
  config.seed = Mix(Mix(options_.seed, spec.group.value()), spec.self.value());
  config.election_ticks = options_.election_ticks;
  config.max_uncommitted_bytes = options_.max_uncommitted_bytes;

  Restored restored;
  if (stored.has_value()) {
    // Safety rule 11: what is stored under another identity says nothing for this one.
    if (stored->group != spec.group || stored->replica != spec.self) {
      return absl::FailedPreconditionError(absl::StrCat("group ", spec.group.value(), " is stored here as replica ",
                                                        stored->replica.value(), " of group ", stored->group.value(),
                                                        ", expected replica ", spec.self.value()));
    }
    if (stored->log.snapshot_index > Index()) {
      absl::Status status = machine->Restore(stored->snapshot, stored->log.snapshot_index);
      if (!status.ok()) return status;
    }
    restored = std::move(stored->log);
  }
  auto group = std::make_shared<HostedGroup>(this, spec, std::move(machine), config, restored);
  group->snapshot_index = restored.snapshot_index;
  groups_[spec.group] = group;
  if (stored.has_value()) {
    group->born = true;
    if (spec.members.size() == 1) group->replica.Campaign();
    MarkDirty(group.get());
  } else {
    store_->CreateGroup(spec.group, spec.self, EncodeMembership({spec.members}),
                        OnShard(group, [this](HostedGroup* g) { Born(g); }));
  }
  return group.get();
}

void HostCore::Born(HostedGroup* group) {
  group->born = true;
  if (group->spec().members.front().replica == group->replica.id()) {
    group->campaigns_left = kBirthCampaigns;
    group->ticks_to_campaign = kTicksBetweenCampaigns;
    group->replica.Campaign();
  }
  MarkDirty(group);
}

void HostCore::Remove(GroupId id) {
  auto found = groups_.find(id);
  if (found == groups_.end()) return;
  GroupPtr group = std::move(found->second);
  groups_.erase(found);
  group->gone = true;
  tail_bytes_ -= std::exchange(group->tail_bytes, 0);
  FailBarriers(group.get(), absl::UnavailableError("the group was removed from this node"));
  store_->DeleteGroup(id, [] {});
  // Perhaps this is called from within its machine.
  graveyard_.push_back(std::move(group));
  WantTurn();
}

HostedGroup* HostCore::Find(GroupId group) {
  auto found = groups_.find(group);
  return found == groups_.end() ? nullptr : found->second.get();
}

HostCore::GroupPtr HostCore::Shared(HostedGroup* group) {
  auto found = groups_.find(group->id());
  TRIREME_CHECK(found != groups_.end() && found->second.get() == group) << "group " << group->id() << " is not hosted";
  return found->second;
}

void HostCore::MarkDirty(HostedGroup* group) {
  if (group->dirty || group->gone) return;
  group->dirty = true;
  dirty_.push_back(Shared(group));
  WantTurn();
}

// ---- what others send

void HostCore::Receive(NodeId from, Frame frame) {
  ++frames_in_;
  clock_.Heard(from, frame.wall_ms, shard_->Now());
  for (GroupMessage& incoming : frame.messages) {
    Message& message = incoming.message;
    HostedGroup* group = Find(incoming.group);
    // Not here yet, or not any more; its sender will try again.
    if (group == nullptr || !group->live()) {
      ++dropped_;
      continue;
    }
    // Safety rule 11: a message is for this very replica, and from one that its node may speak for.
    if (message.to != group->replica.id() || from == NodeId() || group->NodeOf(message.from) != from) {
      ++dropped_;
      if (stranger_log_.Allow(shard_->Now())) {
        spdlog::warn(
            "group {}: dropped a message from replica {} on node {} to replica {}; this is replica {} ({} before)",
            incoming.group.value(), message.from.value(), from.value(), message.to.value(), group->replica.id().value(),
            stranger_log_.TakeKeptBack());
      }
      continue;
    }
    // Safety rule 17: what is damaged on the way is not persisted. The leader sends it again.
    absl::Status whole;
    for (const Entry& entry : message.entries) {
      if (entry.type == EntryType::kCommand) whole = group->machine->Check(entry);
      if (whole.ok()) continue;
      if (check_log_.Allow(shard_->Now())) {
        spdlog::error("group {}: entry {} from node {} is damaged, dropped: {} ({} before)", incoming.group.value(),
                      entry.index.value(), from.value(), whole.ToString(), check_log_.TakeKeptBack());
      }
      break;
    }
    if (!whole.ok()) {
      ++dropped_;
      continue;
    }
    group->replica.Step(std::move(message));
    MarkDirty(group);
  }
}

void HostCore::PeerChanged(NodeId node, bool up) {
  for (auto& [id, group] : groups_) {
    for (const Member& member : group->spec().members) {
      if (member.node != node || !group->live()) continue;
      if (up) {
        group->replica.PeerUp(member.replica);
      } else {
        group->replica.PeerDown(member.replica);
      }
      if (group->replica.HasOutput()) MarkDirty(group.get());
    }
  }
}

void HostCore::ReadEntries(HostedGroup* group, Index first, Index last, size_t max_bytes, LogStore::ReadDone done) {
  if (group->gone) return done(absl::NotFoundError("the group was removed from this node"));
  std::vector<Entry> held;
  size_t bytes = 0;
  for (Index index = first; index <= last; ++index) {
    const Entry* entry = group->replica.TailEntry(index);
    if (entry == nullptr || (!held.empty() && bytes + entry->data.size() > max_bytes)) break;
    bytes += entry->data.size();
    held.push_back(*entry);
  }
  if (!held.empty() || last < first) {
    done(std::move(held));
    return;
  }
  store_->Read(group->id(), first, last, max_bytes,
               OnShard(Shared(group),
                       [done = std::move(done)](HostedGroup*, absl::StatusOr<std::vector<Entry>> entries) mutable {
                         done(std::move(entries));
                       }));
}

std::optional<int64_t> HostCore::WallOffsetMs(const std::vector<NodeId>& nodes) const {
  return clock_.OffsetMs(options_.node, shard_->WallMs(), shard_->Now(), nodes);
}

Host::Figures HostCore::figures() const {
  Host::Figures figures;
  figures.groups = groups_.size();
  figures.proposals = proposals_;
  figures.elections = elections_;
  figures.frames_in = frames_in_;
  figures.frames_out = frames_out_;
  figures.messages_dropped = dropped_;
  for (const auto& [id, group] : groups_) {
    figures.leading += group->leading() ? 1 : 0;
    figures.messages_dropped += group->replica.dropped();
  }
  return figures;
}

// ---- the class that the world sees

Host::Host(HostOptions options, Shard* shard, LogStore* store, Transport* transport)
    : impl_(new Impl{HostCore(options, shard, store, transport)}) {}
Host::~Host() = default;
absl::StatusOr<Group*> Host::Add(const GroupSpec& spec, std::unique_ptr<StateMachine> machine,
                                 std::optional<StoredGroup> stored) {
  return impl_->core.Add(spec, std::move(machine), std::move(stored));
}
void Host::Remove(GroupId group) {
  impl_->core.Remove(group);
}
Group* Host::Find(GroupId group) {
  return impl_->core.Find(group);
}
std::optional<int64_t> Host::WallOffsetMs(const std::vector<NodeId>& nodes) const {
  return impl_->core.WallOffsetMs(nodes);
}
Host::Figures Host::figures() const {
  return impl_->core.figures();
}

}  // namespace trireme::raft
