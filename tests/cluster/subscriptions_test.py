"""What a queue's subscriptions promise, while the node that leads the queue is killed."""

import contextlib
import json

import grpc

import harness
from harness import CALL_SECONDS, Cluster, wait_for
from streams import Consumer, Publisher
from trireme.v1 import admin_pb2, broker_pb2, message_pb2


def coloured(body, colour):
    return message_pb2.Message(body=body, headers={"colour": message_pb2.Value(text=colour)})


class Subscriptions(harness.TestCase):
    def create(self, cluster, queue, name, number=1, filter="", **start):
        return cluster.admin(number).CreateSubscription(admin_pb2.CreateSubscriptionRequest(
            queue=queue, name=name, settings=admin_pb2.SubscriptionSettings(filter=filter),
            start=admin_pb2.SubscriptionStart(**start)), timeout=CALL_SECONDS)

    def of(self, cluster, queue, name):
        return next(s for s in cluster.figures_anywhere(queue).subscriptions if s.name == name)

    def test_three_subscriptions_each_get_every_message_once_while_the_leader_is_killed(self):
        with Cluster() as cluster:
            cluster.create("orders")
            for name in ("audit", "search"):
                self.assertTrue(self.create(cluster, "orders", name).created)
            bodies = [f"order-{i:05d}".encode() for i in range(6000)]
            publisher = Publisher(cluster.addresses, "orders", bodies, producer="shop", pause=0.01).start()
            names = ("default", "audit", "search")
            consumers = [Consumer(cluster.addresses, "orders", b"same session", subscription=name).start() for name in names]
            wait_for("a third", lambda: all(len(c.bodies) > 2000 for c in consumers), 60, [publisher, *consumers])
            leader = cluster.leader("orders")
            cluster.kill(leader)
            publisher.join(90)
            wait_for("every message, thrice", lambda: all(len(c.bodies) == 6000 and not c.pending for c in consumers), 90, consumers)
            cluster.start(leader)
            for consumer in consumers:
                consumer.stop()
                consumer.check()
                self.assertEqual(set(consumer.bodies), set(bodies))
                self.assertTrue(all(len(places) == 1 and places[0][1] == 1 for places in consumer.bodies.values()),
                                "delivered again although the session was resumed in time")
                self.assertEqual(consumer.lost_leases, 0)

            def settled():
                figures = cluster.figures_anywhere("orders")
                return figures.published == 6000 and all(s.acknowledged == 6000 for s in figures.subscriptions)
            wait_for("exact counts", settled)

    def test_filters_and_counts_outlive_the_leader(self):
        with Cluster() as cluster:
            cluster.create("paint")
            first = [coloured(b"%03d" % i, "red" if i % 3 == 0 else "blue") for i in range(60)]
            cluster.broker().Send(broker_pb2.SendRequest(queue="paint", batch=message_pb2.MessageBatch(messages=first)),
                                  timeout=CALL_SECONDS)
            done = cluster.command("subscription", "create", "paint", "reds", "--filter", "colour = 'red'", "--from", "first")
            self.assertEqual((done.returncode, done.stdout), (0, "subscription reds of paint created\n"), done.stderr)
            taken = cluster.receive("paint", most=5, lease_ms=600000, subscription="reds")
            self.assertEqual([m.message.body for m in taken], [b"000", b"003", b"006", b"009", b"012"])
            self.assertEqual(set(cluster.settle("paint", [m.token for m in taken[:3]])), {broker_pb2.OUTCOME_OK})
            leader = cluster.leader("paint")
            cluster.kill(leader)
            other = leader % 3 + 1
            cluster.leader("paint", but=(leader,))
            # The leases and the counts are as they were.
            figures = self.of(cluster, "paint", "reds")
            self.assertEqual((figures.in_flight, figures.acknowledged, figures.settings.filter), (2, 3, "colour = 'red'"))
            more = cluster.receive("paint", number=other, most=100, lease_ms=600000, subscription="reds")
            self.assertEqual([m.message.body for m in more], [b"%03d" % i for i in range(15, 60, 3)])
            tokens = [m.token for m in taken[3:] + more]
            self.assertEqual(set(cluster.settle("paint", tokens, number=other)), {broker_pb2.OUTCOME_OK})
            wait_for("the rest passed over", lambda: not cluster.receive("paint", number=other, wait_ms=500, subscription="reds") and
                     self.of(cluster, "paint", "reds").skipped == 40)
            figures = self.of(cluster, "paint", "reds")
            self.assertEqual((figures.waiting, figures.in_flight, figures.acknowledged), (0, 0, 20))
            self.assertEqual(self.of(cluster, "paint", "default").waiting, 60)
            # A new one is made while a node is down: this was heard of before.
            self.create(cluster, "paint", "late", number=other, position=more[-1].position)
            late = cluster.receive("paint", number=other, subscription="late")
            self.assertEqual([m.message.body for m in late], [b"057", b"058", b"059"])
            cluster.start(leader)

    def test_delays_and_limits_outlive_the_leader(self):
        with Cluster() as cluster:
            cluster.create("jobs")
            done = cluster.command("subscription", "change", "jobs", "default", "--delivery-limit", "3", "--retry-delay", "600")
            self.assertEqual(done.returncode, 0, done.stderr)
            cluster.send("jobs", [b"poison", b"slow"])
            first, second = cluster.receive("jobs", lease_ms=600000)

            def requeue(message, number, **fields):
                answer = cluster.broker(number).Settle(broker_pb2.SettleRequest(
                    queue="jobs", tokens=[message.token], disposition=broker_pb2.DISPOSITION_REQUEUE, **fields), timeout=CALL_SECONDS)
                self.assertEqual(list(answer.outcomes), [broker_pb2.OUTCOME_OK])
            # The one comes back at once, the other stays away as the subscription says.
            requeue(first, 1, delay_ms=0)
            requeue(second, 1)
            [again] = cluster.receive("jobs", lease_ms=600000)
            self.assertEqual((again.message.body, again.deliveries), (b"poison", 2))
            leader = cluster.leader("jobs")
            cluster.kill(leader)
            other = leader % 3 + 1
            cluster.leader("jobs", but=(leader,))
            requeue(again, other, delay_ms=0)
            [last] = cluster.receive("jobs", number=other, wait_ms=5000, lease_ms=600000)
            self.assertEqual((last.message.body, last.deliveries), (b"poison", 3))
            requeue(last, other)
            wait_for("the poison dropped", lambda: self.of(cluster, "jobs", "default").dead == 1)
            figures = self.of(cluster, "jobs", "default")
            self.assertEqual((figures.waiting, figures.in_flight), (1, 0))
            self.assertEqual(cluster.receive("jobs", number=other, wait_ms=500), [], "it was to stay away for ten minutes")
            cluster.start(leader)

    def test_the_command_and_its_errors(self):
        with Cluster() as cluster:
            cluster.create("orders")
            self.assertEqual(cluster.command("subscription", "create", "orders", "audit").returncode, 0)
            bad = cluster.command("subscription", "create", "orders", "bad", "--filter", "size > > 3")
            self.assertEqual(bad.returncode, 2)
            self.assertIn("column 8", bad.stderr)
            self.assertEqual(cluster.command("subscription", "create", "orders", "bad", "--from", "soon").returncode, 2)
            self.assertEqual(cluster.command("subscription", "change", "orders", "audit", "--filter", "size > 3").returncode, 0)
            listed = json.loads(cluster.command("subscription", "list", "orders", "--output", "json").stdout)
            self.assertEqual([(s["name"], s["filter"]) for s in listed], [("default", ""), ("audit", "size > 3")])
            self.assertEqual(cluster.command("subscription", "delete", "orders", "audit").returncode, 0)
            gone = cluster.command("subscription", "delete", "orders", "audit")
            self.assertEqual(gone.returncode, 1)
            self.assertIn("no subscription 'audit'", gone.stderr)
            with self.assertRaises(grpc.RpcError) as refused:
                cluster.receive("orders", subscription="audit")
            self.assertEqual(refused.exception.code(), grpc.StatusCode.NOT_FOUND)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        harness.main()
