// A blocking connection over loopback, read in large pieces and written at once.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::compare {

// For one thread. Ends the process when the other side closes.
class Socket {
 public:
  explicit Socket(uint16_t port);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // What is put here leaves with the next Send.
  std::string& out() { return out_; }
  void Send();

  // What was received and not passed over. Valid until the next Receive.
  std::string_view in() const { return {in_.data() + begin_, end_ - begin_}; }
  void PassOver(size_t bytes) { begin_ += bytes; }
  // Waits up to `wait` for more; false if nothing came.
  bool Receive(std::chrono::nanoseconds wait);

 private:
  int fd_;
  std::string out_;
  std::vector<char> in_;
  size_t begin_ = 0, end_ = 0;
};

}  // namespace trireme::compare
