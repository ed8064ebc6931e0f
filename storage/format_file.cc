#include "storage/format_file.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "absl/strings/str_cat.h"
#include "raft/core/checksum.h"

namespace trireme::storage {
namespace {

constexpr char kTitle[] = "trireme store";
constexpr uint32_t kVersion = 6;
// The oldest that is taken over; it has no `segments`.
constexpr uint32_t kUncountedVersion = 2;
constexpr size_t kMaxBytes = 4096;

std::string Encode(const Format& format, uint32_t version) {
  std::string text = absl::StrCat(kTitle, "\nversion ", version, "\nsalt ", format.salt, "\nsegment_bytes ",
                                  format.segment_bytes, "\n");
  if (version != kUncountedVersion) absl::StrAppend(&text, "segments ", format.segments, "\n");
  return absl::StrCat(text, "checksum ", raft::Crc32c(text), "\n");
}

absl::StatusOr<Format> Decode(std::string_view text, const std::string& path) {
  std::vector<std::string_view> lines;
  for (std::string_view rest = text; !rest.empty();) {
    size_t end = std::min(rest.find('\n'), rest.size());
    lines.push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (lines.empty() || lines.front() != kTitle) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is not that of a Trireme store"));
  }
  auto number = [&](size_t line, std::string_view name, auto* value) {
    if (line >= lines.size() || !lines[line].starts_with(name)) return false;
    std::string_view digits = lines[line].substr(std::min(name.size() + 1, lines[line].size()));
    return std::from_chars(digits.data(), digits.data() + digits.size(), *value).ec == std::errc();
  };
  uint32_t version = 0, checksum = 0;
  if (number(1, "version", &version) && (version > kVersion || version < kUncountedVersion)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is of version ", version, ", this program knows version ", kVersion));
  }
  Format format;
  bool counted = version > kUncountedVersion;
  if (!number(2, "salt", &format.salt) || !number(3, "segment_bytes", &format.segment_bytes) ||
      (counted && !number(4, "segments", &format.segments)) || !number(counted ? 5 : 4, "checksum", &checksum) ||
      text != Encode(format, version)) {
    return absl::DataLossError(absl::StrCat(path, " is damaged"));
  }
  format.current = version == kVersion;
  return format;
}

}  // namespace

const char kWhatToDoAboutLoss[] =
    "Put back what is missing, as it was. If it is gone for good, this node has forgotten what it had promised, and "
    "this "
    "directory must not be used again";

absl::StatusOr<Format> ReadOrMakeFormat(FileSystem* fs, const std::string& directory, const Format& fresh,
                                        bool must_exist) {
  std::string path = absl::StrCat(directory, "/FORMAT");
  absl::StatusOr<std::unique_ptr<File>> file = fs->Open(path, FileSystem::Mode::kRead);
  if (file.ok()) {
    std::string text(kMaxBytes, '\0');
    absl::StatusOr<size_t> size = (*file)->Read(0, text.data(), text.size());
    if (!size.ok()) return size.status();
    text.resize(*size);
    return Decode(text, path);
  }
  if (!absl::IsNotFound(file.status())) return file.status();
  if (must_exist) {
    return absl::DataLossError(
        absl::StrCat(directory, " held a store before, and now has no FORMAT. ", kWhatToDoAboutLoss));
  }

  absl::StatusOr<std::vector<std::string>> names = fs->List(directory);
  if (!names.ok()) return names.status();
  for (const char* name : {"wal", "old"}) {
    if (std::find(names->begin(), names->end(), name) != names->end()) {
      return absl::DataLossError(absl::StrCat(directory, " has ", name, "/ but no FORMAT. ", kWhatToDoAboutLoss));
    }
  }
  if (absl::Status s = WriteFormat(fs, directory, fresh); !s.ok()) return s;
  return fresh;
}

absl::Status WriteFormat(FileSystem* fs, const std::string& directory, const Format& format) {
  std::string path = absl::StrCat(directory, "/FORMAT");
  std::string temporary = absl::StrCat(path, ".tmp");
  absl::StatusOr<std::unique_ptr<File>> file = fs->Open(temporary, FileSystem::Mode::kCreate);
  if (!file.ok()) return file.status();
  if (absl::Status s = (*file)->Write(0, Encode(format, kVersion)); !s.ok()) return s;
  if (absl::Status s = (*file)->Sync(); !s.ok()) return s;
  if (absl::Status s = fs->Rename(temporary, path); !s.ok()) return s;
  return fs->SyncDirectory(directory);
}

}  // namespace trireme::storage
