// Which nodes live, as a shard of this one knows it: promises between incarnations, made by heartbeats (Safety rules 9
// and 12). docs/decisions/0005-quiet-groups.md has the argument.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "raft/core/types.h"
#include "raft/host/shard.h"
#include "raft/host/transport.h"

namespace trireme::raft {

// What is remembered of another node's data directory over one's own restarts (Safety rule 12).
struct NodeMemory {
  uint64_t synced = 0;       // the highest sequence that it announced to be synced
  uint64_t incarnation = 0;  // the last in which it did; 0 = not known
  // It came back with less once. What it wrote since would carry it past that mark, so this is for good.
  bool forgot = false;

  friend bool operator==(const NodeMemory&, const NodeMemory&) = default;
};

// Two nodes' shards tell each other, a few times within the time of a promise, what they last heard of one another. Who
// hears that it was heard lately promises its support for a time that begins at the hearing; who reads the promise
// counts that time from when it had sent what was heard. So the one who relies on a promise stops before the one who
// gave it is free.
//
// Not a lease to read under: a promise is withdrawn early when the connection closes, before the other can know.
//
// Pure: all time is handed in. Not thread-safe; a shard owns it.
class NodeLiveness {
 public:
  struct Options {
    uint64_t incarnation = 1;  // of this process; grows with every start on its data directory
    std::chrono::milliseconds tick{50};
    int election_ticks = 10;  // a promise lasts for so many ticks
  };
  explicit NodeLiveness(Options options);

  enum class Event : uint8_t {
    kGives,      // we promised to support it
    kGivesLost,  // that ended
    kGets,       // it promised to support us
    kGetsLost,   // that ended
    kRestarted,  // it has a later incarnation than before; promises of and to the earlier one have ended
    kForgot,     // it came back with less than it had announced to be synced (Safety rule 12); it is not listened to,
                 // in no later incarnation either
  };
  static const char* Name(Event event);
  struct Change {
    NodeId node;
    Event event;
  };

  // A frame came. False: not to be listened to, because it is of an earlier incarnation or of a node that forgot.
  bool Heard(NodeId from, const Frame& frame, MonotonicTime now);
  // The next heartbeat for the node.
  NodeHeartbeat Next(NodeId to, MonotonicTime now);
  // Whether the node should have one now rather than at the next tick: it is waiting to hear that it was heard.
  bool Owes(NodeId node) const;
  // To the node, from here.
  void ConnectionClosed(NodeId node);
  void ConnectionOpened(NodeId node);
  // Once per tick of the shard, which also tells how long this node itself was away: others are not judged by silence
  // that nobody listened to.
  void Tick(MonotonicTime now);
  // What came of the calls since the last time.
  std::vector<Change> TakeChanges() { return std::exchange(changes_, {}); }

  // Our promise to that incarnation of the node is in force.
  bool Gives(NodeId node, uint64_t incarnation) const;
  // Its promise to us is in force.
  bool Gets(NodeId node) const;
  // Both are.
  bool Alive(NodeId node) const { return Gets(node) && Gives(node, incarnation(node)); }
  // Its promise lasts until then at least, by this node's clock; if the promise was withdrawn, it lasted no longer.
  MonotonicTime GetsUntil(NodeId node) const;
  // As last heard of; 0 = never.
  uint64_t incarnation(NodeId node) const;

  // What is to be remembered over our own restarts, and is put in again before anything is heard.
  std::map<NodeId, NodeMemory> announced() const;
  void Remember(NodeId node, const NodeMemory& memory);

 private:
  static constexpr size_t kSentKept = 64;

  struct Peer {
    uint64_t incarnation = 0;
    NodeMemory memory;
    bool closed = false;

    uint64_t sent = 0;  // our last sequence, and when the last ones left
    std::array<MonotonicTime, kSentKept> sent_at{};
    uint64_t heard = 0;  // its last sequence in this incarnation

    bool gives = false;
    uint64_t promised_on = 0;  // the sequence of its heartbeat
    MonotonicTime gives_until;
    int ticks_since_promise = 0;

    bool gets = false;
    MonotonicTime gets_until;
    int late_ticks = 0;

    bool owes = false;
    int prompt = 0;  // heartbeats since the last tick
  };

  // Our heartbeat of that number left within the time of a promise; and when.
  bool SentLately(const Peer& peer, uint64_t sequence, MonotonicTime now, MonotonicTime* at) const;
  void Take(NodeId from, Peer& peer, const NodeHeartbeat& heartbeat, MonotonicTime now);
  void Set(NodeId node, bool& flag, bool value, Event gained, Event lost);

  const Options options_;
  const std::chrono::milliseconds lasts_;
  // Ordered, so that a simulated run is the same each time.
  std::map<NodeId, Peer> peers_;
  std::vector<Change> changes_;
};

}  // namespace trireme::raft
