#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/cli/for_all.h"
#include "client/cli/replicas.h"
#include "client/error.h"

namespace trireme::client {
namespace {

constexpr uint32_t kPage = 1'000;
// So many names are printed one by one; of more, their number.
constexpr size_t kMostNames = 20;

Json InfoJson(const v1::QueueInfo& queue) {
  Json replicas = Json::array();
  for (const v1::ReplicaPlace& place : queue.replicas()) {
    replicas.push_back({{"node", place.node_id()}, {"replica", place.replica_id()}, {"address", place.address()}});
  }
  return {{"name", queue.name()},
          {"group", queue.group_id()},
          {"leader_node", queue.leader_node_id()},
          {"replicas", replicas},
          {"created_at_ms", queue.created_at_ms()}};
}

std::string LeaderText(const v1::QueueInfo& queue) {
  if (queue.leader_node_id() == 0) return "-";
  for (const v1::ReplicaPlace& place : queue.replicas()) {
    if (place.node_id() == queue.leader_node_id()) return absl::StrCat(place.node_id(), " (", place.address(), ")");
  }
  return absl::StrCat(queue.leader_node_id());
}

std::string NodesText(const v1::QueueInfo& queue) {
  std::vector<uint64_t> nodes;
  for (const v1::ReplicaPlace& place : queue.replicas()) nodes.push_back(place.node_id());
  return absl::StrJoin(nodes, ",");
}

std::string QueuesTable(const std::vector<v1::QueueInfo>& queues) {
  Table table({"NAME", "GROUP", "LEADER", "NODES", "CREATED"});
  for (const v1::QueueInfo& queue : queues) {
    table.Add({queue.name(), absl::StrCat(queue.group_id()), LeaderText(queue), NodesText(queue),
               TimeText(queue.created_at_ms())});
  }
  return table.Text();
}

// An error about one of several queues names it.
absl::Status About(const std::string& name, const absl::Status& status) {
  if (status.ok() || status.message().find(absl::string_view(name)) != absl::string_view::npos) return status;
  return WithFacts(status.code(), absl::StrCat("queue ", name, ": ", std::string(status.message())), status);
}

int Create(Command& command, const std::string& pattern, uint32_t count, uint32_t replicas) {
  absl::StatusOr<std::vector<std::string>> names = ExpandNames(pattern, count);
  if (!names.ok()) return command.Usage(std::string(names.status().message()));
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  std::vector<v1::CreateQueueResponse> made(names->size());
  absl::Status status = ForAll(names->size(), "created", [&](size_t i, std::function<void(absl::Status)> done) {
    v1::CreateQueueRequest request;
    request.set_name((*names)[i]);
    request.mutable_settings()->set_replicas(replicas);
    client->CreateQueue(request, [&, i, done](absl::StatusOr<v1::CreateQueueResponse> response) {
      if (response.ok()) made[i] = *response;
      done(About((*names)[i], response.status()));
    });
  });
  if (!status.ok()) return command.Fail(status);
  const auto created = std::count_if(made.begin(), made.end(), [](const auto& response) { return response.created(); });
  if (command.json()) {
    Json list = Json::array();
    for (const v1::CreateQueueResponse& response : made) {
      Json queue = InfoJson(response.queue());
      queue["created"] = response.created();
      queue["metadata_index"] = response.metadata_index();
      list.push_back(std::move(queue));
    }
    std::printf("%s\n", (list.size() == 1 ? list[0] : list).dump(2).c_str());
  } else if (made.size() == 1) {
    std::printf("%s %s, group %llu, on nodes %s\n", made[0].queue().name().c_str(),
                created == 1 ? "created" : "was there already",
                static_cast<unsigned long long>(made[0].queue().group_id()), NodesText(made[0].queue()).c_str());
  } else {
    std::printf("%lld queues created, %lld were there already\n", static_cast<long long>(created),
                static_cast<long long>(static_cast<int64_t>(made.size()) - created));
  }
  return kExitOk;
}

// The broker names it.
int CreateTemporary(Command& command, const v1::TemporarySettings& settings) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  v1::CreateQueueRequest request;
  *request.mutable_settings()->mutable_temporary() = settings;
  absl::StatusOr<v1::CreateQueueResponse> response = client->CreateQueue(request);
  if (!response.ok()) return command.Fail(response.status());
  if (command.json()) {
    std::printf("%s\n", InfoJson(response->queue()).dump(2).c_str());
  } else {
    std::printf("%s\n", response->queue().name().c_str());
  }
  return kExitOk;
}

// Over all subscriptions.
struct Depth {
  uint64_t waiting = 0, in_flight = 0, consumers = 0;
};
using Depths = std::vector<absl::StatusOr<Depth>>;

// Of each queue its figures, or why its leader did not give them. Gives the first error.
absl::Status AskDepths(Client& client, const std::vector<v1::QueueInfo>& queues, Depths& depths) {
  depths.assign(queues.size(), absl::CancelledError("not asked"));
  absl::Status status = ForAll(queues.size(), "asked", [&](size_t i, std::function<void(absl::Status)> done) {
    v1::DescribeQueueRequest request;
    request.set_name(queues[i].name());
    client.DescribeQueue(request, [&, i, done](absl::StatusOr<v1::DescribeQueueResponse> response) {
      if (!response.ok()) {
        depths[i] = About(queues[i].name(), response.status());
        return done(absl::OkStatus());
      }
      Depth depth;
      for (const v1::SubscriptionFigures& each : response->figures().subscriptions()) {
        depth.waiting += each.waiting();
        depth.in_flight += each.in_flight();
        depth.consumers += each.consumers();
      }
      depths[i] = depth;
      done(absl::OkStatus());
    });
  });
  // One that was deleted since it was listed is no error.
  for (const absl::StatusOr<Depth>& depth : depths) {
    if (!absl::IsNotFound(depth.status())) status.Update(depth.status());
  }
  return status;
}

std::string DepthsTable(const std::vector<v1::QueueInfo>& queues, const Depths& depths) {
  Table table({"NAME", "LEADER", "WAITING", "IN FLIGHT", "CONSUMERS"});
  for (size_t i = 0; i < queues.size(); ++i) {
    if (depths[i].ok()) {
      table.Add({queues[i].name(), LeaderText(queues[i]), Thousands(depths[i]->waiting),
                 Thousands(depths[i]->in_flight), Thousands(depths[i]->consumers)});
    } else {
      table.Add({queues[i].name(), LeaderText(queues[i]), "no answer", "", ""});
    }
  }
  return table.Text();
}

int List(Command& command, const std::string& prefix, uint64_t limit, bool figures) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  std::vector<v1::QueueInfo> queues;
  v1::ListQueuesRequest request;
  request.set_prefix(prefix);
  while (queues.size() < limit) {
    request.set_limit(static_cast<uint32_t>(std::min<uint64_t>(kPage, limit - queues.size())));
    absl::StatusOr<v1::ListQueuesResponse> page = client->ListQueues(request);
    if (!page.ok()) return command.Fail(page.status());
    queues.insert(queues.end(), page->queues().begin(), page->queues().end());
    if (!page->more() || page->queues().empty()) break;
    request.set_after(queues.back().name());
  }
  Depths depths;
  absl::Status status;
  if (figures) status = AskDepths(*client, queues, depths);
  if (command.json()) {
    Json list = Json::array();
    for (size_t i = 0; i < queues.size(); ++i) {
      Json queue = InfoJson(queues[i]);
      if (figures && depths[i].ok()) {
        queue["waiting"] = depths[i]->waiting;
        queue["in_flight"] = depths[i]->in_flight;
        queue["consumers"] = depths[i]->consumers;
      } else if (figures) {
        queue["error"] = command.ErrorJson(depths[i].status());
      }
      list.push_back(std::move(queue));
    }
    std::printf("%s\n", list.dump(2).c_str());
  } else {
    std::printf("%s", (figures ? DepthsTable(queues, depths) : QueuesTable(queues)).c_str());
  }
  return status.ok() ? kExitOk : command.Say(status);
}

