// What must hold of a queue, whatever happens to its nodes and its clients. Each checker is a small file in checkers/;
// Suite tells all of them what happens.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <sstream>
#include <string>

#include "broker/queue/position.h"
#include "raft/core/bytes.h"
#include "raft/core/entry.h"
#include "raft/host/state_machine.h"

namespace trireme::queue_simulation {

using queue::Position;

struct Delivered {
  std::string session;
  std::string body;  // unique: producer ':' sequence
  Position position;
  uint64_t checkout_index = 0;
  uint32_t deliveries = 0;
};

// Of the message with this body, as clients give it: a few keys, each with messages of every producer.
inline std::string KeyOf(const std::string& body) {
  return body.empty() ? "k" : "k" + body.substr(body.size() - 1);
}

class Checker {
 public:
  virtual ~Checker() = default;
  virtual const char* name() const = 0;

  // ---- what clients see
  virtual void Confirming(const std::string& body, Position) { (void)body; }
  virtual void Delivering(const Delivered&) {}
  // The subscription keeps messages in order by their keys from now on. Before anything is published.
  virtual void Ordering() {}
  // A client sends what it has decided about it, whatever that is.
  virtual void Settling(Position) {}
  // A client sends it back: from now on it may be anyone's.
  virtual void Returning(Position) {}
  // Its client was silent for the session's timeout, or is gone: what it was sent of this session may be sent to
  // others, whether it saw it or not.
  virtual void Lapsing() {}
  // A client will never learn whether its acknowledgement was taken.
  virtual void LeftOpen(const std::string& body) { (void)body; }
  // A client learns that its acknowledgement is durable.
  virtual void Acknowledged(const std::string& body, Position) { (void)body; }
  // A client learns that what it did with this token is durable: the token is good for nothing any more.
  virtual void UsedUp(Position, uint64_t checkout_index) { (void)checkout_index; }
  // A client acknowledges with a token that was used up. `ask` numbers the question.
  virtual void AskingWithOldToken(uint64_t ask, Position, uint64_t checkout_index) { (void)ask, (void)checkout_index; }
  virtual void AnsweringOldToken(uint64_t ask, bool current) { (void)ask, (void)current; }
  // A client asks for the queue's figures, and gets them.
  virtual void AskingFigures(uint64_t ask) { (void)ask; }
  virtual void AnsweringFigures(uint64_t ask, uint64_t published, uint64_t acknowledged) {
    (void)ask, (void)published, (void)acknowledged;
  }
  // All has healed, and the clients have nothing left to do.
  virtual void Ending() {}

  // ---- what nodes do
  // `digest` of the state after the entry.
  virtual void Applying(uint64_t node, const raft::Entry&, uint32_t digest) { (void)node, (void)digest; }
  // It leads the queue's group.
  virtual void Leading(uint64_t node, raft::Term) { (void)node; }
  // What is stored of the replica there is about to go.
  virtual void Deleting(uint64_t node, raft::ReplicaId) { (void)node; }
  // Which entries a node that has applied up to `index` says are alive.
  virtual void Living(raft::Index, const raft::StateMachine::Liveness&) {}
  // A node's disk counts as having the log up to `last`, and holds `log` of it.
  virtual void Holding(uint64_t node, raft::Index last, const std::map<raft::Index, raft::Entry>& log) {
    (void)node, (void)last, (void)log;
  }
  // A node's state comes from a snapshot as of `index`.
  virtual void Restoring(uint64_t node, raft::Index, uint32_t digest) { (void)node, (void)digest; }

  // What was violated first.
  const std::optional<std::string>& failure() const { return failure_; }

 protected:
  template <typename... Parts>
  void Fail(const Parts&... parts) {
    if (failure_) return;
    std::ostringstream text;
    text << name() << ": ";
    (text << ... << parts);
    failure_ = text.str();
  }

 private:
  std::optional<std::string> failure_;
};

}  // namespace trireme::queue_simulation
