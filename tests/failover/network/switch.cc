#include "tests/failover/network/switch.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace trireme::failover {
namespace {

constexpr size_t kIpHeader = 20;
// All that waits for its time, together.
constexpr uint64_t kMaxLaterBytes = 256 << 20;
// So that one busy host does not keep the others waiting.
constexpr int kPacketsPerTurn = 64;

}  // namespace

Switch::Switch(const std::vector<Host>& hosts, uint64_t seed)
    : hosts_(hosts), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  for (const Host& host : hosts) {
    in_addr address{};
    ::inet_pton(AF_INET, host.address().c_str(), &address);
    addresses_.push_back(address.s_addr);
  }
  {
    absl::MutexLock lock(&mutex_);
    for (size_t pair = 0; pair < hosts.size() * hosts.size(); ++pair) pairs_.emplace_back(seed + pair);
  }
  thread_ = std::thread([this] { Run(); });
}

Switch::~Switch() {
  stopping_ = true;
  Wake();
  thread_.join();
  ::close(wake_);
}

void Switch::Wake() {
  const uint64_t one = 1;
  // A full counter wakes as well.
  [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
}

void Switch::SetRule(size_t from, size_t to, const WireRule& rule) {
  {
    absl::MutexLock lock(&mutex_);
    Pair& pair = pairs_[from * hosts_.size() + to];
    pair.wire.SetRule(rule);
    if (rule.withhold) return;
    const Wire::Time now = std::chrono::steady_clock::now();
    for (std::string& bytes : pair.withheld) {
      later_bytes_ += bytes.size();
      later_.push({now, next_number_++, to, std::move(bytes)});
    }
    pair.withheld.clear();
    pair.withheld_bytes = 0;
  }
  Wake();
}

void Switch::Heal() {
  for (size_t from = 0; from < hosts_.size(); ++from) {
    for (size_t to = 0; to < hosts_.size(); ++to) SetRule(from, to, WireRule{});
  }
}

Switch::Counts Switch::counts() const {
  absl::MutexLock lock(&mutex_);
  return counts_;
}

void Switch::Run() {
  ::prctl(PR_SET_NAME, "switch");
  std::vector<pollfd> descriptors;
  for (const Host& host : hosts_) descriptors.push_back({host.tun_fd(), POLLIN, 0});
  descriptors.push_back({wake_, POLLIN, 0});
  while (!stopping_) {
    const Wire::Time now = std::chrono::steady_clock::now();
    const Wire::Time next = Deliver(now);
    timespec wait{};
    const bool forever = next == Wire::Time::max();
    if (!forever) {
      const auto nanoseconds =
          std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::nanoseconds>(next - now).count());
      wait = {nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
    }
    if (::ppoll(descriptors.data(), descriptors.size(), forever ? nullptr : &wait, nullptr) < 0) continue;
    for (size_t i = 0; i < hosts_.size(); ++i) {
      if (descriptors[i].revents != 0) Read(i);
    }
    uint64_t ignored = 0;
    [[maybe_unused]] const ssize_t got = ::read(wake_, &ignored, sizeof ignored);
  }
}

void Switch::Read(size_t from) {
  std::array<char, 65'536> buffer;
  for (int i = 0; i < kPacketsPerTurn; ++i) {
    const ssize_t size = ::read(hosts_[from].tun_fd(), buffer.data(), buffer.size());
    if (size <= 0) return;
    Take(from, std::string_view(buffer.data(), static_cast<size_t>(size)), std::chrono::steady_clock::now());
  }
}

void Switch::Take(size_t from, std::string_view bytes, Wire::Time now) {
  // Only IPv4 between the hosts is anybody's business; what else a kernel sends on its own is dropped.
  if (bytes.size() < kIpHeader || static_cast<unsigned char>(bytes[0]) >> 4 != 4) return;
  uint32_t destination = 0;
  std::memcpy(&destination, bytes.data() + 16, sizeof destination);
  const auto found = std::find(addresses_.begin(), addresses_.end(), destination);
  if (found == addresses_.end()) return;
  const auto to = static_cast<size_t>(found - addresses_.begin());
  {
    absl::MutexLock lock(&mutex_);
    Pair& pair = pairs_[from * hosts_.size() + to];
    const Wire::Fate fate = pair.wire.Send(now, bytes.size());
    if (fate.withheld && pair.withheld_bytes + bytes.size() <= kMaxHeldBytes) {
      ++counts_.withheld;
      pair.withheld.emplace_back(bytes);
      pair.withheld_bytes += bytes.size();
      return;
    }
    if (fate.copies == 0) {
      ++counts_.dropped;
      return;
    }
    ++counts_.passed;
    if (fate.copies == 2) ++counts_.doubled;
    const bool at_once = fate.copies == 1 && fate.due[0] <= now;
    if (!at_once) {
      for (int copy = 0; copy < fate.copies && later_bytes_ + bytes.size() <= kMaxLaterBytes; ++copy) {
        later_bytes_ += bytes.size();
        later_.push({fate.due[copy], next_number_++, to, std::string(bytes)});
      }
      return;
    }
  }
  Write(to, bytes);
}

Wire::Time Switch::Deliver(Wire::Time now) {
  absl::MutexLock lock(&mutex_);
  while (!later_.empty()) {
    if (later_.top().due > now) return later_.top().due;
    Write(later_.top().to, later_.top().bytes);
    later_bytes_ -= later_.top().bytes.size();
    later_.pop();
  }
  return Wire::Time::max();
}

void Switch::Write(size_t to, std::string_view bytes) {
  // A host that does not take it has lost it, as with any network.
  [[maybe_unused]] const ssize_t written = ::write(hosts_[to].tun_fd(), bytes.data(), bytes.size());
}

}  // namespace trireme::failover
