#include "tests/failover/history/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

namespace trireme::failover {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class Known>
void RoundTrip(const Known& event) {
  std::string line;
  AppendLine(1'234, event, line);
  ASSERT_EQ(line.back(), '\n');
  line.pop_back();
  absl::StatusOr<TimedEvent> parsed = ParseLine(line);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->at_us, 1'234u);
  ASSERT_TRUE(std::holds_alternative<Known>(parsed->event)) << line;
  std::string again;
  AppendLine(parsed->at_us, parsed->event, again);
  EXPECT_EQ(again, line + "\n");
}

template <size_t I = 0>
void RoundTripAll() {
  if constexpr (I < std::variant_size_v<Event>) {
    RoundTrip(std::variant_alternative_t<I, Event>{});
    RoundTripAll<I + 1>();
  }
}

TEST(Codec, ReadsWhatItWrites) {
  RoundTripAll();
  RoundTrip(Published{7, 1ull << 40, 12, Stored::kDuplicate, UINT64_MAX});
  RoundTrip(Settle{1, 2, Disposition::kReject, 3, 4, 5});
  RoundTrip(Settled{1, 2, Settling::kLost, true});
  for (const char* text : {"", "-", "with blanks and 100 %", "line\nbreak", "umlaut \xc3\xbc"}) RoundTrip(Note{text});
}

TEST(Codec, WritesLinesForPeople) {
  std::string line;
  AppendLine(250'000, FaultBegan{3, "kill", 2, "kill node 2"}, line);
  EXPECT_EQ(line, "250000 fault 3 kill 2 kill%20node%202 .\n");
}

TEST(Codec, RefusesWhatIsNoEvent) {
  for (const char* line : {"", "12", "12 healed", "healed .", "12 healed . ", "12 nonsense 3 .", "12 publish 1 2 .",
                           "12 publish 1 2 3 4 .", "12 publish 1 -2 3 .", "12 publish 1 2 x .", "12 ended maybe .",
                           "12 note a%zz .", "12 published 1 2 3 lost 4 ."}) {
    EXPECT_FALSE(ParseLine(line).ok()) << line;
  }
}

// Remembers messages and notes, as they come.
struct Recorder : Observer {
  using Observer::See;
  void See(uint64_t at_us, const Publish& call) override { seen.emplace_back(at_us, call.first); }
  std::vector<std::pair<uint64_t, uint64_t>> seen;
};

absl::StatusOr<HistoryRead> Read(std::string_view text, Recorder& recorder) {
  Observer* observer = &recorder;
  return ReadHistoryText(text, {&observer, 1});
}

TEST(History, IsShownInTheOrderOfItsTimes) {
  Recorder recorder;
  auto read = Read("trireme-history 1\n20 publish 1 2 1 .\n10 publish 1 1 1 .\n20 publish 1 3 1 .\n", recorder);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->events, 3u);
  EXPECT_THAT(recorder.seen, ElementsAre(std::pair(10u, 1u), std::pair(20u, 2u), std::pair(20u, 3u)));
}

TEST(History, LeavesOutTornLinesAndCountsThem) {
  Recorder recorder;
  auto read =
      Read("trireme-history 1\n# a remark\n10 publish 1 1 1 .\n11 publish 1 2\n\n12 publish 1 3 1 .\n13 pub", recorder);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->events, 2u);
  EXPECT_EQ(read->torn, 2u);
}

TEST(History, IsRefusedWhenItIsNone) {
  Recorder recorder;
  EXPECT_FALSE(Read("", recorder).ok());
  EXPECT_FALSE(Read("trireme-history 2\n", recorder).ok());
  auto read = Read("trireme-history 1\n10 nonsense .\n", recorder);
  EXPECT_THAT(std::string(read.status().message()), HasSubstr("nonsense"));
  EXPECT_FALSE(ReadHistory("/nonexistent/history", {}).ok());
}

TEST(History, HoldsWhatAProcessWroteBeforeItWasKilled) {
  std::string path = testing::TempDir() + "/history.XXXXXX";
  const int fd = mkstemp(path.data());
  ASSERT_GE(fd, 0);
  close(fd);
  const uint64_t epoch_us = MonotonicUs();
  absl::StatusOr<HistoryWriter> writer = HistoryWriter::Open(path, epoch_us);
  ASSERT_TRUE(writer.ok()) << writer.status();
  writer->Append(Publish{1, 1, 1});
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    absl::StatusOr<HistoryWriter> own = HistoryWriter::Open(path, epoch_us);
    if (own.ok()) {
      own->Append(Publish{1, 2, 1});
      std::ofstream(path, std::ios::app) << "13 publ";
    }
    raise(SIGKILL);
  }
  int how = 0;
  waitpid(child, &how, 0);
  ASSERT_TRUE(WIFSIGNALED(how));
  writer->Append(Publish{1, 3, 1});
  Recorder recorder;
  Observer* observer = &recorder;
  auto read = ReadHistory(path, {&observer, 1});
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->torn, 1u);
  ASSERT_EQ(recorder.seen.size(), 3u);
  for (uint64_t i = 0; i < 3; ++i) EXPECT_EQ(recorder.seen[i].second, i + 1);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace trireme::failover
