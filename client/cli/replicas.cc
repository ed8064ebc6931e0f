#include "client/cli/replicas.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/for_all.h"
#include "client/error.h"
#include "client/sync.h"

namespace trireme::client {
namespace {

using std::chrono::milliseconds;

// For one node's own word, which it has at once.
constexpr milliseconds kAnswer{2'000};
// How often replicas are looked at to find them all at one log index, and the pause between looks for one that lags.
constexpr int kLooks = 20;
constexpr milliseconds kPause{200};
constexpr uint32_t kPage = 1'000;
constexpr size_t kMostBehind = 20;

// In the order of the queue's replicas; the error of a node that did not answer.
using Look = std::vector<std::pair<v1::ReplicaPlace, absl::StatusOr<v1::DescribeReplicaResponse>>>;

// All at once. `done` is called on the client's thread.
void LookAt(Client& client, const v1::QueueInfo& queue, milliseconds timeout, std::function<void(Look)> done) {
  struct Gathered {
    Look look;
    size_t waiting;
    std::function<void(Look)> done;
  };
  auto gathered = std::make_shared<Gathered>();
  gathered->done = std::move(done);
  gathered->waiting = static_cast<size_t>(queue.replicas_size());
  for (const v1::ReplicaPlace& place : queue.replicas()) gathered->look.emplace_back(place, absl::UnknownError(""));
  if (gathered->waiting == 0) return gathered->done({});
  for (int i = 0; i < queue.replicas_size(); ++i) {
    client.DescribeReplica(queue.name(), queue.replicas(i).address(), std::min(timeout, kAnswer),
                           [gathered, i](absl::StatusOr<v1::DescribeReplicaResponse> response) {
                             gathered->look[static_cast<size_t>(i)].second = std::move(response);
                             if (--gathered->waiting == 0) gathered->done(std::move(gathered->look));
                           });
  }
}

Look LookAndWait(Client& client, const v1::QueueInfo& queue, milliseconds timeout) {
  Look look;
  Notification ready;
  LookAt(client, queue, timeout, [&](Look seen) {
    look = std::move(seen);
    ready.Notify();
  });
  ready.Wait();
  return look;
}

size_t Answered(const Look& look) {
  return static_cast<size_t>(
      std::count_if(look.begin(), look.end(), [](const auto& each) { return each.second.ok(); }));
}

bool SameIndex(const Look& look) {
  return Answered(look) == look.size() && std::all_of(look.begin(), look.end(), [&](const auto& each) {
           return each.second->applied_index() == look.front().second->applied_index();
         });
}

// OK: those that have applied the same index have the same digest. DATA_LOSS: some have not (Safety rule 25).
absl::Status Compare(const std::string& name, const Look& look) {
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

void Print(const Look& look) {
  Table table({"NODE", "ADDRESS", "ROLE", "TERM", "APPLIED", "DIGEST"});
  for (const auto& [place, state] : look) {
    if (!state.ok()) {
      table.Add({absl::StrCat(place.node_id()), place.address(), "no answer", "", "", ""});
      continue;
    }
    table.Add({absl::StrCat(place.node_id()), place.address(), state->leading() ? "leader" : "follower",
               absl::StrCat(state->term()), Thousands(state->applied_index()),
               absl::StrCat(absl::Hex(state->digest(), absl::kZeroPad8))});
  }
  std::printf("%s", table.Text().c_str());
}

Json LookJson(const Look& look) {
  Json list = Json::array();
  for (const auto& [place, state] : look) {
    Json replica = {{"node", place.node_id()}, {"address", place.address()}};
    if (!state.ok()) {
      replica["error"] = std::string(state.status().message());
    } else {
      replica["leading"] = state->leading();
      replica["term"] = state->term();
      replica["applied_index"] = state->applied_index();
      replica["digest"] = absl::StrCat(absl::Hex(state->digest(), absl::kZeroPad8));
    }
    list.push_back(std::move(replica));
  }
  return list;
}

const char* Verdict(const Look& look) {
  if (Answered(look) < look.size()) return "";
  return SameIndex(look) ? "the replicas are the same"
                         : "the replicas are not at one log index, as in a queue that is in use";
}

// ---------------------------------------------------------------- catching up

// A queue, and the log index that its leader had applied when it was first asked.
struct Goal {
  v1::QueueInfo queue;
  uint64_t index = 0;
};

// What keeps the nodes from being all up, or "".
std::string NodesMissing(Client& client) {
  absl::StatusOr<v1::StatusResponse> first = client.ClusterStatus();
  if (!first.ok()) return std::string(first.status().message());
  if (first->nodes().empty()) return "the node asked is not part of a cluster yet";
  for (const v1::NodeInfo& asked : first->nodes()) {
    absl::StatusOr<v1::StatusResponse> status = client.ClusterStatus(asked.address(), kAnswer);
    const std::string name = absl::StrCat("node ", asked.node_id(), " (", asked.address(), ")");
    if (!status.ok()) return absl::StrCat(name, " does not answer: ", std::string(status.status().message()));
    if (status->metadata_index() < first->metadata_index()) {
      return absl::StrCat(name, " is at metadata index ", status->metadata_index(), " of ", first->metadata_index());
    }
    for (const v1::NodeInfo& other : status->nodes()) {
      if (other.condition() == v1::NODE_CONDITION_UP) continue;
      return absl::StrCat(name, " is not connected to node ", other.node_id(), " (", other.address(), ")");
    }
  }
  return "";
}

absl::StatusOr<std::vector<Goal>> AllQueues(Client& client) {
  std::vector<Goal> goals;
  v1::ListQueuesRequest request;
  request.set_limit(kPage);
  while (true) {
    absl::StatusOr<v1::ListQueuesResponse> page = client.ListQueues(request);
    if (!page.ok()) return page.status();
    for (const v1::QueueInfo& queue : page->queues()) goals.push_back({queue, 0});
    if (!page->more() || page->queues().empty()) return goals;
    request.set_after(goals.back().queue.name());
  }
}

// What each goal that is not reached lacks. A queue that was deleted meanwhile lacks nothing.
absl::Status Lacking(Client& client, std::vector<Goal>& goals, std::vector<std::string>& lacks) {
  lacks.assign(goals.size(), "");
  return ForAll(goals.size(), "looked at", [&](size_t i, std::function<void(absl::Status)> done) {
    const auto compare = [&goals, &lacks, &client, i, done](uint64_t index) {
      goals[i].index = index;
      LookAt(client, goals[i].queue, kAnswer, [&goals, &lacks, i, done](const Look& look) {
        for (const auto& [place, state] : look) {
          if (absl::IsNotFound(state.status()) || (state.ok() && state->applied_index() >= goals[i].index)) continue;
          lacks[i] = absl::StrCat(
              "queue ", goals[i].queue.name(), " on node ", place.node_id(), " (", place.address(), "): ",
              state.ok() ? absl::StrCat("has applied log index ", state->applied_index(), " of ", goals[i].index)
                         : std::string(state.status().message()));
        }
        done(absl::OkStatus());
      });
    };
    if (goals[i].index != 0) return compare(goals[i].index);
    v1::DescribeQueueRequest request;
    request.set_name(goals[i].queue.name());
    client.DescribeQueue(request, [&lacks, i, done, compare](absl::StatusOr<v1::DescribeQueueResponse> response) {
      if (response.ok()) return compare(response->figures().at_index());
      if (!absl::IsNotFound(response.status())) lacks[i] = std::string(response.status().message());
      done(absl::OkStatus());
    });
  });
}

}  // namespace

int ShowReplicas(Command& command, const std::string& name) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::DescribeQueueResponse> queue = client->DescribeQueue(name);
  if (!queue.ok()) return command.Fail(queue.status());
  // A queue in use moves on between two answers, and only equal indexes can be compared; a silent node stays silent.
  Look look = LookAndWait(*client, queue->queue(), command.timeout());
  for (int looks = 1; looks < kLooks && Answered(look) == look.size() && !SameIndex(look) && !interrupted; ++looks) {
    look = LookAndWait(*client, queue->queue(), command.timeout());
  }
  absl::Status status = Compare(name, look);
  const bool agree = status.ok() && Answered(look) == look.size();
  for (const auto& [place, state] : look) status.Update(state.status());
  if (command.json()) {
    Json json = {{"name", name},
                 {"answered", Answered(look)},
                 {"same_index", SameIndex(look)},
                 {"agree", agree},
                 {"replicas", LookJson(look)}};
    return command.Finish(std::move(json), status);
  }
  Print(look);
  if (status.ok()) std::printf("\n%s\n", Verdict(look));
  return status.ok() ? kExitOk : command.Fail(status);
}

absl::Status WaitUntilCaughtUp(Command& command, Client& client, std::vector<std::string>& behind) {
  const auto deadline = std::chrono::steady_clock::now() + command.timeout();
  std::vector<Goal> goals;
  bool listed = false;
  while (true) {
    behind.clear();
    std::string missing = NodesMissing(client);
    if (missing.empty() && !listed) {
      absl::StatusOr<std::vector<Goal>> all = AllQueues(client);
      if (all.ok()) {
        goals = *std::move(all);
        listed = true;
      } else {
        missing = std::string(all.status().message());
      }
    }
    if (!missing.empty()) {
      behind.push_back(std::move(missing));
    } else {
      std::vector<std::string> lacks;
      if (absl::Status looked = Lacking(client, goals, lacks); !looked.ok()) return looked;
      std::vector<Goal> left;
      for (size_t i = 0; i < goals.size(); ++i) {
        if (lacks[i].empty()) continue;
        left.push_back(goals[i]);
        if (behind.size() < kMostBehind) behind.push_back(std::move(lacks[i]));
      }
      goals = std::move(left);
      if (goals.empty()) return absl::OkStatus();
    }
    if (interrupted) return absl::CancelledError("interrupted");
    if (std::chrono::steady_clock::now() + kPause >= deadline) {
      const std::string more =
          goals.size() > 1 ? absl::StrCat("; ", goals.size(), " queues are behind") : std::string();
      return absl::DeadlineExceededError(
          absl::StrCat("not caught up after ", command.timeout().count(), " ms: ", behind.front(), more));
    }
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace trireme::client
