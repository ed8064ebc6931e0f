"""Publishing to exchanges on real nodes: what is confirmed is in every queue that it was routed to, once, whoever dies."""

import collections
import json
import os
import subprocess

import grpc

from trireme.v1 import admin_pb2, broker_pb2, message_pb2
import harness
import streams

OK, DUPLICATE, UNROUTABLE = broker_pb2.OUTCOME_OK, broker_pb2.OUTCOME_DUPLICATE, broker_pb2.OUTCOME_UNROUTABLE
TOPIC, FANOUT = admin_pb2.EXCHANGE_TYPE_TOPIC, admin_pb2.EXCHANGE_TYPE_FANOUT


def message(key, body):
    return message_pb2.Message(routing_key=key, body=body)


class Exchanges(harness.TestCase):
    def declare(self, cluster, name, kind=TOPIC, alternate="", number=1):
        return cluster.admin(number).CreateExchange(admin_pb2.CreateExchangeRequest(
            name=name, settings=admin_pb2.ExchangeSettings(type=kind, alternate=alternate)), timeout=harness.CALL_SECONDS)

    def bind(self, cluster, exchange, queue=None, key="", to_exchange=None, number=1):
        destination = {"queue": queue} if to_exchange is None else {"to_exchange": to_exchange}
        return cluster.admin(number).CreateBinding(admin_pb2.CreateBindingRequest(binding=admin_pb2.Binding(
            exchange=exchange, routing_key=key, **destination)), timeout=harness.CALL_SECONDS)

    def send(self, cluster, exchange, messages, number=1, seconds=harness.CALL_SECONDS, **fields):
        request = broker_pb2.SendRequest(exchange=exchange, batch=message_pb2.MessageBatch(messages=messages), **fields)
        return cluster.broker(number).Send(request, timeout=seconds)

    def outcomes(self, answer):
        return [c.outcome for c in sorted(answer.confirms, key=lambda c: c.first_sequence) for _ in range(c.count)]

    def bodies(self, cluster, queue, count, number=1):
        return sorted(cluster.drain(queue, count, number))

    def test_a_call_reaches_every_queue(self):
        with harness.Cluster() as cluster:
            for name in ("orders", "new", "all", "rest"):
                cluster.create(name)
            self.declare(cluster, "rest", FANOUT)
            self.declare(cluster, "shop", alternate="rest")
            self.declare(cluster, "audit", FANOUT)
            self.bind(cluster, "shop", "orders", "order.#")
            self.bind(cluster, "shop", "new", "*.new")
            self.bind(cluster, "rest", "rest")
            self.bind(cluster, "audit", "all")
            made = self.bind(cluster, "shop", to_exchange="audit", key="order.*", number=2)

            # Any node routes, and by definitions as new as the client has seen.
            answer = self.send(cluster, "shop", [message("order.new", b"1"), message("order.paid", b"2"), message("user.new", b"3"),
                                                 message("user.gone", b"4")], number=3, metadata_index=made.metadata_index)
            self.assertEqual(self.outcomes(answer), [OK] * 4)
            self.assertEqual(self.bodies(cluster, "orders", 2), [b"1", b"2"])
            self.assertEqual(self.bodies(cluster, "new", 2), [b"1", b"3"])
            self.assertEqual(self.bodies(cluster, "all", 2), [b"1", b"2"])
            self.assertEqual(self.bodies(cluster, "rest", 1), [b"4"], "the alternate exchange takes what no binding matches")

            # The default exchange, and what reaches nothing.
            answer = self.send(cluster, "", [message("new", b"5"), message("nobody", b"6")], mandatory=True)
            self.assertEqual(self.outcomes(answer), [OK, UNROUTABLE])
            self.assertEqual(self.outcomes(self.send(cluster, "", [message("nobody", b"6")])), [OK], "dropped, and counted")
            self.assertEqual(self.bodies(cluster, "new", 1), [b"5"])

            # Sent again under the same name and sequence it is stored once, in each of them.
            for expected in (OK, DUPLICATE):
                answer = self.send(cluster, "shop", [message("order.new", b"7")], number=2, producer="p", first_sequence=10)
                self.assertEqual(self.outcomes(answer), [expected])
            for queue in ("orders", "new", "all"):
                self.assertEqual(self.bodies(cluster, queue, 1), [b"7"])
                self.assertEqual(cluster.drain(queue, 1), [])

            self.refused(grpc.StatusCode.NOT_FOUND, lambda: self.send(cluster, "shop2", [message("a", b"a")]), "shop2",
                         reason="EXCHANGE_NOT_FOUND")
            self.refused(grpc.StatusCode.INVALID_ARGUMENT,
                         lambda: self.send(cluster, "shop", [message("a", b"a")], producer="p" * 250, first_sequence=1), 250)

    def test_a_stream_says_what_became_of_each_message(self):
        with harness.Cluster() as cluster:
            cluster.create("orders")
            self.declare(cluster, "shop")
            self.bind(cluster, "shop", "orders", "order.#")
            stream = streams.Stream(cluster.addresses[1], "Publish")
            try:
                stream.send(broker_pb2.PublishRequest(open=broker_pb2.OpenPublish(producer="p")))
                stream.send(broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=1, exchange="shop", mandatory=True)))
                stream.send(broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=2, exchange="none")))
                bound = {}
                while len(bound) < 2:
                    frame = stream.next(20)
                    if frame.HasField("bound"):
                        bound[frame.bound.alias] = frame.bound
                self.assertEqual(bound[1].outcome, OK)
                self.assertEqual(bound[1].window_messages, 1000)
                self.assertEqual(bound[2].outcome, broker_pb2.OUTCOME_REFUSED)
                self.assertIn("none", bound[2].reason)
                batch = message_pb2.MessageBatch(messages=[message("order.new", b"1"), message("user.new", b"2"), message("order", b"3")])
                stream.send(broker_pb2.PublishRequest(append=broker_pb2.Append(alias=1, first_sequence=5, batch=batch.SerializeToString())))
                confirms = {}
                while len(confirms) < 3:
                    for confirm in stream.next(20).confirms.confirms:
                        confirms.update({confirm.first_sequence + i: confirm.outcome for i in range(confirm.count)})
                self.assertEqual(confirms, {5: OK, 6: UNROUTABLE, 7: OK})
            finally:
                stream.close()
            self.assertEqual(self.bodies(cluster, "orders", 2), [b"1", b"3"])

    def test_each_queue_has_each_confirmed_message_once_though_a_leader_died(self):
        count = 30_000
        with harness.Cluster() as cluster:
            queues = ["q1", "q2", "q3"]
            for name in queues:
                cluster.create(name)
            self.declare(cluster, "shop")
            self.bind(cluster, "shop", "q1", "#")
            self.bind(cluster, "shop", "q2", "order.*")
            self.bind(cluster, "shop", "q3", "order.new")
            environment = {**os.environ, "TRIREME_SERVER": cluster.servers}
            producer = subprocess.Popen(
                [os.path.join(harness.BIN, "trireme"), "publish", "--exchange", "shop", "--routing-key", "order.new", "--timeout", "120",
                 "--mandatory", "--output", "json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
            killed = 0
            for i in range(count):
                producer.stdin.write(b"%d\n" % i)
                if i % 100 == 99:
                    producer.stdin.flush()
                if i == count // 3:
                    killed = cluster.leader("q2")
                    cluster.kill_now(killed)
                if i == 2 * count // 3:
                    cluster.start(killed)
            out, err = producer.communicate(timeout=180)
            self.assertEqual(producer.returncode, 0, err.decode())
            self.assertEqual(json.loads(out)["confirmed"], count, out)
            expected = collections.Counter(b"%d" % i for i in range(count))
            node = cluster.leader("q1")
            for name in queues:
                got = collections.Counter(cluster.drain(name, count, node, seconds=120))
                self.assertEqual(got - expected, collections.Counter(), f"{name} has messages twice")
                self.assertEqual(expected - got, collections.Counter(), f"{name} lacks messages")
                self.assertEqual(cluster.drain(name, 1, node), [], name)

    def test_a_node_that_does_not_reach_the_metadata_refuses(self):
        with harness.Cluster() as cluster:
            cluster.create("q")
            self.declare(cluster, "shop")
            self.bind(cluster, "shop", "q", "#")
            self.assertEqual(self.outcomes(self.send(cluster, "shop", [message("a", b"a")])), [OK])
            cluster.kill_now(2)
            cluster.kill_now(3)

            # What it routes before its definitions are too old may be stored when the others are back: once, by its sequence.
            def refuses():
                try:
                    answer = self.send(cluster, "shop", [message("a", b"early")], seconds=5, producer="p", first_sequence=1)
                except grpc.RpcError as error:
                    return error.code() == grpc.StatusCode.UNAVAILABLE
                self.assertNotIn(OK, self.outcomes(answer))
                return False
            harness.wait_for("a node that knows that its definitions are too old", refuses)
            text = self.refused(grpc.StatusCode.UNAVAILABLE, lambda: self.send(cluster, "shop", [message("a", b"b")]), reason="STALE_ROUTING")
            self.assertIn("another node", text)
            cluster.start(2)
            cluster.leader("q")
            self.assertEqual(self.outcomes(self.send(cluster, "shop", [message("a", b"c")])), [OK])
            got = collections.Counter(cluster.drain("q", 3))
            self.assertLessEqual(got.pop(b"early", 0), 1)
            self.assertEqual(got, collections.Counter([b"a", b"c"]))


if __name__ == "__main__":
    harness.main()
