// temporary_load SERVERS inboxes COUNT: opens so many inboxes, and has each get a message. Prints "inbox NAME" for
// each, then "held COUNT SECONDS"; holds them until a line comes on standard input, then closes them and prints "closed
// SECONDS".
//
// temporary_load SERVERS requests COUNT: over one inbox, to an echo in this process behind the queue "echo". Prints
// "replied COUNT SECONDS". Fails unless each request gets its own reply.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "client/sync.h"

namespace trireme::client {
namespace {

constexpr std::chrono::seconds kPatience{60};
constexpr size_t kThreads = 8;

void Must(const absl::Status& status, const char* what) {
  if (status.ok()) return;
  std::fprintf(stderr, "temporary_load: %s: %s\n", what, status.ToString().c_str());
  std::exit(1);
}

class Watch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count(); }

 private:
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

std::unique_ptr<Consumer> UsedInbox(Client& client) {
  ConsumerOptions options;
  options.temporary = true;
  options.session_timeout = std::chrono::seconds(5);
  auto inbox = client.CreateConsumer(std::move(options));
  Must(inbox.status(), "CreateConsumer");
  Must((*inbox)->WaitOpen(kPatience), "WaitOpen");
  v1::SendRequest send;
  send.set_queue((*inbox)->queue());
  send.mutable_batch()->add_messages()->set_body((*inbox)->queue());
  Must(client.Send(send).status(), "Send");
  absl::StatusOr<std::vector<Delivery>> got = (*inbox)->Next(1, kPatience);
  Must(got.status(), "Next");
  if (got->size() != 1 || got->front().body() != (*inbox)->queue()) Must(absl::DataLossError("not its own"), "Next");
  (*inbox)->Acknowledge(*got);
  return *std::move(inbox);
}

void Inboxes(Client& client, size_t count) {
  std::vector<std::unique_ptr<Consumer>> inboxes(count);
  const auto each = [&](auto act) {
    std::atomic<size_t> next{0};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (size_t i = next++; i < count; i = next++) act(inboxes[i]);
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  const Watch opening;
  each([&](std::unique_ptr<Consumer>& inbox) { inbox = UsedInbox(client); });
  const double seconds = opening.seconds();
  for (const auto& inbox : inboxes) std::printf("inbox %s\n", inbox->queue().c_str());
  std::printf("held %zu %.2f\n", count, seconds);
  std::fflush(stdout);
  std::string line;
  std::getline(std::cin, line);
  const Watch closing;
  each([](std::unique_ptr<Consumer>& inbox) { inbox.reset(); });
  std::printf("closed %.2f\n", closing.seconds());
}

void Requests(Client& client, size_t count) {
  v1::CreateQueueRequest queue;
  queue.set_name("echo");
  Must(client.CreateQueue(queue).status(), "CreateQueue");
  // Replies go to one inbox.
  std::unique_ptr<Producer> replies;
  ConsumerOptions options;
  options.queue = "echo";
  options.on_delivery = [&](Consumer& consumer, std::span<const Delivery> deliveries) {
    for (const Delivery& delivery : deliveries) {
      absl::StatusOr<v1::Message> request = delivery.Decode();
      Must(request.status(), "Decode");
      if (replies == nullptr) {
        ProducerOptions to;
        to.queue = request->reply_to();
        auto made = client.CreateProducer(std::move(to));
        Must(made.status(), "CreateProducer");
        replies = *std::move(made);
      }
      v1::Message reply;
      reply.set_correlation_id(request->correlation_id());
      reply.set_body(request->body());
      Must(replies->TryPublish(reply).status(), "TryPublish");
    }
    consumer.Acknowledge(deliveries);
  };
  auto echo = client.CreateConsumer(std::move(options));
  Must(echo.status(), "CreateConsumer");
  auto requester = client.CreateRequester({.queue = "echo"});
  Must(requester.status(), "CreateRequester");
  Must((*requester)->RequestAndWait({}).status(), "the first request");

  constexpr size_t kAtATime = 500;
  Mutex mutex;
  CondVar changed;
  size_t under_way = 0;
  const Watch asking;
  for (size_t i = 0; i < count; ++i) {
    {
      MutexLock lock(&mutex);
      while (under_way >= kAtATime) changed.Wait(&mutex);
      ++under_way;
    }
    v1::Message message;
    message.set_body(std::to_string(i));
    (*requester)->Request(message, kPatience, [&, body = message.body()](absl::StatusOr<v1::Message> reply) {
      Must(reply.status(), "Request");
      if (reply->body() != body) Must(absl::DataLossError("another request's reply"), "Request");
      MutexLock lock(&mutex);
      --under_way;
      changed.SignalAll();
    });
  }
  {
    MutexLock lock(&mutex);
    while (under_way > 0) changed.Wait(&mutex);
  }
  std::printf("replied %zu %.2f\n", count, asking.seconds());
  requester->reset();
  echo->reset();
  replies.reset();
}

}  // namespace
}  // namespace trireme::client

int main(int argc, char** argv) {
  using namespace trireme::client;
  if (argc != 4) return 2;
  auto servers = ParseServers(argv[1]);
  Must(servers.status(), "servers");
  auto client = Client::Create({.servers = *servers});
  Must(client.status(), "Create");
  const std::string what = argv[2];
  const size_t count = std::strtoul(argv[3], nullptr, 10);
  what == "requests" ? Requests(**client, count) : Inboxes(**client, count);
  return 0;
}
