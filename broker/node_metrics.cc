#include "broker/node_metrics.h"

namespace trireme::broker {
namespace {

prometheus::Family<prometheus::Gauge>& Gauges(prometheus::Registry* registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(*registry);
}
prometheus::Family<prometheus::Counter>& Counters(prometheus::Registry* registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(*registry);
}

}  // namespace

NodeMetrics::NodeMetrics(prometheus::Registry* registry)
    : member_(Gauges(registry, "trireme_member", "1 once this node is a member of its cluster.").Add({})),
      disk_free_(Gauges(registry, "trireme_disk_free_bytes", "Free space where the data lies.").Add({})),
      disk_low_(Gauges(registry, "trireme_disk_low", "1 while publishing is refused for lack of space.").Add({})),
      syncs_(Counters(registry, "trireme_log_syncs_total", "Syncs of the write-ahead log.").Add({})),
      bytes_appended_(Counters(registry, "trireme_log_appended_bytes_total", "Bytes of entries appended.").Add({})),
      bytes_written_(
          Counters(registry, "trireme_log_written_bytes_total", "Bytes written to the write-ahead log.").Add({})),
      bytes_moved_(
          Counters(registry, "trireme_log_moved_bytes_total", "Bytes of live entries moved to RocksDB.").Add({})),
      segments_(Gauges(registry, "trireme_log_segments", "Segments of the write-ahead log.").Add({})),
      segments_free_(Gauges(registry, "trireme_log_segments_free", "Segments that are ready for use.").Add({})),
      groups_(Gauges(registry, "trireme_groups", "Raft groups with a replica on this node.")),
      active_(Gauges(registry, "trireme_groups_active", "Raft groups that are ticked; the others are quiet.")),
      leading_(Gauges(registry, "trireme_groups_leading", "Raft groups led by this node.")),
      without_leader_(Gauges(registry, "trireme_groups_without_leader",
                             "Raft groups with a replica on this node that knows of no leader.")),
      halted_(Gauges(registry, "trireme_groups_halted",
                     "Raft groups whose replica on this node takes no part any more; the log says why.")),
      peers_(Gauges(registry, "trireme_peers", "Other nodes of the cluster.").Add({})),
      peers_connected_(
          Gauges(registry, "trireme_peers_connected", "Other nodes that this one is connected with.").Add({})),
      proposals_(Counters(registry, "trireme_proposals_total", "Commands proposed on this node.")),
      elections_(Counters(registry, "trireme_elections_total", "Elections started by replicas on this node.")),
      snapshots_installed_(Counters(registry, "trireme_snapshots_installed_total",
                                    "Replicas that got a snapshot because they were too far behind for the log.")),
      snapshot_bytes_(Counters(registry, "trireme_snapshot_sent_bytes_total",
                               "Bytes of snapshots sent to replicas on other nodes, those sent again included.")),
      states_differed_(Counters(registry, "trireme_states_differed_total",
                                "Comparisons of replicas, led here, that found different states. Never right.")),
      frames_(Counters(registry, "trireme_peer_frames_total", "Frames exchanged with other nodes.")),
      peer_bytes_(Counters(registry, "trireme_peer_sent_bytes_total", "Bytes sent to other nodes.")),
      dropped_(Counters(registry, "trireme_peer_dropped_total", "Frames and messages dropped.")) {}

void NodeMetrics::Bring(prometheus::Counter& counter, uint64_t total) {
  double more = static_cast<double>(total) - counter.Value();
  if (more > 0) counter.Increment(more);
}

void NodeMetrics::Take(const raft::LogStore::Figures& figures) {
  Bring(syncs_, figures.syncs);
  Bring(bytes_appended_, figures.bytes_appended);
  Bring(bytes_written_, figures.bytes_written);
  Bring(bytes_moved_, figures.bytes_moved);
  segments_.Set(static_cast<double>(figures.segments));
  segments_free_.Set(static_cast<double>(figures.segments_free));
}

void NodeMetrics::Take(const DiskMonitor& disk) {
  disk_free_.Set(static_cast<double>(disk.free_bytes()));
  disk_low_.Set(disk.low() ? 1 : 0);
}

void NodeMetrics::Peers(size_t known, size_t connected) {
  peers_.Set(static_cast<double>(known));
  peers_connected_.Set(static_cast<double>(connected));
}

void NodeMetrics::TakeRefusedStreams(uint64_t refused) {
  Bring(dropped_.Add({{"kind", "refused_stream"}}), refused);
}

void NodeMetrics::Take(raft::ShardId shard, const raft::Host::Figures& host,
                       const raft::GrpcTransport::Figures& transport) {
  std::map<std::string, std::string> label = {{"shard", std::to_string(shard)}};
  auto with = [&](const char* key, const char* value) {
    auto labels = label;
    labels[key] = value;
    return labels;
  };
  groups_.Add(label).Set(static_cast<double>(host.groups));
  active_.Add(label).Set(static_cast<double>(host.active));
  leading_.Add(label).Set(static_cast<double>(host.leading));
  without_leader_.Add(label).Set(static_cast<double>(host.without_leader));
  halted_.Add(label).Set(static_cast<double>(host.halted));
  Bring(proposals_.Add(label), host.proposals);
  Bring(elections_.Add(label), host.elections);
  Bring(snapshots_installed_.Add(label), host.snapshots_installed);
  Bring(snapshot_bytes_.Add(label), host.snapshot_bytes_sent);
  Bring(states_differed_.Add(label), host.digests_differed);
  Bring(frames_.Add(with("direction", "in")), host.frames_in);
  Bring(frames_.Add(with("direction", "out")), host.frames_out);
  Bring(peer_bytes_.Add(label), transport.bytes_sent);
  Bring(dropped_.Add(with("kind", "message")), host.messages_dropped);
  Bring(dropped_.Add(with("kind", "frame")), transport.frames_dropped);
  Bring(dropped_.Add(with("kind", "broken_frame")), transport.frames_refused);
}

}  // namespace trireme::broker
