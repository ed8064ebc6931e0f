#include "tests/storage/fault_file_system.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace trireme::storage {
namespace {

constexpr uint64_t kSectorBytes = 512;

}  // namespace

struct FaultFileSystem::Node {
  struct Unsynced {
    uint64_t offset;
    std::string bytes;
  };
  std::string content;  // as it is read now
  std::string durable;
  std::vector<Unsynced> unsynced;
};

class FaultFileSystem::OpenFile final : public File {
 public:
  OpenFile(FaultFileSystem* fs, std::shared_ptr<Node> node, std::string path, uint64_t life)
      : fs_(fs), node_(std::move(node)), path_(std::move(path)), life_(life) {}

  absl::StatusOr<size_t> Read(uint64_t offset, char* to, size_t size) const override {
    std::lock_guard<std::mutex> lock(fs_->mutex_);
    if (absl::Status s = Usable(); !s.ok()) return s;
    if (offset >= node_->content.size()) return 0;
    size_t n = std::min<uint64_t>(size, node_->content.size() - offset);
    std::memcpy(to, node_->content.data() + offset, n);
    return n;
  }

  absl::Status Write(uint64_t offset, std::string_view bytes) override {
    std::lock_guard<std::mutex> lock(fs_->mutex_);
    if (absl::Status s = Usable(); !s.ok()) return s;
    const uint64_t size = node_->content.size();
    if (fs_->limit_ > 0 && offset + bytes.size() > size && fs_->Used() - size + offset + bytes.size() > fs_->limit_) {
      fs_->full_ = true;
      fs_->full_wake_.notify_all();
      return absl::ResourceExhaustedError(absl::StrCat("no space left on the device: ", path_));
    }
    absl::StatusOr<Outcome> outcome = fs_->Step("write", path_);
    if (!outcome.ok()) return outcome.status();
    if (offset + bytes.size() > node_->content.size()) node_->content.resize(offset + bytes.size());
    if (!bytes.empty()) std::memcpy(node_->content.data() + offset, bytes.data(), bytes.size());
    if (*outcome != Outcome::kTraceless) node_->unsynced.push_back({offset, std::string(bytes)});
    return fs_->After(*outcome, path_);
  }

  absl::Status Sync() override {
    Guard lock(fs_->mutex_);
    fs_->WaitWhileHeld(lock, path_);
    if (absl::Status s = Usable(); !s.ok()) return s;
    absl::StatusOr<Outcome> outcome = fs_->Step("sync", path_);
    if (!outcome.ok()) return outcome.status();
    if (*outcome != Outcome::kDone) return fs_->After(*outcome, path_);
    for (const Node::Unsynced& w : node_->unsynced) {
      if (w.offset + w.bytes.size() > node_->durable.size()) node_->durable.resize(w.offset + w.bytes.size());
      if (!w.bytes.empty()) std::memcpy(node_->durable.data() + w.offset, w.bytes.data(), w.bytes.size());
    }
    node_->unsynced.clear();
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> Size() const override {
    std::lock_guard<std::mutex> lock(fs_->mutex_);
    if (absl::Status s = Usable(); !s.ok()) return s;
    return node_->content.size();
  }

 private:
  absl::Status Usable() const {
    if (life_ != fs_->life_) return absl::InternalError(absl::StrCat(path_, " was opened before the crash"));
    return fs_->Alive(path_);
  }

  FaultFileSystem* const fs_;
  const std::shared_ptr<Node> node_;
  const std::string path_;
  const uint64_t life_;
};

class FaultFileSystem::HeldLock final : public DirectoryLock {
 public:
  HeldLock(FaultFileSystem* fs, std::string path, uint64_t life) : fs_(fs), path_(std::move(path)), life_(life) {}
  ~HeldLock() override {
    std::lock_guard<std::mutex> lock(fs_->mutex_);
    if (life_ == fs_->life_) fs_->locks_.erase(path_);
  }

 private:
  FaultFileSystem* const fs_;
  const std::string path_;
  const uint64_t life_;
};

FaultFileSystem::FaultFileSystem() = default;
FaultFileSystem::~FaultFileSystem() = default;

void FaultFileSystem::CrashAt(uint64_t step) {
  std::lock_guard<std::mutex> lock(mutex_);
  crash_at_ = step;
}

void FaultFileSystem::FailAt(uint64_t step) {
  std::lock_guard<std::mutex> lock(mutex_);
  fail_at_ = step;
}

void FaultFileSystem::Hold(const std::string& directory) {
  Guard lock(mutex_);
  held_ = directory;
}

bool FaultFileSystem::AwaitHeld(std::chrono::seconds at_most) {
  Guard lock(mutex_);
  return held_wake_.wait_for(lock, at_most, [this] { return waiting_ > 0; });
}

void FaultFileSystem::Release() {
  Guard lock(mutex_);
  held_.clear();
  held_wake_.notify_all();
}

void FaultFileSystem::WaitWhileHeld(Guard& lock, const std::string& path) {
  auto goes_on = [&] { return crashed_ || held_.empty() || !path.starts_with(held_); };
  if (goes_on()) return;
  ++waiting_;
  held_wake_.notify_all();
  held_wake_.wait(lock, goes_on);
  --waiting_;
}

void FaultFileSystem::LimitTo(uint64_t bytes, bool lies) {
  std::lock_guard<std::mutex> lock(mutex_);
  lies_ = lies;
  limit_ = bytes;
  full_ = false;
}

uint64_t FaultFileSystem::Used() const {
  uint64_t used = 0;
  for (const auto& [path, node] : names_) used += node->content.size();
  return used;
}

uint64_t FaultFileSystem::UsedBytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return Used();
}

