"""Dead letters: moved to another queue exactly once, and back, while the nodes that lead both are killed (Safety rule 20)."""

import contextlib
import json
import threading

import grpc

import harness
from harness import CALL_SECONDS, Cluster, wait_for
from trireme.v1 import admin_pb2, broker_pb2, message_pb2

MESSAGES = 3000


class Rejecter:
    """Takes messages and rejects them, over failovers: what became of a lost call shows with the next one."""

    def __init__(self, cluster, queue):
        self.cluster, self.queue = cluster, queue
        self.settled, self.error, self.ending = 0, None, False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def run(self):
        number = 0
        while not self.ending:
            number += 1
            try:
                messages = self.cluster.receive(self.queue, number=number % 3 + 1, most=50, wait_ms=200, lease_ms=3000, seconds=10)
                if messages:
                    answer = self.cluster.broker(number % 3 + 1).Settle(broker_pb2.SettleRequest(
                        queue=self.queue, tokens=[m.token for m in messages], disposition=broker_pb2.DISPOSITION_REJECT), timeout=10)
                    self.settled += list(answer.outcomes).count(broker_pb2.OUTCOME_OK)
            except grpc.RpcError:
                pass  # a node is down: what was leased comes back

    def stop(self):
        self.ending = True
        self.thread.join(30)


