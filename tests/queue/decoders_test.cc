// Whatever the bytes are, no decoder crashes, reads beyond them, or lets a state in that breaks later. The byte strings
// are those of random histories, damaged in a fixed number of seeded ways. QUEUE_SEED=S runs only seed S.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "broker/queue/batch.h"
#include "broker/queue/entry.h"
#include "broker/queue/machine.h"
#include "tests/queue/history.h"
#include "tests/queue/invariants.h"
#include "tests/queue/sealed.h"

namespace trireme::queue {
namespace {

constexpr uint64_t kSeeds = 40;
constexpr int kStringsPerSeed = 600;

// Damages byte strings.
class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  uint64_t Below(uint64_t n) { return n == 0 ? 0 : random_() % n; }

  std::string Random(size_t most) {
    std::string bytes(Below(most + 1), 0);
    for (char& c : bytes) c = static_cast<char>(random_());
    return bytes;
  }
  // `from`, changed in one to four places; `other` is where pieces come from.
  std::string Damage(std::string bytes, std::string_view other) {
    for (uint64_t n = 1 + Below(4); n > 0; --n) DamageOnce(bytes, other);
    return bytes;
  }

 private:
  void DamageOnce(std::string& bytes, std::string_view other) {
    // Numbers at the edges of what a varint, a slot or an index can say.
    static const uint64_t kEdges[] = {0,
                                      1,
                                      127,
                                      128,
                                      65'534,
                                      65'535,
                                      65'536,
                                      uint64_t{1} << 32,
                                      (uint64_t{1} << 48) - 1,
                                      uint64_t{1} << 62,
                                      uint64_t{1} << 63,
                                      ~uint64_t{0}};
    const size_t at = Below(bytes.size() + 1);
    const size_t length = Below(std::min<size_t>(bytes.size() - at, 16) + 1);
    switch (Below(7)) {
      case 0:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << Below(8)));
        break;
      case 1:
        if (at < bytes.size()) bytes[at] = static_cast<char>(random_());
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, length);
        break;
      case 4:
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 5: {
        const size_t from = Below(other.size() + 1);
        bytes.replace(at, length, other.substr(from, Below(32)));
        break;
      }
      case 6: {
        raft::Writer number;
        number.Varint(kEdges[Below(std::size(kEdges))]);
        bytes.replace(at, std::min<size_t>(length, 3), number.bytes());
        break;
      }
    }
  }

  std::mt19937_64 random_;
};

// Every decoder of a batch; walks and slices stay within it.
void ReadBatch(Mutator& random, const raft::Bytes& batch) {
  auto checked = CheckBatch(batch.view(), {});
  size_t count = 0;
  for (BatchWalker walker(batch.view()); walker.Next(); ++count) {
    ASSERT_GE(walker.message().data(), batch.data());
    ASSERT_LE(walker.message().data() + walker.message().size(), batch.data() + batch.size());
  }
  if (checked.ok()) {
    ASSERT_EQ(checked->size(), count);
  }
  const auto from = static_cast<uint32_t>(random.Below(count + 2));
  const raft::Bytes slice = SliceBatch(batch, from, static_cast<uint32_t>(random.Below(count + 2)));
  ASSERT_LE(slice.size(), batch.size());
}

// Every decoder of an entry. What decodes is written as it was read.
void ReadEntry(Mutator& random, const raft::Bytes& entry) {
  const bool whole = CheckEntry(entry).ok();
  auto view = DecodeStored(entry);
  if (view.ok()) {
    auto messages = CheckedMessages(*view, static_cast<uint32_t>(random.Below(view->count)),
                                    static_cast<uint32_t>(random.Below(view->count + 2)));
    if (messages.ok()) {
      ASSERT_LE(messages->size(), view->batch.size());
    }
    ASSERT_NO_FATAL_FAILURE(ReadBatch(random, view->batch));
    if (whole) {
      ASSERT_TRUE(CheckedMessages(*view, 0, view->count).ok());
    }
  }
  auto decoded = DecodeEntry(entry);
  if (!decoded.ok()) return;
  auto again = DecodeEntry(view.ok() ? EncodePublished(std::get<fact::Published>(decoded->facts.at(0)),
                                                       decoded->time_ms, decoded->batch.view())
                                     : EncodeFacts(decoded->facts, decoded->time_ms));
  ASSERT_TRUE(again.ok()) << again.status();
  ASSERT_EQ(again->facts, decoded->facts);
}

// An entry that decodes is applied, whatever it says, and the state stays one.
void ApplyTo(Machine& machine, const raft::Bytes& entry) {
  if (!machine.Apply(machine.applied() + 1, entry).ok()) return;
  auto problem = ProblemOf(machine);
  ASSERT_FALSE(problem.has_value()) << *problem;
  const raft::Bytes snapshot = machine.Snapshot();
  Machine restored;
  ASSERT_TRUE(restored.Restore(snapshot).ok());
  ASSERT_EQ(restored.Snapshot(), snapshot);
}

