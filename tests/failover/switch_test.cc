// The hosts and the switch between them, for real: needs root, and is skipped without it.
#include "tests/failover/network/switch.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <optional>

namespace trireme::failover {
namespace {

using std::chrono::milliseconds;

class SwitchTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::vector<Host>> hosts = Host::Make(3);
    if (!hosts.ok()) GTEST_SKIP() << hosts.status();
    hosts_ = *std::move(hosts);
    for (size_t host = 0; host < hosts_.size(); ++host) sockets_.push_back(OpenOn(host));
    switch_.emplace(hosts_, 1);
  }
  void TearDown() override {
    for (int socket : sockets_) close(socket);
  }

  // A datagram socket of that host; a socket stays in the namespace in which it was made.
  int OpenOn(size_t host) {
    int made = -1;
    std::thread([&] {
      EXPECT_TRUE(hosts_[host].Enter().ok());
      made = socket(AF_INET, SOCK_DGRAM, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(9);
      EXPECT_EQ(bind(made, reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << std::strerror(errno);
    }).join();
    return made;
  }
  void Send(size_t from, size_t to, const std::string& text) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(9);
    inet_pton(AF_INET, hosts_[to].address().c_str(), &address.sin_addr);
    ASSERT_EQ(
        sendto(sockets_[from], text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&address), sizeof address),
        static_cast<ssize_t>(text.size()))
        << std::strerror(errno);
  }
  std::string Receive(size_t at, milliseconds patience = milliseconds(5'000)) {
    const timeval wait{patience.count() / 1'000, patience.count() % 1'000 * 1'000};
    setsockopt(sockets_[at], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    char buffer[2'000];
    const ssize_t size = recv(sockets_[at], buffer, sizeof buffer, 0);
    return size < 0 ? "nothing" : std::string(buffer, static_cast<size_t>(size));
  }

  std::vector<Host> hosts_;
  std::vector<int> sockets_;
  std::optional<Switch> switch_;
};

TEST_F(SwitchTest, PassesPacketsBetweenHosts) {
  for (size_t from = 0; from < 3; ++from) {
    for (size_t to = 0; to < 3; ++to) {
      if (from == to) continue;
      Send(from, to, "hello");
      EXPECT_EQ(Receive(to), "hello");
    }
  }
}

TEST_F(SwitchTest, CutsOneDirectionOfOnePair) {
  switch_->SetRule(0, 1, {.cut = true});
  Send(0, 1, "lost");
  Send(0, 2, "other pair");
  Send(1, 0, "other way");
  EXPECT_EQ(Receive(2), "other pair");
  EXPECT_EQ(Receive(0), "other way");
  // What was sent first would have come first.
  EXPECT_EQ(switch_->counts().dropped, 1u);
  switch_->Heal();
  Send(0, 1, "healed");
  EXPECT_EQ(Receive(1), "healed");
}

TEST_F(SwitchTest, KeepsWhatIsWithheldUntilItIsHealed) {
  switch_->SetBoth(0, 1, {.withhold = true});
  Send(0, 1, "one");
  Send(0, 1, "two");
  Send(0, 2, "passes");
  EXPECT_EQ(Receive(2), "passes");
  EXPECT_EQ(switch_->counts().withheld, 2u);
  switch_->Heal();
  EXPECT_EQ(Receive(1), "one");
  EXPECT_EQ(Receive(1), "two");
}

TEST_F(SwitchTest, DelaysAndDoubles) {
  switch_->SetRule(0, 1, {.doubled = 1, .delay = milliseconds(30)});
  const auto sent = std::chrono::steady_clock::now();
  Send(0, 1, "twice");
  EXPECT_EQ(Receive(1), "twice");
  EXPECT_GE(std::chrono::steady_clock::now() - sent, milliseconds(30));
  EXPECT_EQ(Receive(1), "twice");
}

}  // namespace
}  // namespace trireme::failover