bool FaultFileSystem::AwaitFull(std::chrono::seconds at_most) {
  Guard lock(mutex_);
  return full_wake_.wait_for(lock, at_most, [this] { return full_; });
}

absl::StatusOr<uint64_t> FaultFileSystem::FreeBytes(const std::string& directory) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (absl::Status s = Alive(directory); !s.ok()) return s;
  if (limit_ == 0 || lies_) return uint64_t{1} << 60;
  return limit_ - std::min(limit_, Used());
}

std::string FaultFileSystem::failed_call() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return failed_call_;
}

uint64_t FaultFileSystem::steps() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return steps_;
}

bool FaultFileSystem::crashed() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return crashed_;
}

void FaultFileSystem::GoOnAfterCrash(const std::string& directory) {
  std::lock_guard<std::mutex> lock(mutex_);
  goes_on_ = directory;
}

bool FaultFileSystem::GoesOn(const std::string& path) const {
  return !goes_on_.empty() && path.compare(0, goes_on_.size(), goes_on_) == 0;
}

absl::Status FaultFileSystem::Alive(const std::string& path) const {
  if (!crashed_ || GoesOn(path)) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("the power is off: ", path));
}

absl::StatusOr<FaultFileSystem::Outcome> FaultFileSystem::Step(const std::string& what, const std::string& path) {
  if (absl::Status s = Alive(path); !s.ok()) return s;
  if (crashed_) return Outcome::kTraceless;
  ++steps_;
  if (steps_ == fail_at_) {
    failed_call_ = absl::StrCat(what, " ", path);
    return absl::DataLossError(absl::StrCat("input/output error: ", failed_call_));
  }
  if (steps_ != crash_at_) return Outcome::kDone;
  crashed_ = true;
  held_wake_.notify_all();
  return Outcome::kLast;
}

absl::Status FaultFileSystem::After(Outcome outcome, const std::string& path) const {
  return outcome == Outcome::kLast ? Alive(path) : absl::OkStatus();
}

std::string FaultFileSystem::DirectoryOf(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}

void FaultFileSystem::Apply(const NameChange& change, std::map<std::string, std::shared_ptr<Node>>* names) {
  if (!change.from.empty()) names->erase(change.from);
  if (!change.to.empty()) (*names)[change.to] = change.node;
}

void FaultFileSystem::Restart(Survival survival, uint64_t seed) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::mt19937_64 random(seed);
  auto coin = [&] { return survival == Survival::kAll || (survival == Survival::kTorn && random() % 2 == 0); };
  for (auto& [directory, changes] : changes_) {
    for (const NameChange& change : changes) {
      if (!coin()) break;
      Apply(change, &durable_names_);
    }
  }
  changes_.clear();
  for (auto& [path, node] : durable_names_) {
    uint64_t size = node->durable.size();
    uint64_t end_of_prefix = size;
    if (survival == Survival::kAll) end_of_prefix = ~uint64_t{0};
    if (survival == Survival::kTorn && node->content.size() > size) {
      end_of_prefix += random() % (node->content.size() - size + 1);
    }
    for (const Node::Unsynced& w : node->unsynced) {
      for (uint64_t at = w.offset; at < w.offset + w.bytes.size();) {
        uint64_t end = std::min((at / kSectorBytes + 1) * kSectorBytes, w.offset + w.bytes.size());
        if (at >= size ? at < end_of_prefix : coin()) {
          if (end > node->durable.size()) node->durable.resize(end);
          std::memcpy(node->durable.data() + at, w.bytes.data() + (at - w.offset), end - at);
        }
        at = end;
      }
    }
    node->unsynced.clear();
    node->content = node->durable;
  }
  names_ = durable_names_;
  locks_.clear();
  crash_at_ = fail_at_ = 0;
  held_.clear();
  crashed_ = false;
  ++life_;
}

std::vector<std::string> FaultFileSystem::Files(const std::string& directory) const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::string> paths;
  for (const auto& [path, node] : names_) {
    if (DirectoryOf(path) == directory) paths.push_back(path);
  }
  return paths;
}

