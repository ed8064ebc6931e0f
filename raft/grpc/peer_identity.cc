#include "raft/grpc/peer_identity.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace trireme::raft {
namespace {

constexpr char kCluster[] = "trireme-cluster-bin";
constexpr char kFrom[] = "trireme-from";
constexpr char kFromDirectory[] = "trireme-from-directory-bin";
constexpr char kTo[] = "trireme-to";
constexpr char kToDirectory[] = "trireme-to-directory-bin";
constexpr char kIncarnation[] = "trireme-incarnation";
constexpr char kNonce[] = "trireme-nonce";
constexpr char kShard[] = "trireme-shard";
constexpr char kShards[] = "trireme-shards";
constexpr char kLane[] = "trireme-lane";
constexpr char kUnderstands[] = "trireme-understands";

using Get = std::function<std::optional<std::string>(const std::string& key)>;

// Ids are shown as everywhere: lower-case hexadecimal. What is longer than an id is cut.
std::string Show(const std::string& id) {
  return id.empty() ? "none" : absl::BytesToHexString(id.substr(0, 16));
}

absl::Status Mismatch(const std::string& what, const std::string& said, const std::string& expected) {
  return absl::FailedPreconditionError(absl::StrCat(what, " is ", said, ", expected ", expected));
}

// Reads values and keeps the first thing that is wrong.
class Fields {
 public:
  explicit Fields(const Get& get) : get_(get) {}

  std::string Text(const char* key) {
    std::optional<std::string> value = get_(key);
    if (!value.has_value() && status_.ok()) {
      status_ = absl::FailedPreconditionError(absl::StrCat("the call's metadata lacks ", key));
    }
    return value.value_or("");
  }
  template <typename T>
  T Number(const char* key) {
    T number = 0;
    std::string text = Text(key);
    if (!absl::SimpleAtoi(text, &number) && status_.ok()) {
      status_ = absl::FailedPreconditionError(
          absl::StrCat("the call's metadata has ", key, " = \"", absl::CEscape(text.substr(0, 32)), "\", no number"));
    }
    return number;
  }
  const absl::Status& status() const { return status_; }

 private:
  const Get& get_;
  absl::Status status_;
};

}  // namespace

CallMetadata EncodeHello(const Hello& hello) {
  return {{kCluster, hello.from.cluster_id},          {kFrom, absl::StrCat(hello.from.node.value())},
          {kFromDirectory, hello.from.directory_id},  {kTo, absl::StrCat(hello.to.value())},
          {kToDirectory, hello.to_directory_id},      {kIncarnation, absl::StrCat(hello.from.incarnation)},
          {kNonce, absl::StrCat(hello.from.nonce)},   {kShard, absl::StrCat(hello.shard)},
          {kShards, absl::StrCat(hello.from.shards)}, {kLane, absl::StrCat(static_cast<uint32_t>(hello.lane))}};
}

absl::StatusOr<Hello> DecodeHello(const Get& get) {
  Fields fields(get);
  Hello hello;
  hello.from.cluster_id = fields.Text(kCluster);
  hello.from.node = NodeId(fields.Number<uint64_t>(kFrom));
  hello.from.directory_id = fields.Text(kFromDirectory);
  hello.to = NodeId(fields.Number<uint64_t>(kTo));
  hello.to_directory_id = fields.Text(kToDirectory);
  hello.from.incarnation = fields.Number<uint64_t>(kIncarnation);
  if (get(kNonce).has_value()) hello.from.nonce = fields.Number<uint64_t>(kNonce);
  hello.shard = fields.Number<uint32_t>(kShard);
  hello.from.shards = fields.Number<uint32_t>(kShards);
  auto lane = fields.Number<uint32_t>(kLane);
  if (!fields.status().ok()) return fields.status();
  if (lane >= kLanes) return absl::FailedPreconditionError(absl::StrCat("there is no lane ", lane));
  hello.lane = static_cast<Lane>(lane);
  return hello;
}

absl::Status CheckHello(const Hello& hello, const NodeIdentity& self, const PeerDirectory& directory) {
  // The cluster first: of another cluster nothing else means anything here (Safety rule 23). To such a caller nothing
  // is said that it could say next time.
  if (hello.from.cluster_id != self.cluster_id) {
    return absl::FailedPreconditionError(
        absl::StrCat("the caller's cluster is ", Show(hello.from.cluster_id), ", which is not this node's"));
  }
  if (hello.to != self.node) {
    return Mismatch("the node asked for", absl::StrCat(hello.to.value()), absl::StrCat(self.node.value()));
  }
  if (hello.to_directory_id != self.directory_id) {
    return Mismatch("the data directory asked for", Show(hello.to_directory_id), Show(self.directory_id));
  }
  if (hello.from.shards != self.shards) {
    return Mismatch("the caller's number of shards", absl::StrCat(hello.from.shards), absl::StrCat(self.shards));
  }
  if (hello.shard >= self.shards) {
    return Mismatch("the shard asked for", absl::StrCat(hello.shard), absl::StrCat("one below ", self.shards));
  }
  std::string caller = absl::StrCat("node ", hello.from.node.value());
  if (hello.from.node == self.node) {
    return absl::FailedPreconditionError(absl::StrCat("the caller says that it is ", caller, ", as this node is"));
  }
  std::optional<PeerRecord> record = directory.Find(hello.from.node);
  if (!record.has_value()) {
    return absl::FailedPreconditionError(absl::StrCat("the caller says that it is ", caller, ", unknown to this node"));
  }
  // Safety rule 11: a node that comes back with another directory is another node, and has no vote here.
  if (record->directory_id.empty() || record->directory_id != hello.from.directory_id) {
    return Mismatch(absl::StrCat("the data directory of ", caller), Show(hello.from.directory_id),
                    Show(record->directory_id));
  }
  return absl::OkStatus();
}

CallMetadata EncodeWelcome(const NodeIdentity& self) {
  return {{kFrom, absl::StrCat(self.node.value())},
          {kFromDirectory, self.directory_id},
          {kIncarnation, absl::StrCat(self.incarnation)},
          {kUnderstands, absl::StrCat(self.understands)}};
}

uint32_t UnderstoodBy(const Get& get) {
  uint32_t understood = 0;
  const std::optional<std::string> said = get(kUnderstands);
  return said.has_value() && absl::SimpleAtoi(*said, &understood) ? understood : 1;
}

absl::Status CheckWelcome(const Get& get, const Hello& hello) {
  Fields fields(get);
  auto node = NodeId(fields.Number<uint64_t>(kFrom));
  std::string directory_id = fields.Text(kFromDirectory);
  if (!fields.status().ok()) return fields.status();
  if (node != hello.to) {
    return Mismatch("the answering node", absl::StrCat(node.value()), absl::StrCat(hello.to.value()));
  }
  if (directory_id != hello.to_directory_id) {
    return Mismatch("the answering node's data directory", Show(directory_id), Show(hello.to_directory_id));
  }
  return absl::OkStatus();
}

}  // namespace trireme::raft
