// A store on a faulty disk beside a dumb model of what it must hold: per group, what is durable for sure, and what was
// submitted after that, of which a crash may keep any prefix.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "storage/store.h"
#include "tests/storage/fault_file_system.h"

namespace trireme::storage {

struct ModelState {
  bool exists = false;
  raft::ReplicaId replica;
  std::string descriptor;
  raft::HardState hard_state;
  uint64_t snapshot_index = 0;
  raft::Term snapshot_term;
  std::string snapshot;
  std::map<uint64_t, raft::Entry> log;  // the last one written at each index, dead ones, too
  // Of the last snapshot of another replica that was installed.
  std::optional<raft::MembershipAt> installed;

  uint64_t last() const;
  // The last one at or below the snapshot, and those above it.
  std::vector<raft::MembershipAt> memberships() const;
};

struct ModelGroup {
  struct Created {
    raft::ReplicaId replica;
    std::string descriptor;
  };
  struct Deleted {};
  struct Saved {
    uint64_t index;
    raft::Term term;
    std::string bytes;
  };
  struct Installed {
    raft::SnapshotMeta snapshot;
    std::string bytes;
    raft::HardState hard_state;
    std::vector<raft::Entry> live;
  };
  using Change = std::variant<Created, Deleted, raft::HardState, raft::Entry, Saved, Installed>;

  ModelState durable;
  std::deque<std::pair<uint64_t, Change>> outstanding;  // with the number of the submission
  ModelState submitted;                                 // durable with all of outstanding
  uint64_t compacted = 0;
  std::vector<raft::IndexRange> live;  // below compacted
  uint64_t rows = 0;                   // entries up to here have given their index rows (row_model.h)

  bool Alive(uint64_t index) const;
  // What an install, if that is the last that was said of it, says is alive.
  void TakeInstalled();
};

// For one thread. Methods that find the store wrong return what is wrong, or an empty string.
class StoreHarness {
 public:
  explicit StoreHarness(StoreOptions options);
  ~StoreHarness();

  FaultFileSystem& disk() { return *disk_; }
  Store* store() { return store_.get(); }
  std::map<raft::GroupId, ModelGroup>& groups() { return groups_; }
  bool failed();
  // In this life or an earlier one: Open forgets the other.
  bool ever_failed();

  // Opens the directory and compares all of it with the model, which from then on says what was found.
  std::string Open();
  // Ends the store, cleanly unless it has failed.
  void Close();
  // As the status of an open that is expected to fail.
  absl::Status OpenStatus();

  // ---- submissions. Nothing is submitted once the store has failed.
  void Create(raft::GroupId group, std::string descriptor);
  void Delete(raft::GroupId group);
  void Write(std::vector<raft::LogWrite> writes);
  void Save(raft::GroupId group, uint64_t index, std::string bytes);
  void Compact(raft::GroupId group, uint64_t upto, std::vector<raft::IndexRange> live);
  // Stages entries of a snapshot as of (index, term), and waits until more may come.
  void Stage(raft::GroupId group, raft::Index index, raft::Term term, std::vector<raft::Entry> entries);
  // Gives the index rows of the entries up to `upto` that have not given theirs, so many entries' in one.
  void GiveRows(raft::GroupId group, uint64_t upto, uint64_t at_once = 1000);
  // And those of a snapshot, `piece` rows at a time.
  void StageRows(raft::GroupId group, raft::Index index, raft::Term term, size_t piece);
  // Stages what is alive, `piece` entries at a time, installs it, and waits.
  void Install(raft::GroupId group, const ModelGroup::Installed& snapshot, size_t piece);
  // Until all is durable, or the store has failed. Ends the process, saying what it waits for, when that takes a
  // minute.
  void Await();
  // Until no background work is due, or the store has failed. Returns what is due still after a minute.
  std::string Settle();

  // Reads and compares with the model.
  std::string CheckRead(raft::GroupId group, uint64_t first, uint64_t last, size_t max_bytes);
  // Whether the index rows are what the entries up to ModelGroup::rows make of them.
  std::string CheckRows(raft::GroupId group);
  std::string CheckAll();
  // In pages of about so many bytes.
  absl::StatusOr<raft::RowPage> Scan(raft::GroupId group, const std::string& from, const std::string& to,
                                     size_t page_bytes);

 private:
  void Submitted(raft::GroupId group, ModelGroup::Change change);
  raft::LogStore::Done Completion();
  absl::StatusOr<std::vector<raft::Entry>> Read(raft::GroupId group, uint64_t first, uint64_t last, size_t max_bytes);
  void AwaitStaged(uint64_t number);
  // Safety rule 14: rows and mark are of one moment, not before the snapshot. Makes those behind it again.
  std::string AdoptRows(raft::GroupId id, ModelGroup& group);
  // What is wrong with what the store says is there still of entries at or below the snapshot.
  std::string CheckCompacted(const raft::StoredGroup& stored);
  std::string Adopt(const raft::StoredGroup* stored, raft::GroupId id, ModelGroup& group);

  StoreOptions options_;
  std::unique_ptr<FaultFileSystem> disk_;
  std::unique_ptr<Store> store_;
  std::map<raft::GroupId, ModelGroup> groups_;
  uint64_t submissions_ = 0;
  // Whether dead entries may have come back: after a restart they may.
  bool dead_may_live_ = false;

  std::mutex mutex_;
  std::condition_variable wake_;
  uint64_t completed_ = 0;            // all submissions up to here
  uint64_t stages_ = 0, staged_ = 0;  // asked for, done
  bool failed_ = false;
  bool ever_failed_ = false;
  std::string failure_;
};

void ApplyChange(const ModelGroup::Change& change, ModelState* state);

}  // namespace trireme::storage
