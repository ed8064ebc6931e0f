"""What a queue's limits promise: exact, while the node that leads the queue is killed."""

import contextlib
import json
import threading

import grpc

import harness
from harness import Cluster, wait_for
from streams import Publisher
from trireme.v1 import broker_pb2, message_pb2

LIMIT = 500


class Sender:
    """Sends messages one by one under sequences, over failovers, each until it is stored or refused for good."""

    def __init__(self, cluster, queue, name, count):
        self.cluster, self.queue, self.name, self.count = cluster, queue, name, count
        self.stored, self.refused, self.error = set(), set(), None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def run(self):
        try:
            for sequence in range(1, self.count + 1):
                self.send(sequence)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def send(self, sequence):
        message = message_pb2.Message(body=f"{self.name}-{sequence}".encode())
        for attempt in range(200):
            try:
                answer = self.cluster.broker((sequence + attempt) % 3 + 1).Send(broker_pb2.SendRequest(
                    queue=self.queue, producer=self.name, first_sequence=sequence,
                    batch=message_pb2.MessageBatch(messages=[message])), timeout=10)
                outcome = answer.confirms[0].outcome
                if outcome in (broker_pb2.OUTCOME_OK, broker_pb2.OUTCOME_DUPLICATE):
                    self.stored.add(message.body)
                    return
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                    info = harness.error_info(error)
                    assert (info.reason, info.metadata["limit"]) == ("QUEUE_MESSAGES", str(LIMIT)), info
                    self.refused.add(message.body)
                    return
        raise AssertionError(f"sequence {sequence} came to no end")


