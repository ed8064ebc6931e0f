#include "tests/raft/scenario.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <optional>
#include <utility>

#include "raft/core/check.h"
#include "tests/simulation/describe.h"

namespace trireme::raft {
namespace {

using script::IsOption;
using script::Number;
using script::Option;
using simulation::Describe;
using simulation::Name;

// "5:2" is index 5 of term 2.
std::pair<Index, Term> Place(const std::string& word) {
  size_t colon = word.find(':');
  TRIREME_CHECK(colon != std::string::npos) << "not index:term: " << word;
  return {Index(Number(word.substr(0, colon))), Term(Number(word.substr(colon + 1)))};
}

Entry MadeUpEntry(Index index, Term term) {
  return {.term = term,
          .index = index,
          .data = Bytes::Take("e" + std::to_string(index.value()) + "." + std::to_string(term.value()))};
}

std::string Brackets(const std::vector<Entry>& entries) {
  std::string text;
  for (const Entry& entry : entries) text += " [" + Describe(entry) + "]";
  return text;
}

}  // namespace

std::string Scenario::Do(const std::string& command) {
  out_.str("");
  Words words = script::Split(command);
  if (words.empty()) return "";
  const bool quiet = words.front() == "quiet";
  if (quiet) words.erase(words.begin());
  Dispatch(words);
  CheckInvariants();
  if (quiet && !violated_) return "";
  return out_.str();
}

void Scenario::Dispatch(const Words& words) {
  const std::string& verb = words[0];
  auto id = [&](size_t i) { return IdOf(words.at(i)); };
  auto index = [&](size_t i) { return Index(Number(words.at(i))); };
  auto call = [&](auto input) {
    input(*PeerOf(id(1)).replica);
    Turn(id(1));
  };
  if (verb == "new") return New(words);
  if (verb == "log") return Log(words);
  if (verb == "tick") {
    for (uint64_t n = words.size() > 2 ? Number(words[2]) : 1; n > 0; --n) {
      for (auto& [peer_id, peer] : peers_) {
        if (!peer.replica || (words.at(1) != "all" && peer_id != id(1))) continue;
        if (peer.replica->quiet()) continue;
        peer.replica->Tick();
        Turn(peer_id);
      }
    }
    return;
  }
  if (verb == "campaign") return call([](Replica& r) { r.Campaign(); });
  if (verb == "stepdown") return call([](Replica& r) { r.StepDown(); });
  if (verb == "transfer") {
    std::optional<TransferError> error = PeerOf(id(1)).replica->TransferLeadership(id(2));
    static constexpr const char* kErrors[] = {"not leader", "no voter", "not caught up", "something is under way"};
    if (error) out_ << id(1) << " refuses: " << kErrors[static_cast<size_t>(*error)] << '\n';
    return Turn(id(1));
  }
  if (verb == "closed") return call([&](Replica& r) { r.PeerDown(id(2)); });
  if (verb == "opened") return call([&](Replica& r) { r.PeerUp(id(2)); });
  if (verb == "read") {
    suite_->ReadAsked(Number(words.at(2)));
    return call([&](Replica& r) { r.ReadIndex(Number(words.at(2))); });
  }
  if (verb == "clock") {
    for (auto& [peer_id, peer] : peers_) {
      if (words.at(1) != "all" && peer_id != id(1)) continue;
      peer.clock += std::chrono::milliseconds(Number(words.at(2)));
      if (!peer.replica) continue;
      peer.replica->SetClock(peer.clock);
      Turn(peer_id);
    }
    return;
  }
  if (verb == "leaseread") {
    // The clock is looked at when the read is served: `late` milliseconds after the turn's beginning.
    Peer& peer = PeerOf(id(1));
    const uint64_t context = Number(words.at(2));
    suite_->ReadAsked(context);
    auto safe_at = peer.replica->LeaseRead(peer.clock + std::chrono::milliseconds(Option(words, "late", 0)));
    out_ << id(1) << " read " << context;
    if (safe_at) {
      out_ << " is safe at " << *safe_at << " by the lease\n";
      suite_->ReadServed(context, *safe_at);
    } else {
      out_ << " has no lease\n";
    }
    return;
  }
  if (verb == "propose") return Propose(words);
  if (verb == "members") return Members(words);
  if (verb == "support") return Promise(words);
  if (verb == "join") return Join(id(1));
  if (verb == "inject") return Inject(words);
  if (verb == "disk") return Disk(words);
  if (verb == "reads") {
    PeerOf(id(1)).reads_held = words.at(2) == "hold";
    return;
  }
  if (verb == "applies") {
    PeerOf(id(1)).applies_held = words.at(2) == "hold";
    if (words[2] == "go") Apply(id(1), PeerOf(id(1)));
    return Turn(id(1));
  }
  if (verb == "answer") {
    AnswerRead(PeerOf(id(1)), words.size() > 2 && words[2] == "nothing");
    return Turn(id(1));
  }
  if (verb == "turns") {
    PeerOf(id(1)).turns_held = words.at(2) == "hold";
    return Turn(id(1));
  }
  if (verb == "trim") {
    Index held = PeerOf(id(1)).replica->TrimTail(index(2));
    out_ << id(1) << " holds from " << held << " on\n";
    return;
  }
  if (verb == "snapshot") return Snapshot(PeerOf(id(1)), index(2));
  if (verb == "compact") {
    PeerOf(id(1)).disk.Compact(index(2), {});
    return call([&](Replica& r) { r.Compacted(index(2)); });
  }
  if (verb == "send") {
    Peer& peer = PeerOf(id(1));
    const simulation::StoredSnapshot& last = peer.disk.snapshot();
    Message header = peer.replica->SnapshotMessage(id(2), {last.index, last.term, last.membership});
    out_ << "  " << Describe(header) << '\n';
    network_.push_back(std::move(header));
    return;
  }
  if (verb == "sent") {
    return call([&](Replica& r) { r.SnapshotSent(id(2), index(3), words.size() < 5); });
  }
  if (verb == "installs") {
    PeerOf(id(1)).installs_held = words.at(2) == "hold";
    return;
  }
  if (verb == "install") {
    Install(id(1), PeerOf(id(1)), words.size() > 2);
    return Turn(id(1));
  }
  if (verb == "store") {
    PeerOf(id(1)).disk.Apply(
        {.hard_state = HardState{Term(Option(words, "term", 0)), ReplicaId(Option(words, "vote", 0)),
                                 Index(Option(words, "commit", 0))}});
    return;
  }
  if (verb == "delete") {
    PeerOf(id(1)).disk.Compact(index(2), {});
    return;
  }
  if (verb == "deliver") return Deliver(words);
  if (verb == "drop") return Drop(words);
  if (verb == "settle") return Settle();
  if (verb == "cut") {
    for (auto& [other, peer] : peers_) {
      bool chosen = words.size() == 2 ||
                    std::any_of(words.begin() + 2, words.end(), [&, o = other](const auto& w) { return IdOf(w) == o; });
      if (!chosen || other == id(1)) continue;
      cuts_.push_back({id(1), other});
      cuts_.push_back({other, id(1)});
    }
    return;
  }
  if (verb == "heal") return cuts_.clear();
  if (verb == "crash") return Crash(id(1));
  if (verb == "start") {
    Start(id(1));
    return Turn(id(1));
  }
  if (verb == "status") return Status();
  TRIREME_CHECK(false) << "no such command: " << verb;
}

void Scenario::New(const Words& words) {
  Config config{.election_ticks = static_cast<int>(Option(words, "election", 10)),
                .heartbeat_ticks = static_cast<int>(Option(words, "heartbeat", 1)),
                .lease = std::chrono::milliseconds(Option(words, "lease", 0)),
                .lease_drift_percent = 10,
                .max_inflight_appends = static_cast<int>(Option(words, "inflight", 128)),
                .max_inflight_bytes = Option(words, "inflight-bytes", 1 << 24),
                .max_append_bytes = Option(words, "append-bytes", 1 << 20),
                .max_uncommitted_bytes = Option(words, "uncommitted", 1 << 24)};
  peers_.clear();
  snapshots_.clear();
  network_.clear();
  cuts_.clear();
  const uint64_t quiet_ticks = Option(words, "quiet", 0);
  if (quiet_ticks > 0) config.quiet_ticks = static_cast<int>(quiet_ticks);
  std::vector<ReplicaId> voters;
  for (uint64_t i = 1; i <= Number(words.at(1)); ++i) voters.push_back(ReplicaId(i));
  config.birth = VotersOnly(voters);
  suite_ = std::make_unique<simulation::Suite>(config.birth);
  for (ReplicaId id : voters) {
    config.id = id;
    Peer& peer = peers_[id];
    if (quiet_ticks > 0) {
      config.support = &peer.promises;
      peer.promises.given = peer.promises.got = {voters.begin(), voters.end()};
    }
    peer.config = config;
    Start(id);
  }
}

// An empty replica, which knows of no members.
void Scenario::Join(ReplicaId id) {
  TRIREME_CHECK(!peers_.empty() && peers_.count(id) == 0) << "replica " << id << " is there";
  Config config = peers_.begin()->second.config;
  config.id = id;
  config.birth = {};
  peers_[id].config = config;
  Start(id);
}

// log ID TERM... [term=T] [vote=V] [commit=C]: starts over with this on the disk.
void Scenario::Log(const Words& words) {
  const ReplicaId id = IdOf(words.at(1));
  Peer& peer = PeerOf(id);
  simulation::StoredRecord record;
  simulation::LogView view;
  for (size_t i = 2; i < words.size(); ++i) {
    if (IsOption(words[i])) continue;
    record.entries.push_back(MadeUpEntry(Index(view.size() + 1), Term(Number(words[i]))));
    view.push_back(simulation::Identify(record.entries.back()));
  }
  Term last = record.entries.empty() ? Term() : record.entries.back().term;
  record.hard_state = HardState{Term(Option(words, "term", last.value())), ReplicaId(Option(words, "vote", 0)),
                                Index(Option(words, "commit", 0))};
  peer.disk = {};
  peer.disk.Apply(record);
  suite_->Preloaded(id, view);
  Start(id);
}

void Scenario::Propose(const Words& words) {
  const ReplicaId id = IdOf(words.at(1));
  std::vector<Bytes> commands;
  bool urgent = false;
  for (size_t i = 2; i < words.size(); ++i) {
    if (words[i] == "urgent") {
      urgent = true;
    } else if (!IsOption(words[i])) {
      commands.push_back(Bytes::Copy(words[i]));
    }
  }
  if (uint64_t bytes = Option(words, "bytes", 0)) commands.push_back(Bytes::Take(std::string(bytes, 'x')));
  Replica& replica = *PeerOf(id).replica;
  Proposed proposed = replica.Propose(std::move(commands), urgent);
  if (proposed.error) {
    static constexpr const char* kErrors[] = {"not leader", "too much is uncommitted", "leadership is on its way"};
    out_ << id << " refuses: " << kErrors[static_cast<size_t>(*proposed.error)] << '\n';
  } else {
    out_ << id << " appends from " << proposed.first << " in term " << proposed.term;
    if (Option(words, "bytes")) out_ << ", " << replica.uncommitted_bytes() << " bytes uncommitted";
    out_ << '\n';
  }
  Turn(id);
}

// support GIVER LEADER [withdrawn|lapsed]: the promise is in force, as both nodes know; its giver has ended it; who
// relied on it does so no more.
void Scenario::Promise(const Words& words) {
  const ReplicaId giver = IdOf(words.at(1)), leader = IdOf(words.at(2));
  const std::string what = words.size() > 3 ? words[3] : "";
  if (what != "lapsed") {
    Peer& gives = PeerOf(giver);
    what.empty() ? void(gives.promises.given.insert(leader)) : void(gives.promises.given.erase(leader));
    what.empty() ? gives.replica->PeerFound(leader) : gives.replica->PeerLost(leader);
    Turn(giver);
  }
  if (what != "withdrawn") {
    Peer& gets = PeerOf(leader);
    what.empty() ? void(gets.promises.got.insert(giver)) : void(gets.promises.got.erase(giver));
    what.empty() ? gets.replica->PeerFound(giver) : gets.replica->PeerLost(giver);
    Turn(leader);
  }
}

// members ID 1 2 3=learner: a change to these.
void Scenario::Members(const Words& words) {
  const ReplicaId id = IdOf(words.at(1));
  std::vector<Member> target;
  for (size_t i = 2; i < words.size(); ++i) {
    const size_t equals = words[i].find('=');
    target.push_back({.replica = IdOf(words[i].substr(0, equals)),
                      .standing = equals == std::string::npos ? Standing::kVoter : Standing::kLearner});
  }
  MembershipProposed proposed = PeerOf(id).replica->ProposeMembership(std::move(target));
  if (proposed.error) {
    static constexpr const char* kErrors[] = {"not leader",
                                              "nothing of its term is committed",
                                              "the last change is under way",
                                              "no group can live with it",
                                              "a new voter is not caught up",
                                              "most of the new voters are not heard from"};
    out_ << id << " refuses: " << kErrors[static_cast<size_t>(*proposed.error)] << '\n';
  } else {
    out_ << id << " begins at " << proposed.index << '\n';
  }
  Turn(id);
}

// inject TYPE from=1 to=2 term=3 [after=5:2] [last=5:2] [commit=1] [refused=5] [hint=4:2] [match=3] [all-match=1]
//   [read=1] [lease=MS sent=MS] [entries=6:3,7:3] [members=1,2] [granted] [leader-lost] [leader-asked]: a message that
//   nobody sent.
void Scenario::Inject(const Words& words) {
  Message m;
  for (int type = 1; type <= 10; ++type) {
    if (words.at(1) == Name(static_cast<MessageType>(type))) m.type = static_cast<MessageType>(type);
  }
  if (words[1] == "Unknown") m.type = static_cast<MessageType>(77);
  m.from = ReplicaId(Option(words, "from", 0));
  m.to = ReplicaId(Option(words, "to", 0));
  m.term = Term(Option(words, "term", 0));
  for (const char* key : {"after", "last"}) {
    if (auto place = Option(words, key)) std::tie(m.log_index, m.log_term) = Place(*place);
  }
  if (auto hint = Option(words, "hint")) std::tie(m.hint_index, m.hint_term) = Place(*hint);
  for (const char* key : {"refused", "match"}) m.log_index = Index(Option(words, key, m.log_index.value()));
  m.commit = Index(Option(words, "commit", 0));
  m.all_match = Index(Option(words, "all-match", 0));
  m.read_context = Option(words, "read", 0);
  m.lease_ms = static_cast<uint32_t>(Option(words, "lease", 0));
  m.lease_sent = std::chrono::milliseconds(Option(words, "sent", 0));
  m.reject = Option(words, "refused").has_value() || std::find(words.begin(), words.end(), "refused") != words.end();
  m.leader_asked = std::find(words.begin(), words.end(), "leader-asked") != words.end();
  m.leader_lost = std::find(words.begin(), words.end(), "leader-lost") != words.end();
  if (auto members = Option(words, "members")) {
    Membership membership;
    for (const std::string& member : script::Split(*members, ','))
      membership.members.push_back({.replica = IdOf(member)});
    m.membership = std::make_shared<const Membership>(std::move(membership));
  }
  std::istringstream entries(Option(words, "entries").value_or(""));
  for (std::string place; std::getline(entries, place, ',');) {
    auto [index, term] = Place(place);
    m.entries.push_back(MadeUpEntry(index, term));
  }
  // `via` delivers to another than the addressee.
  ReplicaId via(Option(words, "via", m.to.value()));
  Replica& replica = *PeerOf(via).replica;
  uint64_t dropped = replica.dropped();
  replica.Step(m);
  if (replica.dropped() > dropped) out_ << via << " drops it\n";
  Turn(via);
}

// disk ID hold | sync [N] | go
void Scenario::Disk(const Words& words) {
  const ReplicaId id = IdOf(words.at(1));
  Peer& peer = PeerOf(id);
  if (words.at(2) == "hold") {
    peer.disk_held = true;
    return;
  }
  if (words[2] == "go") peer.disk_held = false;
  size_t count = words.size() > 3 ? Number(words[3]) : peer.writes.size();
  for (; count > 0 && !peer.writes.empty(); --count) SyncOne(id, peer);
  Turn(id);
}

// Which messages a `deliver` or `drop` means: [from=1] [to=2] [type=Append] [count=1]
std::function<bool(const Message&)> Matcher(const std::vector<std::string>& words) {
  return [from = Option(words, "from", 0), to = Option(words, "to", 0), type = Option(words, "type"),
          left = Option(words, "count", 1'000'000)](const Message& m) mutable {
    if (from != 0 && m.from.value() != from) return false;
    if (to != 0 && m.to.value() != to) return false;
    if (type && *type != Name(m.type)) return false;
    if (left == 0) return false;
    --left;
    return true;
  };
}

// As `drop`, but the messages arrive. `keep`: and stay on their way, to arrive again.
void Scenario::Deliver(const Words& words) {
  auto chosen = Matcher(words);
  const bool keep = std::find(words.begin(), words.end(), "keep") != words.end();
  std::vector<Message> arriving, staying;
  for (Message& m : network_) {
    bool now = chosen(m);
    if (now && keep) staying.push_back(m);
    (now ? arriving : staying).push_back(std::move(m));
  }
  if (std::find(words.begin(), words.end(), "reversed") != words.end()) std::reverse(arriving.begin(), arriving.end());
  network_ = std::move(staying);
  for (Message& m : arriving) {
    Peer& peer = PeerOf(m.to);
    if (!peer.replica) continue;
    out_ << "> " << m.from << "->" << m.to << ' ' << Name(m.type) << '\n';
    const ReplicaId to = m.to;
    peer.replica->Step(std::move(m));
    Turn(to);
  }
}

void Scenario::Drop(const Words& words) {
  auto chosen = Matcher(words);
  std::erase_if(network_, [&](const Message& m) {
    if (!chosen(m)) return false;
    out_ << "lost: " << Describe(m) << '\n';
    return true;
  });
}

void Scenario::Settle() {
  for (int round = 0; !network_.empty(); ++round) {
    TRIREME_CHECK(round < 1000) << "the cluster does not settle";
    Deliver({});
  }
}

void Scenario::Snapshot(Peer& peer, Index index) {
  TRIREME_CHECK(index == peer.replica->applied_index()) << "a snapshot is of the state as it is";
  peer.disk.Apply({.snapshot = simulation::StoredSnapshot{index, peer.replica->TermAt(index), peer.machine->Snapshot(),
                                                          peer.replica->MembershipAsOf(index)}});
  snapshots_[index] = peer.machine->Snapshot();
  peer.replica->SnapshotSaved(index);
}

void Scenario::Install(ReplicaId id, Peer& peer, bool refuse) {
  if (!peer.install) {
    out_ << "no install is under way\n";
    return;
  }
  const SnapshotMeta snapshot = *std::exchange(peer.install, std::nullopt);
  if (refuse) return peer.replica->SnapshotRefused(snapshot.index);
  const Bytes& bytes = snapshots_.at(snapshot.index);
  peer.disk.Apply({.hard_state = peer.install_hard_state,
                   .snapshot = simulation::StoredSnapshot{snapshot.index, snapshot.term, bytes, snapshot.membership},
                   .installs = true});
  peer.to_apply.clear();
  TRIREME_CHECK(peer.machine->Restore(bytes, snapshot.index).ok());
  suite_->Installed(id, snapshot, peer.machine->digest());
  peer.replica->SnapshotInstalled(snapshot.index);
}

void Scenario::Status() {
  for (auto& [id, peer] : peers_) {
    out_ << id << ": ";
    if (!peer.replica) {
      out_ << "down\n";
      continue;
    }
    const Replica& r = *peer.replica;
    out_ << Name(r.role()) << " term=" << r.term() << " leader=" << r.leader() << " last=" << r.last_index()
         << " durable=" << r.persisted_index() << " commit=" << r.commit_index() << " applied=" << r.applied_index()
         << " terms=";
    for (Index i(1); i <= r.last_index(); ++i) {
      if (r.TermAt(i) == Term()) {
        out_ << "?";
      } else {
        out_ << (i == Index(1) ? "" : ",") << r.TermAt(i);
      }
    }
    if (r.all_match() != Index()) out_ << " all-match=" << r.all_match();
    if (r.leading()) out_ << " leading";
    if (r.quiet()) out_ << " quiet";
    if (r.disk_stalled()) out_ << " stalled";
    if (r.transferring()) out_ << " transferring";
    // When they are not simply all that there are.
    const std::vector<Member>& members = r.membership().members;
    const bool all_vote =
        members.size() == peers_.size() &&
        std::all_of(members.begin(), members.end(), [](const Member& m) { return m.standing == Standing::kVoter; });
    if (!all_vote) out_ << " members: " << (members.empty() ? "none" : Describe(r.membership()));
    out_ << '\n';
  }
}

void Scenario::Start(ReplicaId id) {
  Peer& peer = PeerOf(id);
  Restored restored = peer.disk.Restore();
  peer.machine = std::make_unique<simulation::Ledger>();
  TRIREME_CHECK(peer.machine->Restore(peer.disk.snapshot().state, restored.snapshot_index).ok());
  peer.replica = std::make_unique<Replica>(peer.config, restored);
  peer.replica->SetClock(peer.clock);
  peer.term = restored.hard_state.term;
  peer.commit = Index();
  peer.all_match = Index();
  suite_->Started(*peer.replica, restored.last_index, restored.snapshot_index);
}

void Scenario::Crash(ReplicaId id) {
  Peer& peer = PeerOf(id);
  peer.replica.reset();
  peer.writes.clear();
  peer.reads.clear();
  peer.install.reset();
  peer.to_apply.clear();
  suite_->Stopped(id);
}

void Scenario::Turn(ReplicaId id) {
  Peer& peer = PeerOf(id);
  for (int i = 0; peer.replica && !peer.turns_held && peer.replica->HasOutput(); ++i) {
    if (i >= 1000) return Violated("output never ends");
    TakeOne(id, peer);
  }
}

void Scenario::TakeOne(ReplicaId id, Peer& peer) {
  Output output = peer.replica->TakeOutput();
  if (output.empty()) return Violated("an output was promised and is empty");
  suite_->Took(*peer.replica, output);
  if (output.role) {
    out_ << id << " is " << Name(output.role->role) << " in term " << output.role->term;
    if (output.role->leader != ReplicaId() && output.role->leader != id) out_ << " of " << output.role->leader;
    out_ << '\n';
  }
  if (output.membership) {
    out_ << id << " knows members " << Describe(output.membership->membership) << " since " << output.membership->index
         << '\n';
  }
  for (const SnapshotNeeded& needed : output.snapshots) {
    out_ << id << " needs snapshot for " << needed.follower << " at " << Describe(needed.snapshot) << '\n';
  }
  if (output.install) out_ << id << " installs " << Describe(*output.install) << '\n';
  const bool is_write = !output.install && (output.hard_state || !output.entries.empty());
  if (is_write) {
    out_ << id << " writes";
    if (output.hard_state) {
      out_ << " term=" << output.hard_state->term << " vote=" << output.hard_state->voted_for
           << " commit=" << output.hard_state->commit;
    }
    out_ << Brackets(output.entries) << '\n';
  }
  Post(output.send_now, "");
  Post(output.send_after_persist, " (once durable)");
  if (!output.committed.empty()) out_ << id << " commits" << Brackets(output.committed) << '\n';
  for (const EntryRead& read : output.reads) out_ << id << " needs to " << Describe(read) << '\n';
  for (const ReadReady& ready : output.read_ready) {
    out_ << id << " read " << ready.context;
    if (ready.index) {
      out_ << " is safe at " << *ready.index << '\n';
      suite_->ReadServed(ready.context, *ready.index);
    } else {
      out_ << " is dropped\n";
    }
  }
  for (Entry& entry : output.committed) peer.to_apply.push_back(std::move(entry));
  if (!peer.applies_held) Apply(id, peer);
  std::erase_if(output.send_now, [this](const Message& m) {
    return std::find(cuts_.begin(), cuts_.end(), std::pair(m.from, m.to)) != cuts_.end();
  });
  for (Message& m : output.send_now) network_.push_back(std::move(m));
  if (is_write || !output.send_after_persist.empty()) {
    peer.writes.push_back({.record = {.hard_state = output.hard_state, .entries = std::move(output.entries)},
                           .is_write = is_write,
                           .then_send = std::move(output.send_after_persist)});
    while (!peer.disk_held && !peer.writes.empty()) SyncOne(id, peer);
  }
  if (output.install) {
    peer.install = output.install;
    peer.install_hard_state = *output.hard_state;
    if (!peer.installs_held) Install(id, peer, false);
  }
  for (EntryRead& read : output.reads) peer.reads.push_back(read);
  while (!peer.reads_held && !peer.reads.empty()) AnswerRead(peer, false);
}

void Scenario::SyncOne(ReplicaId id, Peer& peer) {
  PendingWrite write = std::move(peer.writes.front());
  peer.writes.pop_front();
  peer.disk.Apply(write.record);
  suite_->Synced(id, write.record.entries);
  for (Message& m : write.then_send) {
    if (std::find(cuts_.begin(), cuts_.end(), std::pair(m.from, m.to)) == cuts_.end()) {
      network_.push_back(std::move(m));
    }
  }
  if (!write.is_write) return;
  const auto& entries = write.record.entries;
  peer.replica->Persisted(entries.empty() ? Index() : entries.back().index,
                          entries.empty() ? Term() : entries.back().term);
}

void Scenario::Apply(ReplicaId id, Peer& peer) {
  for (; !peer.to_apply.empty(); peer.to_apply.pop_front()) {
    const Entry& entry = peer.to_apply.front();
    TRIREME_CHECK(peer.machine->Apply(entry).ok());
    suite_->Applied(id, entry.index, peer.machine->digest());
    peer.replica->Applied(entry.index);
  }
}

void Scenario::AnswerRead(Peer& peer, bool fail) {
  if (peer.reads.empty()) {
    out_ << "no read is under way\n";
    return;
  }
  EntryRead read = peer.reads.front();
  peer.reads.pop_front();
  peer.replica->EntriesRead(read, fail ? std::vector<Entry>() : peer.disk.Read(read.first, read.last, read.max_bytes));
}

void Scenario::Post(const std::vector<Message>& messages, const char* when) {
  for (const Message& m : messages) {
    bool cut = std::find(cuts_.begin(), cuts_.end(), std::pair(m.from, m.to)) != cuts_.end();
    out_ << "  " << Describe(m) << when << (cut ? " (lost)" : "") << '\n';
  }
}

void Scenario::CheckInvariants() {
  if (!suite_) return;
  if (suite_->failure()) Violated(*suite_->failure());
  for (auto& [id, peer] : peers_) {
    if (!peer.replica) continue;
    const Replica& r = *peer.replica;
    if (r.persisted_index() > r.last_index() || r.commit_index() > r.last_index()) Violated("beyond the last index");
    if (r.applied_index() > r.commit_index()) Violated("applied what is not committed");
    if (r.term() < peer.term || r.commit_index() < peer.commit || r.all_match() < peer.all_match) {
      Violated("a term, a commit index or all_match went back");
    }
    if (r.leading() && r.role() != Role::kLeader) Violated("leads without being leader");
    peer.term = r.term();
    peer.commit = r.commit_index();
    peer.all_match = r.all_match();
  }
}

Scenario::Peer& Scenario::PeerOf(ReplicaId id) {
  auto it = peers_.find(id);
  TRIREME_CHECK(it != peers_.end()) << "no replica " << id;
  return it->second;
}

ReplicaId Scenario::IdOf(const std::string& word) const {
  return ReplicaId(Number(word));
}

void Scenario::Violated(const std::string& what) {
  if (!violated_) out_ << "VIOLATED " << what << '\n';
  violated_ = true;
}

}  // namespace trireme::raft
