#include <algorithm>
#include <cstdio>
#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/sync.h"

namespace trireme::client {
namespace {

constexpr size_t kAtOnce = 64;
constexpr uint32_t kPage = 1'000;
// How often replicas are looked at to find them all at one log index.
constexpr int kReplicaLooks = 20;

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

// Calls `act(index, done)` for each of `count` things, many at a time. Gives the first error; those under way end
// first.
absl::Status ForAll(size_t count, const char* what,
                    const std::function<void(size_t, std::function<void(absl::Status)>)>& act) {
  struct State {
    Mutex mutex;
    CondVar changed;
    size_t running = 0;
    size_t finished = 0;
    absl::Status status;
  };
  auto state = std::make_shared<State>();
  for (size_t i = 0; i < count && !interrupted; ++i) {
    {
      MutexLock lock(&state->mutex);
      while (state->running >= kAtOnce) state->changed.Wait(&state->mutex);
      if (!state->status.ok()) break;
      ++state->running;
    }
    act(i, [state](absl::Status status) {
      MutexLock lock(&state->mutex);
      state->status.Update(status);
      --state->running;
      ++state->finished;
      state->changed.SignalAll();
    });
    if (count >= 100 && (i + 1) % 100 == 0) std::fprintf(stderr, "\r%s %zu of %zu", what, i + 1, count);
  }
  MutexLock lock(&state->mutex);
  while (state->running > 0) state->changed.Wait(&state->mutex);
  if (count >= 100) std::fprintf(stderr, "\r%s %zu of %zu\n", what, state->finished, count);
  if (state->status.ok() && interrupted) return absl::CancelledError("interrupted");
  return state->status;
}

// An error about one of several queues names it.
absl::Status About(const std::string& name, const absl::Status& status) {
  if (status.ok() || status.message().find(absl::string_view(name)) != absl::string_view::npos) return status;
  return absl::Status(status.code(), absl::StrCat("queue ", name, ": ", status.message()));
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

int List(Command& command, const std::string& prefix, uint64_t limit) {
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
  if (command.json()) {
    Json list = Json::array();
    for (const v1::QueueInfo& queue : queues) list.push_back(InfoJson(queue));
    std::printf("%s\n", list.dump(2).c_str());
  } else {
    std::printf("%s", QueuesTable(queues).c_str());
  }
  return kExitOk;
}

int Describe(Command& command, const std::string& name) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::DescribeQueueResponse> response = client->DescribeQueue(name);
  if (!response.ok()) return command.Fail(response.status());
  const v1::QueueFigures& figures = response->figures();
  if (command.json()) {
    Json json = InfoJson(response->queue());
    json["at_index"] = figures.at_index();
    json["published"] = figures.published();
    json["producers"] = figures.producers();
    json["queue_time_ms"] = figures.queue_time_ms();
    json["subscriptions"] = Json::array();
    for (const v1::SubscriptionFigures& subscription : figures.subscriptions()) {
      json["subscriptions"].push_back({{"name", subscription.name()},
                                       {"waiting", subscription.waiting()},
                                       {"in_flight", subscription.in_flight()},
                                       {"consumers", subscription.consumers()},
                                       {"acknowledged", subscription.acknowledged()}});
    }
    std::printf("%s\n", json.dump(2).c_str());
    return kExitOk;
  }
  std::printf("%s\n", QueuesTable({response->queue()}).c_str());
  std::printf("published %s, producers %s, at log index %s\n\n", Thousands(figures.published()).c_str(),
              Thousands(figures.producers()).c_str(), Thousands(figures.at_index()).c_str());
  Table table({"SUBSCRIPTION", "WAITING", "IN FLIGHT", "CONSUMERS", "ACKNOWLEDGED"});
  for (const v1::SubscriptionFigures& subscription : figures.subscriptions()) {
    table.Add({subscription.name(), Thousands(subscription.waiting()), Thousands(subscription.in_flight()),
               Thousands(subscription.consumers()), Thousands(subscription.acknowledged())});
  }
  std::printf("%s", table.Text().c_str());
  return kExitOk;
}

// The replicas' own words, one node after the other; the error of a node that did not answer.
using ReplicaLook = std::vector<std::pair<v1::ReplicaPlace, absl::StatusOr<v1::DescribeReplicaResponse>>>;
ReplicaLook LookAtReplicas(Client& client, const v1::QueueInfo& queue) {
  ReplicaLook look;
  for (const v1::ReplicaPlace& place : queue.replicas()) {
    look.emplace_back(place, client.DescribeReplica(queue.name(), place.address()));
  }
  return look;
}

// OK: those that have applied the same index have the same digest. DATA_LOSS: some have not (Safety rule 25).
absl::Status CompareReplicas(const std::string& name, const ReplicaLook& look) {
  for (const auto& [place, state] : look) {
    for (const auto& [other_place, other] : look) {
      if (!state.ok() || !other.ok() || state->applied_index() != other->applied_index() ||
          state->digest() == other->digest()) {
        continue;
      }
      return absl::DataLossError(absl::StrCat("queue ", name, ": the replicas on nodes ", place.node_id(), " and ",
                                              other_place.node_id(), " differ at log index ", state->applied_index(),
                                              ": stop publishing to it, keep the data directories, and report this"));
    }
  }
  return absl::OkStatus();
}

bool SameIndex(const ReplicaLook& look) {
  return std::all_of(look.begin(), look.end(), [&](const auto& each) {
    return each.second.ok() && look.front().second.ok() &&
           each.second->applied_index() == look.front().second->applied_index();
  });
}

int Replicas(Command& command, const std::string& name) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::DescribeQueueResponse> queue = client->DescribeQueue(name);
  if (!queue.ok()) return command.Fail(queue.status());
  // A queue in use moves on between two answers; only equal indexes can be compared.
  ReplicaLook look = LookAtReplicas(*client, queue->queue());
  for (int looks = 1; looks < kReplicaLooks && !SameIndex(look) && !interrupted; ++looks) {
    look = LookAtReplicas(*client, queue->queue());
  }
  absl::Status unanswered = absl::OkStatus();
  Table table({"NODE", "ADDRESS", "ROLE", "TERM", "APPLIED", "DIGEST"});
  Json list = Json::array();
  for (const auto& [place, state] : look) {
    if (!state.ok()) {
      unanswered.Update(state.status());
      table.Add({absl::StrCat(place.node_id()), place.address(), "no answer", "", "", ""});
      list.push_back({{"node", place.node_id()}, {"address", place.address()}, {"error", state.status().ToString()}});
      continue;
    }
    const std::string digest = absl::StrCat(absl::Hex(state->digest(), absl::kZeroPad8));
    table.Add({absl::StrCat(place.node_id()), place.address(), state->leading() ? "leader" : "follower",
               absl::StrCat(state->term()), Thousands(state->applied_index()), digest});
    list.push_back({{"node", place.node_id()},
                    {"address", place.address()},
                    {"leading", state->leading()},
                    {"term", state->term()},
                    {"applied_index", state->applied_index()},
                    {"digest", digest}});
  }
  const absl::Status agree = CompareReplicas(name, look);
  if (command.json()) {
    std::printf("%s\n",
                Json({{"name", name}, {"same_index", SameIndex(look)}, {"agree", agree.ok()}, {"replicas", list}})
                    .dump(2)
                    .c_str());
  } else {
    std::printf("%s", table.Text().c_str());
    if (unanswered.ok() && agree.ok()) {
      std::printf("\n%s\n", SameIndex(look) ? "the replicas are the same"
                                            : "the replicas are not at one log index, as in a queue that is in use");
    }
  }
  if (!agree.ok()) return command.Fail(agree);
  return unanswered.ok() ? kExitOk : command.Fail(unanswered);
}

int Delete(Command& command, const std::vector<std::string>& patterns, uint32_t count) {
  std::vector<std::string> names;
  for (const std::string& pattern : patterns) {
    absl::StatusOr<std::vector<std::string>> some = ExpandNames(pattern, count);
    if (!some.ok()) return command.Usage(std::string(some.status().message()));
    names.insert(names.end(), some->begin(), some->end());
  }
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::Status status = ForAll(names.size(), "deleted", [&](size_t i, std::function<void(absl::Status)> done) {
    v1::DeleteQueueRequest request;
    request.set_name(names[i]);
    client->DeleteQueue(request, [&, i, done](absl::StatusOr<v1::DeleteQueueResponse> response) {
      done(About(names[i], response.status()));
    });
  });
  if (!status.ok()) return command.Fail(status);
  if (command.json()) {
    std::printf("%s\n", Json({{"deleted", names}}).dump(2).c_str());
  } else if (names.size() == 1) {
    std::printf("%s deleted\n", names[0].c_str());
  } else {
    std::printf("%zu queues deleted\n", names.size());
  }
  return kExitOk;
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

struct Arguments {
  std::string name;
  std::vector<std::string> names;
  std::string prefix;
  uint32_t count = 1;
  uint32_t replicas = 0;
  uint64_t limit = 1'000'000;
};

}  // namespace

void AddQueueCommands(CLI::App& app, Command& command) {
  CLI::App* queue = command.AddGroup(app, "queue", "Create, list, describe, delete and purge queues");
  auto arguments = std::make_shared<Arguments>();
  const CLI::Range counts(1, 1'000'000);

  CLI::App* create = command.Add(
      queue, "create", "Create a queue, or many; one that is there with the same settings is left as it is",
      "  trireme queue create orders\n"
      "  trireme queue create 'orders-%d' --count 100      # orders-1 to orders-100\n"
      "  trireme queue create audit --replicas 1 --output json\n",
      [&command, arguments] { return Create(command, arguments->name, arguments->count, arguments->replicas); });
  create->add_option("NAME", arguments->name, "1 to 255 letters, digits and . _ - : /; %d stands for the number")
      ->required();
  create->add_option("--count", arguments->count, "How many; NAME then needs a %d")
      ->check(counts)
      ->capture_default_str();
  create->add_option("--replicas", arguments->replicas, "Nodes that hold it; 0 = 3, or all if there are fewer")
      ->check(CLI::Range(0, 7))
      ->capture_default_str();

  CLI::App* list = command.Add(queue, "list", "List queues by name",
                               "  trireme queue list\n"
                               "  trireme queue list --prefix orders- --output json\n",
                               [&command, arguments] { return List(command, arguments->prefix, arguments->limit); });
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
                  [&command, arguments] { return Replicas(command, arguments->name); });
  replicas->add_option("NAME", arguments->name, "The queue")->required();

  CLI::App* remove = command.Add(queue, "delete", "Delete queues with all their messages",
                                 "  trireme queue delete orders\n"
                                 "  trireme queue delete 'orders-%d' --count 100\n",
                                 [&command, arguments] { return Delete(command, arguments->names, arguments->count); });
  remove->add_option("NAME", arguments->names, "The queues; %d stands for the number")->required();
  remove->add_option("--count", arguments->count, "How many; NAME then needs a %d")
      ->check(counts)
      ->capture_default_str();

  CLI::App* purge =
      command.Add(queue, "purge", "Drop all messages that wait; what consumers hold stays theirs",
                  "  trireme queue purge orders\n", [&command, arguments] { return Purge(command, arguments->name); });
  purge->add_option("NAME", arguments->name, "The queue")->required();
}

}  // namespace trireme::client
