// The preloaded library in a real process: this program, started again as a child that does as it is told.
#include "tests/failover/cluster/machine.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "tests/failover/cluster/process.h"
#include "tests/failover/history/history.h"

namespace trireme::failover {

// What the child does; its output is what the test looks at.
int Child(const std::string& what, const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT, 0600);
  auto put = [&](off_t at, const std::string& text) {
    if (pwrite(fd, text.data(), text.size(), at) < 0) std::printf("write: %s\n", std::strerror(errno));
  };
  auto sync = [&] {
    if (fdatasync(fd) != 0) std::printf("sync: %s\n", std::strerror(errno));
  };
  if (what == "time") {
    std::printf("%lld %lld\n", static_cast<long long>(std::time(nullptr)),
                static_cast<long long>(absl::ToUnixSeconds(absl::Now())));
  } else if (what == "wait") {
    // A wait by the shifted clock takes as long as it should.
    const uint64_t began_us = MonotonicUs();
    absl::Mutex mutex;
    absl::CondVar changed;
    mutex.Lock();
    changed.WaitWithDeadline(&mutex, absl::Now() + absl::Milliseconds(50));
    mutex.Unlock();
    std::mutex other;
    std::unique_lock lock(other);
    std::condition_variable condition;
    condition.wait_until(lock, std::chrono::system_clock::now() + std::chrono::milliseconds(50));
    const uint64_t took_us = MonotonicUs() - began_us;
    std::printf("%s\n", took_us >= 95'000 && took_us < 5'000'000 ? "in time" : absl::StrCat(took_us).c_str());
  } else if (what == "write") {
    put(0, "one");
    sync();
    put(3, "two");
  } else if (what == "die") {
    put(0, std::string(10'000, 'a'));
    sync();
    put(100, std::string(5'000, 'b'));
    put(9'000, std::string(5'000, 'c'));
    std::fflush(stdout);
    raise(SIGKILL);
  }
  return 0;
}

namespace {

class MachineTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "/machine.XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    std::filesystem::create_directories(folder_ + "/data");
    const std::string self = std::filesystem::read_symlink("/proc/self/exe");
    auto machine = Machine::Make(PRELOAD_LIBRARY, folder_ + "/data", folder_ + "/own");
    ASSERT_TRUE(machine.ok()) << machine.status();
    machine_ = *std::move(machine);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string file() const { return folder_ + "/data/file"; }
  std::string Run(const std::string& what, const std::string& path, const std::string& end = "exit code 0") {
    Command command;
    command.arguments = {std::filesystem::read_symlink("/proc/self/exe"), "--child", what, path};
    command.environment = machine_->environment();
    command.log = folder_ + "/output";
    std::filesystem::remove(command.log);
    auto process = Process::Start(command);
    EXPECT_TRUE(process.ok()) << process.status();
    EXPECT_EQ((*process)->WaitEnded(std::chrono::seconds(30)), end);
    return Content(command.log);
  }
  static std::string Content(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  }

  std::string folder_;
  std::unique_ptr<Machine> machine_;
};

TEST_F(MachineTest, ShiftsTheWallClockAndNotTheWaits) {
  for (int64_t hours : {-3, 0, 3}) {
    machine_->control().clock_offset_us = hours * 3'600'000'000;
    long long libc = 0, absl = 0;
    const std::string told = Run("time", file());
    ASSERT_EQ(std::sscanf(told.c_str(), "%lld %lld", &libc, &absl), 2) << told;
    EXPECT_NEAR(static_cast<double>(libc - std::time(nullptr)), static_cast<double>(hours) * 3'600, 60);
    EXPECT_NEAR(static_cast<double>(absl - std::time(nullptr)), static_cast<double>(hours) * 3'600, 60);
    EXPECT_EQ(Run("wait", file()), "in time\n");
  }
}

TEST_F(MachineTest, FailsWritesAndSyncsOfTheNodesFilesOnly) {
  EXPECT_EQ(Run("write", file()), "");
  machine_->control().sync_error = EIO;
  EXPECT_EQ(Run("write", file()), "sync: Input/output error\n");
  EXPECT_EQ(Run("write", folder_ + "/elsewhere"), "");
  machine_->control().sync_error = 0;
  machine_->control().write_error = ENOSPC;
  EXPECT_EQ(Run("write", file()), "write: No space left on device\nwrite: No space left on device\n");
}

TEST_F(MachineTest, TakesBackWhatWasNotSyncedWhenPowerIsLost) {
  machine_->control().remember = 1;
  const std::string synced(10'000, 'a');
  bool lost_all = false, torn = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::mt19937_64 chance(seed);
    std::filesystem::remove(file());
    Run("die", file(), "signal 9");
    ASSERT_EQ(Content(file()).size(), 14'000u);
    const absl::StatusOr<int> lost = machine_->LosePower(chance);
    ASSERT_TRUE(lost.ok()) << lost.status();
    EXPECT_EQ(*lost, 2);
    const std::string left = Content(file());
    lost_all |= left == synced;
    if (left == synced) continue;
    torn = true;
    ASSERT_EQ(left.size(), 14'000u);
    // Each sector is what it was before or after some write.
    for (size_t at = 0; at < left.size(); ++at) {
      const bool in_b = at >= 100 && at < 5'100, in_c = at >= 9'000;
      const std::string_view possible = at >= 10'000 ? std::string_view("c\0", 2) : in_b ? "ab" : in_c ? "ac" : "a";
      ASSERT_NE(possible.find(left[at]), std::string_view::npos) << "at " << at;
    }
  }
  EXPECT_TRUE(lost_all);
  EXPECT_TRUE(torn);
}

TEST_F(MachineTest, KeepsWhatWasSyncedWhenPowerIsLost) {
  machine_->control().remember = 1;
  EXPECT_EQ(Run("write", file()), "");
  std::mt19937_64 chance(1);
  EXPECT_EQ(machine_->LosePower(chance).value_or(-1), 1);
  EXPECT_THAT(Content(file()), testing::AnyOf("one", std::string("one\0\0\0", 6), "onetwo"));
}

}  // namespace
}  // namespace trireme::failover

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "--child") return trireme::failover::Child(argv[2], argv[3]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
