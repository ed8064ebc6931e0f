// trireme redrive: dead letters back to the queues that they came from.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/command.h"

namespace trireme::client {
namespace {

using std::chrono::steady_clock;

constexpr uint32_t kPage = 200;
// What is received is sent on at once; with a filter, what it leaves is held until the end, so that it does not come
// again.
constexpr uint32_t kLeaseMs = 60'000, kLeaseWithFilterMs = 3'600'000;
// Positions that a filter may choose in one pass.
constexpr size_t kMostChosen = 1'000'000;
constexpr char kFrom[] = "trireme-dead-queue";

struct Arguments {
  std::string queue;
  std::string subscription;
  std::string filter;
  std::string target;
  double rate = 0;
  uint64_t limit = 0;
};

class Redrive {
 public:
  Redrive(Command& command, Client* client, const Arguments& arguments)
      : command_(command), client_(client), arguments_(arguments) {}

  int Run() {
    absl::Status status = Pass();
    status.Update(GiveBack());
    if (!command_.json()) Progress(/*last=*/true);
    return command_.json() || !status.ok() ? command_.Finish(Figures(), status) : static_cast<int>(kExitOk);
  }

 private:
  // The messages that were there when it began, each once.
  absl::Status Pass() {
    if (absl::Status chosen = Choose(); !chosen.ok()) return chosen;
    while (!interrupted && more_) {
      uint64_t want = kPage;
      if (arguments_.limit != 0) want = std::min(want, arguments_.limit - redriven_);
      if (arguments_.rate > 0) want = std::min(want, std::max<uint64_t>(1, static_cast<uint64_t>(arguments_.rate / 5)));
      if (want == 0) break;
      if (absl::Status some = Some(static_cast<uint32_t>(want)); !some.ok()) return some;
      Pace();
    }
    return absl::OkStatus();
  }

