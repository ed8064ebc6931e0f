#include "tests/failover/report/figures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/failover/report/goals.h"
#include "tests/failover/report/report.h"
#include "tests/failover/report/table.h"

namespace trireme::failover {
namespace {

using testing::HasSubstr;
using testing::Not;

// A prober per queue; a fault at node 1, which leads the first queue, and later one that hits all.
constexpr const char* kHistory = R"(trireme-history 1
0 setting nodes 3 .
0 setting scenario <b>%20bold .
0 queue 1 busy .
0 queue 2 calm .
0 producer 1 1 yes yes probe-1 .
0 producer 2 2 yes yes probe-2 .
0 consumer 1 1 1 5000000 a .
0 consumer 2 2 1 5000000 b .
1000000 publish 1 1 2 .
1000000 published 1 1 1 stored 100 .
1000000 publish 2 1 2 .
1000000 published 2 1 1 stored 100 .
1010000 leads 1 1 .
1010000 leads 2 2 .
1020000 fault 1 kill 1 kill%20node%201 .
1100000 published 2 2 1 stored 101 .
1420000 published 1 2 1 stored 101 .
1500000 fault-end 1 .
1500000 healed .
1600000 publish 1 3 2 .
1600000 publish 2 3 2 .
1600000 published 1 3 1 stored 102 .
1650000 published 2 3 1 stored 102 .
1660000 delivered 1 100 7 3 1 1 1 0 .
1700000 delivered 2 100 7 3 2 2 1 0 .
2000000 fault 2 power 0 all .
2000000 node 1 no killed .
2000000 node 2 no killed .
2000000 node 3 no killed .
2300000 node 1 no started .
2400000 node 3 no started .
2450000 node 2 no started .
2500000 fault-end 2 .
2500000 healed .
3000000 published 1 4 1 duplicate 103 .
3100000 published 2 4 1 unknown 0 .
3200000 published 2 4 1 stored 103 .
3300000 publishing-stopped .
3400000 ended yes .
)";

class FiguresTest : public testing::Test {
 protected:
  void SetUp() override {
    Observer* observer = &figures_;
    const auto read = ReadHistoryText(kHistory, {&observer, 1});
    ASSERT_TRUE(read.ok()) << read.status();
    figures_.Finish();
  }
  RunFigures figures_;
};

TEST_F(FiguresTest, MeasureGapsByFaultAndRole) {
  ASSERT_EQ(figures_.summaries.size(), 3u);
  // From the fault on: what came before is not its doing. Up to the next fault, in which nothing more is confirmed.
  EXPECT_EQ(figures_.summaries[0].kind + figures_.summaries[0].role, "killfollower");
  EXPECT_EQ(figures_.summaries[0].max_us(), 550'000u);
  EXPECT_EQ(figures_.summaries[1].kind + figures_.summaries[1].role, "killleader");
  EXPECT_EQ(figures_.summaries[1].max_us(), 400'000u);
  // All were killed, and the second start is of the node that makes a majority.
  EXPECT_EQ(figures_.summaries[2].kind + figures_.summaries[2].role, "powerall");
  EXPECT_EQ(figures_.summaries[2].gaps_us, (std::vector<uint64_t>{600'000, 800'000}));
}

// A fault that leaves no majority is one that nobody can serve through: what counts is what comes when one is back.
TEST(Figures, CountFromTheReturnOfAMajority) {
  const std::string text = R"(trireme-history 1
0 setting nodes 3 .
0 queue 1 busy .
0 producer 1 1 yes yes probe-1 .
0 node 1 no started .
0 node 2 no started .
0 node 3 no started .
1000000 publish 1 1 1 .
1000000 published 1 1 1 stored 100 .
1000000 fault 1 kill 0 majority .
1000100 node 1 no killed .
1000200 node 2 no killed .
5000000 node 1 no started .
5100000 node 2 no started .
5300000 published 1 2 1 stored 101 .
5400000 fault-end 1 .
5400000 healed .
6000000 fault 2 pause 0 majority .
6000100 node 1 no paused .
6000200 node 2 no paused .
9000000 node 1 no resumed .
9000000 published 1 3 1 stored 102 .
9000000 node 2 no resumed .
9000000 fault-end 2 .
9900000 fault 3 kill 1 one%20of%20three .
9900000 published 1 4 1 stored 103 .
9900000 node 1 no killed .
9950000 node 1 no started .
9960000 published 1 5 1 stored 104 .
9960000 fault-end 3 .
9970000 published 1 6 1 stored 105 .
9970000 publishing-stopped .
9980000 ended yes .
)";
  RunFigures figures;
  Observer* observer = &figures;
  const auto read = ReadHistoryText(text, {&observer, 1});
  ASSERT_TRUE(read.ok()) << read.status();
  figures.Finish();
  ASSERT_EQ(figures.windows.size(), 3u);
  EXPECT_EQ(figures.windows[0].gap_us, 300'000u);
  EXPECT_EQ(figures.windows[1].gap_us, 0u);
  EXPECT_EQ(figures.windows[2].gap_us, 60'000u);
}

TEST_F(FiguresTest, CountOutcomesAndDeliveries) {
  EXPECT_EQ(figures_.published, 8u);
  EXPECT_EQ(figures_.confirmed, 8u);
  EXPECT_EQ(figures_.duplicates_confirmed, 1u);
  EXPECT_EQ(figures_.unknown, 1u);
  EXPECT_EQ(figures_.delivered, 6u);
  EXPECT_EQ(figures_.redelivered, 3u);
}

TEST_F(FiguresTest, SayHowLongARecoveryTook) {
  ASSERT_EQ(figures_.recoveries.size(), 2u);
  EXPECT_EQ(figures_.recoveries[0].took_us, 200'000u);
  EXPECT_EQ(figures_.recoveries[1].took_us, std::nullopt);
}

TEST_F(FiguresTest, AreReportedAsJsonAndHtml) {
  absl::StatusOr<Judgement> judgement = JudgeText(kHistory);
  ASSERT_TRUE(judgement.ok()) << judgement.status();
  const std::string json = ReportJson(figures_, *judgement);
  EXPECT_THAT(json, HasSubstr("\"scenario\": \"<b> bold\""));
  EXPECT_THAT(json, HasSubstr("\"goal_max_ms\": 400.0"));
  const std::string html = ReportHtml(figures_, *judgement);
  EXPECT_THAT(html, HasSubstr("&lt;b&gt; bold"));
  EXPECT_THAT(html, Not(HasSubstr("<b> bold")));
  EXPECT_THAT(html, HasSubstr("<svg"));
  // Self-contained.
  EXPECT_THAT(html, Not(HasSubstr("http")));
}

TEST(Goals, AreThoseThatWereSet) {
  EXPECT_EQ(GoalFor("kill", "leader")->median_us, 100'000u);
  EXPECT_EQ(GoalFor("kill", "follower")->max_us, 100'000u);
  EXPECT_EQ(GoalFor("power", "all")->max_us, 5'000'000u);
  EXPECT_FALSE(GoalFor("split", "all").has_value());
}

TEST_F(FiguresTest, AreALineOfATable) {
  absl::StatusOr<Judgement> judgement = JudgeText(kHistory);
  ASSERT_TRUE(judgement.ok()) << judgement.status();
  const TableRow row = MakeRow(figures_, *judgement);
  EXPECT_EQ(row.scenario, "<b> bold");
  EXPECT_EQ(row.faults, 2u);
  // Node 1 led one queue when it was killed, and the power cut hit both.
  EXPECT_THAT(row.hit_us, testing::SizeIs(3));
  EXPECT_THAT(row.spared_us, testing::SizeIs(1));
  EXPECT_TRUE(std::is_sorted(row.hit_us.begin(), row.hit_us.end()));
  EXPECT_THAT(row.verdict, HasSubstr("nothing-lost BROKEN"));
  const std::string text = TableText({row, row});
  EXPECT_THAT(text, HasSubstr("\n| `<b> bold` | 3 | 2 | 3 | 600 | 800 | 1 | 550 | 550 | "));
  EXPECT_THAT(ReadRow("/nowhere/history").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace trireme::failover
