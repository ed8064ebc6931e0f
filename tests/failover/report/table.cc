#include "tests/failover/report/table.h"

#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/failover/verdict_text.h"

namespace trireme::failover {
namespace {

std::string SettingOf(const RunFigures& figures, const std::string& name) {
  const auto it = figures.settings.find(name);
  return it == figures.settings.end() ? "" : it->second;
}

std::string Ms(uint64_t us) {
  return absl::StrCat((us + 500) / 1'000);
}

// Count, median, maximum.
std::string Windows(const std::vector<uint64_t>& gaps_us) {
  if (gaps_us.empty()) return "- | - | -";
  return absl::StrCat(gaps_us.size(), " | ", Ms(gaps_us[gaps_us.size() / 2]), " | ", Ms(gaps_us.back()));
}

}  // namespace

TableRow MakeRow(const RunFigures& figures, const Judgement& judgement) {
  TableRow row;
  row.scenario = SettingOf(figures, "scenario");
  row.command = SettingOf(figures, "command");
  row.version = SettingOf(figures, "broker-version");
  row.machine = SettingOf(figures, "machine");
  row.date = SettingOf(figures, "date");
  row.length_us = figures.length_us;
  row.faults = figures.faults.size();
  for (const RunFigures::Window& window : figures.windows) {
    (window.role == "follower" ? row.spared_us : row.hit_us).push_back(window.gap_us);
  }
  std::sort(row.hit_us.begin(), row.hit_us.end());
  std::sort(row.spared_us.begin(), row.spared_us.end());
  for (const auto& checker : judgement.checkers) {
    const Verdict& verdict = checker->verdict();
    if (verdict.outcome == Verdict::Outcome::kHeld) continue;
    absl::StrAppend(&row.verdict, row.verdict.empty() ? "" : ", ", std::string(checker->name()), " ",
                    OutcomeText(verdict.outcome));
    if (verdict.violations > 1) absl::StrAppend(&row.verdict, " (", verdict.violations, " times)");
  }
  if (row.verdict.empty()) row.verdict = "held";
  return row;
}

absl::StatusOr<TableRow> ReadRow(const std::string& history) {
  RunFigures figures;
  Observer* const others[] = {&figures};
  absl::StatusOr<Judgement> judgement = Judge(history, others);
  if (!judgement.ok()) return judgement.status();
  figures.Finish();
  return MakeRow(figures, *judgement);
}

std::string TableText(const std::vector<TableRow>& rows) {
  std::string text;
  if (!rows.empty()) {
    absl::StrAppend(&text, "Version ", rows[0].version, ", ", rows[0].machine, ", ", rows[0].date, ".\n\n");
  }
  text +=
      "| scenario | run, s | faults | windows at the leader | median, ms | maximum, ms | windows elsewhere | median, "
      "ms | "
      "maximum, ms | promises |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const TableRow& row : rows) {
    absl::StrAppendFormat(&text, "| `%s` | %.0f | %u | %s | %s | %s |\n", row.scenario,
                          static_cast<double>(row.length_us) / 1e6, row.faults, Windows(row.hit_us),
                          Windows(row.spared_us), row.verdict);
  }
  return text;
}

}  // namespace trireme::failover
