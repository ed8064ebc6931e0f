// The report for people.
#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "tests/failover/report/goals.h"
#include "tests/failover/report/report.h"
#include "tests/failover/verdict_text.h"

namespace trireme::failover {
namespace {

constexpr const char* kStyle = R"(
:root { --ink:#1c2330; --soft:#5d6778; --line:#dde2ea; --paper:#fff; --band:#f6f8fb; --good:#1a7f4b; --bad:#c02b2b; --warn:#a86a00;
        --confirmed:#2463c7; --delivered:#e08a1e; --fault:#c02b2b; }
@media (prefers-color-scheme: dark) {
  :root { --ink:#e6e9ef; --soft:#9aa5b6; --line:#333b48; --paper:#14181f; --band:#1b212b; --good:#4cc38a; --bad:#ff7b72; --warn:#e3b341;
          --confirmed:#6ea8fe; --delivered:#f0b25a; --fault:#ff7b72; } }
body { margin:0; background:var(--paper); color:var(--ink); font:15px/1.5 system-ui, sans-serif; }
main { max-width:1120px; margin:0 auto; padding:28px 20px 60px; }
h1 { font-size:24px; margin:0 0 4px; } h2 { font-size:18px; margin:36px 0 8px; }
p { margin:6px 0; } .soft { color:var(--soft); } code { font-size:13px; background:var(--band); padding:1px 5px; border-radius:4px; word-break:break-all; }
.verdict { display:inline-block; font-weight:600; padding:4px 12px; border-radius:6px; color:#fff; margin:10px 0; }
.verdict.held { background:#1a7f4b; } .verdict.broken { background:#c02b2b; } .verdict.undecided { background:#8a6100; }
table { border-collapse:collapse; width:100%; font-size:14px; } .scroll { overflow-x:auto; }
th { text-align:left; font-weight:600; color:var(--soft); border-bottom:1px solid var(--line); padding:5px 10px 5px 0; vertical-align:bottom; }
td { border-bottom:1px solid var(--line); padding:5px 10px 5px 0; vertical-align:top; } td.n, th.n { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap; }
.good { color:var(--good); font-weight:600; } .bad { color:var(--bad); font-weight:600; } .warn { color:var(--warn); font-weight:600; }
ul { margin:4px 0; padding-left:18px; } details { margin-top:8px; } summary { cursor:pointer; color:var(--soft); }
svg text { fill:var(--soft); font:11px system-ui, sans-serif; } .key { display:inline-block; width:22px; height:3px; vertical-align:middle; margin:0 6px 0 14px; }
.tiles { display:flex; flex-wrap:wrap; gap:10px; margin:14px 0; } .tile { background:var(--band); border-radius:8px; padding:8px 14px; min-width:110px; }
.tile b { display:block; font-size:19px; font-variant-numeric:tabular-nums; } .tile span { color:var(--soft); font-size:13px; }
)";

std::string Escape(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string Ms(uint64_t us) {
  return us >= 10'000'000 ? absl::StrFormat("%.1f s", static_cast<double>(us) / 1e6)
                          : absl::StrFormat("%.0f ms", static_cast<double>(us) / 1e3);
}

std::string Seconds(uint64_t us) {
  return absl::StrFormat("%.1f", static_cast<double>(us) / 1e6);
}

std::string Grouped(uint64_t number) {
  std::string digits = absl::StrCat(number), out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ",";
    out += digits[i];
  }
  return out;
}

// A round number of seconds that makes at most twelve marks.
uint64_t MarkEvery(uint64_t seconds) {
  for (uint64_t step : {1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1'200, 1'800, 3'600}) {
    if (seconds / step <= 12) return step;
  }
  return 7'200;
}

std::string Timeline(const RunFigures& figures) {
  constexpr double kWidth = 1'080, kHeight = 230, kLeft = 52, kTop = 26, kBottom = 22;
  const double length = std::max<double>(static_cast<double>(figures.length_us), 1);
  const double inner = kWidth - kLeft - 8, tall = kHeight - kTop - kBottom;
  auto x = [&](uint64_t us) { return kLeft + inner * static_cast<double>(us) / length; };
  // At most one point per pixel, each the mean of its bins.
  const size_t per_point = std::max<size_t>(1, figures.bins.size() / static_cast<size_t>(inner));
  const double per_second = 1e6 / static_cast<double>(RunFigures::kBinUs);
  double highest = 1;
  std::string lines[2];
  std::vector<std::pair<double, double>> points[2];
  for (size_t at = 0; at < figures.bins.size(); at += per_point) {
    double sums[2] = {0, 0};
    const size_t end = std::min(at + per_point, figures.bins.size());
    for (size_t i = at; i < end; ++i) {
      sums[0] += static_cast<double>(figures.bins[i].confirmed);
      sums[1] += static_cast<double>(figures.bins[i].delivered);
    }
    for (int line = 0; line < 2; ++line) {
      const double rate = sums[line] * per_second / static_cast<double>(end - at);
      highest = std::max(highest, rate);
      points[line].emplace_back(x((at + end) * RunFigures::kBinUs / 2), rate);
    }
  }
  // Bursts tower above what is of interest; the scale's square root shows both.
  auto y = [&](double rate) { return kTop + tall * (1 - std::sqrt(rate / highest)); };
  for (int line = 0; line < 2; ++line) {
    for (const auto& [px, rate] : points[line]) absl::StrAppendFormat(&lines[line], "%.1f,%.1f ", px, y(rate));
  }
  std::string svg = absl::StrFormat(
      "<svg viewBox='0 0 %.0f %.0f' width='100%%' role='img' aria-label='throughput over time'>\n", kWidth, kHeight);
  for (const RunFigures::FaultSpan& fault : figures.faults) {
    const uint64_t ended = fault.ended_us == 0 ? figures.length_us : fault.ended_us;
    absl::StrAppendFormat(&svg,
                          "<rect x='%.1f' y='%.0f' width='%.1f' height='%.0f' fill='var(--fault)' opacity='.16'>"
                          "<title>%s: %s, %s to %s s</title></rect><text x='%.1f' y='%.0f'>%u</text>\n",
                          x(fault.began_us), kTop, std::max(1.5, x(ended) - x(fault.began_us)), tall,
                          Escape(fault.kind), Escape(fault.what), Seconds(fault.began_us), Seconds(ended),
                          x(fault.began_us), kTop - 6, fault.number);
  }
  for (double share : {0.0, 0.1, 0.4, 1.0}) {
    absl::StrAppendFormat(&svg,
                          "<line x1='%.0f' x2='%.0f' y1='%.1f' y2='%.1f' stroke='var(--line)'/>"
                          "<text x='%.0f' y='%.1f' text-anchor='end'>%s</text>\n",
                          kLeft, kWidth - 8, y(highest * share), y(highest * share), kLeft - 6, y(highest * share) + 4,
                          Grouped(static_cast<uint64_t>(highest * share)));
  }
  const uint64_t seconds = figures.length_us / 1'000'000;
  const uint64_t step = MarkEvery(seconds);
  for (uint64_t mark = 0; mark <= seconds; mark += step) {
    absl::StrAppendFormat(&svg, "<text x='%.1f' y='%.0f' text-anchor='middle'>%u s</text>\n", x(mark * 1'000'000),
                          kHeight - 6, mark);
  }
  absl::StrAppend(&svg, "<polyline fill='none' stroke='var(--delivered)' stroke-width='1.2' points='", lines[1],
                  "'/>\n", "<polyline fill='none' stroke='var(--confirmed)' stroke-width='1.4' points='", lines[0],
                  "'/>\n</svg>\n");
  return svg;
}

std::string Promises(const Judgement& judgement) {
  std::string html =
      "<div class='scroll'><table><tr><th>promise<th>outcome<th class='n'>looked at<th class='n'>broken</tr>\n";
  for (const auto& checker : judgement.checkers) {
    const Verdict& verdict = checker->verdict();
    const bool held = verdict.outcome == Verdict::Outcome::kHeld;
    const char* colour = held ? "good" : verdict.outcome == Verdict::Outcome::kBroken ? "bad" : "warn";
    absl::StrAppend(&html, "<tr><td><b>", std::string(checker->name()), "</b><br><span class='soft'>",
                    Escape(std::string(checker->promise())), "</span>");
    if (!verdict.why.empty()) absl::StrAppend(&html, "<br>", Escape(verdict.why));
    if (!verdict.examples.empty()) {
      absl::StrAppend(&html, "<ul>");
      for (const std::string& example : verdict.examples) absl::StrAppend(&html, "<li>", Escape(example), "</li>");
      absl::StrAppend(&html, "</ul>");
    }
    absl::StrAppend(&html, "<td class='", colour, "'>", OutcomeText(verdict.outcome), "<td class='n'>",
                    Grouped(verdict.cases), "<td class='n'>", Grouped(verdict.violations), "</tr>\n");
  }
  return html + "</table></div>\n";
}

std::string Windows(const RunFigures& figures) {
  std::string html =
      "<div class='scroll'><table><tr><th>fault<th>its node is, for the queue<th class='n'>cases<th "
      "class='n'>median<th "
      "class='n'>goal<th class='n'>maximum<th class='n'>goal<th></tr>\n";
  for (const RunFigures::WindowSummary& summary : figures.summaries) {
    const auto goal = GoalFor(summary.kind, summary.role);
    const bool met = goal.has_value() && summary.median_us() <= goal->median_us && summary.max_us() <= goal->max_us;
    absl::StrAppend(&html, "<tr><td>", summary.kind, "<td>", summary.role == "all" ? "one of several" : summary.role,
                    "<td class='n'>", summary.gaps_us.size(), "<td class='n'>", Ms(summary.median_us()),
                    "<td class='n'>", goal.has_value() ? Ms(goal->median_us) : "", "<td class='n'>",
                    Ms(summary.max_us()), "<td class='n'>", goal.has_value() ? Ms(goal->max_us) : "", "<td class='",
                    !goal.has_value() ? "soft'>no goal"
                    : met             ? "good'>met"
                                      : "warn'>missed",
                    "</tr>\n");
  }
  return html + "</table></div>\n";
}

std::string Faults(const RunFigures& figures) {
  std::string html =
      "<div class='scroll'><table><tr><th class='n'>no.<th>fault<th class='n'>from<th class='n'>to<th>longest gap "
      "between two "
      "confirms, by queue</tr>\n";
  for (const RunFigures::FaultSpan& fault : figures.faults) {
    std::string gaps;
    for (const RunFigures::Window& window : figures.windows) {
      if (window.fault != fault.number) continue;
      absl::StrAppend(&gaps, gaps.empty() ? "" : ", ", Escape(figures.cast().QueueName(window.queue)), " ",
                      Ms(window.gap_us));
    }
    absl::StrAppend(&html, "<tr><td class='n'>", fault.number, "<td>", Escape(fault.what),
                    fault.composed ? " <span class='soft'>(with others)</span>" : "", "<td class='n'>",
                    Seconds(fault.began_us), " s<td class='n'>", Seconds(fault.ended_us), " s<td>", gaps, "</tr>\n");
  }
  return html + "</table></div>\n";
}

std::string Tile(const std::string& value, const char* text) {
  return absl::StrCat("<div class='tile'><b>", value, "</b><span>", text, "</span></div>");
}

std::string Recovered(const RunFigures& figures) {
  std::vector<uint64_t> took;
  uint64_t never = 0;
  for (const RunFigures::Recovery& recovery : figures.recoveries) {
    recovery.took_us.has_value() ? took.push_back(*recovery.took_us) : static_cast<void>(++never);
  }
  if (took.empty()) return never == 0 ? "nothing was broken" : "never";
  std::sort(took.begin(), took.end());
  return absl::StrCat(Ms(took[took.size() / 2]), " / ", Ms(took.back()),
                      never > 0 ? absl::StrCat(", ", never, " not") : "");
}

}  // namespace

std::string ReportHtml(const RunFigures& figures, const Judgement& judgement) {
  auto setting = [&](const std::string& name) {
    const auto found = figures.settings.find(name);
    return found == figures.settings.end() ? std::string() : Escape(found->second);
  };
  constexpr const char* kClasses[] = {"held", "broken", "", "undecided"};
  constexpr const char* kVerdicts[] = {"every promise was held", "promises were broken", "", "undecided"};
  const int verdict = ExitCode(judgement);
  std::string html = absl::StrCat("<!doctype html><html lang='en'><head><meta charset='utf-8'>",
                                  "<meta name='viewport' content='width=device-width, initial-scale=1'>",
                                  "<title>Failover: ", setting("scenario"), ", seed ", setting("seed"),
                                  "</title><style>", kStyle, "</style></head><body><main>\n");
  absl::StrAppend(&html, "<h1>Failover: ", setting("scenario"), "</h1><p class='soft'>", setting("about"), "</p>",
                  "<div class='verdict ", kClasses[verdict], "'>", kVerdicts[verdict], "</div>\n<p>", setting("nodes"),
                  " nodes, ", Seconds(figures.length_us), " s, seed ", setting("seed"), ", ", setting("network"), ". ",
                  setting("date"), ", broker ", setting("broker-version"), "; ", setting("machine"),
                  "</p><p>To run it again: <code>", setting("command"), "</code></p>\n");
  absl::StrAppend(&html, "<div class='tiles'>", Tile(Grouped(figures.confirmed), "confirmed"),
                  Tile(Grouped(figures.delivered), "delivered"), Tile(Grouped(figures.redelivered), "delivered again"),
                  Tile(Grouped(figures.unknown), "of unknown outcome"), Tile(Grouped(figures.refused), "refused"),
                  Tile(Grouped(figures.duplicates_confirmed), "found to be stored"),
                  Tile(Grouped(figures.stale_settles), "stale settles refused"),
                  Tile(absl::StrCat(figures.faults.size()), "faults"),
                  Tile(Recovered(figures), "recovery, median / maximum"), "</div>\n");
  absl::StrAppend(
      &html, "<h2>Throughput</h2><p class='soft'>Messages per second",
      "<span class='key' style='background:var(--confirmed)'></span>confirmed",
      "<span class='key' style='background:var(--delivered)'></span>delivered. Faults are shaded and numbered. ",
      "The vertical scale is a square root.</p>", Timeline(figures));
  absl::StrAppend(&html, "<h2>Promises</h2>", Promises(judgement));
  absl::StrAppend(
      &html,
      "<h2>Unavailability</h2><p class='soft'>The longest gap between two confirms of a producer that sends one ",
      "message at a time, for each fault and queue; without those that came together with others. For ",
      "&ldquo;power&rdquo;: from the start of the node that makes a majority to the first confirm.</p>",
      Windows(figures));
  absl::StrAppend(&html, "<h2>Faults</h2>", Faults(figures));
  absl::StrAppend(&html, "<h2>How it was run</h2><div class='scroll'><table>");
  for (const auto& [name, value] : figures.settings) {
    absl::StrAppend(&html, "<tr><td class='soft'>", Escape(name), "<td>", Escape(value), "</tr>\n");
  }
  absl::StrAppend(&html, "</table></div><details><summary>Everything that was remarked (", figures.remarks.size(),
                  ")</summary><div class='scroll'><table>");
  for (const auto& [at_us, text] : figures.remarks) {
    absl::StrAppend(&html, "<tr><td class='n soft'>", Seconds(at_us), " s<td>", Escape(text), "</tr>\n");
  }
  return html + "</table></div></details></main></body></html>\n";
}

}  // namespace trireme::failover
