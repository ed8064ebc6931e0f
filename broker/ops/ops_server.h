// The thread beside the shards: signals, the metrics' HTTP port, and slow periodic work.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace prometheus {
class Registry;
struct MetricFamily;
}  // namespace prometheus

namespace trireme::broker {

// One Asio loop on a thread of its own. The functions are called on that thread.
class OpsServer {
 public:
  struct Options {
    std::string metrics_listen;  // host:port; empty = no HTTP
    int max_connections = 32;    // more are closed at once
    std::chrono::seconds idle{10};
    size_t max_request_bytes = 8 << 10;
  };
  struct Handlers {
    std::function<void(int signal)> signalled;  // SIGTERM, SIGINT
    std::function<void()> each_second;
    std::function<bool()> healthy;         // for /healthz
    std::function<std::string()> unready;  // for /readyz: why clients had better go elsewhere, or ""
    // For /metrics/queues; nothing: they could not be had in time.
    std::function<std::optional<std::vector<prometheus::MetricFamily>>()> queues;
  };

  // `registry` outlives it. UNAVAILABLE: the address is in use.
  static absl::StatusOr<std::unique_ptr<OpsServer>> Start(Options options, prometheus::Registry* registry,
                                                          Handlers handlers);
  // Stops and joins the thread.
  virtual ~OpsServer() = default;
  // The port that /metrics and /healthz are served on; 0 without.
  virtual uint16_t port() const = 0;
};

}  // namespace trireme::broker
