// A disk in memory that does what disks do when the power goes: what was not synced is lost, kept, or torn sector by
// sector; what was created or renamed is there or not. It can also be full, fail a call, and flip bits.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "storage/file_system.h"

namespace trireme::storage {

// Thread-safe. Every call that changes the disk, syncs included, is a step; steps are counted from 1.
class FaultFileSystem final : public FileSystem {
 public:
  enum class Survival : uint8_t {
    kNothing,  // what was not synced is gone
    kAll,      // all of it is there
    // By chance: each sector of 512 bytes of what was overwritten; of what was appended to a file, and of the changes
    // of a directory, a prefix, as file systems have it that write data before the size.
    kTorn,
  };

  FaultFileSystem();
  ~FaultFileSystem() override;

  // The power goes with step `step`, which is carried out, but not if it is a sync. From then on every call fails.
  void CrashAt(uint64_t step);
  // Except below `directory`: there calls go on to succeed, but leave no trace on the disk. For RocksDB, which ends the
  // process on some failures by an assertion of its own; that it goes on for a while after the power is off changes
  // nothing that can be seen later.
  void GoOnAfterCrash(const std::string& directory);
  // Step `step` fails, and nothing else.
  void FailAt(uint64_t step);
  // The call that failed so, as "sync /path"; empty if none did.
  std::string failed_call() const;
  uint64_t steps() const;
  bool crashed() const;
  // From now on syncs of files and directories below `directory` wait until Release, or the power goes.
  void Hold(const std::string& directory);
  // Whether any has come to wait; waits for that, but no longer than `at_most`.
  bool AwaitHeld(std::chrono::seconds at_most = std::chrono::seconds(60));
  void Release();
  // From now on there is room for so many bytes in all; 0 = for all that comes. `lies`: it says that there is more.
  void LimitTo(uint64_t bytes, bool lies = false);
  uint64_t UsedBytes() const;
  // Whether a write has found no room since LimitTo; waits for that, but no longer than `at_most`.
  bool AwaitFull(std::chrono::seconds at_most = std::chrono::seconds(60));
  // Back to life: no crash or failure is planned, no file is open, no lock is held. What is on the disk depends on
  // `survival` and `seed`.
  void Restart(Survival survival, uint64_t seed);

  // ---- damage, on the disk
  std::vector<std::string> Files(const std::string& directory) const;
  std::string Content(const std::string& path) const;
  void Overwrite(const std::string& path, uint64_t offset, std::string_view bytes);
  void FlipBit(const std::string& path, uint64_t offset, int bit);
  void RemoveFile(const std::string& path);

  // ---- FileSystem
  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, Mode mode) override;
  absl::Status CreateDirectory(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& directory) override;
  absl::StatusOr<uint64_t> FreeBytes(const std::string& directory) override;
  absl::StatusOr<std::unique_ptr<DirectoryLock>> Lock(const std::string& directory, const std::string& file) override;

  bool IsDirectory(const std::string& path) const;

 private:
  struct Node;
  class OpenFile;
  class HeldLock;
  struct NameChange {
    std::string from;  // goes; empty = nothing does
    std::string to;    // comes; empty = nothing does
    std::shared_ptr<Node> node;
  };

  using Guard = std::unique_lock<std::mutex>;
  uint64_t Used() const;
  void WaitWhileHeld(Guard& lock, const std::string& path);
  // Counts a step on `path`. An error if it fails. What it leaves on the disk is up to the outcome.
  enum class Outcome : uint8_t { kDone, kLast, kTraceless };
  absl::StatusOr<Outcome> Step(const std::string& what, const std::string& path);
  // Of the step's call, once the disk has changed.
  absl::Status After(Outcome outcome, const std::string& path) const;
  absl::Status Alive(const std::string& path) const;
  bool GoesOn(const std::string& path) const;
  static std::string DirectoryOf(const std::string& path);
  static void Apply(const NameChange& change, std::map<std::string, std::shared_ptr<Node>>* names);

  mutable std::mutex mutex_;
  uint64_t steps_ = 0;
  uint64_t crash_at_ = 0;
  uint64_t fail_at_ = 0;
  std::string failed_call_;
  bool crashed_ = false;
  std::string goes_on_;
  uint64_t life_ = 0;
  std::string held_;  // empty = nothing is
  int waiting_ = 0;
  std::condition_variable held_wake_;
  uint64_t limit_ = 0;
  bool lies_ = false;
  bool full_ = false;
  std::condition_variable full_wake_;
  std::set<std::string> directories_;
  std::map<std::string, std::shared_ptr<Node>> names_;
  std::map<std::string, std::shared_ptr<Node>> durable_names_;
  std::map<std::string, std::vector<NameChange>> changes_;  // by directory, since its last sync
  std::set<std::string> locks_;
};

}  // namespace trireme::storage
