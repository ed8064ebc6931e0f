"""Safety rule 4: a queue that is deleted and made again under its name gives the same positions and checkouts again, for other
messages. What was given out of the old one must settle nothing in the new one."""

import contextlib
import os
import queue
import signal
import subprocess
import threading

import harness
from harness import Cluster
from streams import Stream
from trireme.v1 import admin_pb2, broker_pb2

ACKNOWLEDGE = broker_pb2.DISPOSITION_ACKNOWLEDGE


class Told:
    """A consumer of the C++ library that does as it is told; see told_consumer.cc."""

    def __init__(self, cluster, name):
        self.process = subprocess.Popen([os.path.join(harness.BIN, "told_consumer"), cluster.servers, name],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = queue.SimpleQueue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def tell(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def next(self, verb):
        line = self.lines.get(timeout=40)
        assert line.startswith(verb + " "), f"wanted '{verb} ...', got '{line}'"
        return line[len(verb) + 1:]

    def take(self, count):
        """[((group, position, checkout), body), ...]"""
        self.tell("take", count)
        deliveries = [self.next("delivery").split(" ", 4) for _ in range(count)]
        return [(tuple(map(int, words[1:4])), words[4]) for words in deliveries]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def next_of(stream, kind):
    while True:
        frame = stream.next(20)
        if frame.WhichOneof("frame") == kind:
            return getattr(frame, kind)


class RecreatedQueue(harness.TestCase):
    def recreate(self, cluster, name, bodies, number=1):
        cluster.admin(number).DeleteQueue(admin_pb2.DeleteQueueRequest(name=name), timeout=harness.CALL_SECONDS)
        cluster.create(name, number)
        cluster.send(name, bodies, number)

    def figures(self, cluster, name, number=1):
        of = cluster.figures(name, number).subscriptions[0]
        return of.waiting, of.in_flight, of.acknowledged

    def test_a_consumer_that_is_connected_is_told_and_ends(self):
        with Cluster() as cluster:
            cluster.create("orders")
            cluster.send("orders", [b"old 0", b"old 1"])
            with contextlib.closing(Told(cluster, "orders")) as consumer:
                self.assertEqual([body for _, body in consumer.take(2)], ["old 0", "old 1"])
                consumer.tell("acknowledge", 0)
                consumer.tell("flush")
                self.assertEqual(consumer.next("flushed"), "OK")
                self.recreate(cluster, "orders", [b"new 0", b"new 1"])
                self.assertEqual(consumer.next("lost").split()[1], "1")
                self.assertIn("NOT_FOUND: the queue was deleted", consumer.next("closed"))
                consumer.tell("acknowledge", 1)
                consumer.tell("flush")
                self.assertIn("NOT_FOUND", consumer.next("flushed"))
                self.assertEqual(self.figures(cluster, "orders"), (2, 0, 0))

    def test_a_consumer_that_was_away_begins_anew(self):
        with Cluster() as cluster:
            cluster.create("orders")
            cluster.send("orders", [b"old 0", b"old 1"])
            with contextlib.closing(Told(cluster, "orders")) as consumer:
                old = consumer.take(2)
                # It learns of nothing until the new queue is there: its connection breaks, and it hears nothing of that.
                consumer.process.send_signal(signal.SIGSTOP)
                leader = cluster.leader("orders")
                cluster.kill(leader)
                other = leader % 3 + 1
                self.recreate(cluster, "orders", [b"new 0", b"new 1"], other)
                cluster.start(leader)
                consumer.process.send_signal(signal.SIGCONT)
                self.assertEqual(consumer.next("lost"), f"{old[0][0][1]} 2 {old[0][0][2]}")
                new = consumer.take(2)
                self.assertEqual([body for _, body in new], ["new 0", "new 1"])
                self.assertEqual([token[1:] for token, _ in new], [token[1:] for token, _ in old],
                                 "without the same indexes this test shows nothing")
                self.assertGreater(new[0][0][0], old[0][0][0])
                for number in (0, 1, 3):
                    consumer.tell("acknowledge", number)
                consumer.tell("flush")
                self.assertEqual(consumer.next("flushed"), "OK")
                consumer.tell("held")
                self.assertEqual(consumer.next("held"), "1")
                self.assertEqual(self.figures(cluster, "orders", other), (0, 1, 1))

    def test_streams_and_calls_through_every_node(self):
        with Cluster() as cluster:
            for number in (1, 2, 3):
                name = f"q{number}"
                cluster.create(name, number)
                cluster.send(name, [b"old"], number)
                opening = broker_pb2.OpenConsume(queue=name, session=b"s")
                old = self.stream(cluster, number, opening)
                opened = next_of(old, "opened")
                run = next_of(old, "deliver").runs[0]
                held = broker_pb2.HeldRun(first_position=run.first_position, count=1, checkout_index=run.checkout_index)
                self.recreate(cluster, name, [b"new"], number)
                with self.assertRaisesRegex(ConnectionError, "NOT_FOUND: the queue was deleted"):
                    next_of(old, "deliver")

                # The session becomes known in the new queue; then it comes back with what it held of the old one.
                first = self.stream(cluster, number, opening)
                self.assertFalse(next_of(first, "opened").resumed)
                again = next_of(first, "deliver").runs[0]
                self.assertEqual((again.first_position, again.checkout_index), (run.first_position, run.checkout_index))
                first.call.cancel()
                opening.group_id = opened.group_id
                opening.held.append(held)
                back = self.stream(cluster, number, opening)
                anew = next_of(back, "opened")
                self.assertFalse(anew.resumed)
                self.assertGreater(anew.group_id, opened.group_id)
                self.assertEqual(next_of(back, "deliver").runs[0].batch.messages[0].body, b"new")
                for group in (opened.group_id, anew.group_id + 1000):
                    back.send(broker_pb2.ConsumeRequest(settle=broker_pb2.SettleRuns(
                        runs=[held], disposition=ACKNOWLEDGE, group_id=group)))
                    self.assertEqual(next_of(back, "receipt").lease_lost[0], held)
                self.assertEqual(self.figures(cluster, name, number), (0, 1, 0))
                back.send(broker_pb2.ConsumeRequest(settle=broker_pb2.SettleRuns(
                    runs=[held], disposition=ACKNOWLEDGE, group_id=anew.group_id, receipt=1)))
                self.assertEqual(len(next_of(back, "receipt").lease_lost), 0)
                self.assertEqual(self.figures(cluster, name, number), (0, 0, 1))

    def test_tokens_of_receive(self):
        with Cluster(nodes=1) as cluster:
            cluster.create("q")
            cluster.send("q", [b"old"])
            old = cluster.receive("q")[0]
            self.recreate(cluster, "q", [b"new"])
            new = cluster.receive("q")[0]
            self.assertEqual(new.position, old.position)
            self.assertEqual(cluster.settle("q", [old.token]), [broker_pb2.OUTCOME_LEASE_LOST])
            self.assertEqual(self.figures(cluster, "q"), (0, 1, 0))
            self.assertEqual(cluster.settle("q", [new.token]), [broker_pb2.OUTCOME_OK])

    def stream(self, cluster, number, opening):
        stream = Stream(cluster.addresses[number - 1], "Consume")
        self.addCleanup(stream.close)
        stream.send(broker_pb2.ConsumeRequest(open=opening))
        return stream


if __name__ == "__main__":
    harness.main()