const char* OverflowName(v1::Overflow overflow) {
  return overflow == v1::OVERFLOW_DROP_OLDEST   ? "drop-oldest"
         : overflow == v1::OVERFLOW_DEAD_LETTER ? "dead-letter"
                                                : "reject";
}

int Describe(Command& command, const std::string& name) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::DescribeQueueResponse> response = client->DescribeQueue(name);
  if (!response.ok()) return command.Fail(response.status());
  const v1::QueueFigures& figures = response->figures();
  const v1::QueueLimits& limits = figures.limits();
  if (command.json()) {
    Json json = InfoJson(response->queue());
    json["at_index"] = figures.at_index();
    json["published"] = figures.published();
    json["producers"] = figures.producers();
    json["queue_time_ms"] = figures.queue_time_ms();
    json["limits"] = {{"max_messages", limits.max_messages()},
                      {"max_bytes", limits.max_bytes()},
                      {"max_message_bytes", limits.max_message_bytes()},
                      {"ttl_ms", limits.ttl_ms()},
                      {"overflow", OverflowName(limits.overflow())}};
    json["held_messages"] = figures.held_messages();
    json["held_bytes"] = figures.held_bytes();
    json["refused"] = figures.refused();
    json["subscriptions"] = Json::array();
    for (const v1::SubscriptionFigures& subscription : figures.subscriptions()) {
      json["subscriptions"].push_back(SubscriptionJson(subscription));
    }
    std::printf("%s\n", json.dump(2).c_str());
    return kExitOk;
  }
  std::printf("%s\n", QueuesTable({response->queue()}).c_str());
  std::printf("published %s, producers %s, at log index %s\n", Thousands(figures.published()).c_str(),
              Thousands(figures.producers()).c_str(), Thousands(figures.at_index()).c_str());
  if (limits.ByteSizeLong() > 0) {
    auto of = [](uint64_t held, uint64_t limit) {
      return limit == 0 ? Thousands(held) : absl::StrCat(Thousands(held), " of ", Thousands(limit));
    };
    std::printf("holds %s messages, %s bytes", of(figures.held_messages(), limits.max_messages()).c_str(),
                of(figures.held_bytes(), limits.max_bytes()).c_str());
    if (limits.max_message_bytes() != 0)
      std::printf(", messages of at most %s bytes", Thousands(limits.max_message_bytes()).c_str());
    if (limits.ttl_ms() != 0) std::printf(", for %g s", static_cast<double>(limits.ttl_ms()) / 1000);
    std::printf("; refused %s\n", Thousands(figures.refused()).c_str());
  }
  std::printf("\n");
  std::printf("%s", SubscriptionsTable(figures).c_str());
  return kExitOk;
}

