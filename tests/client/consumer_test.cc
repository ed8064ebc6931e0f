#include "client/consumer.h"

#include <atomic>

#include "client/client.h"
#include "client/sync.h"
#include "gtest/gtest.h"
#include "tests/client/scripted_broker.h"

namespace trireme::client {
namespace {

using std::chrono::milliseconds;
using Consuming = ScriptedBroker::Consuming;

constexpr milliseconds kLong{10'000};

class ConsumerTest : public testing::Test {
 protected:
  std::unique_ptr<Consumer> Consume(std::vector<std::string> servers,
                                    std::function<void(ConsumerOptions&)> change = {}) {
    ClientOptions client_options;
    client_options.servers = std::move(servers);
    client_ = *Client::Create(std::move(client_options));
    ConsumerOptions options;
    options.queue = "q";
    options.on_lease_lost = [this](std::span<const v1::HeldRun> runs) {
      MutexLock lock(&mutex_);
      for (const v1::HeldRun& run : runs) lost_ += run.ShortDebugString() + "; ";
    };
    if (change) change(options);
    return *client_->CreateConsumer(std::move(options));
  }
  std::string lost() {
    MutexLock lock(&mutex_);
    return lost_;
  }

  std::unique_ptr<Client> client_;
  Mutex mutex_;
  std::string lost_;
};

v1::HeldRun Held(uint64_t first, uint32_t count, uint64_t checkout) {
  v1::HeldRun run;
  run.set_first_position(first);
  run.set_count(count);
  run.set_checkout_index(checkout);
  return run;
}

std::string Bodies(const std::vector<Delivery>& deliveries) {
  std::string bodies;
  for (const Delivery& delivery : deliveries) bodies += std::string(delivery.body()) + " ";
  return bodies;
}

// All that is there, until `count` have come.
std::vector<Delivery> Take(Consumer& consumer, size_t count) {
  std::vector<Delivery> all;
  while (all.size() < count) {
    absl::StatusOr<std::vector<Delivery>> some = consumer.Next(count - all.size(), kLong);
    if (!some.ok() || some->empty()) break;
    all.insert(all.end(), some->begin(), some->end());
  }
  return all;
}

TEST_F(ConsumerTest, OpensDeliversAndSettlesInRuns) {
  ScriptedBroker broker;
  std::string session;
  broker.OnConsume([&](Consuming& stream) {
    v1::OpenConsume open = stream.ExpectOpen();
    EXPECT_EQ(open.queue(), "q");
    EXPECT_EQ(open.session().size(), 16u);
    EXPECT_EQ(open.max_outstanding_messages(), 1'024u);
    EXPECT_EQ(open.session_timeout_ms(), 30'000u);
    EXPECT_EQ(open.held_size(), 0);
    EXPECT_EQ(open.group_id(), 0u);
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b", "c", "d"});
    v1::SettleRuns settle = stream.ExpectSettle();
    EXPECT_EQ(settle.group_id(), 1u);
    EXPECT_EQ(settle.disposition(), v1::DISPOSITION_ACKNOWLEDGE);
    EXPECT_EQ(settle.runs_size(), 1);
    EXPECT_EQ(settle.runs(0).ShortDebugString(), Held(100, 4, 7).ShortDebugString());
    EXPECT_NE(settle.receipt(), 0u);
    stream.Receipt(settle.receipt());
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()}, [](ConsumerOptions& o) { o.settle_delay = milliseconds(50); });
  EXPECT_EQ(consumer->WaitOpen(kLong), absl::OkStatus());
  std::vector<Delivery> deliveries = Take(*consumer, 4);
  EXPECT_EQ(Bodies(deliveries), "a b c d ");
  EXPECT_EQ(consumer->held(), 4u);
  for (size_t i : {2, 0, 3, 1}) consumer->Acknowledge(deliveries[i]);
  EXPECT_EQ(consumer->held(), 0u);
  EXPECT_EQ(consumer->Flush(kLong), absl::OkStatus());
}

TEST_F(ConsumerTest, GivesCallbacksTheMessages) {
  ScriptedBroker broker;
  Notification settled;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b"});
    v1::SettleRuns settle = stream.ExpectSettle();
    EXPECT_EQ(settle.runs(0).count(), 2u);
    settled.Notify();
    return stream.UntilClosed();
  });
  std::string bodies;
  auto consumer = Consume({broker.address()}, [&](ConsumerOptions& options) {
    options.on_delivery = [&](Consumer& self, std::span<const Delivery> deliveries) {
      bodies = Bodies({deliveries.begin(), deliveries.end()});
      self.Acknowledge(deliveries);
    };
  });
  settled.Wait();
  EXPECT_EQ(bodies, "a b ");
  EXPECT_EQ(consumer->Next(1, milliseconds(0)).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ConsumerTest, SettlesAtAQuarterOfTheLimitWithoutWaiting) {
  ScriptedBroker broker;
  Notification settled;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b", "c", "d", "e", "f", "g", "h"});
    EXPECT_EQ(stream.ExpectSettle().runs(0).count(), 2u);
    settled.Notify();
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()}, [](ConsumerOptions& options) {
    options.max_outstanding_messages = 8;
    options.settle_delay = milliseconds(100);
  });
  std::vector<Delivery> deliveries = Take(*consumer, 8);
  consumer->Acknowledge(std::span(deliveries).first(2));
  settled.Wait();
}

TEST_F(ConsumerTest, DispositionsAreSentApart) {
  ScriptedBroker broker;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b", "c"});
    std::map<v1::Disposition, std::string> settles;
    for (int i = 0; i < 3; ++i) {
      v1::SettleRuns settle = stream.ExpectSettle();
      settles[settle.disposition()] = settle.runs(0).ShortDebugString();
      if (settle.receipt() != 0) stream.Receipt(settle.receipt());
    }
    EXPECT_EQ(settles[v1::DISPOSITION_ACKNOWLEDGE], Held(100, 1, 7).ShortDebugString());
    EXPECT_EQ(settles[v1::DISPOSITION_REQUEUE], Held(101, 1, 7).ShortDebugString());
    EXPECT_EQ(settles[v1::DISPOSITION_REJECT], Held(102, 1, 7).ShortDebugString());
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()});
  std::vector<Delivery> deliveries = Take(*consumer, 3);
  consumer->Acknowledge(deliveries[0]);
  consumer->Requeue(deliveries[1]);
  consumer->Reject(deliveries[2]);
  EXPECT_EQ(consumer->Flush(kLong), absl::OkStatus());
}

