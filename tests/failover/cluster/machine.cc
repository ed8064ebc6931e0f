#include "tests/failover/cluster/machine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <new>

#include "absl/strings/str_cat.h"

namespace trireme::failover {
namespace {

// What a disk writes as a whole or not at all.
constexpr uint64_t kSector = 512;

struct Write {
  Remembered head;
  std::string old_bytes;
};

// The last one may have been cut short by the end of the process; then its write was never made.
std::vector<Write> ReadMemory(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<Write> writes;
  Write write;
  while (file.read(reinterpret_cast<char*>(&write.head), sizeof write.head)) {
    write.old_bytes.resize(write.head.old_bytes);
    if (!file.read(write.old_bytes.data(), static_cast<std::streamsize>(write.head.old_bytes))) break;
    writes.push_back(write);
  }
  return writes;
}

std::string Folder(const std::string& own) {
  return own + "/memory";
}

bool PutBack(int fd, uint64_t offset, std::string_view bytes) {
  return ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes.size());
}

// Takes writes back, the last one first.
absl::Status Undo(const std::string& path, const std::vector<Write>& writes, bool torn, std::mt19937_64& chance) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  bool good = true;
  for (auto write = writes.rbegin(); write != writes.rend(); ++write) {
    const Remembered& head = write->head;
    if (!torn) {
      good &= PutBack(fd, head.offset, write->old_bytes);
      if (head.offset + head.size > head.old_size) good &= ::ftruncate(fd, static_cast<off_t>(head.old_size)) == 0;
      continue;
    }
    for (uint64_t at = head.offset; at < head.offset + head.size;) {
      const uint64_t end = std::min((at / kSector + 1) * kSector, head.offset + head.size);
      if (chance() % 2 == 0) {
        // Where the file did not reach it holds nothing.
        std::string old(end - at, '\0');
        const uint64_t from = at - head.offset;
        if (from < write->old_bytes.size()) write->old_bytes.copy(old.data(), old.size(), from);
        good &= PutBack(fd, at, old);
      }
      at = end;
    }
  }
  const int error = errno;
  ::close(fd);
  return good ? absl::OkStatus() : absl::ErrnoToStatus(error, absl::StrCat("cannot take writes back in ", path));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Machine>> Machine::Make(const std::string& preload, const std::string& data,
                                                       const std::string& own) {
  std::error_code error;
  std::filesystem::create_directories(Folder(own), error);
  // As the kernel calls it: the library asks it for the files' names.
  const std::string real_data = std::filesystem::canonical(data, error);
  if (error) return absl::NotFoundError(absl::StrCat("cannot find ", data, ": ", error.message()));
  const std::string path = own + "/control";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", path));
  void* page = MAP_FAILED;
  if (::ftruncate(fd, 4'096) == 0) page = ::mmap(nullptr, 4'096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (page == MAP_FAILED) return absl::ErrnoToStatus(errno, absl::StrCat("cannot map ", path));
  return std::unique_ptr<Machine>(new Machine(preload, real_data, own, new (page) Control{}));
}

Machine::~Machine() {
  ::munmap(control_, 4'096);
}

std::vector<std::string> Machine::environment() const {
  return {absl::StrCat("LD_PRELOAD=", preload_), absl::StrCat(kControlVariable, "=", own_, "/control"),
          absl::StrCat(kDataVariable, "=", data_, "/"), absl::StrCat(kMemoryVariable, "=", Folder(own_))};
}

absl::StatusOr<int> Machine::LosePower(std::mt19937_64& chance) {
  std::map<std::string, std::string> files;  // by inode
  std::error_code ignored;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(data_, ignored)) {
    struct stat about;
    if (entry.is_regular_file(ignored) && ::stat(entry.path().c_str(), &about) == 0) {
      files[absl::StrCat(about.st_ino)] = entry.path();
    }
  }
  int lost = 0;
  for (const auto& entry : std::filesystem::directory_iterator(Folder(own_), ignored)) {
    const auto file = files.find(entry.path().filename());
    const std::vector<Write> writes = ReadMemory(entry.path());
    // A file that was removed has nothing to lose.
    if (file != files.end()) {
      if (absl::Status undone = Undo(file->second, writes, chance() % 2 == 0, chance); !undone.ok()) return undone;
      lost += static_cast<int>(writes.size());
    }
    std::filesystem::remove(entry.path(), ignored);
  }
  return lost;
}

}  // namespace trireme::failover
