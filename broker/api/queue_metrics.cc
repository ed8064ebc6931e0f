#include "broker/api/queue_metrics.h"

#include <prometheus/client_metric.h>
#include <prometheus/metric_type.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace trireme::broker {
namespace {

constexpr size_t kQueuesPerTurn = 256;

// In the order of the families; what they are of each queue, and of each subscription.
enum Family {
  kPublished,
  kProducers,
  kRefused,
  kHeldMessages,
  kHeldBytes,
  kWaiting,
  kInFlight,
  kConsumers,
  kAcknowledged,
  kRejected,
  kSkipped,
  kExpired,
  kOverflowed,
  kCapped,
};

std::vector<prometheus::MetricFamily> Families() {
  using prometheus::MetricType;
  return {
      {"trireme_queue_published_total", "Messages stored since the queue was created.", MetricType::Counter, {}},
      {"trireme_queue_producers", "Producers whose sequences are remembered.", MetricType::Gauge, {}},
      {"trireme_queue_refused_total",
       "Messages refused by its limits, since its leader leads.",
       MetricType::Counter,
       {}},
      {"trireme_queue_held_messages", "Messages that its limits count; where it has any.", MetricType::Gauge, {}},
      {"trireme_queue_held_bytes", "Bytes that its limits count; where it has any.", MetricType::Gauge, {}},
      {"trireme_subscription_waiting", "Messages that wait for a consumer.", MetricType::Gauge, {}},
      {"trireme_subscription_in_flight", "Messages that consumers hold.", MetricType::Gauge, {}},
      {"trireme_subscription_consumers", "Sessions of consumers.", MetricType::Gauge, {}},
      {"trireme_subscription_acknowledged_total", "Messages acknowledged.", MetricType::Counter, {}},
      {"trireme_subscription_rejected_total", "Messages rejected.", MetricType::Counter, {}},
      {"trireme_subscription_skipped_total", "Messages that the filter passed over.", MetricType::Counter, {}},
      {"trireme_subscription_expired_total", "Messages whose time to live was over.", MetricType::Counter, {}},
      {"trireme_subscription_overflowed_total", "Messages that left for newer ones.", MetricType::Counter, {}},
      {"trireme_subscription_capped",
       "1 while it takes nothing new because too much is out of line.",
       MetricType::Gauge,
       {}},
  };
}

struct Walk : std::enable_shared_from_this<Walk> {
  ShardApi* api;
  std::vector<raft::GroupId> groups;
  size_t next = 0;
  std::vector<prometheus::MetricFamily> families = Families();
  QueueMetricsDone done;

  void Add(Family family, const std::vector<prometheus::ClientMetric::Label>& labels, uint64_t value) {
    prometheus::ClientMetric& metric = families[family].metric.emplace_back();
    metric.label = labels;
    const auto number = static_cast<double>(value);
    (families[family].type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) = number;
  }

  void Add(const std::string& queue, const QueueFigures& figures) {
    Add(kPublished, {{"queue", queue}}, figures.published);
    Add(kProducers, {{"queue", queue}}, figures.producers);
    Add(kRefused, {{"queue", queue}}, figures.refused);
    if (figures.held) {
      Add(kHeldMessages, {{"queue", queue}}, figures.held->messages);
      Add(kHeldBytes, {{"queue", queue}}, figures.held->bytes);
    }
    for (const SubscriptionFigures& s : figures.subscriptions) {
      const std::vector<prometheus::ClientMetric::Label> labels = {{"queue", queue}, {"subscription", s.name}};
      Add(kWaiting, labels, s.waiting);
      Add(kInFlight, labels, s.in_flight);
      Add(kConsumers, labels, s.consumers);
      Add(kAcknowledged, labels, s.acknowledged);
      Add(kRejected, labels, s.rejected);
      Add(kSkipped, labels, s.skipped);
      Add(kExpired, labels, s.expired);
      Add(kOverflowed, labels, s.overflowed);
      Add(kCapped, labels, s.capped ? 1 : 0);
    }
  }

  void Go() {
    for (const size_t end = std::min(next + kQueuesPerTurn, groups.size()); next < end; ++next) {
      const QueueReplica* replica = api->Replica(groups[next]);
      if (replica != nullptr && replica->serving()) Add(replica->queue_name(), replica->Figures());
    }
    if (next == groups.size()) return done(std::move(families));
    api->shard()->Post([self = shared_from_this()] { self->Go(); });
  }
};

}  // namespace

void GatherQueueMetrics(ShardApi* api, QueueMetricsDone done) {
  auto walk = std::make_shared<Walk>();
  walk->api = api;
  walk->groups = api->Groups();
  walk->done = std::move(done);
  walk->Go();
}

}  // namespace trireme::broker
