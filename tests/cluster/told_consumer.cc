// A consumer of the C++ library that does what its standard input says, for tests that must hold messages at chosen
// moments:
//
//   told_consumer SERVER[,SERVER] QUEUE
//
//   take COUNT          waits for so many messages, and prints each: delivery NUMBER GROUP POSITION CHECKOUT BODY
//   acknowledge NUMBER  one that was taken; they are numbered from 0
//   flush               prints: flushed STATUS
//   held                prints: held COUNT
//
// By itself it prints: lost POSITION COUNT CHECKOUT; closed STATUS. Ends with its input.
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/sync.h"

namespace {

namespace client = trireme::client;

constexpr std::chrono::seconds kPatience{30};

// The consumer's callbacks come on a thread of their own.
void Print(const std::string& line) {
  static client::Mutex* const mutex = new client::Mutex;
  client::MutexLock lock(mutex);
  std::cout << line << std::endl;
}

void Take(client::Consumer& consumer, size_t count, std::vector<client::Delivery>& taken) {
  const size_t enough = taken.size() + count;
  while (taken.size() < enough) {
    absl::StatusOr<std::vector<client::Delivery>> some = consumer.Next(enough - taken.size(), kPatience);
    if (!some.ok() || some->empty()) return Print(absl::StrCat("no more: ", some.status().ToString()));
    for (const client::Delivery& delivery : *some) {
      Print(absl::StrCat("delivery ", taken.size(), " ", delivery.group(), " ", delivery.position(), " ",
                         delivery.checkout_index(), " ", std::string(delivery.body())));
      taken.push_back(delivery);
    }
  }
}

void Obey(client::Consumer& consumer) {
  std::vector<client::Delivery> taken;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb;
    size_t number = 0;
    words >> verb >> number;
    if (verb == "take") {
      Take(consumer, number, taken);
    } else if (verb == "acknowledge") {
      consumer.Acknowledge(taken.at(number));
    } else if (verb == "flush") {
      Print(absl::StrCat("flushed ", consumer.Flush(kPatience).ToString()));
    } else if (verb == "held") {
      Print(absl::StrCat("held ", consumer.held()));
    } else {
      Print("not understood: " + line);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: told_consumer SERVER[,SERVER] QUEUE\n");
    return 2;
  }
  absl::StatusOr<std::vector<std::string>> servers = client::ParseServers(argv[1]);
  if (!servers.ok()) return 2;
  absl::StatusOr<std::unique_ptr<client::Client>> connection = client::Client::Create({.servers = *servers});
  if (!connection.ok()) return 2;
  client::ConsumerOptions options;
  options.queue = argv[2];
  options.on_lease_lost = [](std::span<const trireme::v1::HeldRun> runs) {
    for (const auto& run : runs)
      Print(absl::StrCat("lost ", run.first_position(), " ", run.count(), " ", run.checkout_index()));
  };
  options.on_closed = [](const absl::Status& status) { Print("closed " + status.ToString()); };
  absl::StatusOr<std::unique_ptr<client::Consumer>> consumer = (*connection)->CreateConsumer(std::move(options));
  if (!consumer.ok()) return 2;
  Obey(**consumer);
  return 0;
}