// Safety rule 5: what is held is named when the session resumes, and stays held.
TEST_F(ConsumerTest, ResumesWithWhatItHolds) {
  ScriptedBroker broker;
  std::string session;
  broker.OnConsume([&](Consuming& stream) {
    session = stream.ExpectOpen().session();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b", "c", "d"});
    v1::SettleRuns settle = stream.ExpectSettle();
    EXPECT_EQ(settle.runs(0).ShortDebugString(), Held(101, 1, 7).ShortDebugString());
    stream.Receipt(settle.receipt());
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
  });
  broker.OnConsume([&](Consuming& stream) {
    v1::OpenConsume open = stream.ExpectOpen();
    EXPECT_EQ(open.session(), session);
    EXPECT_EQ(open.group_id(), 1u);
    EXPECT_EQ(open.held_size(), 2);
    EXPECT_EQ(open.held(0).ShortDebugString(), Held(100, 1, 7).ShortDebugString());
    EXPECT_EQ(open.held(1).ShortDebugString(), Held(102, 2, 7).ShortDebugString());
    stream.Opened(true);
    stream.Deliver(200, 8, {"e"});
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()});
  std::vector<Delivery> deliveries = Take(*consumer, 4);
  consumer->Acknowledge(deliveries[1]);
  EXPECT_EQ(Bodies(Take(*consumer, 1)), "e ");
  EXPECT_EQ(consumer->held(), 4u);
  EXPECT_EQ(lost(), "");
  EXPECT_EQ(consumer->reconnects(), 1u);
}

// A settle whose receipt did not come may be lost: it is named as held, so that the message does not come again, and
// settled once more. If the first try had arrived its lease is gone, which is nobody's loss.
TEST_F(ConsumerTest, SettlesAgainWhatMayNotHaveArrived) {
  ScriptedBroker broker;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b"});
    stream.ExpectSettle();
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
  });
  broker.OnConsume([&](Consuming& stream) {
    v1::OpenConsume open = stream.ExpectOpen();
    EXPECT_EQ(open.held_size(), 1);
    EXPECT_EQ(open.held(0).ShortDebugString(), Held(100, 2, 7).ShortDebugString());
    stream.Opened(true);
    v1::SettleRuns settle = stream.ExpectSettle();
    EXPECT_EQ(settle.runs(0).ShortDebugString(), Held(100, 1, 7).ShortDebugString());
    while (settle.receipt() == 0) settle = stream.ExpectSettle();
    stream.Receipt(settle.receipt(), {Held(100, 1, 7)});
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()});
  std::vector<Delivery> deliveries = Take(*consumer, 2);
  consumer->Acknowledge(deliveries[0]);
  EXPECT_TRUE(Eventually([&] { return broker.Exhausted(); }));
  EXPECT_EQ(consumer->Flush(kLong), absl::OkStatus());
  EXPECT_EQ(lost(), "");
  EXPECT_EQ(consumer->held(), 1u);
}

