// Looking at messages without taking them, and at who holds which.
#include <algorithm>
#include <cstdio>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/message_text.h"

namespace trireme::client {
namespace {

constexpr uint32_t kPage = 1'000;
constexpr size_t kBodyColumn = 40;

struct Arguments {
  std::string queue;
  std::string subscription;
  std::string position;
  std::string from;
  uint64_t limit = 100;
  uint32_t count = 1;
  std::string consumer;
  std::string session;
  bool all = false;
  bool scheduled = false;
};

const char* StateText(v1::MessageState state) {
  switch (state) {
    case v1::MESSAGE_STATE_WAITING:
      return "waiting";
    case v1::MESSAGE_STATE_IN_FLIGHT:
      return "in flight";
    case v1::MESSAGE_STATE_RETURNED:
      return "returned";
    case v1::MESSAGE_STATE_SETTLED:
      return "settled";
    case v1::MESSAGE_STATE_SCHEDULED:
      return "scheduled";
    case v1::MESSAGE_STATE_UNSCHEDULED:
      return "unscheduled";
    default:
      return "unknown";
  }
}

void PutStand(Json& json, const v1::MessageStand& stand) {
  json["state"] = StateText(stand.state());
  json["deliveries"] = stand.deliveries();
  if (stand.state() == v1::MESSAGE_STATE_SCHEDULED) json["due_at_ms"] = stand.due_at_ms();
  if (stand.state() != v1::MESSAGE_STATE_IN_FLIGHT) return;
  json["checkout_index"] = stand.checkout_index();
  json["holder"] = HolderJson(stand.holder());
}

// The first bytes of it, on one line.
std::string BodyText(const std::string& body) {
  std::string text;
  for (char c : body.substr(0, kBodyColumn)) text += c >= ' ' && c <= '~' ? c : '.';
  return body.size() > kBodyColumn ? text + "..." : text;
}

// Empty: none.
absl::StatusOr<uint64_t> FromArgument(const std::string& text) {
  return text.empty() ? uint64_t{0} : ParsePosition(text);
}

int BrowseScheduled(Command& command, const Arguments& arguments) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  v1::BrowseQueueRequest request;
  request.set_name(arguments.queue);
  request.set_scheduled(true);
  Table table({"DUE", "POSITION", "PUBLISHED", "KEY", "BYTES", "BODY"});
  uint64_t shown = 0, next = 0;
  do {
    request.set_limit(static_cast<uint32_t>(std::min<uint64_t>(kPage, arguments.limit - shown)));
    absl::StatusOr<v1::BrowseQueueResponse> page = client->BrowseQueue(request);
    if (!page.ok()) return command.Fail(page.status());
    for (const v1::BrowsedMessage& browsed : page->messages()) {
      if (command.json()) {
        Json json = {{"position", browsed.position()}, {"published_at_ms", browsed.published_at_ms()}};
        PutStand(json, browsed.stand());
        PutMessage(json, browsed.message());
        std::printf("%s\n", json.dump().c_str());
      } else {
        table.Add({TimeText(browsed.stand().due_at_ms()), PositionText(browsed.position()),
                   TimeText(browsed.published_at_ms()), browsed.message().key().empty() ? "-" : browsed.message().key(),
                   absl::StrCat(browsed.message().body().size()), BodyText(browsed.message().body())});
      }
    }
    shown += static_cast<uint64_t>(page->messages_size());
    next = page->next_position();
    request.set_from_position(next);
    request.set_from_due_at_ms(page->next_due_at_ms());
  } while (next != 0 && shown < arguments.limit && !interrupted);
  if (!command.json()) std::printf("%s", shown == 0 ? "nothing is scheduled\n" : table.Text().c_str());
  return kExitOk;
}

int Cancel(Command& command, const Arguments& arguments) {
  absl::StatusOr<uint64_t> position = ParsePosition(arguments.position);
  if (!position.ok()) return command.Usage(std::string(position.status().message()));
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  if (absl::Status status = client->CancelMessage(arguments.queue, *position); !status.ok())
    return command.Fail(status);
  if (command.json()) {
    std::printf("%s\n", Json({{"name", arguments.queue}, {"cancelled", *position}}).dump(2).c_str());
  } else {
    std::printf("%s: the message at %s is cancelled\n", arguments.queue.c_str(), PositionText(*position).c_str());
  }
  return kExitOk;
}

int Browse(Command& command, const Arguments& arguments) {
  if (arguments.scheduled) {
    if (!arguments.from.empty())
      return command.Usage(
          "--from names a position, and what is scheduled is listed by due time; leave one of them out");
    return BrowseScheduled(command, arguments);
  }
  absl::StatusOr<uint64_t> from = FromArgument(arguments.from);
  if (!from.ok()) return command.Usage(std::string(from.status().message()));
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  v1::BrowseQueueRequest request;
  request.set_name(arguments.queue);
  request.set_subscription(arguments.subscription);
  request.set_from_position(*from);
  Table table({"POSITION", "PUBLISHED", "STATE", "DELIVERIES", "HOLDER", "KEY", "BYTES", "BODY"});
  uint64_t shown = 0, next = 0;
  do {
    request.set_limit(static_cast<uint32_t>(std::min<uint64_t>(kPage, arguments.limit - shown)));
    absl::StatusOr<v1::BrowseQueueResponse> page = client->BrowseQueue(request);
    if (!page.ok()) return command.Fail(page.status());
    for (const v1::BrowsedMessage& browsed : page->messages()) {
      const v1::MessageStand& stand = browsed.stand();
      if (command.json()) {
        // A line for each.
        Json json = {{"position", browsed.position()}, {"published_at_ms", browsed.published_at_ms()}};
        PutStand(json, stand);
        PutMessage(json, browsed.message());
        std::printf("%s\n", json.dump().c_str());
      } else {
        table.Add({PositionText(browsed.position()), TimeText(browsed.published_at_ms()), StateText(stand.state()),
                   absl::StrCat(stand.deliveries()),
                   stand.state() == v1::MESSAGE_STATE_IN_FLIGHT ? HolderText(stand.holder()) : "-",
                   browsed.message().key().empty() ? "-" : browsed.message().key(),
                   absl::StrCat(browsed.message().body().size()), BodyText(browsed.message().body())});
      }
    }
    shown += static_cast<uint64_t>(page->messages_size());
    next = page->next_position();
    request.set_from_position(next);
  } while (next != 0 && shown < arguments.limit && !interrupted);
  if (command.json()) return kExitOk;
  if (shown == 0) {
    std::printf("nothing is there%s\n", arguments.from.empty() ? "" : " from that position on");
  } else {
    std::printf("%s", table.Text().c_str());
  }
  if (next != 0) std::printf("\nmore: --from %s\n", PositionText(next).c_str());
  return kExitOk;
}

std::string Sentence(const v1::ExplainMessageResponse& explained) {
  const v1::MessageStand& stand = explained.stand();
  switch (stand.state()) {
    case v1::MESSAGE_STATE_WAITING:
      return "It waits, and was not delivered yet.";
    case v1::MESSAGE_STATE_IN_FLIGHT:
      return absl::StrCat("It was given to ", HolderText(stand.holder()), " by log entry ", stand.checkout_index(),
                          ", as delivery number ", stand.deliveries(), ".");
    case v1::MESSAGE_STATE_RETURNED:
      return absl::StrCat("It was delivered ", stand.deliveries(), " times and came back; it is next to be delivered.");
    case v1::MESSAGE_STATE_SCHEDULED:
      return absl::StrCat("It is scheduled, and due at ", TimeText(stand.due_at_ms()), ".");
    case v1::MESSAGE_STATE_UNSCHEDULED:
      return "It was scheduled, and is so no more: it came due, and is at another position now, or was cancelled or "
             "purged.";
    default:
      return absl::StrCat("It is settled: acknowledged, rejected or purged.",
                          explained.in_log() ? "" : " The log holds it no more.");
  }
}

int Explain(Command& command, const Arguments& arguments) {
  absl::StatusOr<uint64_t> position = ParsePosition(arguments.position);
  if (!position.ok()) return command.Usage(std::string(position.status().message()));
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  v1::ExplainMessageRequest request;
  request.set_name(arguments.queue);
  request.set_subscription(arguments.subscription);
  request.set_position(*position);
  absl::StatusOr<v1::ExplainMessageResponse> explained = client->ExplainMessage(request);
  if (!explained.ok()) return command.Fail(explained.status());
  if (command.json()) {
    Json json = {{"position", explained->position()},
                 {"group", explained->group_id()},
                 {"at_index", explained->at_index()},
                 {"in_log", explained->in_log()}};
    PutStand(json, explained->stand());
    if (explained->in_log()) {
      json["term"] = explained->term();
      json["published_at_ms"] = explained->published_at_ms();
      json["batch_messages"] = explained->batch_messages();
      if (!explained->producer().empty()) {
        json["producer"] = explained->producer();
        json["epoch"] = explained->epoch();
        json["sequence"] = explained->sequence();
      }
      PutMessage(json, explained->message());
    }
    std::printf("%s\n", json.dump(2).c_str());
    return kExitOk;
  }
  std::printf("queue %s, position %s (%llu), as of log index %llu\n\n", arguments.queue.c_str(),
              PositionText(explained->position()).c_str(), static_cast<unsigned long long>(explained->position()),
              static_cast<unsigned long long>(explained->at_index()));
  if (explained->in_log()) {
    Table table({"published", TimeText(explained->published_at_ms())});
    table.Add({"by producer", explained->producer().empty() ? "- (without a name)" : explained->producer()});
    if (!explained->producer().empty()) {
      table.Add({"sequence", absl::StrCat(explained->sequence(), " in epoch ", explained->epoch())});
    }
    table.Add({"log entry", absl::StrCat(explained->position() >> 16, " of term ", explained->term(), ", with ",
                                         explained->batch_messages(), " messages")});
    if (!explained->message().key().empty()) table.Add({"key", explained->message().key()});
    if (!explained->message().id().empty()) table.Add({"id", explained->message().id()});
    if (!explained->message().routing_key().empty()) table.Add({"routing key", explained->message().routing_key()});
    table.Add(
        {"body", absl::StrCat(explained->message().body().size(), " bytes: ", BodyText(explained->message().body()))});
    std::printf("%s\n", table.Text().c_str());
  }
  std::printf("%s\n", Sentence(*explained).c_str());
  return kExitOk;
}

int ListLeases(Command& command, const Arguments& arguments) {
  absl::StatusOr<uint64_t> from = FromArgument(arguments.from);
  if (!from.ok()) return command.Usage(std::string(from.status().message()));
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  v1::ListLeasesRequest request;
  request.set_name(arguments.queue);
  request.set_subscription(arguments.subscription);
  request.set_from_position(*from);
  Json list = Json::array();
  Table table({"POSITIONS", "COUNT", "DELIVERIES", "SINCE", "HOLDER", "SESSION"});
  uint64_t shown = 0, next = 0;
  do {
    request.set_limit(static_cast<uint32_t>(std::min<uint64_t>(kPage, arguments.limit - shown)));
    absl::StatusOr<v1::ListLeasesResponse> page = client->ListLeases(request);
    if (!page.ok()) return command.Fail(page.status());
    for (const v1::Lease& lease : page->leases()) {
      ++shown;
      if (!arguments.consumer.empty() && lease.holder().consumer() != arguments.consumer) continue;
      list.push_back({{"first_position", lease.first_position()},
                      {"count", lease.count()},
                      {"deliveries", lease.deliveries()},
                      {"checkout_index", lease.checkout_index()},
                      {"since_ms", lease.since_ms()},
                      {"holder", HolderJson(lease.holder())}});
      const std::string last =
          lease.count() == 1 ? "" : absl::StrCat(" to ", PositionText(lease.first_position() + lease.count() - 1));
      table.Add({absl::StrCat(PositionText(lease.first_position()), last), absl::StrCat(lease.count()),
                 absl::StrCat(lease.deliveries()), lease.since_ms() == 0 ? "-" : TimeText(lease.since_ms()),
                 HolderText(lease.holder()), lease.holder().session().empty() ? "-" : Hex(lease.holder().session())});
    }
    next = page->next_position();
    request.set_from_position(next);
  } while (next != 0 && shown < arguments.limit && !interrupted);
  if (command.json()) {
    std::printf("%s\n", list.dump(2).c_str());
    return kExitOk;
  }
  if (list.empty()) {
    std::printf("nobody holds anything\n");
  } else {
    std::printf("%s", table.Text().c_str());
  }
  if (next != 0) std::printf("\nmore: --from %s\n", PositionText(next).c_str());
  return kExitOk;
}

int Release(Command& command, const Arguments& arguments) {
  if (arguments.session.empty() == arguments.position.empty()) {
    return command.Usage("name either --session or --position; `trireme lease list` says who holds what");
  }
  v1::ReleaseLeasesRequest request;
  request.set_name(arguments.queue);
  request.set_subscription(arguments.subscription);
  if (!arguments.session.empty()) {
    absl::StatusOr<std::string> session = ParseHex(arguments.session);
    if (!session.ok()) return command.Usage(std::string(session.status().message()));
    request.set_session(*session);
  } else {
    absl::StatusOr<uint64_t> position = ParsePosition(arguments.position);
    if (!position.ok()) return command.Usage(std::string(position.status().message()));
    request.mutable_positions()->set_first_position(*position);
    request.mutable_positions()->set_count(arguments.count);
  }
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::ReleaseLeasesResponse> response = client->ReleaseLeases(request);
  if (!response.ok()) return command.Fail(response.status());
  if (command.json()) {
    std::printf("%s\n", Json({{"name", arguments.queue}, {"released", response->released()}}).dump(2).c_str());
  } else {
    std::printf("%s: %s messages released\n", arguments.queue.c_str(), Thousands(response->released()).c_str());
  }
  return kExitOk;
}

void AddSubscription(CLI::App* command, const std::shared_ptr<Arguments>& arguments) {
  command->add_option("--subscription", arguments->subscription, "The subscription; 'default' if it is not named");
}

}  // namespace

