// Prints and acknowledges messages:
//
//   example_consumer SERVER[,SERVER] QUEUE COUNT
//
// Ends with 0 after COUNT messages, all of them settled for good.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "client/client.h"

namespace client = trireme::client;

namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "example_consumer: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: example_consumer SERVER[,SERVER] QUEUE COUNT\n");
    return 2;
  }
  unsigned long long left = std::strtoull(argv[3], nullptr, 10);

  absl::StatusOr<std::unique_ptr<client::Client>> connection = client::Client::Create({.servers = {argv[1]}});
  if (!connection.ok()) return Fail(connection.status());

  client::ConsumerOptions options;
  options.queue = argv[2];
  options.label = "example";
  absl::StatusOr<std::unique_ptr<client::Consumer>> consumer = (*connection)->CreateConsumer(std::move(options));
  if (!consumer.ok()) return Fail(consumer.status());

  while (left > 0) {
    absl::StatusOr<std::vector<client::Delivery>> messages = (*consumer)->Next(left, std::chrono::seconds(30));
    if (!messages.ok()) return Fail(messages.status());
    if (messages->empty()) return Fail(absl::DeadlineExceededError("no message came for 30 seconds"));
    for (const client::Delivery& delivery : *messages) {
      std::printf("%.*s\n", static_cast<int>(delivery.body().size()), delivery.body().data());
    }
    // Only now: a message that was not worked on comes again.
    (*consumer)->Acknowledge(*messages);
    left -= messages->size();
  }
  if (absl::Status status = (*consumer)->Flush(std::chrono::seconds(30)); !status.ok()) return Fail(status);
  return 0;
}