std::string FaultFileSystem::Content(const std::string& path) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return names_.at(path)->content;
}

void FaultFileSystem::Overwrite(const std::string& path, uint64_t offset, std::string_view bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  Node& node = *names_.at(path);
  for (std::string* s : {&node.content, &node.durable}) {
    if (s->size() < offset + bytes.size()) s->resize(offset + bytes.size());
    std::memcpy(s->data() + offset, bytes.data(), bytes.size());
  }
}

void FaultFileSystem::FlipBit(const std::string& path, uint64_t offset, int bit) {
  char byte = Content(path).at(offset);
  byte = static_cast<char>(byte ^ (1 << bit));
  Overwrite(path, offset, {&byte, 1});
}

void FaultFileSystem::RemoveFile(const std::string& path) {
  std::lock_guard<std::mutex> lock(mutex_);
  names_.erase(path);
  durable_names_.erase(path);
}

absl::StatusOr<std::unique_ptr<File>> FaultFileSystem::Open(const std::string& path, Mode mode) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (absl::Status s = Alive(path); !s.ok()) return s;
  auto it = names_.find(path);
  if (mode == Mode::kCreate) {
    absl::StatusOr<Outcome> outcome = Step("create", path);
    if (!outcome.ok()) return outcome.status();
    // Truncating a file that is there is a new file under its name, which is what matters here.
    NameChange change{.from = {}, .to = path, .node = std::make_shared<Node>()};
    Apply(change, &names_);
    if (*outcome != Outcome::kTraceless) changes_[DirectoryOf(path)].push_back(change);
    if (absl::Status s = After(*outcome, path); !s.ok()) return s;
    it = names_.find(path);
  }
  if (it == names_.end()) return absl::NotFoundError(absl::StrCat("no file ", path));
  return std::make_unique<OpenFile>(this, it->second, path, life_);
}

absl::Status FaultFileSystem::CreateDirectory(const std::string& path) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (absl::Status s = Alive(path); !s.ok()) return s;
  directories_.insert(path);
  return absl::OkStatus();
}

bool FaultFileSystem::IsDirectory(const std::string& path) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return directories_.count(path) > 0;
}

absl::StatusOr<std::vector<std::string>> FaultFileSystem::List(const std::string& directory) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (absl::Status s = Alive(directory); !s.ok()) return s;
  if (directories_.count(directory) == 0) return absl::NotFoundError(absl::StrCat("no directory ", directory));
  std::vector<std::string> names;
  for (const auto& [path, node] : names_) {
    if (DirectoryOf(path) == directory) names.push_back(path.substr(directory.size() + 1));
  }
  for (const std::string& path : directories_) {
    if (DirectoryOf(path) == directory) names.push_back(path.substr(directory.size() + 1));
  }
  return names;
}

absl::Status FaultFileSystem::Rename(const std::string& from, const std::string& to) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Outcome> outcome = Step("rename", from);
  if (!outcome.ok()) return outcome.status();
  auto it = names_.find(from);
  if (it == names_.end()) return absl::NotFoundError(absl::StrCat("no file ", from));
  NameChange change{from, to, it->second};
  Apply(change, &names_);
  if (*outcome != Outcome::kTraceless) changes_[DirectoryOf(to)].push_back(change);
  return After(*outcome, to);
}

absl::Status FaultFileSystem::Remove(const std::string& path) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Outcome> outcome = Step("remove", path);
  if (!outcome.ok()) return outcome.status();
  if (names_.count(path) == 0) return absl::NotFoundError(absl::StrCat("no file ", path));
  NameChange change{.from = path, .to = {}, .node = nullptr};
  Apply(change, &names_);
  if (*outcome != Outcome::kTraceless) changes_[DirectoryOf(path)].push_back(change);
  return After(*outcome, path);
}

absl::Status FaultFileSystem::SyncDirectory(const std::string& directory) {
  Guard lock(mutex_);
  WaitWhileHeld(lock, directory);
  absl::StatusOr<Outcome> outcome = Step("sync", directory);
  if (!outcome.ok()) return outcome.status();
  if (*outcome != Outcome::kDone) return After(*outcome, directory);
  for (const NameChange& change : changes_[directory]) Apply(change, &durable_names_);
  changes_[directory].clear();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DirectoryLock>> FaultFileSystem::Lock(const std::string& directory,
                                                                     const std::string& file) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::string path = absl::StrCat(directory, "/", file);
  if (absl::Status s = Alive(path); !s.ok()) return s;
  if (!locks_.insert(path).second) {
    return absl::FailedPreconditionError(absl::StrCat("directory ", directory, " is in use"));
  }
  return std::make_unique<HeldLock>(this, path, life_);
}

}  // namespace trireme::storage
