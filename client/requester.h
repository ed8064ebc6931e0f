// Asks, and awaits the replies: many requests at a time over one inbox.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trireme/v1/message.pb.h"

namespace trireme::client {

class Core;
class RequesterImpl;

struct RequesterOptions {
  // Where requests go.
  std::string queue = {};
  // How long a request waits for its reply, unless it says so itself; at least 1 ms.
  std::chrono::milliseconds timeout{30'000};
  // Requests that await their replies; more are refused. 1 to 65,536.
  uint32_t max_in_flight = 8'192;
};

// Thread-safe. It keeps an inbox, a temporary queue at one node; when that node's process ends, what was asked and not
// replied to is answered UNAVAILABLE, and another inbox is made. Requests themselves are published as by a Producer:
// sent again, without duplicates, when their queue's leader changes.
class Requester {
 public:
  // Called once, on the client's thread; must not block. The reply, or DEADLINE_EXCEEDED (none came in time),
  // UNAVAILABLE (the inbox is gone): whether the request was, or will be, handled is then not known. NOT_FOUND,
  // FAILED_PRECONDITION and the like: it was not stored. RESOURCE_EXHAUSTED: max_in_flight. CANCELLED: this object is
  // destroyed.
  using Done = absl::AnyInvocable<void(absl::StatusOr<v1::Message>)>;

  Requester(std::shared_ptr<Core> core, std::shared_ptr<RequesterImpl> impl);
  // Not from a callback.
  ~Requester();

  Requester(const Requester&) = delete;
  Requester& operator=(const Requester&) = delete;

  // `message` without reply_to and correlation_id, which are this object's to set. `timeout` 0 = the options'.
  void Request(v1::Message message, std::chrono::milliseconds timeout, Done done);
  // Not from a callback.
  absl::StatusOr<v1::Message> RequestAndWait(v1::Message message,
                                             std::chrono::milliseconds timeout = std::chrono::milliseconds(0));

 private:
  const std::shared_ptr<Core> core_;  // until the rest has ended
  const std::shared_ptr<RequesterImpl> impl_;
};

}  // namespace trireme::client