// What became of each queue that was to be deleted.
struct Deletion {
  std::vector<std::string> deleted, absent, not_tried;
  std::vector<std::pair<std::string, absl::Status>> failed;
};

Deletion Sort(const std::vector<std::string>& names, const std::vector<absl::Status>& outcomes, bool if_exists) {
  Deletion sorted;
  for (size_t i = 0; i < names.size(); ++i) {
    if (outcomes[i].ok()) {
      sorted.deleted.push_back(names[i]);
    } else if (absl::IsCancelled(outcomes[i])) {
      sorted.not_tried.push_back(names[i]);
    } else if (if_exists && absl::IsNotFound(outcomes[i])) {
      sorted.absent.push_back(names[i]);
    } else {
      sorted.failed.emplace_back(names[i], outcomes[i]);
    }
  }
  return sorted;
}

void PrintNames(const std::vector<std::string>& names, const char* what) {
  if (names.size() > kMostNames) {
    std::printf("%zu queues %s\n", names.size(), what);
    return;
  }
  for (const std::string& name : names) std::printf("%s %s\n", name.c_str(), what);
}

int Delete(Command& command, const std::vector<std::string>& patterns, uint32_t count, bool if_exists) {
  std::vector<std::string> names;
  for (const std::string& pattern : patterns) {
    absl::StatusOr<std::vector<std::string>> some = ExpandNames(pattern, count);
    if (!some.ok()) return command.Usage(std::string(some.status().message()));
    names.insert(names.end(), some->begin(), some->end());
  }
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  std::vector<absl::Status> outcomes(names.size(), absl::CancelledError("not tried"));
  absl::Status stopped = ForAll(names.size(), "deleted", [&](size_t i, std::function<void(absl::Status)> done) {
    v1::DeleteQueueRequest request;
    request.set_name(names[i]);
    client->DeleteQueue(request, [&, i, done](absl::StatusOr<v1::DeleteQueueResponse> response) {
      outcomes[i] = About(names[i], response.status());
      // What is wrong with one queue does not concern the others; where no node answers, all would wait in vain.
      const bool silent = absl::IsDeadlineExceeded(outcomes[i]) || absl::IsUnavailable(outcomes[i]);
      done(silent ? outcomes[i] : absl::OkStatus());
    });
  });
  const Deletion sorted = Sort(names, outcomes, if_exists);
  for (const auto& [name, status] : sorted.failed) stopped.Update(status);
  if (command.json()) {
    Json failed = Json::array();
    for (const auto& [name, status] : sorted.failed) {
      failed.push_back({{"name", name}, {"error", command.ErrorJson(status)}});
    }
    return command.Finish(
        {{"deleted", sorted.deleted}, {"absent", sorted.absent}, {"failed", failed}, {"not_tried", sorted.not_tried}},
        stopped);
  }
  PrintNames(sorted.deleted, "deleted");
  PrintNames(sorted.absent, "was not there");
  PrintNames(sorted.not_tried, "not tried");
  for (size_t i = 1; i < sorted.failed.size() && i < kMostNames; ++i) {
    std::fprintf(stderr, "trireme: %s\n", std::string(sorted.failed[i].second.message()).c_str());
  }
  if (sorted.failed.size() > kMostNames) {
    std::fprintf(stderr, "trireme: %zu queues could not be deleted\n", sorted.failed.size());
  }
  return stopped.ok() ? kExitOk : command.Fail(stopped);
}

