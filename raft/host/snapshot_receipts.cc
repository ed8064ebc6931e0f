#include "raft/host/snapshot_receipts.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "raft/core/checksum.h"

namespace trireme::raft {
namespace {

bool SameSnapshot(const Message& a, const Message& b) {
  return a.log_index == b.log_index && a.log_term == b.log_term;
}

}  // namespace

absl::Status SnapshotReceipts::Check(const HostedGroup& group, const SnapshotChunk& chunk) const {
  const Message& header = chunk.header;
  if (header.type != MessageType::kSnapshot || header.log_index == Index() || header.log_index > kIndexMax ||
      header.log_term == Term() || header.log_term > header.term || header.term > kTermMax ||
      header.membership == nullptr || !header.membership->Sound()) {
    return absl::InvalidArgumentError("an impossible header");
  }
  Index index = chunk.at.entry;
  for (const Entry& entry : chunk.entries) {
    if (entry.index <= index || entry.index > header.log_index || entry.term == Term() ||
        entry.term > header.log_term) {
      return absl::InvalidArgumentError(absl::StrCat("entry ", entry.index.value(), " behind ", index.value()));
    }
    index = entry.index;
    if (entry.type != EntryType::kCommand) continue;
    absl::Status whole = group.machine->Check(entry);
    if (!whole.ok()) return whole;
  }
  if (!chunk.rows.empty() && Crc32c(chunk.rows.view()) != chunk.rows_checksum) {
    return absl::DataLossError("the checksum of its rows is wrong");
  }
  return absl::OkStatus();
}

void SnapshotReceipts::Arrived(const std::shared_ptr<HostedGroup>& group, NodeId from, SnapshotChunk chunk) {
  absl::Status valid = Check(*group, chunk);
  std::optional<std::vector<IndexRow>> rows = DecodeRows(chunk.rows.view(), chunk.at.row);
  if (valid.ok() && (!rows.has_value() || (!rows->empty() && !chunk.entries.empty()))) {
    valid = absl::InvalidArgumentError("impossible rows");
  }
  if (!valid.ok()) {
    if (log_.Allow(shard_->Now())) {
      spdlog::error("group {}: dropped a part of a snapshot from node {}: {} ({} before)", chunk.group.value(),
                    from.value(), valid.ToString(), log_.TakeKeptBack());
    }
    return;
  }
  Replica& replica = group->replica;
  if (chunk.header.term < replica.term()) return;  // of a leader that is none any more
  if (chunk.header.log_index <= replica.commit_index()) {
    // The log has come by itself, or the snapshot is installed and the answer was lost.
    auto receipt = receipts_.find(chunk.group);
    if (receipt != receipts_.end() && !receipt->second.installing) {
      staging_->Drop(chunk.group);
      receipts_.erase(receipt);
    }
    Receipt had;
    had.header = std::move(chunk.header);
    had.from = from;
    had.number = chunk.number;
    Answer(chunk.group, had, SnapshotAnswer::Result::kArrived);
    return;
  }
  Receipt* receipt = ReceiptOf(chunk);
  if (receipt == nullptr) return;
  receipt->idle_ticks = 0;
  receipt->number = chunk.number;
  receipt->from = from;
  receipt->header = std::move(chunk.header);
  if (receipt->whole) {
    Answer(chunk.group, *receipt, SnapshotAnswer::Result::kArrived);
    return Tell(group.get(), *receipt);
  }
  if (receipt->staging) return;  // its answer is about to be given
  if (chunk.at != receipt->at) return Answer(chunk.group, *receipt, SnapshotAnswer::Result::kMore);
  if (!chunk.entries.empty() || !rows->empty()) return Stage(chunk, *std::move(rows), *receipt);
  TakeState(group.get(), *receipt, chunk);
}

SnapshotReceipts::Receipt* SnapshotReceipts::ReceiptOf(const SnapshotChunk& chunk) {
  auto found = receipts_.find(chunk.group);
  if (found != receipts_.end()) {
    Receipt& receipt = found->second;
    if (SameSnapshot(receipt.header, chunk.header)) return &receipt;
    if (receipt.installing || receipt.staging || chunk.header.term < receipt.header.term) return nullptr;
    receipts_.erase(found);
  }
  if (receipts_.size() >= options_.at_once) return nullptr;  // it comes again
  Receipt& receipt = receipts_[chunk.group];
  receipt.serial = ++serial_;
  // What was staged without us is not known entry by entry, so the whole comes again.
  staging_->Drop(chunk.group);
  const Index staged = staging_->Begin(chunk.group, chunk.header.log_index, chunk.header.log_term);
  TRIREME_CHECK(staged == Index()) << "group " << chunk.group << " has " << staged << " staged after a drop";
  return &receipt;
}

void SnapshotReceipts::Stage(SnapshotChunk& chunk, std::vector<IndexRow> rows, Receipt& receipt) {
  SnapshotPosition then = receipt.at;
  if (rows.empty()) {
    then.entry = chunk.entries.back().index;
    then.entries += chunk.entries.size();
    staging_->Stage(chunk.group, std::move(chunk.entries), Staged(chunk.group, receipt, std::move(then)));
  } else {
    then.row = rows.back().key;
    then.rows += rows.size();
    staging_->StageRows(chunk.group, std::move(rows), Staged(chunk.group, receipt, std::move(then)));
  }
}

SnapshotStaging::Done SnapshotReceipts::Staged(GroupId group, Receipt& receipt, SnapshotPosition then) {
  receipt.staging = true;
  return [this, shard = shard_, alive = std::weak_ptr<bool>(alive_), group, serial = receipt.serial,
          then = std::move(then)]() mutable {
    shard->Post([this, alive = std::move(alive), group, serial, then = std::move(then)]() mutable {
      if (alive.expired()) return;
      auto found = receipts_.find(group);
      if (found == receipts_.end() || found->second.serial != serial) return;
      found->second.staging = false;
      found->second.at = std::move(then);
      Answer(group, found->second, SnapshotAnswer::Result::kMore);
    });
  };
}

void SnapshotReceipts::TakeState(HostedGroup* group, Receipt& receipt, const SnapshotChunk& chunk) {
  const bool fits = receipt.gathered.size() + chunk.state.size() <= options_.state_bytes_max;
  if (fits) receipt.gathered.append(chunk.state.view());
  receipt.at.state_bytes = receipt.gathered.size();
  if (fits && !chunk.last) return Answer(chunk.group, receipt, SnapshotAnswer::Result::kMore);
  absl::Status whole;
  if (!fits) {
    whole = absl::ResourceExhaustedError(absl::StrCat("its state has more than ", options_.state_bytes_max, " bytes"));
  } else if (Crc32c(receipt.gathered) != chunk.state_checksum) {
    whole = absl::DataLossError("the checksum of its state is wrong");
  } else {
    receipt.state = Bytes::Take(std::exchange(receipt.gathered, {}));
    // While there still is the old one to go on with.
    whole = group->machine->CheckSnapshot(receipt.state, receipt.header.log_index);
  }
  if (!whole.ok()) {
    spdlog::error("group {}: refused a snapshot as of {}: {}", chunk.group.value(), receipt.header.log_index.value(),
                  whole.ToString());
    Answer(chunk.group, receipt, SnapshotAnswer::Result::kRefused);
    staging_->Drop(chunk.group);
    receipts_.erase(chunk.group);
    return;
  }
  receipt.whole = true;
  Answer(chunk.group, receipt, SnapshotAnswer::Result::kArrived);
  Tell(group, receipt);
}

void SnapshotReceipts::Tell(HostedGroup* group, const Receipt& receipt) {
  if (receipt.installing) return;
  group->replica.Step(receipt.header);
  changed_(group);
}

void SnapshotReceipts::Answer(GroupId group, const Receipt& receipt, SnapshotAnswer::Result result) {
  send_(receipt.from, {.group = group,
                       .from = receipt.header.to,
                       .to = receipt.header.from,
                       .index = receipt.header.log_index,
                       .number = receipt.number,
                       .at = receipt.at,
                       .result = result});
}

const Bytes* SnapshotReceipts::BeginInstall(GroupId group, const SnapshotMeta& snapshot) {
  auto found = receipts_.find(group);
  if (found == receipts_.end()) return nullptr;
  Receipt& receipt = found->second;
  if (!receipt.whole || receipt.header.log_index != snapshot.index || receipt.header.log_term != snapshot.term) {
    return nullptr;
  }
  receipt.installing = true;
  return &receipt.state;
}

void SnapshotReceipts::Installed(GroupId group) {
  receipts_.erase(group);
}

void SnapshotReceipts::Tick() {
  for (auto it = receipts_.begin(); it != receipts_.end();) {
    Receipt& receipt = it->second;
    if (receipt.installing || receipt.staging || ++receipt.idle_ticks < options_.patience_ticks) {
      ++it;
      continue;
    }
    staging_->Drop(it->first);
    it = receipts_.erase(it);
  }
}

}  // namespace trireme::raft
