// Publishes and consumes a message each millisecond with the C++ library, and says how long clients had to wait at
// most:
//
//   gap_probe SERVER[,SERVER] QUEUE SECONDS
//
// Prints "ready" once it runs, and at its end one line of JSON.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/sync.h"

namespace {

namespace client = trireme::client;
using Clock = std::chrono::steady_clock;

// The longest time between two events.
class Gap {
 public:
  void Event() {
    const Clock::time_point now = Clock::now();
    if (events_++ > 0) longest_ = std::max(longest_, now - last_);
    last_ = now;
  }
  uint64_t events() const { return events_; }
  double longest_ms() const { return std::chrono::duration<double, std::milli>(longest_).count(); }

 private:
  uint64_t events_ = 0;
  Clock::time_point last_;
  Clock::duration longest_{};
};

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "gap_probe: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return Fail(absl::InvalidArgumentError("usage: gap_probe SERVER[,SERVER] QUEUE SECONDS"));
  absl::StatusOr<std::vector<std::string>> servers = client::ParseServers(argv[1]);
  if (!servers.ok()) return Fail(servers.status());
  absl::StatusOr<std::unique_ptr<client::Client>> connection = client::Client::Create({.servers = *servers});
  if (!connection.ok()) return Fail(connection.status());

  // All callbacks come on the client's one thread; read here once producer and consumer are gone.
  Gap confirms, deliveries;
  uint64_t not_stored = 0, again = 0;
  client::ProducerOptions producing;
  producing.queue = argv[2];
  producing.on_confirm = [&](client::Producer&, const client::Confirmation& confirmation) {
    confirms.Event();
    if (!confirmation.stored()) not_stored += confirmation.count;
  };
  client::ConsumerOptions consuming;
  consuming.queue = argv[2];
  consuming.on_delivery = [&](client::Consumer& consumer, std::span<const client::Delivery> some) {
    deliveries.Event();
    for (const client::Delivery& delivery : some) again += delivery.deliveries() > 1 ? 1 : 0;
    consumer.Acknowledge(some);
  };
  absl::StatusOr<std::unique_ptr<client::Consumer>> consumer = (*connection)->CreateConsumer(std::move(consuming));
  if (!consumer.ok()) return Fail(consumer.status());
  absl::StatusOr<std::unique_ptr<client::Producer>> producer = (*connection)->CreateProducer(std::move(producing));
  if (!producer.ok()) return Fail(producer.status());
  if (absl::Status open = (*producer)->WaitOpen(std::chrono::seconds(20)).status(); !open.ok()) return Fail(open);
  if (absl::Status open = (*consumer)->WaitOpen(std::chrono::seconds(20)); !open.ok()) return Fail(open);
  std::cout << "ready" << std::endl;

  const Clock::time_point end = Clock::now() + std::chrono::seconds(std::atoi(argv[3]));
  uint64_t published = 0;
  for (Clock::time_point next = Clock::now(); next < end; next += std::chrono::milliseconds(1)) {
    std::this_thread::sleep_until(next);
    if (absl::StatusOr<uint64_t> ticket = (*producer)->PublishBody("probe"); !ticket.ok()) return Fail(ticket.status());
    ++published;
  }
  if (absl::Status flushed = (*producer)->Flush(std::chrono::seconds(20)); !flushed.ok()) return Fail(flushed);
  const uint64_t reconnects = (*producer)->reconnects();
  producer->reset();
  if (absl::Status flushed = (*consumer)->Flush(std::chrono::seconds(20)); !flushed.ok()) return Fail(flushed);
  const uint64_t lost = (*consumer)->leases_lost();
  consumer->reset();
  connection->reset();
  std::cout << absl::StrCat("{\"published\": ", published, ", \"not_stored\": ", not_stored,
                            ", \"publish_gap_ms\": ", confirms.longest_ms(),
                            ", \"delivery_gap_ms\": ", deliveries.longest_ms(), ", \"leases_lost\": ", lost,
                            ", \"delivered_again\": ", again, ", \"reconnects\": ", reconnects, "}")
            << std::endl;
  return 0;
}