std::string HolderText(const v1::Holder& holder) {
  if (holder.session().empty()) return absl::StrCat("a receive until ", TimeText(holder.deadline_ms()));
  return holder.consumer().empty() ? absl::StrCat("session ", Hex(holder.session())) : holder.consumer();
}

Json HolderJson(const v1::Holder& holder) {
  if (holder.session().empty()) return {{"deadline_ms", holder.deadline_ms()}};
  return {{"consumer", holder.consumer()}, {"session", Hex(holder.session())}};
}

void AddBrowseCommand(CLI::App& queue, Command& command) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* browse = command.Add(&queue, "browse", "Print messages that are not settled, without taking them",
                                 "  trireme queue browse orders\n"
                                 "  trireme queue browse orders --from 1042:0 --limit 10\n"
                                 "  trireme queue browse orders --scheduled           # what is due later, by time\n"
                                 "  trireme queue browse orders --output json         # a line for each message\n",
                                 [&command, arguments] { return Browse(command, *arguments); });
  browse->add_option("NAME", arguments->queue, "The queue")->required();
  browse->add_option("--from", arguments->from, "The first position: INDEX:SLOT, or the number that JSON shows");
  browse->add_option("--limit", arguments->limit, "At most so many messages")->check(Positive())->capture_default_str();
  browse->add_flag("--scheduled", arguments->scheduled, "What is stored for later and not due, by due time");
  AddSubscription(browse, arguments);
}