TEST_F(ConsumerTest, TellsLostLeasesAndDoesNotHandThemOut) {
  ScriptedBroker broker;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b", "c"});
    stream.ExpectSettle();
    stream.Receipt(0, {Held(100, 2, 7)});
    stream.Deliver(200, 8, {"d"});
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()});
  std::vector<Delivery> first = Take(*consumer, 1);
  consumer->Acknowledge(first);
  // "b" was lost before it was handed out.
  EXPECT_TRUE(Eventually([&] { return consumer->leases_lost() == 2; }));
  EXPECT_EQ(lost(), Held(100, 2, 7).ShortDebugString() + "; ");
  EXPECT_EQ(Bodies(Take(*consumer, 2)), "c d ");
}

TEST_F(ConsumerTest, ASessionThatEndedLosesEverything) {
  ScriptedBroker broker;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b"});
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
  });
  broker.OnConsume([&](Consuming& stream) {
    EXPECT_EQ(stream.ExpectOpen().held_size(), 1);
    stream.Opened(false);
    stream.Deliver(100, 9, {"a"}, 2);
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()});
  EXPECT_TRUE(Eventually([&] { return consumer->leases_lost() == 2; }));
  std::vector<Delivery> again = Take(*consumer, 1);
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].checkout_index(), 9u);
  EXPECT_EQ(again[0].deliveries(), 2u);
  EXPECT_EQ(lost(), Held(100, 2, 7).ShortDebugString() + "; ");
}

// A flush that waits across the end of the session must not take what was lost with it for durable.
TEST_F(ConsumerTest, AFlushTellsOfSettlesThatWereLost) {
  ScriptedBroker broker;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b", "c"});
    stream.ExpectSettle();
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
  });
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(200, 9, {"d", "e"});
    v1::SettleRuns settle = stream.ExpectSettle();
    while (settle.receipt() == 0) settle = stream.ExpectSettle();
    stream.Receipt(settle.receipt(), {Held(200, 1, 9)});
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()});
  std::vector<Delivery> old = Take(*consumer, 3);
  consumer->Acknowledge(std::span(old).first(2));
  absl::Status flushed = consumer->Flush(kLong);
  EXPECT_EQ(lost(), Held(100, 3, 7).ShortDebugString() + "; ");
  EXPECT_TRUE(absl::IsAborted(flushed));
  EXPECT_NE(flushed.message().find("the leases of 2 settled messages"), std::string::npos) << flushed;
  EXPECT_EQ(consumer->Flush(kLong), absl::OkStatus()) << "one loss is answered once";
  consumer->Acknowledge(Take(*consumer, 1));
  EXPECT_TRUE(absl::IsAborted(consumer->Flush(kLong))) << "a single lease that was lost";
  EXPECT_EQ(consumer->held(), 1u);
}

// Safety rule 4: a queue that was deleted and made again gives the same positions and checkouts again. What is held of
// the old one is lost, and settling it afterwards must not settle a message of the new one.
TEST_F(ConsumerTest, ARecreatedQueueLosesEverythingAndIsNotSettledWithOldDeliveries) {
  for (const bool claims_to_resume : {false, true}) {
    ScriptedBroker broker;
    lost_.clear();
    broker.OnConsume([&](Consuming& stream) {
      stream.ExpectOpen();
      stream.Opened(false, "", 5);
      stream.Deliver(100, 7, {"a", "b"});
      stream.ExpectSettle();
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
    });
    broker.OnConsume([&](Consuming& stream) {
      v1::OpenConsume open = stream.ExpectOpen();
      EXPECT_EQ(open.group_id(), 5u);
      EXPECT_EQ(open.held_size(), 1);
      stream.Opened(claims_to_resume, "", 9);
      stream.Deliver(100, 7, {"x", "y"});
      v1::SettleRuns settle = stream.ExpectSettle();
      EXPECT_EQ(settle.group_id(), 9u);
      EXPECT_EQ(settle.runs_size(), 1);
      EXPECT_EQ(settle.runs(0).ShortDebugString(), Held(101, 1, 7).ShortDebugString());
      if (settle.receipt() != 0) stream.Receipt(settle.receipt());
      return stream.UntilClosed();
    });
    auto consumer = Consume({broker.address()});
    std::vector<Delivery> old = Take(*consumer, 2);
    ASSERT_EQ(Bodies(old), "a b ");
    EXPECT_EQ(old[0].group(), 5u);
    // This settle gets no receipt, and so is lost with the rest.
    consumer->Acknowledge(old[1]);
    std::vector<Delivery> anew = Take(*consumer, 2);
    ASSERT_EQ(Bodies(anew), "x y ");
    EXPECT_EQ(anew[0].group(), 9u);
    EXPECT_EQ(lost(), Held(100, 2, 7).ShortDebugString() + "; ");
    consumer->Acknowledge(old);
    EXPECT_EQ(consumer->held(), 2u);
    consumer->Acknowledge(anew[1]);
    EXPECT_TRUE(absl::IsAborted(consumer->Flush(kLong)));
    EXPECT_EQ(consumer->Flush(kLong), absl::OkStatus());
    EXPECT_EQ(consumer->held(), 1u);
  }
}

