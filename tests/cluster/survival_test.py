"""What was confirmed outlives the death of the leader, three times, and of all nodes at once."""

import collections
import contextlib
import json
import os
import subprocess
import threading
import time

import grpc

import harness
from harness import Cluster, wait_for
from streams import Consumer, Publisher, Stream
from trireme.v1 import broker_pb2


# What crosses from one shard to another is in no other test of this folder.
TWO_SHARDS = ("--shards", "2")


def bodies(prefix, count):
    return [f"{prefix}-{i:06d}".encode() for i in range(count)]


class LeaderKilled(harness.TestCase):
    def test_twenty_thousand_messages_while_the_leader_is_killed_three_times(self):
        with Cluster(arguments=TWO_SHARDS) as cluster:
            cluster.create("orders")
            named, nameless = bodies("named", 16000), bodies("nameless", 4000)
            publishers = [Publisher(cluster.addresses, "orders", named, producer="shop", pause=0.01).start(),
                          Publisher(cluster.addresses[1:] + cluster.addresses[:1], "orders", nameless, pause=0.04).start()]
            consumers = [Consumer(cluster.addresses, "orders", session).start() for session in (b"one", b"two")]

            def confirmed():
                for worker in publishers + consumers:
                    worker.check()
                return sum(len(publisher.confirmed) for publisher in publishers)

            kills = 0
            for mark in (2000, 7000, 12000):
                wait_for(f"{mark} confirmed", lambda: confirmed() >= mark, 60, publishers)
                leader = cluster.leader("orders")
                cluster.kill(leader)
                kills += 1
                before = confirmed()
                wait_for(f"progress after node {leader} was killed", lambda: confirmed() >= before + 200, 60, publishers)
                cluster.start(leader)
            self.assertEqual(kills, 3)
            for publisher in publishers:
                publisher.join(90)
            wanted = set(named + nameless)

            def seen():
                for consumer in consumers:
                    consumer.check()
                return set(consumers[0].bodies) | set(consumers[1].bodies)

            wait_for("every message", lambda: seen() >= wanted and not any(c.pending for c in consumers), 90, consumers)
            for consumer in consumers:
                consumer.stop()
                consumer.check()

            self.assertEqual(seen(), wanted, "nothing but what was published")
            deliveries = collections.defaultdict(list)
            for consumer in consumers:
                for body, places in consumer.bodies.items():
                    deliveries[body] += places
            stored_twice = {body for body, places in deliveries.items() if len({position for position, _ in places}) > 1}
            self.assertLessEqual(stored_twice, publishers[1].retried, "stored twice without having been sent twice")
            self.assertFalse(stored_twice & set(named), "a producer with sequences leaves no duplicates")
            again = {body: places for body, places in deliveries.items() if len({p for p, _ in places}) < len(places)}
            self.assertFalse(again, "delivered twice although every session was resumed in time")
            self.assertEqual([consumer.lost_leases for consumer in consumers], [0, 0])
            for consumer in consumers:
                self.assertGreater(consumer.resumed, 0, f"{consumer.session} has never resumed its session")
            # A settle that was sent before the last kill shows once the leader has applied it.
            wait_for("an empty queue", lambda: all(s.waiting + s.in_flight == 0 for s in cluster.figures("orders").subscriptions))
            figures = cluster.figures("orders")
            self.assertEqual(figures.published, sum(len({p for p, _ in places}) for places in deliveries.values()))

    def test_the_command_checks_itself_while_the_leader_is_killed(self):
        with Cluster() as cluster:
            cluster.create("bench")
            process = subprocess.Popen(
                [os.path.join(harness.BIN, "trireme"), "bench", "--server", cluster.servers, "--queue", "bench", "--producers", "2",
                 "--consumers", "2", "--messages", "20000", "--size", "256", "--batch", "20", "--rate", "4000", "--output", "json"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                wait_for("2,000 published", lambda: cluster.figures("bench").published >= 2000)
                leader = cluster.leader("bench")
                cluster.kill(leader)
                wait_for("another leader", lambda: cluster.leader("bench", but=(leader,)))
                cluster.start(leader)
                output, errors = process.communicate(timeout=120)
            finally:
                process.kill()
            self.assertEqual(process.returncode, 0, errors)
            result = json.loads(output)
            self.assertEqual((result["lost"], result["duplicates"]), (0, 0), result)


class AllKilled(harness.TestCase):
    def test_every_confirmed_message_is_there_after_all_nodes_were_killed(self):
        with Cluster(arguments=TWO_SHARDS) as cluster:
            cluster.create("ledger")
            publisher = Publisher(cluster.addresses, "ledger", bodies("entry", 20000), producer="bank", pause=0.002).start()
            wait_for("4,000 confirmed", lambda: len(publisher.confirmed) >= 4000 or publisher.check(), 60)
            # At once: three commands side by side.
            killers = [threading.Thread(target=cluster.kill_now, args=(number,)) for number in (1, 2, 3)]
            for killer in killers:
                killer.start()
            for killer in killers:
                killer.join(30)
            publisher.stop()
            publisher.check()
            confirmed = set(publisher.confirmed)
            self.assertGreaterEqual(len(confirmed), 4000)
            for number in (1, 2, 3):
                cluster.start(number)
            cluster.leader("ledger")
            stored = cluster.figures("ledger").published
            self.assertGreaterEqual(stored, len(confirmed))
            consumer = Consumer(cluster.addresses, "ledger", b"reader", enough=stored).start()
            consumer.join(60)
            self.assertLessEqual(confirmed, set(consumer.bodies))
            self.assertTrue(all(len(places) == 1 for places in consumer.bodies.values()), "each is stored and delivered once")

    def test_what_was_settled_stays_settled_and_counts_stay_exact(self):
        with Cluster() as cluster:
            cluster.create("jobs")
            cluster.send("jobs", bodies("job", 300))
            first = cluster.receive("jobs", most=100, lease_ms=60000)
            self.assertEqual(cluster.settle("jobs", [m.token for m in first]), [broker_pb2.OUTCOME_OK] * 100)
            held = cluster.receive("jobs", most=100, lease_ms=600000)
            self.assertEqual([m.deliveries for m in held], [1] * 100)
            returned = cluster.receive("jobs", most=100, lease_ms=600000)
            self.assertEqual(set(cluster.settle("jobs", [m.token for m in returned],
                                                disposition=broker_pb2.DISPOSITION_REQUEUE)), {broker_pb2.OUTCOME_OK})
            for number in (1, 2, 3):
                cluster.kill(number)
            for number in (1, 2, 3):
                cluster.start(number)
            cluster.leader("jobs")
            again = cluster.receive("jobs", most=300)
            self.assertEqual([m.message.body for m in again], [m.message.body for m in returned])
            self.assertEqual([m.deliveries for m in again], [2] * 100)
            # The leases of before the crash are as good as ever.
            self.assertEqual(cluster.settle("jobs", [m.token for m in held]), [broker_pb2.OUTCOME_OK] * 100)
            self.assertEqual(cluster.settle("jobs", [m.token for m in again]), [broker_pb2.OUTCOME_OK] * 100)
            subscription = cluster.figures("jobs").subscriptions[0]
            self.assertEqual((subscription.waiting, subscription.in_flight, subscription.acknowledged), (0, 0, 300))


class Elections(harness.TestCase):
    def test_requests_wait_out_an_election_within_their_deadline(self):
        with Cluster() as cluster:
            cluster.create("calls")
            cluster.send("calls", [b"before"])
            leader = cluster.leader("calls")
            others = [number for number in (1, 2, 3) if number != leader]
            cluster.kill(leader)
            # Through both of the others at once, straight after the kill.
            results = {}

            def call(number):
                try:
                    results[number] = cluster.send("calls", [b"during %d" % number], number, seconds=15, producer=f"p{number}",
                                                   first_sequence=1)
                except grpc.RpcError as error:
                    results[number] = error
            threads = [threading.Thread(target=call, args=(number,)) for number in others]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            for number in others:
                self.assertIsInstance(results[number], broker_pb2.SendResponse, results[number])
                self.assertEqual(results[number].confirms[0].outcome, broker_pb2.OUTCOME_OK)
            self.assertEqual(sorted(cluster.drain("calls", 3, others[0])), sorted([b"before"] + [b"during %d" % n for n in others]))

    def test_without_a_majority_a_request_ends_at_its_deadline_and_nothing_is_lost(self):
        with Cluster() as cluster:
            cluster.create("calls")
            cluster.send("calls", [b"before"])
            cluster.kill(2)
            cluster.kill(3)
            began = time.monotonic()
            with self.assertRaises(grpc.RpcError) as caught:
                cluster.send("calls", [b"without"], 1, seconds=3)
            self.assertLess(time.monotonic() - began, 5)
            self.assertIn(caught.exception.code(), (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE))
            # A producer is not held: it may still reach nodes that this one does not.
            stream = Stream(cluster.addresses[0], "Publish")
            stream.send(broker_pb2.PublishRequest(open=broker_pb2.OpenPublish()))
            stream.send(broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=1, queue="calls")))
            self.assertEqual(stream.next(5).WhichOneof("frame"), "opened")
            frame = stream.next(5)
            self.assertEqual(frame.WhichOneof("frame"), "unbound", frame)
            self.assertEqual(frame.unbound.leader.address, "")
            self.assertIn("cut off", frame.unbound.reason)
            stream.close()
            cluster.start(2)
            cluster.leader("calls")
            got = cluster.drain("calls", 2, 1, seconds=20)
            self.assertEqual(got[0], b"before")
            # The one that was cut off is of unknown outcome: there or not there, but nothing else is.
            self.assertIn(got[1:], ([], [b"without"]))


