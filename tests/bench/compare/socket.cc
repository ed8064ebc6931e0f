#include "tests/bench/compare/socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tests/bench/compare/load.h"

namespace trireme::compare {
namespace {
constexpr size_t kRoom = size_t{1} << 20;
}

Socket::Socket(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), in_(kRoom) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd_ < 0 || connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
    Die("cannot connect to port " + std::to_string(port) + ": " + std::strerror(errno));
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

Socket::~Socket() {
  close(fd_);
}

void Socket::Send() {
  for (std::string_view rest = out_; !rest.empty();) {
    const ssize_t sent = send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) Die(std::string("sending: ") + std::strerror(errno));
    rest.remove_prefix(static_cast<size_t>(sent));
  }
  out_.clear();
}

bool Socket::Receive(std::chrono::nanoseconds wait) {
  pollfd readable{fd_, POLLIN, 0};
  const timespec limit{static_cast<time_t>(wait.count() / 1'000'000'000),
                       static_cast<long>(wait.count() % 1'000'000'000)};
  if (ppoll(&readable, 1, &limit, nullptr) <= 0) return false;
  std::memmove(in_.data(), in_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (end_ == in_.size()) in_.resize(2 * in_.size());
  const ssize_t received = recv(fd_, in_.data() + end_, in_.size() - end_, 0);
  if (received < 0 && errno == EINTR) return false;
  if (received <= 0) Die(received == 0 ? "the broker closed the connection" : std::strerror(errno));
  end_ += static_cast<size_t>(received);
  return true;
}

}  // namespace trireme::compare
