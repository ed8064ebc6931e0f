#include "broker/cluster/announced.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/cluster/durable_file.h"
#include "broker/cluster/metadata_codec.h"
#include "broker/ops/log.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;

// By the parity of meta::Announced::written.
constexpr const char* kFiles[] = {"announced", "announced.2"};

DirectoryHistory FromProto(const meta::Announced::Node& node) {
  DirectoryHistory history;
  history.memory = {node.last_synced(), node.incarnation(), node.forgot()};
  if (node.starts().empty()) return history;
  history.starts.directory_id = node.directory_id();
  history.starts.twice = node.twice();
  for (const meta::Announced::Start& start : node.starts()) {
    history.starts.starts.push_back({start.incarnation(), start.nonce()});
  }
  return history;
}

meta::Announced::Node ToProto(raft::NodeId id, const std::string& directory_id, const DirectoryHistory& history) {
  meta::Announced::Node node;
  node.set_id(id.value());
  node.set_directory_id(directory_id);
  node.set_last_synced(history.memory.synced);
  node.set_incarnation(history.memory.incarnation);
  node.set_forgot(history.memory.forgot);
  node.set_twice(history.starts.twice);
  for (const raft::NodeStart& start : history.starts.starts) {
    meta::Announced::Start* out = node.add_starts();
    out->set_incarnation(start.incarnation);
    out->set_nonce(start.nonce);
  }
  return node;
}

}  // namespace

AnnouncedFile::AnnouncedFile(std::string directory) : directory_(std::move(directory)) {
  for (const char* name : kFiles) {
    absl::StatusOr<std::optional<std::string>> file = ReadSmallFile(absl::StrCat(directory_, "/", name));
    meta::Announced announced;
    absl::Status status = file.status();
    if (status.ok() && !file->has_value()) continue;
    if (status.ok()) status = DecodeFramed(**file, "file of what nodes announced", &announced);
    if (!status.ok()) {
      Log(LogLevel::kError, "a file of what other nodes had synced is lost", "directory", directory_, "file", name,
          "why", status);
      continue;
    }
    if (announced.written() < written_) continue;
    written_ = announced.written();
    entries_.clear();
    for (const meta::Announced::Node& node : announced.nodes()) {
      entries_[raft::NodeId(node.id())] = {node.directory_id(), FromProto(node)};
    }
  }
}

DirectoryHistories AnnouncedFile::Of(const std::vector<NodeRecord>& nodes) const {
  DirectoryHistories histories;
  for (const NodeRecord& node : nodes) {
    auto found = entries_.find(node.id);
    if (found != entries_.end() && found->second.directory_id == node.directory_id) {
      histories[node.id] = found->second.history;
    }
  }
  return histories;
}

uint64_t AnnouncedFile::SyncedOf(const std::string& directory_id) const {
  uint64_t synced = 0;
  for (const auto& [id, entry] : entries_) {
    if (entry.directory_id == directory_id) synced = std::max(synced, entry.history.memory.synced);
  }
  return synced;
}

absl::Status AnnouncedFile::Save(const std::vector<NodeRecord>& nodes, const DirectoryHistories& heard) {
  bool news = false;
  for (const NodeRecord& node : nodes) {
    auto found = heard.find(node.id);
    if (found == heard.end()) continue;
    Entry& entry = entries_[node.id];
    if (entry.directory_id != node.directory_id) entry = {node.directory_id, {}};
    DirectoryHistory now = entry.history;
    // What was heard is this process's, and begins with what was remembered; but may be from before the last change.
    now.memory.synced = std::max(now.memory.synced, found->second.memory.synced);
    now.memory.incarnation = std::max(now.memory.incarnation, found->second.memory.incarnation);
    now.memory.forgot |= found->second.memory.forgot;
    if (found->second.starts.directory_id == node.directory_id) now.starts = found->second.starts;
    if (now == entry.history) continue;
    entry.history = std::move(now);
    news = true;
  }
  if (!news) return absl::OkStatus();
  meta::Announced file;
  for (const auto& [id, entry] : entries_) *file.add_nodes() = ToProto(id, entry.directory_id, entry.history);
  file.set_written(++written_);
  return WriteDurably(directory_, kFiles[written_ % 2], EncodeFramed(file, 1));
}

}  // namespace trireme::broker
