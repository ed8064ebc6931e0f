// Publishes numbered messages and waits for their confirms:
//
//   example_producer SERVER[,SERVER] QUEUE COUNT [NAME]
//
// Prints "confirmed N" and exits with 0 when all are stored. With a NAME, a second run goes on where the first one
// ended, also if that one was killed: message number n has sequence n, and the queue says which was the last.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "client/client.h"

namespace client = trireme::client;

namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "example_producer: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: example_producer SERVER[,SERVER] QUEUE COUNT [NAME]\n");
    return 2;
  }
  const unsigned long long count = std::strtoull(argv[3], nullptr, 10);

  absl::StatusOr<std::unique_ptr<client::Client>> connection = client::Client::Create({.servers = {argv[1]}});
  if (!connection.ok()) return Fail(connection.status());

  std::atomic<uint64_t> stored{0}, other{0};
  client::ProducerOptions options;
  options.queue = argv[2];
  options.name = argc > 4 ? argv[4] : "";
  // Called on the client's thread, for many messages at once.
  options.on_confirm = [&](client::Producer&, const client::Confirmation& confirmation) {
    (confirmation.stored() ? stored : other) += confirmation.count;
  };
  absl::StatusOr<std::unique_ptr<client::Producer>> producer = (*connection)->CreateProducer(std::move(options));
  if (!producer.ok()) return Fail(producer.status());

  absl::StatusOr<uint64_t> last = (*producer)->WaitOpen(std::chrono::seconds(30));
  if (!last.ok()) return Fail(last.status());

  trireme::v1::Message message;
  message.set_content_type("text/plain");
  for (uint64_t number = *last + 1; number <= count; ++number) {
    message.set_body("message " + std::to_string(number));
    // Waits only when too many are unconfirmed.
    absl::StatusOr<uint64_t> ticket = (*producer)->Publish(message);
    if (!ticket.ok()) return Fail(ticket.status());
  }
  if (absl::Status status = (*producer)->Flush(std::chrono::minutes(2)); !status.ok()) return Fail(status);
  std::printf("confirmed %llu\n", static_cast<unsigned long long>(stored.load()));
  return other == 0 ? 0 : 1;
}