class AnyNode(harness.TestCase):
    def test_any_node_serves_any_client(self):
        with Cluster(arguments=TWO_SHARDS) as cluster:
            for creator in (1, 2, 3):
                name = f"q{creator}"
                cluster.create(name, creator)
                for number in (1, 2, 3):
                    body = b"%d through %d" % (creator, number)
                    self.assertEqual(cluster.send(name, [body], number).confirms[0].outcome, broker_pb2.OUTCOME_OK)
                    # Received through another node, settled through a third.
                    got = cluster.receive(name, number % 3 + 1, wait_ms=5000)
                    self.assertEqual([m.message.body for m in got], [body])
                    self.assertEqual(cluster.settle(name, [got[0].token], (number + 1) % 3 + 1), [broker_pb2.OUTCOME_OK])
                # And on streams that stay where they are.
                for number in (1, 2, 3):
                    only = cluster.addresses[number - 1:number]
                    publisher = Publisher(only, name, bodies(f"s{number}", 200), producer=f"p{number}").start()
                    publisher.join(30)
                    consumer = Consumer(only, name, b"session %d" % number, enough=200).start()
                    consumer.join(30)
                    self.assertEqual(set(consumer.bodies), set(publisher.confirmed))
            for number in (1, 2, 3):
                listed = cluster.admin(number).ListQueues(harness.admin_pb2.ListQueuesRequest(), timeout=10)
                self.assertEqual([q.name for q in listed.queues], ["q1", "q2", "q3"])


class OneNode(harness.TestCase):
    def test_a_cluster_of_one_node(self):
        with Cluster(nodes=1) as cluster:
            answer = cluster.create("alone")
            self.assertEqual((len(answer.queue.replicas), answer.queue.settings.replicas), (1, 1))
            cluster.send("alone", bodies("m", 100))
            half = cluster.receive("alone", most=50)
            self.assertEqual(len(half), 50)
            cluster.settle("alone", [m.token for m in half])
            cluster.kill(1)
            cluster.start(1)
            self.assertEqual(cluster.drain("alone", 50), bodies("m", 100)[50:])
            cluster.stop(1)
            cluster.start(1)
            self.assertEqual(cluster.figures("alone").subscriptions[0].acknowledged, 100)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        harness.main()
