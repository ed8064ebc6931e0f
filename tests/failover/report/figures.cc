#include "tests/failover/report/figures.h"

#include <algorithm>

namespace trireme::failover {
namespace {

// How long after a fault's end what it has done may still show.
constexpr uint64_t kAftermathUs = 8'000'000;
constexpr size_t kMaxRemarks = 2'000;

}  // namespace

void RunFigures::See(uint64_t, const Setting& setting) {
  settings[setting.name] = setting.value;
}

void RunFigures::See(uint64_t, const QueueMade& made) {
  cast_.Add(made);
}

void RunFigures::See(uint64_t, const ProducerMade& made) {
  cast_.Add(made);
  if (made.prober) probes_[made.producer].queue = made.queue;
}

void RunFigures::See(uint64_t, const ConsumerMade& made) {
  cast_.Add(made);
}

RunFigures::Bin& RunFigures::BinAt(uint64_t at_us) {
  const size_t bin = at_us / kBinUs;
  if (bins.size() <= bin) bins.resize(bin + 1);
  return bins[bin];
}

void RunFigures::See(uint64_t, const Publish& call) {
  published += call.count;
}

void RunFigures::See(uint64_t at_us, const Published& done) {
  switch (done.outcome) {
    case Stored::kRefused:
      refused += done.count;
      return;
    case Stored::kUnknown:
      unknown += done.count;
      return;
    case Stored::kDuplicate:
      duplicates_confirmed += done.count;
      break;
    case Stored::kStored:
      break;
  }
  confirmed += done.count;
  BinAt(at_us).confirmed += done.count;
  if (const auto probe = probes_.find(done.producer); probe != probes_.end()) {
    probe->second.confirms_us.push_back(at_us);
  }
  confirmed_queues_.insert(cast_.producer(done.producer).queue);
  CheckRecovery(at_us);
}

void RunFigures::See(uint64_t at_us, const Delivered& run) {
  delivered += run.count;
  if (run.deliveries > 1) redelivered += run.count;
  BinAt(at_us).delivered += run.count;
  delivered_queues_.insert(cast_.consumer(run.consumer).queue);
  CheckRecovery(at_us);
}

void RunFigures::See(uint64_t, const LeaseLost& lost) {
  leases_lost += lost.count;
}

void RunFigures::See(uint64_t, const Settled& settled) {
  if (settled.outcome == Settling::kLost) ++stale_settles;
}

void RunFigures::See(uint64_t, const Leads& leads) {
  leaders_[leads.queue] = leads.node;
}

void RunFigures::See(uint64_t at_us, const FaultBegan& began) {
  faults.push_back({began.fault, began.kind, began.what, began.node, at_us, 0, false});
  for (size_t i = 0; i + 1 < faults.size(); ++i) {
    if (faults[i].ended_us == 0) faults[i].composed = faults.back().composed = true;
  }
  parts_.push_back({faults.size() - 1, leaders_});
}

void RunFigures::See(uint64_t at_us, const FaultEnded& ended) {
  for (FaultSpan& fault : faults) {
    if (fault.number == ended.fault) fault.ended_us = at_us;
  }
}

void RunFigures::See(uint64_t at_us, const Healed&) {
  recoveries.push_back({at_us, std::nullopt});
  confirmed_queues_.clear();
  delivered_queues_.clear();
}

void RunFigures::CheckRecovery(uint64_t at_us) {
  if (recoveries.empty() || recoveries.back().took_us.has_value()) return;
  for (const auto& [producer, probe] : probes_) {
    if (!confirmed_queues_.contains(probe.queue) || !delivered_queues_.contains(probe.queue)) return;
  }
  recoveries.back().took_us = at_us - recoveries.back().healed_us;
}

void RunFigures::See(uint64_t at_us, const NodeChanged& changed) {
  const bool works = changed.what.starts_with("started") || changed.what == "resumed";
  // "serves" and reports of a node that goes on change nothing.
  const bool fails = changed.what == "paused" || changed.what == "killed" || changed.what.starts_with("stopped") ||
                     changed.what.starts_with("was told to stop") || changed.what.starts_with("had not stopped") ||
                     changed.what.starts_with("ended by itself") || changed.what.starts_with("did not start");
  if (works || fails) steps_.push_back({at_us, changed.node, works});
  if (remarks.size() < kMaxRemarks) {
    remarks.emplace_back(at_us, absl::StrCat("node ", changed.node, " ", changed.what,
                                             changed.unexpected ? " (nobody had done anything to it)" : ""));
  }
}

void RunFigures::See(uint64_t at_us, const Note& note) {
  if (remarks.size() < kMaxRemarks) remarks.emplace_back(at_us, note.text);
}

void RunFigures::See(uint64_t at_us, const PublishingStopped&) {
  stopped_us_ = at_us;
}

void RunFigures::See(uint64_t at_us, const Ended&) {
  length_us = at_us;
}

// The longest time between two confirms, as far as it lies in the span: what lies before or behind it is another
// fault's.
uint64_t RunFigures::LongestGap(const Probe& probe, uint64_t from_us, uint64_t to_us) const {
  const std::vector<uint64_t>& times = probe.confirms_us;
  uint64_t last = from_us;
  uint64_t longest = 0;
  for (auto at = std::lower_bound(times.begin(), times.end(), from_us); at != times.end() && *at < to_us; ++at) {
    longest = std::max(longest, *at - last);
    last = *at;
  }
  return std::max(longest, to_us - std::min(last, to_us));
}

std::optional<uint64_t> RunFigures::MajorityBack(uint64_t from_us, uint64_t to_us) const {
  uint64_t nodes = 0;
  if (const auto count = settings.find("nodes"); count != settings.end()) {
    nodes = static_cast<uint64_t>(std::atoi(count->second.c_str()));
  }
  std::set<uint32_t> down;
  std::optional<uint64_t> back_us;
  bool lost = false;
  for (const NodeStep& step : steps_) {
    if (step.at_us > to_us) break;
    if (step.works) {
      down.erase(step.node);
    } else {
      down.insert(step.node);
    }
    if (step.at_us < from_us) continue;
    const bool majority = nodes - std::min<uint64_t>(nodes, down.size()) > nodes / 2;
    if (!majority) {
      lost = true;
      back_us.reset();
    } else if (lost && !back_us.has_value()) {
      back_us = step.at_us;
    }
  }
  return back_us;
}

uint64_t RunFigures::GapOf(const Probe& probe, const FaultSpan& fault, uint64_t to_us) const {
  const std::optional<uint64_t> back_us = MajorityBack(fault.began_us, to_us);
  if (!back_us.has_value()) return LongestGap(probe, fault.began_us, to_us);
  const auto first = std::lower_bound(probe.confirms_us.begin(), probe.confirms_us.end(), *back_us);
  return (first == probe.confirms_us.end() ? to_us : *first) - *back_us;
}

void RunFigures::Finish() {
  const uint64_t end_us = stopped_us_ != 0 ? stopped_us_ : bins.size() * kBinUs;
  length_us = std::max(length_us, bins.size() * kBinUs);
  for (const Part& part : parts_) {
    const FaultSpan& fault = faults[part.fault];
    const uint64_t ended_us = fault.ended_us == 0 ? end_us : fault.ended_us;
    uint64_t to_us = std::min(end_us, ended_us + kAftermathUs);
    for (const FaultSpan& other : faults) {
      if (other.began_us > ended_us) to_us = std::min(to_us, other.began_us);
    }
    for (const auto& [producer, probe] : probes_) {
      const auto leader = part.leaders.find(probe.queue);
      const bool led = leader != part.leaders.end() && leader->second != 0;
      const std::string role = fault.node == 0 || !led ? "all" : leader->second == fault.node ? "leader" : "follower";
      windows.push_back({fault.number, fault.kind, role, probe.queue, GapOf(probe, fault, to_us), fault.composed});
    }
  }
  std::map<std::pair<std::string, std::string>, std::vector<uint64_t>> grouped;
  for (const Window& window : windows) {
    if (!window.composed) grouped[{window.kind, window.role}].push_back(window.gap_us);
  }
  for (auto& [key, gaps] : grouped) {
    std::sort(gaps.begin(), gaps.end());
    summaries.push_back({key.first, key.second, gaps});
  }
}

}  // namespace trireme::failover