TEST_F(ConsumerTest, ADeletedQueueEndsItAndTellsWhatIsLost) {
  ScriptedBroker broker;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b", "c"});
    stream.ExpectSettle();
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "the queue was deleted");
  });
  Notification closed;
  auto consumer = Consume({broker.address()}, [&](ConsumerOptions& options) {
    options.on_closed = [&](const absl::Status& status) {
      EXPECT_EQ(status, absl::NotFoundError("the queue was deleted"));
      // Before this, so that nobody works on for nothing.
      EXPECT_EQ(lost(), Held(100, 3, 7).ShortDebugString() + "; ");
      closed.Notify();
    };
  });
  std::vector<Delivery> deliveries = Take(*consumer, 2);
  consumer->Acknowledge(deliveries[0]);
  closed.Wait();
  EXPECT_EQ(consumer->held(), 0u);
  EXPECT_EQ(consumer->leases_lost(), 3u);
  EXPECT_EQ(consumer->Next(1, kLong).status(), absl::NotFoundError("the queue was deleted"));
  consumer->Acknowledge(deliveries[1]);
  // Whichever thread comes first to the consumer's mutex, a caller's or the client's own.
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] {
      for (int n = 0; n < 500; ++n) EXPECT_EQ(consumer->Flush(kLong), absl::NotFoundError("the queue was deleted"));
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST_F(ConsumerTest, FollowsARedirect) {
  ScriptedBroker old_leader, new_leader;
  std::string session;
  old_leader.OnConsume([&](Consuming& stream) {
    session = stream.ExpectOpen().session();
    stream.Opened(false);
    stream.Redirect(new_leader.address());
    return stream.UntilClosed();
  });
  new_leader.OnConsume([&](Consuming& stream) {
    EXPECT_EQ(stream.ExpectOpen().session(), session);
    stream.Opened(true);
    stream.Deliver(100, 7, {"a"});
    return stream.UntilClosed();
  });
  auto consumer = Consume({old_leader.address()});
  EXPECT_EQ(Bodies(Take(*consumer, 1)), "a ");
  EXPECT_EQ(consumer->server(), new_leader.address());
}

TEST_F(ConsumerTest, KeepsItsSessionAlive) {
  ScriptedBroker broker;
  Notification alive;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    for (int i = 0; i < 2; ++i) {
      v1::Flow flow = stream.ExpectFlow();
      EXPECT_EQ(flow.max_outstanding_messages(), 0u);
    }
    alive.Notify();
    return stream.UntilClosed();
  });
  auto consumer =
      Consume({broker.address()}, [](ConsumerOptions& options) { options.session_timeout = milliseconds(1'000); });
  EXPECT_TRUE(alive.WaitFor(std::chrono::seconds(5)));
}

// Safety rule 5: a client whose stream has been silent for the session's timeout stops working on what it holds.
TEST_F(ConsumerTest, SilenceEndsTheLeases) {
  ScriptedBroker broker;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b"});
    for (v1::ConsumeRequest request; stream.Read(request);) {
    }
    return grpc::Status::OK;
  });
  broker.OnConsume([&](Consuming& stream) {
    // Nothing is held any more, so the broker sends all of it again.
    EXPECT_EQ(stream.ExpectOpen().held_size(), 0);
    stream.Opened(true);
    stream.Deliver(100, 7, {"a", "b"});
    return stream.UntilClosed();
  });
  auto consumer =
      Consume({broker.address()}, [](ConsumerOptions& options) { options.session_timeout = milliseconds(1'000); });
  ASSERT_EQ(Bodies(Take(*consumer, 1)), "a ");
  EXPECT_TRUE(Eventually([&] { return consumer->leases_lost() == 2; }));
  EXPECT_EQ(lost(), Held(100, 2, 7).ShortDebugString() + "; ");
  EXPECT_EQ(Bodies(Take(*consumer, 2)), "a b ");
}

// A node that died without a word breaks no connection.
TEST_F(ConsumerTest, SilenceEndsAnIdleStream) {
  ScriptedBroker broker;
  Notification left, again;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    grpc::Status status = stream.UntilClosed();
    left.Notify();
    return status;
  });
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(true);
    again.Notify();
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()}, [](ConsumerOptions& o) { o.session_timeout = milliseconds(1'000); });
  left.Wait();
  again.Wait();
  EXPECT_EQ(consumer->leases_lost(), 0u);
}

// The session that a node on the way to the leader has made anew will be resumed at the leader; the old one's leases
// are gone all the same.
TEST_F(ConsumerTest, ASessionThatEndedIsToldAlsoWhenTheStreamGoesOnToTheLeader) {
  ScriptedBroker broker, leader;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b"});
    stream.ExpectSettle();
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
  });
  broker.OnConsume([&](Consuming& stream) {
    EXPECT_EQ(stream.ExpectOpen().held_size(), 1);
    stream.Opened(false, leader.address());
    return stream.UntilClosed();
  });
  leader.OnConsume([&](Consuming& stream) {
    EXPECT_EQ(stream.ExpectOpen().held_size(), 0);
    stream.Opened(true);
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()});
  consumer->Acknowledge(Take(*consumer, 1));
  EXPECT_TRUE(Eventually([&] { return consumer->leases_lost() == 2; }));
  EXPECT_TRUE(Eventually([&] { return leader.Exhausted(); }));
  EXPECT_EQ(lost(), Held(100, 2, 7).ShortDebugString() + "; ");
  EXPECT_TRUE(absl::IsAborted(consumer->Flush(kLong)));
}

