#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/message_text.h"

namespace trireme::client {
namespace {

constexpr uint32_t kPage = 1'000;
constexpr uint32_t kLeaseMs = 60'000;
constexpr std::chrono::milliseconds kPoll{200};

struct Arguments {
  std::string queue;
  std::string subscription;
  bool acknowledge = false;
  bool follow = false;
  uint64_t count = 0;
  double wait_s = 2;
};

// One line of JSON.
std::string MessageJson(const v1::Message& message, uint64_t position, uint32_t deliveries) {
  Json json = {{"position", position}, {"deliveries", deliveries}};
  PutMessage(json, message);
  return json.dump();
}

void Print(const Command& command, const v1::Message& message, uint64_t position, uint32_t deliveries) {
  if (command.json()) {
    std::printf("%s\n", MessageJson(message, position, deliveries).c_str());
  } else {
    std::fwrite(message.body().data(), 1, message.body().size(), stdout);
    std::fputc('\n', stdout);
  }
}

// A few messages by single calls: exactly as many are taken as are printed.
int ConsumeSome(Command& command, const Arguments& arguments) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  v1::SettleRequest settle;
  settle.set_queue(arguments.queue);
  settle.set_disposition(arguments.acknowledge ? v1::DISPOSITION_ACKNOWLEDGE : v1::DISPOSITION_REQUEUE);
  const auto settle_all = [&]() -> absl::Status {
    if (settle.tokens().empty()) return absl::OkStatus();
    absl::StatusOr<v1::SettleResponse> response = client->Settle(settle);
    settle.clear_tokens();
    return response.status();
  };
  uint64_t taken = 0;
  absl::Status status;
  while (taken < arguments.count && !interrupted && status.ok()) {
    v1::ReceiveRequest request;
    request.set_queue(arguments.queue);
    request.set_subscription(arguments.subscription);
    request.set_max_messages(static_cast<uint32_t>(std::min<uint64_t>(kPage, arguments.count - taken)));
    request.set_wait_ms(static_cast<uint32_t>(arguments.wait_s * 1000));
    request.set_lease_ms(kLeaseMs);
    absl::StatusOr<v1::ReceiveResponse> response = client->Receive(request);
    status = response.status();
    if (!response.ok() || response->messages().empty()) break;
    for (const v1::ReceivedMessage& message : response->messages()) {
      Print(command, message.message(), message.position(), message.deliveries());
      settle.add_tokens(message.token());
    }
    taken += static_cast<uint64_t>(response->messages_size());
    std::fflush(stdout);
    // Those that go back are kept until the end, or they would come again at once.
    if (arguments.acknowledge) status = settle_all();
  }
  status.Update(settle_all());
  if (!status.ok()) return command.Fail(status);
  return kExitOk;
}

int ConsumeStream(Command& command, const Arguments& arguments) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  ConsumerOptions options;
  options.queue = arguments.queue;
  options.subscription = arguments.subscription;
  options.label = "trireme consume";
  // What is not acknowledged stays outstanding, so that each message is printed once.
  if (!arguments.acknowledge) options.max_outstanding_messages = 100'000;
  absl::StatusOr<std::unique_ptr<Consumer>> created = client->CreateConsumer(std::move(options));
  if (!created.ok()) return command.Fail(created.status());
  Consumer& consumer = **created;
  bool standby = false;
  if (absl::Status status = consumer.WaitOpen(command.timeout()); !status.ok()) return command.Fail(status);
  uint64_t taken = 0;
  auto last = std::chrono::steady_clock::now();
  const std::chrono::duration<double> patience(arguments.wait_s);
  while (!interrupted && (arguments.count == 0 || taken < arguments.count)) {
    const size_t most = arguments.count == 0 ? kPage : std::min<uint64_t>(kPage, arguments.count - taken);
    absl::StatusOr<std::vector<Delivery>> messages = consumer.Next(most, kPoll);
    if (!messages.ok()) return command.Fail(messages.status());
    if (std::exchange(standby, consumer.standby()) != consumer.standby()) {
      std::fprintf(stderr, "%s\n",
                   standby ? "standing by: another consumer is the active one" : "this is the active consumer now");
    }
    const auto now = std::chrono::steady_clock::now();
    if (!messages->empty()) last = now;
    if (!arguments.follow && now - last >= patience) break;
    for (const Delivery& delivery : *messages) {
      absl::StatusOr<v1::Message> message = delivery.Decode();
      if (!message.ok()) return command.Fail(message.status());
      Print(command, *message, delivery.position(), delivery.deliveries());
    }
    std::fflush(stdout);
    taken += messages->size();
    if (arguments.acknowledge) consumer.Acknowledge(*messages);
  }
  if (!arguments.acknowledge) return kExitOk;
  if (absl::Status status = consumer.Flush(command.timeout()); !status.ok()) return command.Fail(status);
  return kExitOk;
}

}  // namespace

void AddConsumeCommand(CLI::App& app, Command& command) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* consume = command.Add(
      &app, "consume", "Print messages; without --ack they go back to the queue, delivered once more by count",
      "  trireme consume orders                        # what is there; each look raises the delivery counts\n"
      "  trireme consume orders --ack --count 1        # take one message\n"
      "  trireme consume orders --ack --follow         # take messages until Ctrl-C\n"
      "  trireme consume orders --count 10 --output json\n",
      [&command, arguments] {
        const bool few = arguments->count > 0 && !arguments->follow;
        return few ? ConsumeSome(command, *arguments) : ConsumeStream(command, *arguments);
      });
  consume->add_option("QUEUE", arguments->queue, "The queue")->required();
  consume->add_option("--subscription", arguments->subscription, "The subscription; default if not given");
  consume->add_flag("--ack", arguments->acknowledge, "Acknowledge what was printed, so that nobody gets it again");
  consume->add_option("--count", arguments->count, "End after so many messages")->check(Positive());
  consume->add_flag("--follow", arguments->follow, "Wait for more until interrupted");
  consume->add_option("--wait", arguments->wait_s, "Without --follow: end when nothing came for so many seconds")
      ->check(CLI::Range(0.0, 60.0))
      ->capture_default_str();
}

}  // namespace trireme::client
