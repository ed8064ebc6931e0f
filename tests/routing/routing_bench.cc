// What it costs to route one message: `routing_bench [--benchmark_filter=REGEX]`.
#include <benchmark/benchmark.h>

#include <array>
#include <random>
#include <string>
#include <vector>

#include "broker/routing/routing_table.h"
#include "trireme/v1/message.pb.h"

namespace trireme::broker {
namespace {

constexpr size_t kQueues = 1'000;
constexpr size_t kKeys = 4'096;

std::string Word(std::mt19937_64& random, uint64_t of) {
  return "w" + std::to_string(random() % of);
}

// A table with one exchange "e" and `bindings` bindings, each with its pattern from `pattern`.
template <typename Pattern>
void Fill(RoutingTable& table, ExchangeType type, int64_t bindings, Pattern pattern) {
  table.AddExchange("e", type, "");
  for (size_t i = 0; i < kQueues; ++i) table.AddQueue("q" + std::to_string(i));
  for (int64_t i = 0; i < bindings; ++i) {
    Binding binding{.exchange = "e", .to = "q" + std::to_string(static_cast<size_t>(i) % kQueues)};
    pattern(i, binding);
    table.Bind(binding);
  }
}

void Run(benchmark::State& state, RoutingTable& table, const std::vector<std::string>& keys,
         const std::string& message) {
  size_t at = 0, reached = 0;
  for (auto _ : state) {
    reached += table.Route("e", keys[at++ % keys.size()], message).size();
  }
  state.counters["queues/message"] =
      benchmark::Counter(static_cast<double>(reached) / static_cast<double>(state.iterations()));
}

// Patterns of five words as people write them: mostly words, now and then a stand-in in the middle or at the end.
void Topic(benchmark::State& state) {
  std::mt19937_64 random(1);
  RoutingTable table;
  Fill(table, ExchangeType::kTopic, state.range(0), [&](int64_t, Binding& binding) {
    std::string& pattern = binding.routing_key;
    for (int word = 0; word < 5; ++word) {
      const uint64_t kind = random() % 10;
      if (word > 0) pattern += ".";
      if (kind == 0) {
        pattern += "*";
      } else if (kind == 1 && word > 0) {
        pattern += "#";
      } else {
        pattern += Word(random, word < 2 ? 20 : 50);
      }
    }
  });
  std::vector<std::string> keys(kKeys);
  for (std::string& key : keys) {
    for (int word = 0; word < 5; ++word) key += (word > 0 ? "." : "") + Word(random, word < 2 ? 20 : 50);
  }
  Run(state, table, keys, "");
}
BENCHMARK(Topic)->Arg(100)->Arg(10'000)->Arg(100'000);

// The same number of patterns, made to be dear: each begins with `#`, so that each word of a key may begin each of
// them.
void TopicManyAny(benchmark::State& state) {
  std::mt19937_64 random(1);
  RoutingTable table;
  Fill(table, ExchangeType::kTopic, state.range(0), [&](int64_t, Binding& binding) {
    binding.routing_key = "#." + Word(random, 100) + ".*." + Word(random, 100) + ".#";
  });
  std::vector<std::string> keys(kKeys);
  for (std::string& key : keys) {
    for (int word = 0; word < 5; ++word) key += (word > 0 ? "." : "") + Word(random, 100);
  }
  Run(state, table, keys, "");
}
BENCHMARK(TopicManyAny)->Arg(10'000);

void Direct(benchmark::State& state) {
  std::mt19937_64 random(1);
  RoutingTable table;
  Fill(table, ExchangeType::kDirect, state.range(0),
       [&](int64_t i, Binding& binding) { binding.routing_key = "key-" + std::to_string(i); });
  std::vector<std::string> keys(kKeys);
  for (std::string& key : keys) key = "key-" + std::to_string(random() % static_cast<uint64_t>(state.range(0)));
  Run(state, table, keys, "");
}
BENCHMARK(Direct)->Arg(10'000);

void Fanout(benchmark::State& state) {
  RoutingTable table;
  Fill(table, ExchangeType::kFanout, state.range(0), [](int64_t, Binding&) {});
  Run(state, table, {"any"}, "");
}
BENCHMARK(Fanout)->Arg(10)->Arg(1'000);

// Each binding asks for three headers, of which a message has some.
void Headers(benchmark::State& state) {
  std::mt19937_64 random(1);
  RoutingTable table;
  Fill(table, ExchangeType::kHeaders, state.range(0), [&](int64_t, Binding& binding) {
    for (const char* name : {"region", "type", "tenant"}) {
      binding.headers.push_back({name, message::OwnedValue(static_cast<int64_t>(random() % 100))});
    }
  });
  trireme::v1::Message message;
  for (const char* name : {"region", "type", "tenant", "trace"}) {
    (*message.mutable_headers())[name].set_integer(static_cast<int64_t>(random() % 100));
  }
  message.set_body(std::string(1'024, 'b'));
  Run(state, table, {""}, message.SerializeAsString());
}
BENCHMARK(Headers)->Arg(10'000);

}  // namespace
}  // namespace trireme::broker

BENCHMARK_MAIN();
