#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/failover/report/goals.h"
#include "tests/failover/report/report.h"
#include "tests/failover/verdict_text.h"

namespace trireme::failover {

using nlohmann::json;

namespace {

double Ms(uint64_t us) {
  return static_cast<double>(us) / 1'000;
}

json Or(const std::optional<uint64_t>& us) {
  return us.has_value() ? json(Ms(*us)) : json(nullptr);
}

}  // namespace

std::string ReportJson(const RunFigures& figures, const Judgement& judgement) {
  json report;
  constexpr const char* kVerdicts[] = {"held", "broken", "", "undecided"};
  report["verdict"] = kVerdicts[ExitCode(judgement)];
  report["settings"] = figures.settings;
  report["length_s"] = static_cast<double>(figures.length_us) / 1e6;
  report["events"] = judgement.read.events;
  report["torn_lines"] = judgement.read.torn;
  for (const auto& checker : judgement.checkers) {
    const Verdict& verdict = checker->verdict();
    report["promises"].push_back({{"name", std::string(checker->name())},
                                  {"promise", std::string(checker->promise())},
                                  {"outcome", OutcomeText(verdict.outcome)},
                                  {"cases", verdict.cases},
                                  {"violations", verdict.violations},
                                  {"examples", verdict.examples},
                                  {"why", verdict.why}});
  }
  report["messages"] = {{"published", figures.published},
                        {"confirmed", figures.confirmed},
                        {"confirmed_as_duplicates", figures.duplicates_confirmed},
                        {"refused", figures.refused},
                        {"unknown", figures.unknown},
                        {"delivered", figures.delivered},
                        {"redelivered", figures.redelivered},
                        {"leases_lost", figures.leases_lost},
                        {"stale_settles_refused", figures.stale_settles}};
  report["windows"] = json::array();
  for (const RunFigures::WindowSummary& summary : figures.summaries) {
    json one = {{"fault", summary.kind},
                {"role", summary.role},
                {"count", summary.gaps_us.size()},
                {"median_ms", Ms(summary.median_us())},
                {"max_ms", Ms(summary.max_us())}};
    if (const auto goal = GoalFor(summary.kind, summary.role); goal.has_value()) {
      one["goal_median_ms"] = Ms(goal->median_us);
      one["goal_max_ms"] = Ms(goal->max_us);
      one["goal_met"] = summary.median_us() <= goal->median_us && summary.max_us() <= goal->max_us;
    }
    report["windows"].push_back(std::move(one));
  }
  report["faults"] = json::array();
  for (const RunFigures::FaultSpan& fault : figures.faults) {
    json gaps = json::array();
    for (const RunFigures::Window& window : figures.windows) {
      if (window.fault != fault.number) continue;
      gaps.push_back({{"queue", figures.cast().QueueName(window.queue)},
                      {"role", window.role},
                      {"longest_gap_ms", Ms(window.gap_us)}});
    }
    report["faults"].push_back({{"number", fault.number},
                                {"kind", fault.kind},
                                {"what", fault.what},
                                {"node", fault.node},
                                {"began_s", static_cast<double>(fault.began_us) / 1e6},
                                {"ended_s", static_cast<double>(fault.ended_us) / 1e6},
                                {"composed", fault.composed},
                                {"gaps", std::move(gaps)}});
  }
  report["recoveries"] = json::array();
  for (const RunFigures::Recovery& recovery : figures.recoveries) {
    report["recoveries"].push_back(
        {{"healed_s", static_cast<double>(recovery.healed_us) / 1e6}, {"took_ms", Or(recovery.took_us)}});
  }
  report["bin_ms"] = Ms(RunFigures::kBinUs);
  report["confirmed_per_bin"] = json::array();
  report["delivered_per_bin"] = json::array();
  for (const RunFigures::Bin& bin : figures.bins) {
    report["confirmed_per_bin"].push_back(bin.confirmed);
    report["delivered_per_bin"].push_back(bin.delivered);
  }
  report["remarks"] = json::array();
  for (const auto& [at_us, text] : figures.remarks) {
    report["remarks"].push_back({{"at_s", static_cast<double>(at_us) / 1e6}, {"text", text}});
  }
  // Error messages may hold anything.
  return report.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

absl::Status WriteReport(const std::string& folder, const RunFigures& figures, const Judgement& judgement) {
  for (const auto& [name, text] : {std::pair<std::string, std::string>{"report.json", ReportJson(figures, judgement)},
                                   {"report.html", ReportHtml(figures, judgement)}}) {
    std::ofstream file(folder + "/" + name, std::ios::trunc);
    file << text;
    file.close();
    if (!file) return absl::UnavailableError("cannot write " + folder + "/" + name);
  }
  return absl::OkStatus();
}

}  // namespace trireme::failover