class DeadLetters(harness.TestCase):
    def of(self, cluster, queue):
        return cluster.figures_anywhere(queue).subscriptions[0]

    def set_target(self, cluster, queue, target, *more):
        done = cluster.command("subscription", "change", queue, "default", "--dead-letter-queue", target, *more)
        self.assertEqual(done.returncode, 0, done.stderr)

    def send_all(self, cluster, queue, bodies):
        for i in range(0, len(bodies), 100):
            cluster.send(queue, bodies[i:i + 100])

    def all_of(self, cluster, queue):
        """What waits, by browsing at whichever node answers."""
        def browse(number):
            found, position = [], 0
            while True:
                page = cluster.admin(number).BrowseQueue(
                    admin_pb2.BrowseQueueRequest(name=queue, from_position=position, limit=1000), timeout=CALL_SECONDS)
                found += [m.message for m in page.messages]
                position = page.next_position
                if position == 0:
                    return found

        def ask():
            for number in range(1, cluster.size + 1):
                with contextlib.suppress(grpc.RpcError):
                    return (browse(number),)
            return None
        return wait_for(f"what waits in {queue}", ask)[0]

    def test_moved_once_and_back_once_while_the_leaders_are_killed(self):
        with Cluster() as cluster:
            cluster.create("jobs")
            cluster.create("jobs-dead")
            self.set_target(cluster, "jobs", "jobs-dead", "--dead-letter-routing-key", "failed")
            bodies = [b"job-%05d" % i for i in range(MESSAGES)]
            self.send_all(cluster, "jobs", bodies)
            rejecter = Rejecter(cluster, "jobs").start()
            wait_for("a fifth", lambda: self.of(cluster, "jobs").arrived > MESSAGES / 5, 60)
            source = cluster.leader("jobs")
            cluster.kill(source)
            cluster.leader("jobs", but=(source,))
            wait_for("two fifths", lambda: self.of(cluster, "jobs").arrived > 2 * MESSAGES / 5, 60)
            cluster.start(source)
            wait_for("three fifths", lambda: self.of(cluster, "jobs").arrived > 3 * MESSAGES / 5, 60)
            target = cluster.leader("jobs-dead")
            cluster.kill(target)
            wait_for("all of them", lambda: self.of(cluster, "jobs").arrived == MESSAGES, 90)
            rejecter.stop()
            cluster.start(target)
            figures = self.of(cluster, "jobs")
            self.assertEqual((figures.rejected, figures.leaving, figures.waiting, figures.in_flight), (MESSAGES, 0, 0, 0))
            self.assertEqual(cluster.figures_anywhere("jobs-dead").published, MESSAGES)
            dead = self.all_of(cluster, "jobs-dead")
            self.assertEqual(sorted(m.body for m in dead), bodies)
            for message in dead:
                self.assertEqual(message.headers["trireme-dead-queue"].text, "jobs")
                self.assertEqual(message.headers["trireme-dead-reason"].text, "rejected")
                self.assertEqual(message.routing_key, "failed")

            # And back, with the leader of the source killed in the middle.
            redriving = {}

            def redrive():
                redriving["done"] = cluster.command("redrive", "jobs-dead", "--rate", "1500", "--timeout", "60", seconds=120)
            thread = threading.Thread(target=redrive, daemon=True)
            thread.start()
            wait_for("some back", lambda: self.of(cluster, "jobs-dead").arrived > MESSAGES / 5, 60)
            source = cluster.leader("jobs-dead")
            cluster.kill(source)
            thread.join(120)
            # What a lost call had leased comes back to the dead letters when its lease ends or is released.
            figures = self.of(cluster, "jobs-dead")
            self.assertGreater(figures.redriven, MESSAGES / 5)
            wait_for("all that left to arrive", lambda: self.of(cluster, "jobs-dead").leaving == 0, 60)
            redriven = self.of(cluster, "jobs-dead").redriven
            back = self.all_of(cluster, "jobs")
            self.assertEqual(len(back), redriven)
            self.assertEqual(len({m.body for m in back}), redriven, "stored twice")
            self.assertFalse(any(m.headers for m in back), "they keep what made them dead letters")
            cluster.start(source)

    def test_a_target_is_checked_and_its_trouble_told(self):
        with Cluster() as cluster:
            for queue in ("a", "b", "c"):
                cluster.create(queue)
            self.set_target(cluster, "a", "b")
            self.set_target(cluster, "b", "c")
            for queue, target, words in (("c", "a", "c -> a -> b -> c"), ("a", "a", "a -> a"), ("a", "none", "none")):
                refused = cluster.command("subscription", "change", queue, "default", "--dead-letter-queue", target)
                self.assertEqual(refused.returncode, 1, refused.stdout)
                self.assertIn(words, refused.stderr)
            # Too many deliveries; then through both.
            self.set_target(cluster, "a", "b", "--delivery-limit", "1")
            cluster.broker().Send(broker_pb2.SendRequest(queue="a", batch=message_pb2.MessageBatch(messages=[message_pb2.Message(
                body=b"x", routing_key="mine", headers={"region": message_pb2.Value(text="eu")})])), timeout=CALL_SECONDS)
            [message] = cluster.receive("a")
            cluster.settle("a", [message.token], disposition=broker_pb2.DISPOSITION_REQUEUE)
            [message] = cluster.receive("b", wait_ms=5000)
            self.assertEqual(message.message.headers["trireme-dead-reason"].text, "delivery-limit")
            self.assertEqual(message.message.routing_key, "mine")
            cluster.settle("b", [message.token], disposition=broker_pb2.DISPOSITION_REJECT)
            wait_for("it in c", lambda: self.of(cluster, "c").waiting == 1)
            [message] = self.all_of(cluster, "c")
            self.assertEqual(message.headers["trireme-dead-queue"].text, "b")
            self.assertEqual(message.headers["trireme-dead-hops"].integer, 2)
            self.assertEqual(message.headers["region"].text, "eu")
            # By a filter, back to where it was last; what the filter leaves out stays.
            cluster.send("c", [b"other"])
            done = cluster.command("redrive", "c", "--filter", "region = 'eu'", "--output", "json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["redriven"], 1)
            wait_for("it in b", lambda: self.of(cluster, "b").waiting == 1)
            self.assertEqual(self.of(cluster, "c").waiting, 1)
            # A target that goes: they wait, and go to the next one.
            cluster.admin().DeleteQueue(admin_pb2.DeleteQueueRequest(name="c"), timeout=CALL_SECONDS)
            [message] = cluster.receive("b", wait_ms=5000)
            cluster.settle("b", [message.token], disposition=broker_pb2.DISPOSITION_REJECT)
            wait_for("the trouble to be told", lambda: "deleted" in self.of(cluster, "b").trouble)
            self.assertEqual(self.of(cluster, "b").leaving, 1)
            cluster.create("d")
            self.set_target(cluster, "b", "d")
            wait_for("it in d", lambda: self.of(cluster, "d").waiting == 1)
            self.assertEqual(self.of(cluster, "b").leaving, 0)


if __name__ == "__main__":
    harness.main()
