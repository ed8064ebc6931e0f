#include "tests/failover/network/host.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace trireme::failover {
namespace {

// As in a data centre with jumbo frames; larger packets mean fewer of them through the switch.
constexpr int kMtu = 8'900;
// The switch may be kept from its processor for a while.
constexpr int kQueuePackets = 10'000;

absl::Status Lacking(const std::string& what) {
  return absl::UnavailableError(absl::StrCat("cannot ", what, ": ", std::strerror(errno)));
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

ifreq Named(const char* name) {
  ifreq request{};
  std::strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  return request;
}

absl::Status Raise(int socket, const char* name) {
  ifreq request = Named(name);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(socket, SIOCSIFFLAGS, &request) != 0) return Lacking(absl::StrCat("raise ", name));
  return absl::OkStatus();
}

absl::Status SetAddress(int socket, const char* name, unsigned long what, const std::string& address) {
  ifreq request = Named(name);
  auto* internet = reinterpret_cast<sockaddr_in*>(&request.ifr_addr);
  internet->sin_family = AF_INET;
  ::inet_pton(AF_INET, address.c_str(), &internet->sin_addr);
  if (::ioctl(socket, what, &request) != 0) return Lacking(absl::StrCat("give ", name, " the address ", address));
  return absl::OkStatus();
}

// In the namespace that the thread is in. The device's descriptor.
absl::StatusOr<int> MakeDevice(const std::string& address) {
  Fd tun(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (tun.get() < 0) return Lacking("open /dev/net/tun");
  ifreq request = Named("net0");
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (::ioctl(tun.get(), TUNSETIFF, &request) != 0) return Lacking("make a TUN device");
  Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (socket.get() < 0) return Lacking("open a socket");
  ifreq mtu = Named("net0");
  mtu.ifr_mtu = kMtu;
  if (::ioctl(socket.get(), SIOCSIFMTU, &mtu) != 0) return Lacking("set the MTU of net0");
  ifreq queue = Named("net0");
  queue.ifr_qlen = kQueuePackets;
  if (::ioctl(socket.get(), SIOCSIFTXQLEN, &queue) != 0) return Lacking("set the queue of net0");
  if (absl::Status set = SetAddress(socket.get(), "net0", SIOCSIFADDR, address); !set.ok()) return set;
  if (absl::Status set = SetAddress(socket.get(), "net0", SIOCSIFNETMASK, "255.255.255.0"); !set.ok()) return set;
  if (absl::Status up = Raise(socket.get(), "net0"); !up.ok()) return up;
  if (absl::Status up = Raise(socket.get(), "lo"); !up.ok()) return up;
  return tun.release();
}

}  // namespace

Host::Host(Host&& other) noexcept
    : address_(std::move(other.address_)),
      namespace_(std::exchange(other.namespace_, -1)),
      tun_(std::exchange(other.tun_, -1)) {}

Host::~Host() {
  if (namespace_ >= 0) ::close(namespace_);
  if (tun_ >= 0) ::close(tun_);
}

absl::StatusOr<std::vector<Host>> Host::Make(int count) {
  Fd home(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (home.get() < 0) return Lacking("open /proc/self/ns/net");
  std::vector<Host> hosts;
  absl::Status made = absl::OkStatus();
  for (int number = 1; number <= count && made.ok(); ++number) {
    if (::unshare(CLONE_NEWNET) != 0) {
      made = Lacking("make a network namespace");
      break;
    }
    const std::string address = absl::StrCat("10.77.0.", number);
    const int own = ::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    absl::StatusOr<int> tun = MakeDevice(address);
    if (!tun.ok()) {
      ::close(own);
      made = tun.status();
      break;
    }
    hosts.push_back(Host(address, own, *tun));
  }
  if (::setns(home.get(), CLONE_NEWNET) != 0) return Lacking("come back to the network namespace at home");
  if (!made.ok()) return made;
  return hosts;
}

absl::Status Host::Enter() const {
  if (::setns(namespace_, CLONE_NEWNET) != 0) return Lacking(absl::StrCat("enter the host ", address_));
  return absl::OkStatus();
}

}  // namespace trireme::failover
