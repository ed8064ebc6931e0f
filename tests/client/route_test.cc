#include "client/route.h"

#include <set>

#include "client/client.h"
#include "gtest/gtest.h"

namespace trireme::client {
namespace {

constexpr Time kNow = Time() + std::chrono::hours(1);

TEST(ServersTest, TakesTurnsAndSkipsWhatFailed) {
  Servers servers({"a:1", "b:1", "c:1"});
  EXPECT_EQ(servers.Next("", kNow), "a:1");
  EXPECT_EQ(servers.Next("", kNow), "b:1");
  servers.Failed("c:1", kNow);
  EXPECT_EQ(servers.Next("", kNow), "a:1");
  EXPECT_EQ(servers.Next("b:1", kNow), "a:1");
  EXPECT_EQ(servers.Next("b:1", kNow + Servers::kAvoid), "c:1");
  servers.Failed("c:1", kNow);
  servers.Answered("c:1");
  EXPECT_FALSE(servers.Avoided("c:1", kNow));
}

TEST(ServersTest, GivesSomethingWhenEverythingFailed) {
  Servers servers({"a:1", "b:1"});
  servers.Failed("a:1", kNow);
  servers.Failed("b:1", kNow);
  EXPECT_EQ(servers.Next("a:1", kNow), "b:1");
  Servers one({"a:1"});
  EXPECT_EQ(one.Next("a:1", kNow), "a:1");
}

TEST(ServersTest, LearnsEachNodeOnce) {
  Servers servers({"a:1"});
  servers.Learn("b:1");
  servers.Learn("b:1");
  servers.Learn("");
  EXPECT_EQ(servers.all(), (std::vector<std::string>{"a:1", "b:1"}));
}

TEST(BackoffTest, GrowsFromTenMillisecondsToASecondAndStartsAgain) {
  Backoff backoff(7);
  auto longest = std::chrono::duration_cast<std::chrono::microseconds>(Backoff::kFirst);
  std::set<Duration> seen;
  for (int i = 0; i < 20; ++i) {
    const Duration pause = backoff.Next();
    EXPECT_GE(pause, longest / 2) << "try " << i;
    EXPECT_LE(pause, longest) << "try " << i;
    seen.insert(pause);
    longest = std::min<std::chrono::microseconds>(longest * 2, Backoff::kLongest);
  }
  EXPECT_GT(seen.size(), 15u);
  backoff.Reset();
  EXPECT_LE(backoff.Next(), Backoff::kFirst);
}

TEST(ParseServersTest, TakesListsPortsAndIpv6) {
  EXPECT_EQ(*ParseServers("a:1, b:2 ,c"), (std::vector<std::string>{"a:1", "b:2", "c:7650"}));
  EXPECT_EQ(*ParseServers("[::1]:7000,[fe80::1]"), (std::vector<std::string>{"[::1]:7000", "[fe80::1]:7650"}));
}

TEST(ParseServersTest, NamesWhatIsWrong) {
  for (const char* bad :
       {"", " , ", "a:0", "a:65536", "a:", "a:x", ":7650", "a:-1", "a:1 2", "::1", "a:99999999999999999999"}) {
    absl::StatusOr<std::vector<std::string>> servers = ParseServers(bad);
    EXPECT_EQ(servers.status().code(), absl::StatusCode::kInvalidArgument) << "\"" << bad << "\"";
  }
  EXPECT_NE(ParseServers("ok:1,bad:70000").status().message().find("\"bad:70000\""), absl::string_view::npos);
  EXPECT_NE(ParseServers("bad:70000").status().message().find("1 to 65535"), absl::string_view::npos);
}

TEST(ClientOptionsTest, AreCheckedBeforeAnythingIsSent) {
  EXPECT_EQ(Client::Create({}).status().code(), absl::StatusCode::kInvalidArgument);
  auto client = Client::Create({.servers = {"127.0.0.1:1"}});
  ASSERT_TRUE(client.ok());
  auto bad_producer = [&](auto change) {
    ProducerOptions options;
    options.queue = "q";
    change(options);
    return (*client)->CreateProducer(std::move(options)).status();
  };
  EXPECT_EQ(bad_producer([](auto& o) { o.queue = ""; }).message(), "the queue's name is empty");
  EXPECT_NE(bad_producer([](auto& o) { o.queue = std::string(256, 'q'); }).message().find("256 bytes long"),
            absl::string_view::npos);
  EXPECT_EQ(bad_producer([](auto& o) { o.max_in_flight_messages = 65'537; }).message(),
            "max_in_flight_messages is 65537; it must be 1 to 65536");
  EXPECT_EQ(bad_producer([](auto& o) { o.max_batch_messages = 0; }).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(bad_producer([](auto& o) { o.max_batch_bytes = 256 * 1024 + 1; }).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(bad_producer([](auto& o) {
              o.name = "p";
              o.deduplicate = false;
            }).code(),
            absl::StatusCode::kInvalidArgument);
  auto bad_consumer = [&](auto change) {
    ConsumerOptions options;
    options.queue = "q";
    change(options);
    return (*client)->CreateConsumer(std::move(options)).status();
  };
  EXPECT_EQ(bad_consumer([](auto& o) { o.max_outstanding_messages = 0; }).message(),
            "max_outstanding_messages is 0; it must be 1 to 100000");
  EXPECT_EQ(bad_consumer([](auto& o) { o.session_timeout = std::chrono::milliseconds(999); }).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(bad_consumer([](auto& o) { o.queue = ""; }).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace trireme::client
