#include "broker/cluster/identity.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "broker/cluster/durable_file.h"
#include "broker/cluster/metadata_codec.h"
#include "raft/core/check.h"

namespace trireme::broker {
namespace {

namespace fs = std::filesystem;
namespace meta = trireme::meta::v1;

constexpr std::string_view kMagic = "TRIREME-IDENTITY";
constexpr char kFile[] = "identity";
constexpr char kTemporary[] = "identity.new";
constexpr char kLock[] = "lock";
constexpr char kForgot[] = "forgot";

absl::Status Failed(const char* what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

void Random(void* out, size_t size) {
  TRIREME_CHECK(getrandom(out, size, 0) == static_cast<ssize_t>(size)) << "getrandom failed";
}

std::string RandomId() {
  std::string id(kIdBytes, '\0');
  Random(id.data(), id.size());
  return id;
}

uint64_t RandomNonce() {
  uint64_t nonce = 0;
  while (nonce == 0) Random(&nonce, sizeof nonce);
  return nonce;
}

absl::Status CheckNotCondemned(const std::string& path) {
  absl::StatusOr<std::optional<std::string>> file = ReadSmallFile(absl::StrCat(path, "/", kForgot));
  if (!file.ok()) return file.status();
  if (!file->has_value()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("data directory ", path, " may not be used any more (file \"", kForgot, "\"): ", **file));
}

absl::Status MakeDirectory(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return absl::FailedPreconditionError(absl::StrCat("data directory ", path, ": ", error.message()));
  std::string parent = fs::absolute(path).lexically_normal().parent_path().string();
  return SyncDirectory(parent);
}

// The name of something in the directory that a node puts there only after its identity.
std::string FirstForeignName(const std::string& path) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(path, error)) {
    std::string name = entry.path().filename().string();
    if (name != kLock && name != kTemporary && name != "lost+found") return name;
  }
  return "";
}

}  // namespace

std::string ToHex(std::string_view bytes) {
  return absl::BytesToHexString({bytes.data(), bytes.size()});
}

std::string EncodeIdentity(const meta::Identity& identity) {
  return std::string(kMagic) + EncodeFramed(identity, 1);
}

absl::StatusOr<meta::Identity> DecodeIdentity(std::string_view file) {
  if (file.substr(0, kMagic.size()) != kMagic) {
    return absl::DataLossError(absl::StrCat("identity of ", file.size(), " bytes does not start as one"));
  }
  meta::Identity identity;
  absl::Status status = DecodeFramed(file.substr(kMagic.size()), "identity", &identity);
  if (!status.ok()) return status;
  if (identity.directory_id().size() != kIdBytes) {
    return absl::DataLossError(
        absl::StrCat("identity has a directory id of ", identity.directory_id().size(), " bytes, not ", kIdBytes));
  }
  return identity;
}

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::Open(const std::string& path,
                                                                   const std::string& address) {
  absl::Status made = MakeDirectory(path);
  if (!made.ok()) return made;
  std::string lock_path = absl::StrCat(path, "/", kLock);
  int lock = open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (lock < 0) return Failed("opening", lock_path);
  std::unique_ptr<DataDirectory> directory(new DataDirectory(path, lock));
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    return absl::UnavailableError(absl::StrCat("data directory ", path, " is in use by another process"));
  }

  if (absl::Status condemned = CheckNotCondemned(path); !condemned.ok()) return condemned;
  absl::StatusOr<std::optional<std::string>> file = ReadSmallFile(absl::StrCat(path, "/", kFile));
  if (!file.ok()) return file.status();
  meta::Identity identity;
  if (!file->has_value()) {
    std::string foreign = FirstForeignName(path);
    if (!foreign.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "data directory ", path, " holds ", foreign, " but no identity: it is not a node's, or its file \"", kFile,
          "\" was lost. Name an empty directory; the node is rebuilt from its peers"));
    }
    identity.set_directory_id(RandomId());
    identity.set_address(address);
  } else {
    absl::StatusOr<meta::Identity> decoded = DecodeIdentity(**file);
    if (!decoded.ok()) {
      return absl::Status(decoded.status().code(),
                          absl::StrCat("data directory ", path, ": ", decoded.status().message()));
    }
    identity = *std::move(decoded);
    if (identity.address() != address) {
      if (!identity.cluster_id().empty()) {
        return absl::FailedPreconditionError(absl::StrCat(
            "data directory ", path, " belongs to ",
            identity.node_id() == 0 ? std::string("the node") : absl::StrCat("node ", identity.node_id()), " at ",
            identity.address(), " of cluster ", ToHex(identity.cluster_id()), ", not to a node at ", address));
      }
      identity.set_address(address);  // it has promised nothing to anyone yet
    }
  }
  identity.set_starts(identity.starts() + 1);
  absl::Status saved = directory->Save(identity);
  if (!saved.ok()) return saved;
  return directory;
}

DataDirectory::DataDirectory(std::string path, int lock_fd)
    : path_(std::move(path)), lock_fd_(lock_fd), nonce_(RandomNonce()) {}

absl::Status DataDirectory::Condemn(const std::string& path, const absl::Status& why) {
  return WriteDurably(path, kForgot, std::string(why.message()));
}

DataDirectory::~DataDirectory() {
  close(lock_fd_);
}

absl::Status DataDirectory::Save(const meta::Identity& identity) {
  absl::Status status = WriteDurably(path_, kFile, EncodeIdentity(identity));
  if (status.ok()) identity_ = identity;
  return status;
}

}  // namespace trireme::broker
