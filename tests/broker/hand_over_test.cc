// A queue whose leader is about to stop: what clients are told while leadership is handed over.
#include <gmock/gmock.h>

#include "broker/ops/error.h"
#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using Kind = PublishOutcome::Kind;
using ::testing::ElementsAre;
using ::testing::SizeIs;

class QueueHandOverTest : public QueueTest {
 protected:
  void SetUp() override {
    QueueTest::SetUp();
    PublishEach({"first"});
    w_.world.Run(milliseconds(200));
    old_ = w_.Serving();
  }
  // With a batch that is appended and not committed.
  void HandOver() {
    Publish(under_way_, "", 0, 1, {"under way"});
    ASSERT_TRUE(w_.world.RunUntil([&] { return old_->group()->uncommitted_bytes() > 0; }));
    ASSERT_FALSE(old_->group()->HandOver().has_value());
  }
  void CutOffLeader() {
    for (uint64_t node = 1; node <= 3; ++node) {
      if (node != w_.Leader()) w_.world.cut.insert({raft::NodeId(w_.Leader()), raft::NodeId(node)});
    }
  }

  QueueReplica* old_ = nullptr;
  std::shared_ptr<NotingPublishSink> under_way_ = std::make_shared<NotingPublishSink>();
  std::shared_ptr<NotingPublishSink> waiting_ = std::make_shared<NotingPublishSink>();
};

TEST_F(QueueHandOverTest, NothingIsUnknown) {
  auto consumer = Attach("s");
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  HandOver();
  Publish(waiting_, "", 0, 1, {"waiting"});
  absl::Status settled, opened, received, purged;
  old_->SettleTokens(0, queue::Disposition::kAcknowledge, {TokenOf(consumer->runs[0])},
                     [&](absl::StatusOr<std::vector<bool>> s) { settled = s.status(); });
  old_->OpenProducer("p", 0, [&](absl::StatusOr<QueueReplica::OpenedProducer> o) { opened = o.status(); });
  old_->Receive("default", 1, milliseconds(10'000), milliseconds(1'000),
                [&](absl::StatusOr<Received> r) { received = r.status(); });
  old_->Purge([&](absl::StatusOr<uint64_t> p) { purged = p.status(); });
  auto late = StartAttach("t");
  ASSERT_TRUE(w_.world.RunUntil([&] { return !old_->serving(); }, milliseconds(100)));

  // What was on its way is stored, and known to be; nothing else was begun, so that it can be asked of the next leader.
  ASSERT_THAT(under_way_->outcomes, SizeIs(1));
  EXPECT_EQ(under_way_->outcomes[0].kind, Kind::kOk);
  ASSERT_THAT(waiting_->outcomes, SizeIs(1));
  EXPECT_EQ(waiting_->outcomes[0].kind, Kind::kMoved);
  EXPECT_EQ(waiting_->freed, BatchOf({"waiting"}).size());
  EXPECT_EQ(waiting_->cut, CutReason::kNotLeader);
  for (const absl::Status& status : {settled, opened, received, purged}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(FactsOf(status).reason, kNotLeader) << status;
  }
  EXPECT_EQ(consumer->cut, CutReason::kNotLeader);
  EXPECT_EQ(late->cut, CutReason::kNotLeader);

  ASSERT_TRUE(w_.world.RunUntil([&] { return w_.Serving() != nullptr; }, milliseconds(100)));
  auto again = Attach("s", {TokenOf(consumer->runs[0])});
  EXPECT_TRUE(again->resumed);
  ASSERT_TRUE(w_.world.RunUntil([&] { return again->messages() == 1; }));
  EXPECT_THAT(BodiesOf(again->runs[0].batch), ElementsAre("under way"));
  EXPECT_EQ(Describe().published, 2u);
  EXPECT_EQ(Describe().subscriptions[0].consumers, 1u);
}

// The target never hears of it: the old leader goes on where it was.
TEST_F(QueueHandOverTest, OneThatFailsIsNotNoticed) {
  auto consumer = Attach("s");
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  CutOffLeader();
  ASSERT_FALSE(old_->group()->HandOver().has_value());
  Publish(waiting_, "", 0, 1, {"waiting"});
  w_.world.Run(milliseconds(300));
  w_.world.cut.clear();
  EXPECT_THAT(waiting_->outcomes, SizeIs(0));
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 2; }, milliseconds(1'000)));
  EXPECT_EQ(w_.Serving(), old_);
  EXPECT_EQ(waiting_->outcomes.at(0).kind, Kind::kOk);
  EXPECT_FALSE(waiting_->cut.has_value());
  EXPECT_FALSE(consumer->cut.has_value());
}

}  // namespace
}  // namespace trireme::broker::testing