int Purge(Command& command, const std::string& name) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::PurgeQueueResponse> response = client->PurgeQueue(name);
  if (!response.ok()) return command.Fail(response.status());
  if (command.json()) {
    std::printf("%s\n", Json({{"name", name}, {"purged", response->purged()}}).dump(2).c_str());
  } else {
    std::printf("%s: %s messages dropped\n", name.c_str(), Thousands(response->purged()).c_str());
  }
  return kExitOk;
}

int Set(Command& command, const std::string& name, const v1::QueueLimits& limits) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  v1::ChangeQueueRequest request;
  request.set_name(name);
  *request.mutable_limits() = limits;
  absl::StatusOr<v1::ChangeQueueResponse> response = client->ChangeQueue(request);
  if (!response.ok()) return command.Fail(response.status());
  if (command.json()) {
    std::printf("%s\n", Json({{"name", name}}).dump(2).c_str());
  } else {
    std::printf("%s changed\n", name.c_str());
  }
  return kExitOk;
}

struct Arguments {
  std::string name;
  std::vector<std::string> names;
  std::string prefix;
  uint32_t count = 1;
  uint32_t replicas = 0;
  uint64_t limit = 1'000'000;
  bool figures = false;
  bool if_exists = false;
  bool temporary = false;
  v1::TemporarySettings settings;
  bool shared = false;
  double idle_s = 0;
  uint32_t max_messages = 0;
  uint64_t limit_messages = 0, limit_bytes = 0, limit_message_bytes = 0;
  double ttl_s = 0;
  v1::Overflow overflow = v1::OVERFLOW_UNSPECIFIED;
};

}  // namespace