// A snapshot that is taken is one that can be worked with.
void RestoreFrom(const History& history, Mutator& random, const raft::Bytes& snapshot, int* taken) {
  Machine machine;
  if (!machine.Restore(snapshot).ok()) {
    ASSERT_EQ(machine.Snapshot(), Machine().Snapshot());
    return;
  }
  ++*taken;
  for (const auto& [id, subscription] : machine.subscriptions()) {
    auto problem = ProblemOf(subscription);
    ASSERT_FALSE(problem.has_value()) << *problem;
  }
  const raft::Bytes own = machine.Snapshot();
  Machine again;
  ASSERT_TRUE(again.Restore(own).ok());
  ASSERT_EQ(again.Snapshot(), own);
  ASSERT_LE(machine.Live().floor, machine.applied());
  for (int i = 0; i < 5; ++i) {
    const raft::Bytes& entry = history.log().at(1 + random.Below(history.log().last()));
    if (!entry.empty()) (void)machine.Apply(machine.applied() + 1, entry);
  }
  for (const auto& [id, subscription] : machine.subscriptions()) {
    auto problem = ProblemOf(subscription);
    ASSERT_FALSE(problem.has_value()) << *problem;
  }
}

// The parts of an entry, for a new checksum around other contents.
struct Parts {
  uint8_t layout = 0, kind = 0;
  std::string header, batch;
};
Parts PartsOf(const raft::Bytes& entry) {
  raft::Reader in(entry.view());
  Parts parts;
  parts.layout = in.Byte();
  parts.kind = in.Byte();
  in.Fixed32();
  parts.header = in.Counted();
  parts.batch = in.rest();
  return parts;
}

void RunSeed(uint64_t seed) {
  Mutator random(seed);
  History history(seed);
  ASSERT_FALSE(history.Run(300).has_value());
  std::vector<raft::Bytes> entries;
  for (uint64_t i = 1; i <= history.log().last(); ++i) {
    if (!history.log().at(i).empty()) entries.push_back(history.log().at(i));
  }
  const auto& snapshots = history.snapshots();
  auto some = [&](const std::vector<raft::Bytes>& all) -> const raft::Bytes& { return all[random.Below(all.size())]; };
  Machine machine;
  int applied = 0, restored = 0;
  for (int i = 0; i < kStringsPerSeed; ++i) {
    // Damaged as they are.
    const raft::Bytes bad = raft::Bytes::Copy(random.Damage(std::string(some(entries).view()), some(entries).view()));
    ASSERT_NO_FATAL_FAILURE(ReadEntry(random, bad));
    ASSERT_NO_FATAL_FAILURE(ReadBatch(random, bad));
    ASSERT_NO_FATAL_FAILURE(ReadEntry(random, raft::Bytes::Copy(random.Random(64))));
    ASSERT_NO_FATAL_FAILURE(ReadBatch(random, raft::Bytes::Copy(random.Random(64))));

    // Damaged, with a right checksum around: what is inside is read.
    Parts parts = PartsOf(some(entries));
    const Parts other = PartsOf(some(entries));
    if (random.Below(8) == 0) {
      parts.header = random.Random(48);
    } else if (!parts.batch.empty() && random.Below(2) == 0) {
      parts.batch = random.Damage(parts.batch, other.batch);
    } else {
      parts.header = random.Damage(parts.header, other.header);
    }
    const raft::Bytes sealed = SealedEntry(parts.layout, parts.kind, parts.header, parts.batch);
    ASSERT_NO_FATAL_FAILURE(ReadEntry(random, sealed));
    ASSERT_TRUE(machine.Restore(some(snapshots)).ok());
    applied += DecodeEntry(sealed).ok() ? 1 : 0;
    ASSERT_NO_FATAL_FAILURE(ApplyTo(machine, sealed));

    const std::string snapshot(some(snapshots).view());
    ASSERT_FALSE(machine.Restore(raft::Bytes::Copy(random.Damage(snapshot, "x") + "x")).ok());
    const std::string body = snapshot.substr(0, snapshot.size() - 4);
    ASSERT_NO_FATAL_FAILURE(
        RestoreFrom(history, random, SealedSnapshot(random.Damage(body, some(snapshots).view())), &restored));
    ASSERT_NO_FATAL_FAILURE(
        RestoreFrom(history, random, SealedSnapshot(body.substr(0, 2) + random.Random(64)), &restored));
  }
  // The damage is not so great that nothing gets in.
  EXPECT_GT(applied, kStringsPerSeed / 20);
  EXPECT_GT(restored, kStringsPerSeed / 100);
}

TEST(DecodersTest, DamagedBytesAreRefusedOrHarmless) {
  const char* one = std::getenv("QUEUE_SEED");
  const uint64_t first = one == nullptr ? 1 : std::strtoull(one, nullptr, 10);
  for (uint64_t seed = first; seed <= (one == nullptr ? kSeeds : first); ++seed) {
    SCOPED_TRACE("replay: QUEUE_SEED=" + std::to_string(seed) + " build/dev/tests/queue_decoders_test");
    RunSeed(seed);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace trireme::queue
