#include "tests/failover/workload/worker.h"

#include <unistd.h>

#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"

namespace trireme::failover {

using nlohmann::json;

std::string EncodeWorker(const WorkerSpec& spec) {
  json actors = json::array();
  for (const ActorSpec& actor : spec.actors) {
    actors.push_back({{"role", static_cast<int>(actor.role)},
                      {"number", actor.number},
                      {"queue", actor.queue},
                      {"queue_name", actor.queue_name},
                      {"rate", actor.rate},
                      {"min_bytes", actor.min_bytes},
                      {"max_bytes", actor.max_bytes},
                      {"lease_ms", actor.lease_ms}});
  }
  return json{{"worker", spec.worker},   {"seed", spec.seed},         {"servers", spec.servers},
              {"history", spec.history}, {"epoch_us", spec.epoch_us}, {"actors", actors}}
      .dump();
}

absl::StatusOr<WorkerSpec> DecodeWorker(const std::string& text) {
  try {
    const json whole = json::parse(text);
    WorkerSpec spec;
    spec.worker = whole.at("worker").get<uint32_t>();
    spec.seed = whole.at("seed").get<uint64_t>();
    spec.servers = whole.at("servers").get<std::string>();
    spec.history = whole.at("history").get<std::string>();
    spec.epoch_us = whole.at("epoch_us").get<uint64_t>();
    for (const json& one : whole.at("actors")) {
      ActorSpec actor;
      const int role = one.at("role").get<int>();
      if (role < 0 || role > static_cast<int>(Role::kReceiver)) {
        return absl::InvalidArgumentError(absl::StrCat("unknown role ", role));
      }
      actor.role = static_cast<Role>(role);
      actor.number = one.at("number").get<uint32_t>();
      actor.queue = one.at("queue").get<uint32_t>();
      actor.queue_name = one.at("queue_name").get<std::string>();
      actor.rate = one.at("rate").get<uint32_t>();
      actor.min_bytes = one.at("min_bytes").get<uint32_t>();
      actor.max_bytes = one.at("max_bytes").get<uint32_t>();
      actor.lease_ms = one.at("lease_ms").get<uint32_t>();
      spec.actors.push_back(std::move(actor));
    }
    return spec;
  } catch (const json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("not a worker's specification: ", error.what()));
  }
}

absl::Status RunWorker(const WorkerSpec& spec) {
  absl::StatusOr<HistoryWriter> history = HistoryWriter::Open(spec.history, spec.epoch_us);
  if (!history.ok()) return history.status();
  absl::StatusOr<std::vector<std::string>> servers = client::ParseServers(spec.servers);
  if (!servers.ok()) return servers.status();
  std::vector<std::unique_ptr<Actor>> actors;
  for (const ActorSpec& actor : spec.actors) {
    client::ClientOptions options;
    options.servers = *servers;
    absl::StatusOr<std::unique_ptr<client::Client>> client = client::Client::Create(std::move(options));
    if (!client.ok()) return client.status();
    const uint64_t seed = spec.seed * 1'000'003 + actor.number;
    actors.push_back(IsProducer(actor.role) ? MakeProducer(actor, spec.worker, seed, *std::move(client), *history)
                                            : MakeConsumer(actor, spec.worker, seed, *std::move(client), *history));
  }
  std::vector<std::thread> threads;
  for (const std::unique_ptr<Actor>& actor : actors) threads.emplace_back([&actor] { actor->Run(); });
  char ignored[64];
  ssize_t got = 0;
  while ((got = ::read(STDIN_FILENO, ignored, sizeof ignored)) != 0) {
    if (got < 0 && errno != EINTR) break;
  }
  for (const std::unique_ptr<Actor>& actor : actors) actor->Stop();
  for (std::thread& thread : threads) thread.join();
  return absl::OkStatus();
}

}  // namespace trireme::failover