  // With a filter: which positions it takes. Where the pass ends.
  absl::Status Choose() {
    v1::BrowseQueueRequest request;
    request.set_name(arguments_.queue);
    request.set_subscription(arguments_.subscription);
    request.set_filter(arguments_.filter);
    request.set_limit(arguments_.filter.empty() ? 1 : 1'000);
    do {
      absl::StatusOr<v1::BrowseQueueResponse> page = client_->BrowseQueue(request);
      if (!page.ok()) return page.status();
      if (end_ == 0) end_ = (page->at_index() + 1) << 16;
      for (const v1::BrowsedMessage& message : page->messages()) {
        if (message.position() < end_) chosen_.insert(message.position());
      }
      request.set_from_position(page->next_position());
    } while (!arguments_.filter.empty() && request.from_position() != 0 && request.from_position() < end_ &&
             chosen_.size() < kMostChosen && !interrupted);
    more_ = !chosen_.empty();
    return absl::OkStatus();
  }

  absl::Status Some(uint32_t want) {
    v1::ReceiveRequest request;
    request.set_queue(arguments_.queue);
    request.set_subscription(arguments_.subscription);
    request.set_max_messages(want);
    request.set_lease_ms(arguments_.filter.empty() ? kLeaseMs : kLeaseWithFilterMs);
    absl::StatusOr<v1::ReceiveResponse> received = client_->Receive(request);
    if (!received.ok()) return received.status();
    more_ = received->messages_size() > 0;
    std::map<std::string, v1::RedriveMessagesRequest> by_target;
    for (const v1::ReceivedMessage& message : received->messages()) {
      const bool behind = message.position() >= end_;
      const bool left_out = !arguments_.filter.empty() && chosen_.erase(message.position()) == 0;
      const auto from = message.message().headers().find(kFrom);
      std::string target = arguments_.target;
      if (target.empty() && from != message.message().headers().end()) target = from->second.text();
      if (behind || left_out || target.empty()) {
        ++(behind ? behind_ : left_out ? left_out_ : no_origin_);
        left_.push_back(message.token());
        if (behind) more_ = false;
        continue;
      }
      by_target[target].add_tokens(message.token());
    }
    if (!arguments_.filter.empty() && chosen_.empty()) more_ = false;
    for (auto& [target, redrive] : by_target) {
      redrive.set_queue(arguments_.queue);
      redrive.set_target(target);
      absl::StatusOr<v1::RedriveMessagesResponse> done = client_->RedriveMessages(redrive);
      if (!done.ok()) {
        for (const auto& [other, tokens] : by_target)
          left_.insert(left_.end(), tokens.tokens().begin(), tokens.tokens().end());
        return done.status();
      }
      const auto lost = std::count(done->outcomes().begin(), done->outcomes().end(), v1::OUTCOME_LEASE_LOST);
      lost_ += static_cast<uint64_t>(lost);
      redriven_ += static_cast<uint64_t>(done->outcomes_size() - lost);
    }
    return absl::OkStatus();
  }

  // Not before the rate allows it, and says how far it is.
  void Pace() {
    if (!command_.json() && steady_clock::now() - told_ >= std::chrono::seconds{1}) Progress(/*last=*/false);
    if (arguments_.rate <= 0) return;
    const auto due = began_ + std::chrono::duration_cast<steady_clock::duration>(
                                  std::chrono::duration<double>(static_cast<double>(redriven_) / arguments_.rate));
    while (!interrupted && steady_clock::now() < due)
      std::this_thread::sleep_for(
          std::min<steady_clock::duration>(due - steady_clock::now(), std::chrono::milliseconds{100}));
  }

  // What was not for this pass comes back at once.
  absl::Status GiveBack() {
    absl::Status status;
    for (size_t from = 0; from < left_.size(); from += 10'000) {
      v1::SettleRequest request;
      request.set_queue(arguments_.queue);
      request.set_disposition(v1::DISPOSITION_REQUEUE);
      const size_t to = std::min(left_.size(), from + 10'000);
      for (size_t i = from; i < to; ++i) request.add_tokens(left_[i]);
      status.Update(client_->Settle(request).status());
    }
    return status;
  }

  void Progress(bool last) {
    told_ = steady_clock::now();
    std::printf(
        "%s redriven%s%s%s\n", Thousands(redriven_).c_str(),
        left_out_ == 0 ? "" : absl::StrCat(", ", Thousands(left_out_), " not taken by the filter").c_str(),
        no_origin_ == 0 ? "" : absl::StrCat(", ", Thousands(no_origin_), " that came from nowhere: name --to").c_str(),
        lost_ == 0 ? "" : absl::StrCat(", ", Thousands(lost_), " taken by others, or sent before").c_str());
    if (!last) std::fflush(stdout);
  }
  Json Figures() const {
    return {{"queue", arguments_.queue},
            {"redriven", redriven_},
            {"left_out", left_out_},
            {"no_origin", no_origin_},
            {"lost", lost_}};
  }

  Command& command_;
  Client* const client_;
  const Arguments arguments_;
  const steady_clock::time_point began_ = steady_clock::now();
  steady_clock::time_point told_ = began_;
  // Messages behind it came later.
  uint64_t end_ = 0;
  std::set<uint64_t> chosen_;
  bool more_ = false;
  std::vector<std::string> left_;  // tokens
  uint64_t redriven_ = 0, left_out_ = 0, no_origin_ = 0, behind_ = 0, lost_ = 0;
};

}  // namespace

void AddRedriveCommand(CLI::App& app, Command& command) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* redrive =
      command.Add(&app, "redrive", "Send a queue's dead letters back to the queues that they came from",
                  "  trireme redrive orders-dead\n"
                  "  trireme redrive orders-dead --filter \"region = 'eu'\" --rate 100\n"
                  "  trireme redrive orders-dead --to orders-again --limit 1000\n",
                  [&command, arguments] {
                    Client* client = command.Connect();
                    return client == nullptr ? command.exit_code() : Redrive(command, client, *arguments).Run();
                  });
  redrive->add_option("QUEUE", arguments->queue, "The queue that has them")->required();
  redrive->add_option("--subscription", arguments->subscription, "Its subscription; default if not given");
  redrive->add_option("--filter", arguments->filter, "Only messages for which this is true; all if not given");
  redrive->add_option("--to", arguments->target, "Another queue; where each came from if not given");
  redrive->add_option("--rate", arguments->rate, "At most so many a second; as fast as it goes if not given")
      ->check(Positive());
  redrive->add_option("--limit", arguments->limit, "At most so many messages")->check(Positive());
}

}  // namespace trireme::client
