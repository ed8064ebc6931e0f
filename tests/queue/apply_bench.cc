// How fast a queue's state takes in what is committed: `apply_bench [seconds]`. Each batch is published by a producer
// with sequences, checked out by a consumer and acknowledged, an entry each.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tests/queue/log.h"

namespace trireme::queue {
namespace {

constexpr uint64_t kRounds = 500;  // prepared at a time, outside of what is measured

void Run(uint32_t batch, double seconds) {
  Machine machine;
  uint64_t index = 0, messages = 0;
  auto apply = [&](const raft::Bytes& entry) {
    auto effects = machine.Apply(++index, entry);
    TRIREME_CHECK(effects.ok()) << effects.status();
  };
  apply(FactsEntry({fact::ProducerOpened{"p", 1}, fact::Attached{0, "s", 1, "", 60'000}}));
  std::chrono::steady_clock::duration elapsed{};
  while (std::chrono::duration<double>(elapsed).count() < seconds) {
    std::vector<raft::Bytes> entries;
    Position next = machine.subscription(0).next;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t at = index + entries.size() + 1;
      const Slots slots{Position(at, 0), batch};
      entries.push_back(PublishedEntry(batch, "p", 1, 1 + messages));
      entries.push_back(FactsEntry({fact::CheckedOut{.subscription = 0,
                                                     .session = "s",
                                                     .session_epoch = 1,
                                                     .deadline_ms = 0,
                                                     .from_next = next,
                                                     .to_next = slots.first + batch,
                                                     .waiting = {slots},
                                                     .returned = {},
                                                     .skipped = 0,
                                                     .counted_at = 0}}));
      entries.push_back(FactsEntry({fact::Settled{0, Disposition::kAcknowledge, {{slots, at + 1}}}}));
      next = slots.first + batch;
      messages += batch;
    }
    const auto start = std::chrono::steady_clock::now();
    for (const raft::Bytes& entry : entries) apply(entry);
    elapsed += std::chrono::steady_clock::now() - start;
  }
  // It did what is said to be measured.
  TRIREME_CHECK(machine.subscription(0).acknowledged == messages) << machine.subscription(0).acknowledged;
  const double ns = std::chrono::duration<double, std::nano>(elapsed).count();
  std::printf("batches of %u: %.0f ns per entry, %.2f million messages/s\n", batch, ns / static_cast<double>(index),
              static_cast<double>(messages) / ns * 1e3);
}

}  // namespace
}  // namespace trireme::queue

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 1;
  for (uint32_t batch : {1u, 16u, 128u}) trireme::queue::Run(batch, seconds);
}