TEST_F(ConsumerTest, ChangesItsLimits) {
  ScriptedBroker broker;
  Notification changed;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    v1::Flow flow = stream.ExpectFlow();
    EXPECT_EQ(flow.max_outstanding_messages(), 5u);
    EXPECT_EQ(flow.max_outstanding_bytes(), 6u);
    changed.Notify();
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()});
  ASSERT_EQ(consumer->WaitOpen(kLong), absl::OkStatus());
  consumer->SetLimits(5, 6);
  EXPECT_TRUE(changed.WaitFor(std::chrono::seconds(5)));
}

TEST_F(ConsumerTest, ClosingSendsWhatIsSettled) {
  ScriptedBroker broker;
  Notification over;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    stream.Deliver(100, 7, {"a", "b"});
    EXPECT_EQ(stream.ExpectSettle().runs(0).count(), 2u);
    grpc::Status status = stream.UntilClosed();
    over.Notify();
    return status;
  });
  auto consumer = Consume({broker.address()}, [](ConsumerOptions& o) { o.settle_delay = milliseconds(100); });
  consumer->Acknowledge(Take(*consumer, 2));
  consumer.reset();
  EXPECT_TRUE(over.WaitFor(std::chrono::seconds(5)));
}

TEST_F(ConsumerTest, AQueueThatIsNotThereIsSaid) {
  ScriptedBroker broker;
  broker.FailResolve({grpc::StatusCode::NOT_FOUND, "no queue q"});
  std::atomic<bool> closed{false};
  auto consumer = Consume({broker.address()}, [&](ConsumerOptions& options) {
    options.on_closed = [&](const absl::Status& status) {
      EXPECT_EQ(status, absl::NotFoundError("no queue q"));
      closed = true;
    };
  });
  EXPECT_EQ(consumer->WaitOpen(kLong), absl::NotFoundError("no queue q"));
  EXPECT_EQ(consumer->Next(1, kLong).status(), absl::NotFoundError("no queue q"));
  EXPECT_TRUE(Eventually([&] { return closed.load(); }));
}

TEST_F(ConsumerTest, ABrokenFrameEndsIt) {
  ScriptedBroker broker;
  broker.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    stream.Opened(false);
    v1::ConsumeResponse response;
    response.mutable_deliver()->add_runs()->set_count(5);
    stream.Send(response);
    return stream.UntilClosed();
  });
  auto consumer = Consume({broker.address()});
  EXPECT_EQ(consumer->Next(1, kLong).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace trireme::client
