// A real broker whose disk fails: it ends as docs/configuration.md says, and says why (Safety rule 16).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "tests/failover/cluster/cluster.h"

namespace trireme::failover {
namespace {

// What the histories of these tests have of a node.
class NodeEvents : public Observer {
 public:
  using Observer::See;
  void See(uint64_t, const NodeChanged& changed) override {
    text += absl::StrCat(changed.what, changed.unexpected ? " (unexpected)" : "", "\n");
  }
  std::string text;
};

class DiskFailureTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "/disk-failure.XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    auto history = HistoryWriter::Open(folder_ + "/history", MonotonicUs());
    ASSERT_TRUE(history.ok()) << history.status();
    history_ = std::make_unique<HistoryWriter>(*std::move(history));
    std::filesystem::create_directories(folder_ + "/logs");
    ClusterOptions options;
    options.broker = BROKER;
    options.preload = PRELOAD_LIBRARY;
    options.nodes = 1;
    options.data = folder_;
    options.logs = folder_ + "/logs";
    auto cluster = Cluster::Start(std::move(options), *history_);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
  }
  void TearDown() override {
    cluster_.reset();
    std::filesystem::remove_all(folder_);
  }

  void ExpectItEnds(std::atomic<uint32_t>& fault, int error) {
    cluster_->Excuse(1, true);
    fault = static_cast<uint32_t>(error);
    // Has to be written down, so it meets the disk; what becomes of the call is not known.
    v1::CreateQueueRequest request;
    request.set_name("q");
    cluster_->client().CreateQueue(request, [](const absl::StatusOr<v1::CreateQueueResponse>&) {});
    EXPECT_EQ(cluster_->process(1)->WaitEnded(std::chrono::seconds(30)), "exit code 70") << Log();
    cluster_->Watch();
    EXPECT_THAT(Events(), testing::EndsWith("ended by itself: exit code 70, as it may\n"));
    EXPECT_THAT(Log(), testing::AllOf(testing::HasSubstr("the disk failed"), testing::HasSubstr(std::strerror(error)),
                                      testing::HasSubstr(cluster_->data_folder(1)), testing::HasSubstr("next=")));
    // And it comes back once the disk works.
    fault = 0;
    EXPECT_EQ(cluster_->StartNode(1), absl::OkStatus());
    EXPECT_EQ(cluster_->CreateQueue("q"), absl::OkStatus());
  }

  std::string Log() const {
    std::ifstream stream(folder_ + "/logs/node-1.log");
    return std::string(std::istreambuf_iterator<char>(stream), {});
  }
  std::string Events() const {
    NodeEvents events;
    Observer* const observers[] = {&events};
    EXPECT_TRUE(ReadHistory(folder_ + "/history", observers).ok());
    return events.text;
  }

  std::string folder_;
  std::unique_ptr<HistoryWriter> history_;
  std::unique_ptr<Cluster> cluster_;
};

TEST_F(DiskFailureTest, EndsTheBrokerWithItsExitCodeWhenASyncFails) {
  ExpectItEnds(cluster_->machine(1)->control().sync_error, EIO);
}

TEST_F(DiskFailureTest, EndsTheBrokerWithItsExitCodeWhenAWriteFails) {
  ExpectItEnds(cluster_->machine(1)->control().write_error, ENOSPC);
}

// An excuse for a failed disk is none for a crash.
TEST_F(DiskFailureTest, IsNoExcuseForASignal) {
  cluster_->Excuse(1, true);
  cluster_->process(1)->Signal(SIGABRT);
  EXPECT_EQ(cluster_->process(1)->WaitEnded(std::chrono::seconds(30)), "signal 6");
  cluster_->Watch();
  EXPECT_THAT(Events(), testing::EndsWith("ended by itself: signal 6 (unexpected)\n"));
}

}  // namespace
}  // namespace trireme::failover
