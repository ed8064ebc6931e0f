// A node's own figures, for Prometheus.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <map>
#include <string>

#include "broker/ops/disk_monitor.h"
#include "raft/grpc/transport.h"
#include "raft/host/host.h"
#include "raft/host/log_store.h"

namespace trireme::broker {

// Thread-safe: each Take is for one source, and is called by one thread at a time per source.
class NodeMetrics {
 public:
  explicit NodeMetrics(prometheus::Registry* registry);

  void Take(const raft::LogStore::Figures& figures);
  void Take(const DiskMonitor& disk);
  void TakeRefusedStreams(uint64_t refused);
  void Take(raft::ShardId shard, const raft::Host::Figures& host, const raft::GrpcTransport::Figures& transport);
  // Other members of the cluster, and those of them that this node is connected with.
  void Peers(size_t known, size_t connected);
  void Member(bool member) { member_.Set(member ? 1 : 0); }

 private:
  // Brings a counter to a total that only grows.
  static void Bring(prometheus::Counter& counter, uint64_t total);

  prometheus::Gauge& member_;
  prometheus::Gauge& disk_free_;
  prometheus::Gauge& disk_low_;
  prometheus::Counter& syncs_;
  prometheus::Counter& bytes_appended_;
  prometheus::Counter& bytes_written_;
  prometheus::Counter& bytes_moved_;
  prometheus::Gauge& segments_;
  prometheus::Gauge& segments_free_;
  prometheus::Family<prometheus::Gauge>& groups_;
  prometheus::Family<prometheus::Gauge>& active_;
  prometheus::Family<prometheus::Gauge>& leading_;
  prometheus::Family<prometheus::Gauge>& without_leader_;
  prometheus::Family<prometheus::Gauge>& halted_;
  prometheus::Gauge& peers_;
  prometheus::Gauge& peers_connected_;
  prometheus::Family<prometheus::Counter>& proposals_;
  prometheus::Family<prometheus::Counter>& elections_;
  prometheus::Family<prometheus::Counter>& snapshots_installed_;
  prometheus::Family<prometheus::Counter>& snapshot_bytes_;
  prometheus::Family<prometheus::Counter>& states_differed_;
  prometheus::Family<prometheus::Counter>& frames_;
  prometheus::Family<prometheus::Counter>& peer_bytes_;
  prometheus::Family<prometheus::Counter>& dropped_;
};

}  // namespace trireme::broker
