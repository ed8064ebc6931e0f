#include "tests/failover/live.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace trireme::failover {

Live::Live(std::string path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}

Live::~Live() {
  if (fd_ >= 0) ::close(fd_);
}

void Live::Poll() {
  std::array<char, 64 * 1024> buffer;
  ssize_t size = 0;
  while ((size = ::read(fd_, buffer.data(), buffer.size())) > 0) rest_.append(buffer.data(), static_cast<size_t>(size));
  size_t at = 0;
  for (size_t end = 0; (end = rest_.find('\n', at)) != std::string::npos; at = end + 1) {
    const absl::StatusOr<TimedEvent> timed = ParseLine(std::string_view(rest_).substr(at, end - at));
    if (timed.ok()) std::visit([&](const auto& event) { See(timed->at_us, event); }, timed->event);
  }
  rest_.erase(0, at);
}

bool Live::ProgressSince(uint64_t at_us) const {
  return std::all_of(queues_.begin(), queues_.end(), [&](const auto& each) {
    const Last& last = each.second;
    return !last.probed || (last.confirm_us >= at_us && last.delivery_us >= at_us);
  });
}

void Live::See(uint64_t, const ProducerMade& made) {
  cast_.Add(made);
  if (made.prober) queues_[made.queue].probed = true;
}

void Live::See(uint64_t, const ConsumerMade& made) {
  cast_.Add(made);
}

void Live::See(uint64_t at_us, const Published& done) {
  if (done.outcome != Stored::kStored && done.outcome != Stored::kDuplicate) return;
  confirmed_ += done.count;
  queues_[cast_.producer(done.producer).queue].confirm_us = at_us;
}

void Live::See(uint64_t at_us, const Delivered& run) {
  delivered_ += run.count;
  queues_[cast_.consumer(run.consumer).queue].delivery_us = at_us;
}

}  // namespace trireme::failover