void AddQueueCommands(CLI::App& app, Command& command) {
  CLI::App* queue = command.AddGroup(app, "queue", "Create, list, describe, browse, delete and purge queues");
  auto arguments = std::make_shared<Arguments>();
  const CLI::Range counts(1, 1'000'000);

  CLI::App* create = command.Add(
      queue, "create", "Create a queue, or many; one that is there with the same settings is left as it is",
      "  trireme queue create orders\n"
      "  trireme queue create 'orders-%d' --count 100      # orders-1 to orders-100\n"
      "  trireme queue create audit --replicas 1 --output json\n"
      "  name=$(trireme queue create --temporary)          # in one node's memory; gone when it is not used any more\n",
      [&command, arguments] {
        if (!arguments->temporary) return Create(command, arguments->name, arguments->count, arguments->replicas);
        arguments->settings.set_shared(arguments->shared);
        arguments->settings.set_idle_timeout_ms(static_cast<uint32_t>(arguments->idle_s * 1000));
        arguments->settings.set_max_messages(arguments->max_messages);
        return CreateTemporary(command, arguments->settings);
      });
  CLI::Option* name =
      create->add_option("NAME", arguments->name, "1 to 255 letters, digits and . _ - : /; %d stands for the number");
  CLI::Option* temporary = create->add_flag("--temporary", arguments->temporary,
                                            "In the memory of one node, under a name that is printed: gone when its "
                                            "consumer leaves, when idle, with its node");
  temporary->excludes(name);
  create->parse_complete_callback([name, temporary] {
    if (name->count() + temporary->count() == 0) throw CLI::RequiredError("NAME");
  });
  create
      ->add_flag("--shared", arguments->shared, "Of a temporary queue: consumers compete; else the first has it alone")
      ->needs(temporary);
  create
      ->add_option("--idle-timeout", arguments->idle_s,
                   "Of a temporary queue: seconds without use after which it is gone; 300 if not given")
      ->check(CLI::Range(1.0, 3600.0))
      ->needs(temporary);
  create
      ->add_option("--max-messages", arguments->max_messages,
                   "Of a temporary queue: refuse what is beyond; 10,000 if not given")
      ->check(CLI::Range(1, 100'000))
      ->needs(temporary);
  create->add_option("--count", arguments->count, "How many; NAME then needs a %d")
      ->check(counts)
      ->capture_default_str();
  create->add_option("--replicas", arguments->replicas, "Nodes that hold it; 0 = 3, or all if there are fewer")
      ->check(CLI::Range(0, 7))
      ->excludes(temporary)
      ->capture_default_str();

  CLI::App* list = command.Add(
      queue, "list", "List queues by name",
      "  trireme queue list\n"
      "  trireme queue list --prefix orders- --output json\n"
      "  trireme queue list --figures                      # with what waits, from each leader\n",
      [&command, arguments] { return List(command, arguments->prefix, arguments->limit, arguments->figures); });
  list->add_flag("--figures", arguments->figures, "Ask each queue's leader what waits and is in flight there");
  list->add_option("--prefix", arguments->prefix, "Only names that start with it");
  list->add_option("--limit", arguments->limit, "At most so many")->check(Positive())->capture_default_str();

  CLI::App* describe = command.Add(queue, "describe", "Print a queue's place and its exact figures",
                                   "  trireme queue describe orders\n"
                                   "  trireme queue describe orders --output json\n",
                                   [&command, arguments] { return Describe(command, arguments->name); });
  describe->add_option("NAME", arguments->name, "The queue")->required();

  CLI::App* replicas =
      command.Add(queue, "replicas", "Ask each node that holds the queue how far its replica is, and compare them",
                  "  trireme queue replicas orders\n"
                  "  trireme queue replicas orders --output json\n",
                  [&command, arguments] { return ShowReplicas(command, arguments->name); });
  replicas->add_option("NAME", arguments->name, "The queue")->required();

  CLI::App* remove = command.Add(
      queue, "delete", "Delete queues with all their messages",
      "  trireme queue delete orders\n"
      "  trireme queue delete 'orders-%d' --count 100\n"
      "  trireme queue delete orders --if-exists\n",
      [&command, arguments] { return Delete(command, arguments->names, arguments->count, arguments->if_exists); });
  remove->add_flag("--if-exists", arguments->if_exists, "One that is not there is no error");
  remove->add_option("NAME", arguments->names, "The queues; %d stands for the number")->required();
  remove->add_option("--count", arguments->count, "How many; NAME then needs a %d")
      ->check(counts)
      ->capture_default_str();

  CLI::App* set = command.Add(queue, "set", "Give a queue other limits: those that are named, no others",
                              "  trireme queue set orders --max-messages 100000 --max-bytes 1000000000\n"
                              "  trireme queue set orders                          # none\n",
                              [&command, arguments] {
                                v1::QueueLimits limits;
                                limits.set_max_messages(arguments->limit_messages);
                                limits.set_max_bytes(arguments->limit_bytes);
                                limits.set_max_message_bytes(arguments->limit_message_bytes);
                                limits.set_ttl_ms(static_cast<uint64_t>(arguments->ttl_s * 1000));
                                limits.set_overflow(arguments->overflow);
                                return Set(command, arguments->name, limits);
                              });
  set->add_option("NAME", arguments->name, "The queue")->required();
  set->add_option("--max-messages", arguments->limit_messages,
                  "Refuse what is beyond so many that are not settled by all subscriptions");
  set->add_option("--max-bytes", arguments->limit_bytes, "Refuse what is beyond so many bytes of those");
  set->add_option("--max-message-bytes", arguments->limit_message_bytes, "Refuse larger messages");

  const std::map<std::string, v1::Overflow> overflows = {{"reject", v1::OVERFLOW_REJECT},
                                                         {"drop-oldest", v1::OVERFLOW_DROP_OLDEST},
                                                         {"dead-letter", v1::OVERFLOW_DEAD_LETTER}};
  set->add_option("--overflow", arguments->overflow, "When it is full: reject, drop-oldest, or dead-letter the oldest")
      ->transform(CLI::CheckedTransformer(overflows));
  set->add_option("--ttl", arguments->ttl_s, "Seconds after which a message that waits leaves")
      ->check(CLI::Range(0.0, 3.1e9));

  CLI::App* purge =
      command.Add(queue, "purge", "Drop all messages that wait; what consumers hold stays theirs",
                  "  trireme queue purge orders\n", [&command, arguments] { return Purge(command, arguments->name); });
  purge->add_option("NAME", arguments->name, "The queue")->required();

  AddBrowseCommand(*queue, command);
}

}  // namespace trireme::client
