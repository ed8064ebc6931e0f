#include "raft/host/node_liveness.h"

#include <algorithm>

namespace trireme::raft {
namespace {

// A promise that ran out is given up after so many ticks, in which what was under way while this node was away arrives.
constexpr int kLateTicks = 2;
// Heartbeats beside those of ticks, per tick, while two nodes get to know each other.
constexpr int kPromptMax = 4;

}  // namespace

const char* NodeLiveness::Name(Event event) {
  switch (event) {
    case Event::kGives:
      return "has our support";
    case Event::kGivesLost:
      return "lost our support";
    case Event::kGets:
      return "supports us";
    case Event::kGetsLost:
      return "supports us no more";
    case Event::kRestarted:
      return "restarted";
    case Event::kForgot:
      return "forgot";
  }
  return "";
}

NodeLiveness::NodeLiveness(Options options) : options_(options), lasts_(options.tick * options.election_ticks) {}

void NodeLiveness::Set(NodeId node, bool& flag, bool value, Event gained, Event lost) {
  if (flag == value) return;
  flag = value;
  changes_.push_back({node, value ? gained : lost});
}

bool NodeLiveness::SentLately(const Peer& peer, uint64_t sequence, MonotonicTime now, MonotonicTime* at) const {
  if (sequence == 0 || sequence > peer.sent || sequence + kSentKept <= peer.sent) return false;
  *at = peer.sent_at[sequence % kSentKept];
  return now - *at < lasts_;
}

bool NodeLiveness::Heard(NodeId from, const Frame& frame, MonotonicTime now) {
  Peer& peer = peers_[from];
  if (frame.incarnation < peer.incarnation) return false;
  if (frame.incarnation > peer.incarnation) {
    const bool restarted = peer.incarnation != 0;
    peer.incarnation = frame.incarnation;
    peer.heard = 0;
    peer.gets_until = MonotonicTime();
    Set(from, peer.gives, false, Event::kGives, Event::kGivesLost);
    Set(from, peer.gets, false, Event::kGets, Event::kGetsLost);
    if (restarted) changes_.push_back({from, Event::kRestarted});
    // Safety rule 12: by what it had before it wrote anything new, and for good.
    const uint64_t had = peer.memory.incarnation == 0 ? frame.last_synced : frame.opened.value_or(frame.last_synced);
    peer.memory.forgot |= had < peer.memory.synced;
    if (peer.memory.forgot) changes_.push_back({from, Event::kForgot});
  }
  if (peer.memory.forgot) return false;
  peer.memory.synced = std::max(peer.memory.synced, frame.last_synced);
  peer.memory.incarnation = peer.incarnation;
  // Votes may have overtaken it, and frames each other.
  if (frame.heartbeat.has_value() && frame.heartbeat->sequence > peer.heard) Take(from, peer, *frame.heartbeat, now);
  return true;
}

void NodeLiveness::Take(NodeId from, Peer& peer, const NodeHeartbeat& heartbeat, MonotonicTime now) {
  peer.heard = heartbeat.sequence;
  const bool gave = peer.gives;
  if (heartbeat.peer_incarnation == options_.incarnation) {
    MonotonicTime at;
    // It hears us, so that what it does by our silence it does together with us.
    if (SentLately(peer, heartbeat.heard, now, &at) && !peer.closed) {
      peer.promised_on = heartbeat.sequence;
      peer.gives_until = now + lasts_;
      peer.ticks_since_promise = 0;
      Set(from, peer.gives, true, Event::kGives, Event::kGivesLost);
    }
    if (SentLately(peer, heartbeat.promised, now, &at)) {
      peer.gets_until = std::max(peer.gets_until, at + lasts_);
      peer.late_ticks = 0;
      Set(from, peer.gets, true, Event::kGets, Event::kGetsLost);
    } else if (heartbeat.promised == 0) {
      Set(from, peer.gets, false, Event::kGets, Event::kGetsLost);
    }
  }
  if ((!peer.gives || !peer.gets || !gave) && peer.prompt < kPromptMax) peer.owes = true;
}

NodeHeartbeat NodeLiveness::Next(NodeId to, MonotonicTime now) {
  Peer& peer = peers_[to];
  ++peer.sent;
  peer.sent_at[peer.sent % kSentKept] = now;
  peer.owes = false;
  ++peer.prompt;
  return {.sequence = peer.sent,
          .peer_incarnation = peer.incarnation,
          .heard = peer.heard,
          .promised = peer.gives ? peer.promised_on : 0,
          .peer_synced = peer.memory.synced,
          .peer_forgot = peer.memory.forgot};
}

bool NodeLiveness::Owes(NodeId node) const {
  auto found = peers_.find(node);
  return found != peers_.end() && found->second.owes;
}

void NodeLiveness::ConnectionClosed(NodeId node) {
  Peer& peer = peers_[node];
  peer.closed = true;
  Set(node, peer.gives, false, Event::kGives, Event::kGivesLost);
}

void NodeLiveness::ConnectionOpened(NodeId node) {
  peers_[node].closed = false;
}

void NodeLiveness::Tick(MonotonicTime now) {
  for (auto& [node, peer] : peers_) {
    peer.prompt = 0;
    // By the clock, as was promised; and by our own ticks, because the silence of a time in which this node did not
    // listen says nothing of the others.
    if (peer.gives && ++peer.ticks_since_promise > options_.election_ticks && now >= peer.gives_until) {
      Set(node, peer.gives, false, Event::kGives, Event::kGivesLost);
    }
    if (peer.gets && now >= peer.gets_until && ++peer.late_ticks > kLateTicks) {
      Set(node, peer.gets, false, Event::kGets, Event::kGetsLost);
    }
  }
}

bool NodeLiveness::Gives(NodeId node, uint64_t incarnation) const {
  auto found = peers_.find(node);
  return found != peers_.end() && found->second.gives && found->second.incarnation == incarnation;
}

bool NodeLiveness::Gets(NodeId node) const {
  auto found = peers_.find(node);
  return found != peers_.end() && found->second.gets;
}

MonotonicTime NodeLiveness::GetsUntil(NodeId node) const {
  auto found = peers_.find(node);
  return found == peers_.end() ? MonotonicTime() : found->second.gets_until;
}

uint64_t NodeLiveness::incarnation(NodeId node) const {
  auto found = peers_.find(node);
  return found == peers_.end() ? 0 : found->second.incarnation;
}

std::map<NodeId, NodeMemory> NodeLiveness::announced() const {
  std::map<NodeId, NodeMemory> all;
  for (const auto& [node, peer] : peers_) {
    if (peer.memory != NodeMemory()) all[node] = peer.memory;
  }
  return all;
}

void NodeLiveness::Remember(NodeId node, const NodeMemory& memory) {
  Peer& peer = peers_[node];
  peer.memory = memory;
  peer.incarnation = memory.incarnation;
}

}  // namespace trireme::raft
