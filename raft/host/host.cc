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
// What is restored waits so many election timeouts for a leader to be heard of, before it elects one; what is born here
// and is not to lead, for the one that is.
// (One of whose members' nodes is heard of again goes sooner: NodeChanged brings the queue forward.)
constexpr int kRestoredPatience = 3;
constexpr int kBornPatience = 6;

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15 + (a << 6) + (a >> 2))) * 0xbf58476d1ce4e5b9;
  return x ^ (x >> 31);
}

SnapshotSends::Options SendOptions(const HostOptions& options) {
  SnapshotSends::Options sends;
  const auto ticks_per_second = static_cast<size_t>(std::max<int64_t>(1, std::chrono::seconds(1) / options.tick));
  sends.bytes_per_tick = std::max<size_t>(1, options.snapshot_bytes_per_second / ticks_per_second);
  sends.chunk_bytes = std::min(sends.chunk_bytes, sends.bytes_per_tick);
  return sends;
}

absl::Status CheckSpec(const GroupSpec& spec, NodeId node, bool birth) {
  auto name = absl::StrCat("group ", spec.group.value());
  int selves = 0;
  for (size_t i = 0; i < spec.members.size(); ++i) {
    const Member& member = spec.members[i];
    if (member.replica == ReplicaId() || member.node == NodeId()) {
      return absl::InvalidArgumentError(absl::StrCat(name, " has a member without an id"));
    }
    for (size_t j = 0; j < i; ++j) {
      // Where a replica is replaced, its node has two for a while.
      if (spec.members[j].replica == member.replica || (birth && spec.members[j].node == member.node)) {
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

// What a group is stored with: the members that it was born with, or that it came to others who had been born.
constexpr std::string_view kJoined = "joined";

Membership BirthOf(const GroupSpec& spec, const std::optional<StoredGroup>& stored) {
  if (!stored.has_value()) return spec.joins ? Membership() : Membership{spec.members};
  if (stored->descriptor.view() == kJoined) return {};
  return DecodeMembership(stored->descriptor.view()).value_or(Membership{spec.members});
}

}  // namespace

bool LastMemberFirst(GroupId group) {
  return Mix(group.value(), 1) % 2 == 1;
}

// ---- groups come and go

HostCore::HostCore(HostOptions options, Shard* shard, LogStore* store, SnapshotStaging* staging, IndexRows* rows,
                   Transport* transport)
    : options_(std::move(options)),
      shard_(shard),
      store_(store),
      staging_(staging),
      rows_(rows),
      transport_(transport),
      liveness_({options_.incarnation, options_.tick, options_.election_ticks}),
      opened_(options_.opened.value_or(store->last_synced())),
      last_synced_(store->last_synced()),
      trim_above_(options_.tail_budget_bytes),
      sends_(
          SendOptions(options_), [this](NodeId to, SnapshotChunk chunk) { Queue(to, std::move(chunk)); },
          [this](HostedGroup* group) {
            Wake(group);  // what was kept for it may go
            MarkDirty(group);
          },
          [this](NodeId node) { return Alive(node); }, [this](HostedGroup* group) { LeaveToUndamaged(group); }),
      receipts_(
          {}, shard, staging, [this](NodeId to, SnapshotAnswer answer) { Queue(to, answer); },
          [this](HostedGroup* group) { Stirred(group); }) {
  for (const auto& [node, memory] : options_.announced) liveness_.Remember(node, memory);
  transport_->SetReceiver({[this](NodeId from, Frame frame) { Receive(from, std::move(frame)); },
                           [this](NodeId node) { PeerChanged(node, true); },
                           [this](NodeId node) { PeerChanged(node, false); }});
  TickAfter(1);
}

HostCore::~HostCore() {
  transport_->SetReceiver({});
}

absl::StatusOr<Group*> HostCore::Add(const GroupSpec& spec, std::unique_ptr<StateMachine> machine,
                                     std::optional<StoredGroup> stored) {
  absl::Status valid = CheckSpec(spec, options_.node, !stored.has_value() && !spec.joins);
  if (!valid.ok()) return valid;
  if (groups_.contains(spec.group)) {
    return absl::AlreadyExistsError(absl::StrCat("group ", spec.group.value(), " is hosted already"));
  }
  Config config;
  config.id = spec.self;
  config.birth = BirthOf(spec, stored);
  config.last_member_first = LastMemberFirst(spec.group);
  config.seed = Mix(Mix(options_.seed, spec.group.value()), spec.self.value());
  config.election_ticks = options_.election_ticks;
  config.lease = options_.read_lease;
  config.max_uncommitted_bytes = options_.max_uncommitted_bytes;
  config.quiet_ticks = options_.quiet_ticks;
  config.tell_commit_at_once = spec.prompt;

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
  group->informed = stored.has_value();
  group->snapshot_index = group->last_snapshot_index = group->lag_base = restored.snapshot_index;
  groups_[spec.group] = group;
  TrackNeighbours(group.get());
  // Safety rule 25.
  if (!spec.stopped.ok()) {
    group->Halt(spec.stopped);
    ++halted_;
  }
  if (stored.has_value()) {
    group->born = true;
    if (!group->live()) return group.get();
    if (group->alone()) group->replica.Campaign();
    if (group->alone() || spec.prompt) {
      Wake(group.get());
    } else {
      election_queue_.Put(spec.group, shard_->Now() + options_.tick * options_.election_ticks * kRestoredPatience);
    }
    MarkDirty(group.get());
  } else {
    Create(group);
  }
  return group.get();
}

void HostCore::Create(const GroupPtr& group) {
  if (deleting_.contains(group->id())) return;
  const GroupSpec& spec = group->spec();
  store_->CreateGroup(spec.group, spec.self, spec.joins ? Bytes::Copy(kJoined) : EncodeMembership({spec.members}),
                      OnShard(group, [this](HostedGroup* g) { Born(g); }));
}

void HostCore::DeleteStored(GroupId id) {
  deleting_.insert(id);
  store_->DeleteGroup(id, [this, shard = shard_, alive = std::weak_ptr<bool>(alive_), id]() mutable {
    shard->Post([this, alive = std::move(alive), id] {
      if (alive.expired()) return;
      deleting_.erase(id);
      // Another replica may have come in the place of the deleted one.
      if (HostedGroup* next = Find(id); next != nullptr && !next->born) Create(Shared(next));
    });
  });
}

void HostCore::Born(HostedGroup* group) {
  group->born = true;
  const std::vector<Member>& members = group->membership().members;
  if (!members.empty() && members.front().replica == group->replica.id()) {
    group->campaigns_left = kBirthCampaigns;
    group->ticks_to_campaign = kTicksBetweenCampaigns;
    group->replica.Campaign();
    Wake(group);
  } else if (group->spec().prompt) {
    Wake(group);
  } else {
    election_queue_.Put(group->id(), shard_->Now() + options_.tick * options_.election_ticks * kBornPatience);
  }
  MarkDirty(group);
}

void HostCore::Remove(GroupId id) {
  auto found = groups_.find(id);
  if (found == groups_.end()) return DeleteStored(id);
  GroupPtr group = std::move(found->second);
  if (group->live()) LastWords(group.get());
  if (!group->halted().ok()) --halted_;
  sends_.Drop(id);
  receipts_.Forget(id);
  SayLeading(group.get(), false);
  EndElection(group.get());
  Deactivate(group.get());
  election_queue_.Remove(id);
  for (NodeId node : group->neighbours) {
    auto neighbour = neighbours_.find(node);
    if (neighbour != neighbours_.end() && --neighbour->second == 0) neighbours_.erase(neighbour);
  }
  groups_.erase(found);
  group->gone = true;
  if (gathering_.has_value() && group->last_batch == gathering_->number) {
    gathering_->writes[group->slot_in_batch].group = GroupId();
    gathering_->some_gone = true;
  }
  tail_bytes_ -= std::exchange(group->tail_bytes, 0);
  FailBarriers(group.get(), absl::UnavailableError("the group was removed from this node"));
  if (group->born || !deleting_.contains(id)) DeleteStored(id);
  // Perhaps this is called from within its machine.
  graveyard_.push_back(std::move(group));
  WantTurn();
}

void HostCore::TrackNeighbours(HostedGroup* group) {
  // Whoever is told of no members yet hears of them from one of these.
  std::vector<Member> known = group->membership().members;
  if (known.empty() || group->informed) {
    known.insert(known.end(), group->spec().members.begin(), group->spec().members.end());
  }
  const std::vector<NodeId> before = std::exchange(group->neighbours, {});
  for (const Member& member : known) {
    const bool counted =
        std::find(group->neighbours.begin(), group->neighbours.end(), member.node) != group->neighbours.end();
    if (member.node == options_.node || counted) continue;
    group->neighbours.push_back(member.node);
    if (++neighbours_[member.node] > 1) continue;
    // Nothing was exchanged with it on this shard before: its silence begins now.
    alive_at_[member.node] = ticks_;
    heartbeats_due_.insert(member.node);
    WantTurn();
  }
  for (NodeId node : before) {
    if (--neighbours_.at(node) == 0) neighbours_.erase(node);
  }
}

void HostCore::Inform(GroupId id, std::vector<Member> members) {
  HostedGroup* group = Find(id);
  if (group == nullptr) return;
  group->Inform(std::move(members));
  TrackNeighbours(group);
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
  // Safety rule 12: until the process ends, which it is about to.
  if (told_forgot_) return;
  if (frame.heartbeat.has_value()) CheckForgot(from, *frame.heartbeat);
  if (told_forgot_) return;
  const bool heard = liveness_.Heard(from, frame, shard_->Now());
  TakeNodeChanges();
  if (!heard) {
    dropped_ += frame.messages.size() + frame.chunks.size() + frame.answers.size() + frame.digests.size();
    if (stranger_log_.Allow(shard_->Now())) {
      spdlog::warn("shard {}: dropped a frame of incarnation {} of node {}, which is {} by now, or forgot ({} before)",
                   shard_->id(), frame.incarnation, from.value(), liveness_.incarnation(from),
                   stranger_log_.TakeKeptBack());
    }
    return;
  }
  if (liveness_.Owes(from)) {
    heartbeats_due_.insert(from);
    WantTurn();
  }
  clock_.Heard(from, frame.wall_ms, shard_->Now());
  if (frame.disk_low) {
    low_nodes_.insert(from);
  } else {
    low_nodes_.erase(from);
  }
  // First: a leader that resigns because of what it found out says both.
  ReceiveOthers(from, frame);
  for (GroupMessage& incoming : frame.messages) {
    Message& message = incoming.message;
    HostedGroup* group = Find(incoming.group);
    // Not here yet, or not any more; its sender will try again.
    if (group == nullptr || !group->live()) {
      ++dropped_;
      continue;
    }
    if (!SpeaksTo(*group, from, message.from, message.to)) {
      ++dropped_;
      continue;
    }
    if (!message.entries.empty() && Congested()) {
      ++dropped_;
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
    const ReplicaId sender = message.from;
    const bool leads = SaidByLeader(message.type);
    const bool slept = group->active == HostedGroup::kInactive && !election_queue_.Contains(incoming.group);
    const uint64_t dropped = group->replica.dropped();
    const auto type = static_cast<int>(message.type);
    const Term term = message.term;
    TellClock(group);
    group->replica.Step(std::move(message));
    if (group->replica.dropped() != dropped) {
      dropped_ += group->replica.dropped() - dropped;
      if (stranger_log_.Allow(shard_->Now())) {
        spdlog::warn("group {}: dropped an impossible message of type {} and term {} from node {} ({} before)",
                     incoming.group.value(), type, term.value(), from.value(), stranger_log_.TakeKeptBack());
      }
    }
    if (leads && group->replica.leader() == sender) group->leader_incarnation = frame.incarnation;
    if (slept && group->replica.role() == Role::kFollower && group->replica.leader() == ReplicaId() &&
        type == static_cast<int>(MessageType::kResign)) {
      // One node may resign from thousands at once.
      group->elections_lost = 0;
      group->resigned = sender;
      Orphan(group, shard_->Now() + options_.tick);
      MarkDirty(group);
    } else {
      Stirred(group);
    }
  }
}

void HostCore::Stirred(HostedGroup* group) {
  if (!group->replica.quiet()) Wake(group);
  MarkDirty(group);
}

void HostCore::ReceiveOthers(NodeId from, Frame& frame) {
  for (SnapshotChunk& chunk : frame.chunks) {
    HostedGroup* group = staging_ == nullptr ? nullptr : Find(chunk.group);
    if (group == nullptr || !group->live() || !SpeaksTo(*group, from, chunk.header.from, chunk.header.to)) {
      ++dropped_;
      continue;
    }
    receipts_.Arrived(Shared(group), from, std::move(chunk));
  }
  for (const SnapshotAnswer& answer : frame.answers) {
    HostedGroup* group = Find(answer.group);
    if (group == nullptr || !group->live() || !SpeaksTo(*group, from, answer.from, answer.to)) {
      ++dropped_;
      continue;
    }
    sends_.Answered(answer);
  }
  for (const StateDigest& digest : frame.digests) {
    HostedGroup* group = Find(digest.group);
    if (group == nullptr || !group->live() || !SpeaksTo(*group, from, digest.from, digest.to)) {
      ++dropped_;
      continue;
    }
    ReceiveDigest(digest);
  }
}

// Safety rule 11: a message is for this very replica, and from one that its node may speak for.
bool HostCore::SpeaksTo(const HostedGroup& group, NodeId from, ReplicaId sender, ReplicaId to) {
  if (to == group.replica.id() && from != NodeId() && group.NodeOf(sender) == from) return true;
  if (stranger_log_.Allow(shard_->Now())) {
    spdlog::warn("group {}: dropped a message from replica {} on node {} to replica {}; this is replica {} ({} before)",
                 group.id().value(), sender.value(), from.value(), to.value(), group.replica.id().value(),
                 stranger_log_.TakeKeptBack());
  }
  return false;
}

// Safety rule 12: what others remember of this node is compared with what it has.
void HostCore::CheckForgot(NodeId from, const NodeHeartbeat& heartbeat) {
  // What is remembered of its former lives was there when this one began.
  const bool of_this_life = heartbeat.peer_incarnation == options_.incarnation || heartbeat.peer_incarnation == 0;
  if (of_this_life && heartbeat.peer_synced > last_synced_) last_synced_ = store_->last_synced();
  const bool lacks = heartbeat.peer_synced > (of_this_life ? last_synced_ : opened_);
  const bool started_elsewhere = heartbeat.peer_incarnation > options_.incarnation;
  if (!lacks && !started_elsewhere && !heartbeat.peer_forgot) return;
  if (std::exchange(told_forgot_, true)) return;
  absl::Status status = absl::DataLossError(absl::StrCat(
      "node ", from.value(), " remembers this node to have had ", heartbeat.peer_synced,
      " writes on its disk in start ", heartbeat.peer_incarnation, "; start ", options_.incarnation, " began with ",
      opened_,
      ". The data directory was restored from an older copy, or its disk lost writes, so this node may have forgotten "
      "votes and messages. Take it out of the cluster, and let it join with an empty data directory"));
  spdlog::error("shard {}: {}", shard_->id(), std::string(status.message()));
  if (options_.forgot) options_.forgot(std::move(status));
}

void HostCore::PeerChanged(NodeId node, bool up) {
  for (auto& [id, group] : groups_) {
    const ReplicaId member = group->ReplicaOn(node);
    if (member == ReplicaId() || !group->live()) continue;
    // Whom a follower supports is the promise's to say.
    if (group->replica.role() == Role::kLeader) {
      if (up) {
        group->replica.PeerUp(member);
      } else {
        group->replica.PeerDown(member);
      }
    } else if (!up && group->active != HostedGroup::kInactive) {
      group->replica.PeerDown(member);
    }
    if (group->replica.HasOutput()) MarkDirty(group.get());
  }
  if (up) {
    liveness_.ConnectionOpened(node);
    heartbeats_due_.insert(node);
    WantTurn();
  } else {
    liveness_.ConnectionClosed(node);
  }
  TakeNodeChanges();
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

void HostCore::ScanRows(HostedGroup* group, std::string from, std::string to, size_t max_bytes,
                        IndexRows::ScanDone done) {
  if (group->gone) return done(absl::NotFoundError("the group was removed from this node"));
  if (rows_ == nullptr) return done(RowPage());
  rows_->ScanRows(group->id(), std::move(from), std::move(to), max_bytes,
                  OnShard(Shared(group), [done = std::move(done)](HostedGroup*, absl::StatusOr<RowPage> page) mutable {
                    done(std::move(page));
                  }));
}

std::optional<int64_t> HostCore::WallOffsetMs(const std::vector<NodeId>& nodes) const {
  return clock_.OffsetMs(options_.node, shard_->WallMs(), shard_->Now(), nodes);
}

Host::Figures HostCore::figures() const {
  Host::Figures figures;
  figures.groups = groups_.size();
  figures.active = active_.size();
  figures.leading = leading_;
  // A quiet one has a leader.
  figures.without_leader = election_queue_.size();
  for (const HostedGroup* group : active_) figures.without_leader += group->leader_node() == NodeId() ? 1 : 0;
  figures.halted = halted_;
  figures.proposals = proposals_;
  figures.elections = elections_;
  figures.frames_in = frames_in_;
  figures.frames_out = frames_out_;
  figures.messages_dropped = dropped_;
  figures.snapshots_sending = sends_.under_way();
  figures.snapshots_receiving = receipts_.under_way();
  figures.snapshots_installed = snapshots_installed_;
  figures.snapshot_bytes_sent = sends_.bytes_sent();
  figures.held_bytes = held_bytes_;
  figures.digests_compared = digests_compared_;
  figures.digests_differed = digests_differed_;
  return figures;
}

// ---- the class that the world sees

Host::Host(HostOptions options, Shard* shard, LogStore* store, SnapshotStaging* staging, IndexRows* rows,
           Transport* transport)
    : impl_(new Impl{HostCore(std::move(options), shard, store, staging, rows, transport)}) {}
Host::~Host() = default;
absl::StatusOr<Group*> Host::Add(const GroupSpec& spec, std::unique_ptr<StateMachine> machine,
                                 std::optional<StoredGroup> stored) {
  return impl_->core.Add(spec, std::move(machine), std::move(stored));
}
void Host::Remove(GroupId group) {
  impl_->core.Remove(group);
}
void Host::Inform(GroupId group, std::vector<Member> members) {
  impl_->core.Inform(group, std::move(members));
}
void Host::HandOver(std::chrono::milliseconds patience, absl::AnyInvocable<void(size_t)> done) {
  impl_->core.HandOverAll(patience, std::move(done));
}
Group* Host::Find(GroupId group) {
  return impl_->core.Find(group);
}
std::optional<int64_t> Host::WallOffsetMs(const std::vector<NodeId>& nodes) const {
  return impl_->core.WallOffsetMs(nodes);
}
std::map<NodeId, NodeMemory> Host::announced() const {
  return impl_->core.announced();
}
Host::Figures Host::figures() const {
  return impl_->core.figures();
}

}  // namespace trireme::raft
