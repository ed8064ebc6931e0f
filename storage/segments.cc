#include "storage/segments.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "raft/core/check.h"
#include "storage/wal_format.h"

namespace trireme::storage {

SlotId Segments::Add(std::shared_ptr<File> file, std::string path) {
  auto slot = std::make_unique<Slot>();
  slot->file = std::move(file);
  slot->path = std::move(path);
  slots_.push_back(std::move(slot));
  auto id = static_cast<SlotId>(slots_.size() - 1);
  free_.push_back(id);
  return id;
}

void Segments::Adopt(SlotId id, uint64_t first_sequence, uint64_t last_sequence, uint64_t end) {
  free_.erase(std::find(free_.begin(), free_.end(), id));
  Slot& slot = *slots_[id];
  slot.first_sequence = first_sequence;
  slot.last_sequence = last_sequence;
  slot.end = end;
  in_use_.push_back(id);
}

void Segments::Rotate(uint64_t next_sequence) {
  TRIREME_CHECK(!free_.empty()) << "no free segment";
  SlotId id = free_.front();
  free_.pop_front();
  Slot& slot = *slots_[id];
  TRIREME_CHECK(slot.live == 0 && slot.pins == 0) << slot.path << " is needed still";
  slot.first_sequence = next_sequence;
  slot.last_sequence = next_sequence;
  slot.end = kBlockBytes;
  in_use_.push_back(id);
}

size_t Segments::Retire() {
  size_t count = 0;
  while (in_use_.size() > 1 && slots_[in_use_.front()]->live == 0) {
    retired_.push_back(in_use_.front());
    in_use_.pop_front();
    ++count;
  }
  return count;
}

bool Segments::Free(uint64_t durable_begin) {
  bool any = false;
  std::erase_if(retired_, [&](SlotId id) {
    const Slot& slot = *slots_[id];
    if (slot.last_sequence >= durable_begin || slot.pins > 0) return false;
    free_.push_back(id);
    return any = true;
  });
  return any;
}

bool Segments::WouldFree() const {
  return std::any_of(retired_.begin(), retired_.end(),
                     [&](SlotId id) { return slots_[id]->last_sequence < begin() && slots_[id]->pins == 0; });
}

std::string SegmentName(uint64_t number) {
  return absl::StrFormat("%08u.seg", number);
}

bool ParseSegmentName(std::string_view name, uint64_t* number) {
  if (!name.ends_with(".seg")) return false;
  name.remove_suffix(4);
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), *number);
  return error == std::errc() && end == name.data() + name.size();
}

namespace {

absl::Status FillSegment(File& file, std::string_view header, uint64_t segment_bytes, absl::FunctionRef<bool()> stop) {
  if (absl::Status s = file.Write(0, header); !s.ok()) return s;
  // Real zeroes, not a hole or a reservation: an overwrite of allocated blocks syncs without a change of metadata.
  std::string zeroes(std::min<uint64_t>(segment_bytes, uint64_t{1} << 20), '\0');
  for (uint64_t at = header.size(); at < segment_bytes;) {
    if (stop()) return absl::CancelledError("stopping");
    uint64_t n = std::min<uint64_t>(zeroes.size(), segment_bytes - at);
    if (absl::Status s = file.Write(at, std::string_view(zeroes).substr(0, n)); !s.ok()) return s;
    at += n;
  }
  return file.Sync();
}

}  // namespace

absl::StatusOr<std::shared_ptr<File>> MakeSegmentFile(FileSystem* fs, const std::string& directory,
                                                      const std::string& name, std::string_view header,
                                                      uint64_t segment_bytes, absl::FunctionRef<bool()> stop) {
  std::string path = absl::StrCat(directory, "/", name);
  std::string temporary = absl::StrCat(path, ".tmp");
  absl::StatusOr<std::unique_ptr<File>> opened = fs->Open(temporary, FileSystem::Mode::kCreate);
  if (!opened.ok()) return opened.status();
  std::shared_ptr<File> file = *std::move(opened);
  if (absl::Status s = FillSegment(*file, header, segment_bytes, stop); !s.ok()) {
    // What it takes on a full disk is needed elsewhere. If it stays, the next start removes it.
    file.reset();
    if (absl::IsResourceExhausted(s)) fs->Remove(temporary).IgnoreError();
    return s;
  }
  if (absl::Status s = fs->Rename(temporary, path); !s.ok()) return s;
  if (absl::Status s = fs->SyncDirectory(directory); !s.ok()) return s;
  return file;
}

}  // namespace trireme::storage
