// trireme subscription: the cursors of a queue, each with its own leases and counts.
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cli/command.h"

namespace trireme::client {
namespace {

struct Arguments {
  std::string queue;
  std::string name;
  std::string filter;
  std::string from = "end";
  double retry_delay_s = 0, max_retry_delay_s = 0;
  uint32_t retry_percent = 0;
  uint32_t delivery_limit = 0;
  uint64_t max_in_flight = 0;
  std::string dead_letter_queue, dead_letter_routing_key;
  bool single_active = false;
};
using ArgumentsPtr = std::shared_ptr<Arguments>;

// "end", "first", a position, or a time.
absl::StatusOr<v1::SubscriptionStart> ParseStart(const std::string& text) {
  v1::SubscriptionStart start;
  if (text == "end") {
    start.set_end(true);
    return start;
  }
  if (text == "first") {
    start.set_first(true);
    return start;
  }
  if (absl::StatusOr<uint64_t> position = ParsePosition(text); position.ok()) {
    start.set_position(*position);
    return start;
  }
  absl::Time time;
  if (std::string error; absl::ParseTime(absl::RFC3339_full, text, &time, &error)) {
    start.set_time_ms(absl::ToUnixMillis(time));
    return start;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--from is '", text, "'; it must be end, first, a position (INDEX:SLOT), or a time (2024-05-01T12:00:00Z)"));
}

int Done(Command& command, const ArgumentsPtr& arguments, const char* what, Json json = Json::object()) {
  if (command.json()) {
    Json all = {{"queue", arguments->queue}, {"name", arguments->name}};
    all.update(json);
    std::printf("%s\n", all.dump(2).c_str());
  } else {
    std::printf("subscription %s of %s %s\n", arguments->name.c_str(), arguments->queue.c_str(), what);
  }
  return kExitOk;
}

v1::SubscriptionSettings SettingsOf(const Arguments& arguments) {
  v1::SubscriptionSettings settings;
  settings.set_filter(arguments.filter);
  settings.set_retry_delay_ms(static_cast<uint32_t>(arguments.retry_delay_s * 1000));
  settings.set_retry_percent(arguments.retry_percent);
  settings.set_max_retry_delay_ms(static_cast<uint32_t>(arguments.max_retry_delay_s * 1000));
  settings.set_delivery_limit(arguments.delivery_limit);
  settings.set_max_in_flight(arguments.max_in_flight);
  settings.set_dead_letter_queue(arguments.dead_letter_queue);
  settings.set_dead_letter_routing_key(arguments.dead_letter_routing_key);
  settings.set_single_active(arguments.single_active);
  return settings;
}

int Create(Command& command, const ArgumentsPtr& arguments) {
  absl::StatusOr<v1::SubscriptionStart> start = ParseStart(arguments->from);
  if (!start.ok()) return command.Usage(std::string(start.status().message()));
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  v1::CreateSubscriptionRequest request;
  request.set_queue(arguments->queue);
  request.set_name(arguments->name);
  *request.mutable_settings() = SettingsOf(*arguments);
  *request.mutable_start() = *start;
  absl::StatusOr<v1::CreateSubscriptionResponse> response = client->CreateSubscription(request);
  if (!response.ok()) return command.Fail(response.status());
  return Done(command, arguments, response->created() ? "created" : "was there already",
              {{"created", response->created()}});
}

int Change(Command& command, const ArgumentsPtr& arguments) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  v1::ChangeSubscriptionRequest request;
  request.set_queue(arguments->queue);
  request.set_name(arguments->name);
  *request.mutable_settings() = SettingsOf(*arguments);
  absl::StatusOr<v1::ChangeSubscriptionResponse> response = client->ChangeSubscription(request);
  return response.ok() ? Done(command, arguments, "changed") : command.Fail(response.status());
}

int Delete(Command& command, const ArgumentsPtr& arguments) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::DeleteSubscriptionResponse> response =
      client->DeleteSubscription(arguments->queue, arguments->name);
  return response.ok() ? Done(command, arguments, "deleted") : command.Fail(response.status());
}

int List(Command& command, const ArgumentsPtr& arguments) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::DescribeQueueResponse> response = client->DescribeQueue(arguments->queue);
  if (!response.ok()) return command.Fail(response.status());
  if (command.json()) {
    Json list = Json::array();
    for (const v1::SubscriptionFigures& s : response->figures().subscriptions()) list.push_back(SubscriptionJson(s));
    std::printf("%s\n", list.dump(2).c_str());
  } else {
    std::printf("%s", SubscriptionsTable(response->figures()).c_str());
  }
  return kExitOk;
}