class Limits(harness.TestCase):
    def test_no_message_too_many_or_too_few_while_the_leader_is_killed(self):
        with Cluster() as cluster:
            cluster.create("orders")
            self.assertEqual(cluster.command("queue", "set", "orders", "--max-messages", str(LIMIT)).returncode, 0)
            senders = [Sender(cluster, "orders", f"shop-{i}", 300).start() for i in range(3)]
            stored = lambda: sum(len(s.stored) for s in senders)
            wait_for("a third", lambda: stored() > LIMIT / 3, 60)
            leader = cluster.leader("orders")
            cluster.kill(leader)
            for sender in senders:
                sender.thread.join(120)
                self.assertIsNone(sender.error)
            self.assertEqual(stored(), LIMIT)
            self.assertEqual(sum(len(s.refused) for s in senders), 900 - LIMIT)
            figures = cluster.figures_anywhere("orders")
            self.assertEqual((figures.published, figures.held_messages, figures.limits.max_messages), (LIMIT, LIMIT, LIMIT))
            # As many as are settled fit, and what is in flight counts.
            other = leader % 3 + 1
            taken = cluster.receive("orders", number=other, most=10, lease_ms=600000)
            self.assertEqual(set(cluster.settle("orders", [m.token for m in taken[:4]], number=other)), {broker_pb2.OUTCOME_OK})
            self.assertEqual(cluster.figures_anywhere("orders").held_messages, LIMIT - 4)
            cluster.start(leader)
            late = Sender(cluster, "orders", "late", 6)
            late.run()
            self.assertIsNone(late.error)
            self.assertEqual((len(late.stored), len(late.refused)), (4, 2))
            self.assertEqual(cluster.figures_anywhere("orders").held_messages, LIMIT)

    def test_the_oldest_leave_while_the_leader_is_killed(self):
        with Cluster() as cluster:
            for queue in ("news", "old"):
                cluster.create(queue)
            refused = cluster.command("queue", "set", "news", "--max-messages", str(LIMIT), "--overflow", "dead-letter")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("has a dead-letter queue", refused.stderr)
            for arguments in (("subscription", "change", "news", "default", "--dead-letter-queue", "old"),
                              ("queue", "set", "news", "--max-messages", str(LIMIT), "--overflow", "dead-letter")):
                done = cluster.command(*arguments)
                self.assertEqual(done.returncode, 0, done.stderr)
            bodies = [b"news-%05d" % i for i in range(2000)]
            publisher = Publisher(cluster.addresses, "news", bodies, producer="paper", batch=7, pause=0.01).start()
            wait_for("half of them", lambda: len(publisher.confirmed) > 1000, 60, [publisher])
            leader = cluster.leader("news")
            cluster.kill(leader)
            publisher.join(120)
            wait_for("the dead letters", lambda: cluster.figures_anywhere("news").subscriptions[0].leaving == 0, 60)
            figures = cluster.figures_anywhere("news")
            [default] = figures.subscriptions
            self.assertEqual((figures.published, figures.held_messages), (2000, LIMIT))
            self.assertEqual((default.waiting, default.overflowed, default.arrived), (LIMIT, 2000 - LIMIT, 2000 - LIMIT))
            number = leader % 3 + 1
            self.assertEqual(cluster.figures_anywhere("old").published, 2000 - LIMIT)
            kept = cluster.receive("news", number=number, most=1000)
            self.assertEqual([m.message.body for m in kept], bodies[-LIMIT:])
            dead = cluster.receive("old", number=number, most=1000)
            self.assertEqual([m.message.body for m in dead], bodies[:1000])
            self.assertEqual({m.message.headers["trireme-dead-reason"].text for m in dead}, {"overflow"})
            cluster.start(leader)

    def test_the_command_and_its_errors(self):
        with Cluster() as cluster:
            cluster.create("orders")
            done = cluster.command("queue", "set", "orders", "--max-bytes", "1000", "--max-message-bytes", "100")
            self.assertEqual((done.returncode, done.stdout), (0, "orders changed\n"), done.stderr)
            big = cluster.command("publish", "orders", "x" * 200)
            self.assertEqual(big.returncode, 1)
            self.assertIn("100 bytes, the queue's limit", big.stderr)
            cluster.send("orders", [b"x" * 90] * 10)
            full = cluster.command("publish", "orders", "x" * 90)
            self.assertEqual(full.returncode, 1)
            self.assertIn("its limit is 1000 bytes", full.stderr)
            shown = json.loads(cluster.command("queue", "describe", "orders", "--output", "json").stdout)
            self.assertEqual(shown["limits"], {"max_messages": 0, "max_bytes": 1000, "max_message_bytes": 100, "ttl_ms": 0,
                                               "overflow": "reject"})
            self.assertEqual((shown["held_messages"], shown["held_bytes"]), (10, 940))
            self.assertEqual(cluster.command("queue", "set", "orders").returncode, 0)
            self.assertEqual(cluster.command("publish", "orders", "x" * 200).returncode, 0)
            wrong = cluster.command("queue", "set", "orders", "--max-message-bytes", str(1 << 40))
            self.assertEqual(wrong.returncode, 2)
            self.assertIn("max_message_bytes is", wrong.stderr)
            self.assertEqual(cluster.command("queue", "set", "orders", "--max-messages", "-1").returncode, 2)
            gone = cluster.command("queue", "set", "nowhere", "--max-messages", "1")
            self.assertEqual(gone.returncode, 1)
            temporary = cluster.command("queue", "create", "--temporary").stdout.strip()
            refused = cluster.command("queue", "set", temporary, "--max-messages", "1")
            self.assertEqual(refused.returncode, 2)
            self.assertIn("limits that it was made with", refused.stderr)
            # So many in flight, over all consumers.
            self.assertEqual(cluster.command("subscription", "change", "orders", "default", "--max-in-flight", "3").returncode, 0)
            self.assertEqual(len(cluster.receive("orders", most=2)), 2)
            self.assertEqual(len(cluster.receive("orders", most=5, number=2)), 1)
            self.assertEqual(cluster.receive("orders", most=5, wait_ms=200, number=3), [])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        harness.main()
