#include "broker/cluster/announced.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/cluster/durable_file.h"
#include "broker/cluster/metadata_codec.h"
#include "broker/ops/log.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;

constexpr char kFile[] = "announced";

}  // namespace

AnnouncedFile::AnnouncedFile(std::string directory) : directory_(std::move(directory)) {
  absl::StatusOr<std::optional<std::string>> file = ReadSmallFile(absl::StrCat(directory_, "/", kFile));
  meta::Announced announced;
  absl::Status status = file.status();
  if (status.ok() && file->has_value()) status = DecodeFramed(**file, "file of what nodes announced", &announced);
  if (!status.ok())
    Log(LogLevel::kWarn, "not known what other nodes had synced", "directory", directory_, "why", status);
  for (const meta::Announced::Node& node : announced.nodes()) {
    entries_[raft::NodeId(node.id())] = {node.directory_id(), node.last_synced()};
  }
}

std::map<raft::NodeId, uint64_t> AnnouncedFile::Of(const std::vector<NodeRecord>& nodes) const {
  std::map<raft::NodeId, uint64_t> announced;
  for (const NodeRecord& node : nodes) {
    auto found = entries_.find(node.id);
    if (found != entries_.end() && found->second.directory_id == node.directory_id) {
      announced[node.id] = found->second.synced;
    }
  }
  return announced;
}

absl::Status AnnouncedFile::Save(const std::vector<NodeRecord>& nodes,
                                 const std::map<raft::NodeId, uint64_t>& announced) {
  bool grown = false;
  for (const NodeRecord& node : nodes) {
    auto found = announced.find(node.id);
    if (found == announced.end()) continue;
    Entry& entry = entries_[node.id];
    if (entry.directory_id == node.directory_id && entry.synced >= found->second) continue;
    entry = {node.directory_id, found->second};
    grown = true;
  }
  if (!grown) return absl::OkStatus();
  meta::Announced file;
  for (const auto& [id, entry] : entries_) {
    meta::Announced::Node* node = file.add_nodes();
    node->set_id(id.value());
    node->set_directory_id(entry.directory_id);
    node->set_last_synced(entry.synced);
  }
  return WriteDurably(directory_, kFile, EncodeFramed(file, 1));
}

}  // namespace trireme::broker