void AddSettings(CLI::App* app, const ArgumentsPtr& arguments) {
  const CLI::Range seconds(0.0, 43'200.0);
  app->add_option("--filter", arguments->filter, "Only messages for which this is true; all if not given");
  app->add_option("--retry-delay", arguments->retry_delay_s, "Seconds that a requeued message stays away at first")
      ->check(seconds);
  app->add_option("--retry-percent", arguments->retry_percent,
                  "How that grows: 200 doubles it each time (the default)");
  app->add_option("--max-retry-delay", arguments->max_retry_delay_s, "Seconds up to which; 600 if not given")
      ->check(seconds);
  app->add_option("--delivery-limit", arguments->delivery_limit,
                  "A message that comes back after so many deliveries leaves; 0 = never");
  app->add_option("--max-in-flight", arguments->max_in_flight,
                  "So many messages are with consumers at most, over all of them; 0 = no limit");
  app->add_option("--dead-letter-queue", arguments->dead_letter_queue,
                  "Where messages go that leave so, or are rejected; they are dropped if not given");
  app->add_option("--dead-letter-routing-key", arguments->dead_letter_routing_key, "The routing key that they get");
  app->add_flag("--single-active", arguments->single_active,
                "One consumer at a time gets the messages; the others stand by");
}

void AddNames(CLI::App* app, const ArgumentsPtr& arguments) {
  app->add_option("QUEUE", arguments->queue, "The queue")->required();
  app->add_option("NAME", arguments->name, "The subscription: 1 to 255 letters, digits and . _ - : /")->required();
}

// How many there are, and which of them gets the messages.
std::string ConsumersText(const v1::SubscriptionFigures& s) {
  if (!s.settings().single_active()) return Thousands(s.consumers());
  return absl::StrCat(Thousands(s.consumers()), " (active: ", s.has_active() ? HolderText(s.active()) : "none", ")");
}

}  // namespace

Json SubscriptionJson(const v1::SubscriptionFigures& s) {
  return {{"name", s.name()},
          {"waiting", s.waiting()},
          {"in_flight", s.in_flight()},
          {"consumers", s.consumers()},
          {"acknowledged", s.acknowledged()},
          {"rejected", s.rejected()},
          {"skipped", s.skipped()},
          {"full", s.full()},
          {"dead", s.dead()},
          {"redriven", s.redriven()},
          {"expired", s.expired()},
          {"overflowed", s.overflowed()},
          {"leaving", s.leaving()},
          {"arrived", s.arrived()},
          {"trouble", s.trouble()},
          {"filter", s.settings().filter()},
          {"retry_delay_ms", s.settings().retry_delay_ms()},
          {"retry_percent", s.settings().retry_percent()},
          {"max_retry_delay_ms", s.settings().max_retry_delay_ms()},
          {"delivery_limit", s.settings().delivery_limit()},
          {"max_in_flight", s.settings().max_in_flight()},
          {"dead_letter_queue", s.settings().dead_letter_queue()},
          {"dead_letter_routing_key", s.settings().dead_letter_routing_key()},
          {"single_active", s.settings().single_active()},
          {"active", s.has_active() ? HolderJson(s.active()) : Json()}};
}

std::string SubscriptionsTable(const v1::QueueFigures& figures) {
  Table table({"SUBSCRIPTION", "WAITING", "IN FLIGHT", "CONSUMERS", "ACKNOWLEDGED", "REJECTED", "SKIPPED", "DEAD",
               "EXPIRED", "LEAVING", "FILTER"});
  for (const v1::SubscriptionFigures& s : figures.subscriptions()) {
    table.Add({s.name(), Thousands(s.waiting()), absl::StrCat(Thousands(s.in_flight()), s.full() ? " (full)" : ""),
               ConsumersText(s), Thousands(s.acknowledged()), Thousands(s.rejected()), Thousands(s.skipped()),
               Thousands(s.dead()), Thousands(s.expired()),
               absl::StrCat(Thousands(s.leaving()), s.trouble().empty() ? "" : " (" + s.trouble() + ")"),
               s.settings().filter()});
  }
  return table.Text();
}

void AddSubscriptionCommands(CLI::App& app, Command& command) {
  CLI::App* subscription =
      app.add_subcommand("subscription", "Create, change, list and delete a queue's subscriptions");
  subscription->require_subcommand(1);
  subscription->fallthrough();
  auto arguments = std::make_shared<Arguments>();

  CLI::App* create = command.Add(subscription, "create",
                                 "Create a subscription; one that is there with the same settings is left as it is",
                                 "  trireme subscription create orders audit\n"
                                 "  trireme subscription create orders europe --filter \"region = 'eu' AND size > 3\"\n"
                                 "  trireme subscription create orders replay --from 2024-05-01T12:00:00Z\n",
                                 [&command, arguments] { return Create(command, arguments); });
  AddNames(create, arguments);
  AddSettings(create, arguments);
  create
      ->add_option("--from", arguments->from,
                   "end: what is still to come; first: all that the queue holds; a position; or a time")
      ->capture_default_str();

  CLI::App* change = command.Add(subscription, "change",
                                 "Give a subscription other settings: those that are named, the rest as at first",
                                 "  trireme subscription change orders europe --filter \"region = 'eu'\"\n",
                                 [&command, arguments] { return Change(command, arguments); });
  AddNames(change, arguments);
  AddSettings(change, arguments);

  CLI::App* list = command.Add(subscription, "list", "List a queue's subscriptions with their exact figures",
                               "  trireme subscription list orders --output json\n",
                               [&command, arguments] { return List(command, arguments); });
  list->add_option("QUEUE", arguments->queue, "The queue")->required();

  AddNames(command.Add(subscription, "delete", "Delete a subscription with its leases, and what only it still needed",
                       "  trireme subscription delete orders audit\n",
                       [&command, arguments] { return Delete(command, arguments); }),
           arguments);
}

}  // namespace trireme::client
