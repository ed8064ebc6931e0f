// The smallest state machine that notices everything: a digest over all that it was given, in order.
#pragma once

#include <cstdint>
#include <vector>

#include "raft/core/checksum.h"
#include "raft/core/coding.h"
#include "raft/host/state_machine.h"

namespace trireme::simulation {

class Ledger : public raft::StateMachine {
 public:
  absl::Status Check(const raft::Entry&) const override { return absl::OkStatus(); }

  absl::Status Apply(const raft::Entry& entry) override {
    raft::Writer w;
    w.Fixed64(digest_);
    w.Fixed64(entry.index.value());
    w.Fixed64(entry.term.value());
    w.Raw(entry.data.view());
    digest_ = (digest_ << 32) | raft::Crc32c(w.bytes());
    applied_ = entry.index;
    return absl::OkStatus();
  }

  void RoleChanged(const raft::RoleChange&, bool) override {}

  raft::Bytes Snapshot() const override {
    raft::Writer w;
    w.Fixed64(digest_);
    return raft::Bytes::Take(w.Take());
  }
  absl::Status CheckSnapshot(const raft::Bytes&, raft::Index) const override { return absl::OkStatus(); }
  absl::Status Restore(const raft::Bytes& snapshot, raft::Index index) override {
    raft::Reader r(snapshot.view());
    digest_ = snapshot.empty() ? 0 : r.Fixed64();
    applied_ = index;
    return r.ok() ? absl::OkStatus() : absl::DataLossError("snapshot");
  }

  uint64_t Digest() const override { return raft::Crc32c(Snapshot().view()); }

  // As if every ninth entry held a message that waits for long, and the rest were settled at once.
  Liveness Live() const override {
    Liveness live{.floor = applied_, .live = {}};
    uint64_t begin = applied_.value() > 90 ? applied_.value() - 90 : 0;
    for (uint64_t i = begin / 9 * 9 + 9; i <= applied_.value(); i += 9)
      live.live.push_back({raft::Index(i), raft::Index(i)});
    return live;
  }

  uint64_t digest() const { return digest_; }

 private:
  uint64_t digest_ = 0;
  raft::Index applied_;
};

}  // namespace trireme::simulation
