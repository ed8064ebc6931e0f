#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/bench/bench.h"
#include "client/cli/command.h"

namespace trireme::client {
namespace {

struct Arguments {
  BenchOptions options;
  double duration_s = 10;
  double drain_s = 30;
};

double Milliseconds(uint64_t ns) {
  return static_cast<double>(ns) / 1e6;
}
double Mebibytes(uint64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

Json LatencyJson(const Histogram& latency) {
  return {{"p50", Milliseconds(latency.Quantile(0.5))},
          {"p99", Milliseconds(latency.Quantile(0.99))},
          {"p999", Milliseconds(latency.Quantile(0.999))},
          {"max", Milliseconds(latency.max())},
          {"mean", latency.mean() / 1e6},
          {"count", latency.count()}};
}

double CpuSeconds(const BenchResult& result) {
  double seconds = 0;
  for (const BrokerUsage& broker : result.brokers) seconds += broker.cpu_seconds;
  return seconds;
}

// Per million messages that went through; 0 if none did.
double CpuPerMillion(const BenchResult& result) {
  const uint64_t messages = std::max(result.confirmed, result.settled);
  return messages == 0 ? 0 : CpuSeconds(result) / (static_cast<double>(messages) / 1e6);
}

Json ResultJson(const BenchOptions& options, const BenchResult& result) {
  Json brokers = Json::array();
  for (const BrokerUsage& broker : result.brokers) {
    brokers.push_back({{"pid", broker.end.pid},
                       {"cpu_s", broker.cpu_seconds},
                       {"rss_mib", Mebibytes(broker.end.resident_bytes)},
                       {"peak_rss_mib", Mebibytes(broker.end.peak_resident_bytes)},
                       {"written_mib", Mebibytes(broker.written_bytes)}});
  }
  Json json = {{"queue", result.queues.empty() ? "" : result.queues.front()},
               {"queues", options.queues},
               {"producers", options.producers},
               {"consumers", options.consumers},
               {"size", options.size},
               {"in_flight", options.in_flight},
               {"batch", options.batch},
               {"rate", options.rate},
               {"published", result.published},
               {"confirmed", result.confirmed},
               {"unknown", result.unknown},
               {"refused", result.refused},
               {"delivered", result.delivered},
               {"settled", result.settled},
               {"publish_s", result.publish_seconds},
               {"consume_s", result.consume_seconds},
               {"confirmed_per_s", result.confirmed_per_second},
               {"settled_per_s", result.settled_per_second},
               {"lost", result.lost},
               {"duplicates", result.duplicates},
               {"redelivered", result.redelivered},
               {"leases_lost", result.leases_lost},
               {"foreign", result.foreign},
               {"reconnects", result.reconnects},
               {"longest_confirm_gap_ms", Milliseconds(result.longest_confirm_gap)},
               {"latency_ms", LatencyJson(result.end_to_end_latency)},
               {"confirm_latency_ms", LatencyJson(result.confirm_latency)},
               {"errors", result.errors}};
  if (!result.brokers.empty()) {
    json["brokers"] = std::move(brokers);
    json["broker_cpu_s"] = CpuSeconds(result);
    json["broker_cpu_s_per_million"] = CpuPerMillion(result);
  }
  return json;
}

std::string LatencyText(const Histogram& latency) {
  if (latency.count() == 0) return "-";
  return absl::StrFormat("p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, max %.3f ms", Milliseconds(latency.Quantile(0.5)),
                         Milliseconds(latency.Quantile(0.99)), Milliseconds(latency.Quantile(0.999)),
                         Milliseconds(latency.max()));
}

std::string RateText(double per_second) {
  return Thousands(static_cast<uint64_t>(per_second)) + "/s";
}

std::string ResultText(const BenchResult& result) {
  std::string text;
  absl::StrAppendFormat(&text, "published     %s, confirmed %s in %.2f s: %s\n", Thousands(result.published),
                        Thousands(result.confirmed), result.publish_seconds, RateText(result.confirmed_per_second));
  absl::StrAppendFormat(&text, "settled       %s in %.2f s: %s\n", Thousands(result.settled), result.consume_seconds,
                        RateText(result.settled_per_second));
  absl::StrAppendFormat(&text, "end to end    %s\n", LatencyText(result.end_to_end_latency));
  absl::StrAppendFormat(&text, "to confirm    %s; longest gap %.1f ms\n", LatencyText(result.confirm_latency),
                        Milliseconds(result.longest_confirm_gap));
  absl::StrAppendFormat(&text, "lost          %s, duplicates %s, redelivered %s\n", Thousands(result.lost),
                        Thousands(result.duplicates), Thousands(result.redelivered));
  absl::StrAppendFormat(&text, "errors        unknown %s, refused %s, leases lost %s, reconnects %s\n",
                        Thousands(result.unknown), Thousands(result.refused), Thousands(result.leases_lost),
                        Thousands(result.reconnects));
  for (const BrokerUsage& broker : result.brokers) {
    absl::StrAppendFormat(&text, "broker %-7d %.2f CPU s, %.0f MiB resident (peak %.0f), %.0f MiB written\n",
                          broker.end.pid, broker.cpu_seconds, Mebibytes(broker.end.resident_bytes),
                          Mebibytes(broker.end.peak_resident_bytes), Mebibytes(broker.written_bytes));
  }
  if (!result.brokers.empty()) {
    absl::StrAppendFormat(&text, "brokers' CPU  %.2f s per million messages\n", CpuPerMillion(result));
  }
  for (const std::string& error : result.errors) absl::StrAppend(&text, "error         ", error, "\n");
  return text;
}

int Bench(Command& command, Arguments& arguments) {
  // Checks --server in the same way as the other commands do.
  if (command.Connect() == nullptr) return command.exit_code();
  BenchOptions& options = arguments.options;
  options.servers = command.servers();
  options.timeout = command.timeout();
  options.duration = std::chrono::milliseconds(static_cast<int64_t>(arguments.duration_s * 1000));
  options.drain = std::chrono::milliseconds(static_cast<int64_t>(arguments.drain_s * 1000));
  uint64_t confirmed = 0, settled = 0;
  double seconds = 0;
  const auto progress = [&](const BenchProgress& now) {
    const double passed = std::max(now.seconds - seconds, 1e-3);
    std::fprintf(stderr, "%6.1f s  published %s  confirmed %s (%s)  settled %s (%s)  errors %s\n", now.seconds,
                 Thousands(now.published).c_str(), Thousands(now.confirmed).c_str(),
                 RateText(static_cast<double>(now.confirmed - confirmed) / passed).c_str(),
                 Thousands(now.settled).c_str(), RateText(static_cast<double>(now.settled - settled) / passed).c_str(),
                 Thousands(now.errors).c_str());
    confirmed = now.confirmed;
    settled = now.settled;
    seconds = now.seconds;
  };
  absl::StatusOr<BenchResult> result = RunBench(options, progress, interrupted);
  if (!result.ok()) return command.Fail(result.status());
  if (command.json()) {
    std::printf("%s\n", ResultJson(options, *result).dump(2).c_str());
  } else {
    std::printf("%s", ResultText(*result).c_str());
  }
  if (result->lost > 0) return kExitLost;
  if (result->unknown > 0) return kExitUnknown;
  return result->refused > 0 || !result->errors.empty() ? kExitFailed : kExitOk;
}

}  // namespace

void AddBenchCommand(CLI::App& app, Command& command) {
  auto arguments = std::make_shared<Arguments>();
  BenchOptions& options = arguments->options;
  CLI::App* bench =
      command.Add(&app, "bench", "Load queues with messages, measure, and check that each one arrives",
                  "  trireme bench                                             # 10 s, 1 KiB messages, one queue\n"
                  "  trireme bench --size 100 --queues 10 --messages 10000000\n"
                  "  trireme bench --size 1024 --rate 1000 --duration 30       # latency under a light load\n"
                  "  trireme bench --in-flight 1 --batch 1                     # one at a time\n"
                  "  trireme bench --pids 4711,4712,4713 --output json         # with the brokers' CPU and memory\n",
                  [&command, arguments] { return Bench(command, *arguments); });
  bench->add_option(
      "--queue", options.queue,
      "The queue's name, made if it is not there; with --queues a pattern with %d. A name bench-... if not given");
  bench->add_option("--queues", options.queues, "How many queues")->capture_default_str();
  bench->add_option("--replicas", options.replicas, "Of queues that are made; 0 = as the broker chooses")
      ->capture_default_str();
  bench->add_option("--producers", options.producers, "For each queue; 0 = only consume what is there")
      ->capture_default_str();
  bench->add_option("--consumers", options.consumers, "For each queue; 0 = only publish")->capture_default_str();
  CLI::Option* messages = bench->add_option("--messages", options.messages, "How many in all");
  bench->add_option("--duration", arguments->duration_s, "How long to send, in seconds")
      ->check(Positive())
      ->excludes(messages)
      ->capture_default_str();
  bench->add_option("--size", options.size, "Of a message's body, in bytes, at least 24")->capture_default_str();
  bench->add_option("--in-flight", options.in_flight, "Unconfirmed messages per producer, at most 65536")
      ->capture_default_str();
  bench->add_option("--batch", options.batch, "Messages per frame at most; 1 = each in its own")->capture_default_str();
  bench->add_option("--rate", options.rate, "Messages per second in all; 0 = as fast as --in-flight allows")
      ->capture_default_str();
  bench->add_option("--outstanding", options.outstanding, "Delivered and not settled, per consumer")
      ->capture_default_str();
  bench->add_option("--clients", options.clients, "Connections and threads")->capture_default_str();
  bench->add_flag("!--no-deduplicate", options.deduplicate, "Publish without sequences");
  bench->add_flag("--keep", options.keep, "Do not delete the queues that were made");
  bench->add_option("--drain", arguments->drain_s, "Seconds to wait at the end for what is under way")
      ->check(Positive())
      ->capture_default_str();
  bench->add_option("--pids", options.pids, "Brokers on this machine, comma-separated, to report what they used")
      ->delimiter(',');
}

}  // namespace trireme::client
