"""Broker.Publish and Receive as a client in another language may use them: aliases bound again, calls given up."""

import contextlib
import os
import queue
import signal
import time

import grpc

import harness
from harness import Cluster
from streams import Stream
from trireme.v1 import broker_pb2, message_pb2

OK = broker_pb2.OUTCOME_OK
REFUSED = broker_pb2.OUTCOME_REFUSED


class PublishStream(harness.TestCase):
    def stream(self, cluster, number):
        stream = Stream(cluster.addresses[number - 1], "Publish")
        self.addCleanup(stream.close)
        stream.send(broker_pb2.PublishRequest(open=broker_pb2.OpenPublish()))
        self.assertEqual(stream.next(20).WhichOneof("frame"), "opened")
        return stream

    def bind(self, stream, alias, name):
        stream.send(broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=alias, queue=name)))

    def bound(self, stream):
        """The next Bound, and the confirms and others that came before it."""
        before = []
        while True:
            frame = stream.next(30)
            if frame.WhichOneof("frame") == "bound":
                return frame.bound, before
            before.append(frame)

    def append(self, stream, alias, body):
        batch = message_pb2.MessageBatch(messages=[message_pb2.Message(body=body)])
        stream.send(broker_pb2.PublishRequest(append=broker_pb2.Append(alias=alias, batch=batch.SerializeToString())))

    def confirms(self, stream, seconds):
        """All that come within the time."""
        confirms = []
        deadline = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while True:
                frame = stream.next(deadline - time.monotonic())
                if frame.WhichOneof("frame") == "confirms":
                    confirms += frame.confirms.confirms
        return confirms

    def led_by(self, cluster, number, prefix):
        """A new queue that this node leads."""
        for attempt in range(60):
            name = f"{prefix}-{attempt}"
            cluster.create(name)
            if cluster.leader(name) == number:
                return name
        raise AssertionError(f"node {number} leads none of 60 queues")

    def test_confirms_of_an_older_binding_are_not_taken_for_the_newer_ones(self):
        with Cluster() as cluster:
            far, near = self.led_by(cluster, 2, "far"), self.led_by(cluster, 1, "near")
            stream = self.stream(cluster, 1)
            self.bind(stream, 1, far)
            self.assertEqual(self.bound(stream)[0].outcome, OK)
            pid = cluster.status()["nodes"][1]["pid"]
            os.kill(pid, signal.SIGSTOP)
            try:
                for i in range(5):
                    self.append(stream, 1, b"far %d" % i)
                self.bind(stream, 1, near)
                self.assertEqual(self.bound(stream)[0].outcome, OK)
            finally:
                os.kill(pid, signal.SIGCONT)
            self.assertEqual([(c.first_sequence, c.count) for c in self.confirms(stream, 3) if c.outcome == OK], [])
            self.append(stream, 1, b"near")
            self.assertEqual([(c.alias, c.first_sequence, c.count) for c in self.confirms(stream, 2)], [(1, 1, 1)])
            self.assertEqual(cluster.figures(near).published, 1)

    def test_what_is_sent_to_an_alias_whose_bind_was_refused_is_refused(self):
        with Cluster(nodes=1) as cluster:
            stream = self.stream(cluster, 1)
            self.bind(stream, 1, "nosuch")
            self.assertEqual(self.bound(stream)[0].outcome, REFUSED)
            self.append(stream, 1, b"x")
            (confirm,) = self.confirms(stream, 1)
            self.assertEqual((confirm.outcome, "nosuch" in confirm.reason), (REFUSED, True), confirm)

    def test_a_receive_that_was_given_up_takes_nothing(self):
        with Cluster() as cluster:
            cluster.create("q")
            leader = cluster.leader("q")
            for number in (leader, leader % 3 + 1):
                # Nothing came within the call's own time; on a busy machine the answer may be too late to be seen.
                with contextlib.suppress(grpc.RpcError):
                    self.assertEqual(cluster.receive("q", number, wait_ms=20000, seconds=1), [])
            # Broken off by the client, as by the end of its process.
            waiting = cluster.broker(leader).Receive.future(
                broker_pb2.ReceiveRequest(queue="q", max_messages=1, wait_ms=20000, lease_ms=30000), timeout=30)
            time.sleep(1)
            waiting.cancel()
            time.sleep(1)
            cluster.send("q", [b"x"])
            (got,) = cluster.receive("q", wait_ms=10000)
            self.assertEqual((got.message.body, got.deliveries), (b"x", 1))


if __name__ == "__main__":
    harness.main()
