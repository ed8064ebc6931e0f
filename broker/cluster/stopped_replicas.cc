#include "broker/cluster/stopped_replicas.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/cluster/durable_file.h"
#include "broker/cluster/metadata_codec.h"
#include "trireme/meta/v1/meta.pb.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;

constexpr char kFile[] = "stopped";

}  // namespace

absl::StatusOr<std::unique_ptr<StoppedReplicas>> StoppedReplicas::Open(std::string directory) {
  std::unique_ptr<StoppedReplicas> stopped(new StoppedReplicas(std::move(directory)));
  const std::string path = absl::StrCat(stopped->directory_, "/", kFile);
  absl::StatusOr<std::optional<std::string>> file = ReadSmallFile(path);
  if (!file.ok()) return file.status();
  if (!file->has_value()) return stopped;
  meta::StoppedReplicas content;
  absl::Status status = DecodeFramed(**file, "file of stopped replicas", &content);
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat(path, ": ", status.message(),
                                                    ". It is not known which replicas here are not to be trusted: "
                                                    "replace this node, or delete the file to trust them all"));
  }
  absl::MutexLock lock(&stopped->mutex_);
  for (const meta::StoppedReplicas::Stop& stop : content.stops()) {
    stopped->stops_[raft::GroupId(stop.group_id())] = {raft::ReplicaId(stop.replica_id()), stop.why()};
  }
  return stopped;
}

absl::Status StoppedReplicas::Add(raft::GroupId group, raft::ReplicaId replica, const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  stops_[group] = {replica, std::string(why.message())};
  return Save();
}

absl::Status StoppedReplicas::Find(raft::GroupId group, raft::ReplicaId replica) const {
  absl::MutexLock lock(&mutex_);
  auto found = stops_.find(group);
  if (found == stops_.end() || found->second.replica != replica) return absl::OkStatus();
  return absl::DataLossError(found->second.why);
}

absl::Status StoppedReplicas::Forget(raft::GroupId group) {
  absl::MutexLock lock(&mutex_);
  return stops_.erase(group) == 0 ? absl::OkStatus() : Save();
}

absl::Status StoppedReplicas::Save() const {
  meta::StoppedReplicas content;
  for (const auto& [group, stop] : stops_) {
    meta::StoppedReplicas::Stop* out = content.add_stops();
    out->set_group_id(group.value());
    out->set_replica_id(stop.replica.value());
    out->set_why(stop.why);
  }
  return WriteDurably(directory_, kFile, EncodeFramed(content, 1));
}

}  // namespace trireme::broker
