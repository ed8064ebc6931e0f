// A machine whose commands change index rows: "put KEY VALUE", "erase KEY", "erase KEY TO". It keeps what they should
// be, which a real one does not.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "tests/host/world.h"

namespace trireme::raft::testing {

class RowMachine final : public StateMachine {
 public:
  struct State {
    std::map<std::string, std::string> rows;
    Index applied{};
    int commands = 0;
    std::function<void(Index)> on_apply = [](Index) {};
  };
  explicit RowMachine(State* state) : state_(state) {}

  absl::Status Check(const Entry&) const override { return absl::OkStatus(); }
  absl::Status Apply(const Entry& entry) override {
    if (entry.index != state_->applied + 1) return absl::InternalError("a gap");
    state_->applied = entry.index;
    if (entry.type != EntryType::kCommand) return absl::OkStatus();
    ++state_->commands;
    const std::string text(entry.data.view());
    std::vector<std::string> words = absl::StrSplit(text, ' ');
    words.resize(3);
    auto& rows = state_->rows;
    if (words[0] == "put") {
      rows[words[1]] = words[2];
      changes_.push_back({RowChange::Kind::kPut, words[1], words[2]});
    } else if (words[0] == "erase" && words[2].empty()) {
      rows.erase(words[1]);
      changes_.push_back({RowChange::Kind::kErase, words[1]});
    } else if (words[0] == "erase") {
      rows.erase(rows.lower_bound(words[1]), rows.lower_bound(words[2]));
      changes_.push_back({RowChange::Kind::kEraseRange, words[1], words[2]});
    }
    state_->on_apply(entry.index);
    return absl::OkStatus();
  }
  std::vector<RowChange> TakeRows() override { return std::exchange(changes_, {}); }
  void RoleChanged(const RoleChange&, bool) override {}
  Bytes Snapshot() const override {
    Writer out;
    out.Varint(static_cast<uint64_t>(state_->commands));
    for (const auto& [key, value] : state_->rows) {
      out.Counted(key);
      out.Counted(value);
    }
    return Bytes::Take(out.Take());
  }
  absl::Status CheckSnapshot(const Bytes&, Index) const override { return absl::OkStatus(); }
  absl::Status Restore(const Bytes& snapshot, Index index) override {
    Reader in(snapshot.view());
    state_->applied = index;
    state_->commands = static_cast<int>(in.Varint());
    state_->rows.clear();
    while (in.ok() && !in.empty()) {
      std::string key(in.Counted());
      state_->rows[key] = std::string(in.Counted());
    }
    changes_.clear();
    return in.ok() ? absl::OkStatus() : absl::DataLossError("a broken snapshot");
  }
  uint64_t Digest() const override { return Crc32c(Snapshot().view()); }
  Liveness Live() const override { return {state_->applied, {}}; }

 private:
  State* const state_;
  std::vector<RowChange> changes_;
};

}  // namespace trireme::raft::testing