void AddMessageCommands(CLI::App& app, Command& command) {
  CLI::App* message = command.AddGroup(app, "message", "Explain a message, cancel one that is scheduled");
  auto arguments = std::make_shared<Arguments>();
  CLI::App* explain = command.Add(message, "explain", "Print what the log and the state still hold of one message",
                                  "  trireme message explain orders 1042:0\n"
                                  "  trireme message explain orders 68288512 --output json\n",
                                  [&command, arguments] { return Explain(command, *arguments); });
  explain->add_option("QUEUE", arguments->queue, "The queue")->required();
  explain->add_option("POSITION", arguments->position, "INDEX:SLOT, or the number that JSON shows")->required();
  AddSubscription(explain, arguments);

  CLI::App* cancel = command.Add(message, "cancel", "Drop a message that was published for later, before it is due",
                                 "  trireme publish orders 'reminder' --delay 3600    # says its position\n"
                                 "  trireme message cancel orders 1042:0\n",
                                 [&command, arguments] { return Cancel(command, *arguments); });
  cancel->add_option("QUEUE", arguments->queue, "The queue")->required();
  cancel->add_option("POSITION", arguments->position, "As it was confirmed: INDEX:SLOT, or the number")->required();
}

void AddLeaseCommands(CLI::App& app, Command& command) {
  CLI::App* lease = command.AddGroup(app, "lease", "List who holds which messages, and take them back");
  auto arguments = std::make_shared<Arguments>();
  CLI::App* list = command.Add(lease, "list", "List the messages that consumers hold, and since when",
                               "  trireme lease list orders\n"
                               "  trireme lease list orders --consumer worker-7 --output json\n",
                               [&command, arguments] { return ListLeases(command, *arguments); });
  list->add_option("QUEUE", arguments->queue, "The queue")->required();
  list->add_option("--consumer", arguments->consumer, "Only what the consumer of this label holds");
  list->add_option("--from", arguments->from, "The first position");
  list->add_option("--limit", arguments->limit, "Look at so many runs at most")
      ->check(Positive())
      ->capture_default_str();
  AddSubscription(list, arguments);

  CLI::App* release =
      command.Add(lease, "release", "Take messages from their holder, to be delivered anew; it is told \"lease lost\"",
                  "  trireme lease release orders --session 6f1c0a9be2d34ff0a1b2c3d4e5f60718\n"
                  "  trireme lease release orders --position 1042:0 --count 5\n",
                  [&command, arguments] { return Release(command, *arguments); });
  release->add_option("QUEUE", arguments->queue, "The queue")->required();
  release->add_option("--session", arguments->session,
                      "All that this session holds; in hexadecimal, as `list` shows it");
  release->add_option("--position", arguments->position, "The first position");
  release->add_option("--count", arguments->count, "So many messages from --position on, in one log entry")
      ->check(CLI::Range(1, 65'535))
      ->capture_default_str();
  AddSubscription(release, arguments);
}

}  // namespace trireme::client
