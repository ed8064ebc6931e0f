"""What a subscription promises that keeps its messages in order, while the node that leads the queue is killed."""

import contextlib
import json
import threading
import time

import grpc

import harness
from harness import CALL_SECONDS, Cluster, wait_for
from streams import Consumer, Publisher
from trireme.v1 import broker_pb2, message_pb2


class SingleActive(harness.TestCase):
    def test_one_consumer_has_all_in_order_while_the_leader_is_killed_and_the_next_takes_over(self):
        with Cluster() as cluster:
            cluster.create("orders")
            done = cluster.command("subscription", "change", "orders", "default", "--single-active")
            self.assertEqual(done.returncode, 0, done.stderr)
            consumers = []
            for session in (b"z", b"a", b"m"):
                consumers.append(Consumer(cluster.addresses, "orders", session, outstanding=50).start())
                wait_for("a session", lambda: consumers[-1].standby is not None, workers=consumers)
            self.assertEqual([c.standby for c in consumers], [False, True, True])
            bodies = [f"order-{i:05d}".encode() for i in range(4000)]
            publisher = Publisher(cluster.addresses, "orders", bodies[:3000], producer="shop", pause=0.01).start()
            wait_for("a third", lambda: len(consumers[0].bodies) > 1000, 60, [publisher, *consumers])
            leader = cluster.leader("orders")
            cluster.kill(leader)
            publisher.join(90)
            wait_for("all of them", lambda: len(consumers[0].bodies) == 3000 and not consumers[0].pending, 90, consumers)
            wait_for("all connected", lambda: all(c.standby is not None for c in consumers), 60, consumers)
            self.assertEqual([c.standby for c in consumers], [False, True, True])
            self.assertEqual(list(consumers[0].bodies), bodies[:3000], "out of order")
            self.assertTrue(all(len(places) == 1 and places[0][1] == 1 for places in consumers[0].bodies.values()))
            self.assertEqual([len(c.bodies) for c in consumers[1:]], [0, 0])
            listed = json.loads(cluster.command("subscription", "list", "orders", "--output", "json").stdout)
            self.assertEqual((listed[0]["consumers"], listed[0]["active"]["session"]), (3, b"z".hex()))

            consumers[0].stop()
            consumers[0].check()
            Publisher(cluster.addresses, "orders", bodies[3000:], producer="shop 2").start().join(90)
            # As its stream was broken off, its session has its timeout.
            wait_for("the takeover", lambda: len(consumers[1].bodies) == 1000 and not consumers[1].pending, 90, consumers[1:])
            cluster.start(leader)
            self.assertEqual([c.standby for c in consumers[1:]], [False, True])
            self.assertEqual(list(consumers[1].bodies), bodies[3000:])
            self.assertEqual(len(consumers[2].bodies), 0)
            for consumer in consumers:
                consumer.stop()
                consumer.check()
                self.assertEqual(consumer.lost_leases, 0)
            wait_for("exact counts", lambda: cluster.figures_anywhere("orders").subscriptions[0].acknowledged == 4000)
            with self.assertRaises(grpc.RpcError) as refused:
                cluster.receive("orders")
            self.assertEqual(refused.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)


def keyed(key, number):
    return message_pb2.Message(body=b"%s/%d" % (key.encode(), number), key=key)


class Worker(threading.Thread):
    """Takes messages one by one or a few at a time by calls, and notes who held what key when."""

    def __init__(self, cluster, numbers, table, lock):
        super().__init__(daemon=True)
        self.cluster, self.numbers, self.table, self.lock = cluster, numbers, table, lock
        self.stopping = threading.Event()
        self.failure = None
        self.acknowledged = 0

    def run(self):
        try:
            while not self.stopping.is_set():
                for number in self.numbers:
                    with contextlib.suppress(grpc.RpcError):
                        self.turn(number)
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def turn(self, number):
        broker = self.cluster.broker(number)
        taken = broker.Receive(broker_pb2.ReceiveRequest(queue="orders", max_messages=20, wait_ms=200, lease_ms=20000), timeout=5).messages
        with self.lock:
            for m in taken:
                body = m.message.body
                if m.message.key in self.table["out"]:
                    raise AssertionError(f"{body} was given while {self.table['out'][m.message.key]} of its key is out")
                self.table["out"][m.message.key] = body
                self.table["seen"].setdefault(m.message.key, []).append(body)
        time.sleep(0.005)
        for m in taken:
            # In the table it is free before it is so in the queue: the next one may come as soon as that is known there.
            with self.lock:
                del self.table["out"][m.message.key]
            self.settle(m)

    def settle(self, m):
        # A settle whose answer was lost may have counted: told again, its lease is gone.
        again = False
        while not self.stopping.is_set():
            for number in self.numbers:
                with contextlib.suppress(grpc.RpcError):
                    [outcome] = self.cluster.broker(number).Settle(broker_pb2.SettleRequest(
                        queue="orders", tokens=[m.token], disposition=broker_pb2.DISPOSITION_ACKNOWLEDGE), timeout=5).outcomes
                    if outcome != broker_pb2.OUTCOME_OK and not again:
                        raise AssertionError(f"the lease of {m.message.body} was lost")
                    self.acknowledged += 1
                    return
                again = True


class OrderByKey(harness.TestCase):
    def order_by_key(self, cluster, *more):
        done = cluster.command("subscription", "change", "orders", "default", "--order-by-key", *more)
        self.assertEqual(done.returncode, 0, done.stderr)

    def send(self, cluster, messages, number=1):
        return cluster.broker(number).Send(broker_pb2.SendRequest(
            queue="orders", batch=message_pb2.MessageBatch(messages=messages)), timeout=CALL_SECONDS)

    def test_one_of_a_key_at_a_time_and_in_order_while_the_leader_is_killed(self):
        with Cluster() as cluster:
            cluster.create("orders")
            self.order_by_key(cluster)
            keys = [f"customer-{k}" for k in range(10)]
            for start in range(0, 100, 20):
                self.send(cluster, [keyed(key, n) for n in range(start, start + 20) for key in keys])
            table, lock = {"out": {}, "seen": {}}, threading.Lock()
            leader = cluster.leader("orders")
            others = [number for number in (1, 2, 3) if number != leader]
            workers = [Worker(cluster, others if i % 2 else others[::-1], table, lock) for i in range(4)]
            for worker in workers:
                worker.start()

            def done():
                for worker in workers:
                    if worker.failure is not None:
                        raise worker.failure
                return sum(worker.acknowledged for worker in workers)
            wait_for("a third", lambda: done() > 300, 90)
            cluster.kill(leader)
            wait_for("all of them", lambda: done() == 1000, 120)
            for worker in workers:
                worker.stopping.set()
                worker.join(30)
            done()
            for key in keys:
                # A Receive whose answer was lost with the leader has its message until its lease ends: nothing overtakes it.
                self.assertEqual(list(dict.fromkeys(table["seen"][key])), [b"%s/%d" % (key.encode(), n) for n in range(100)])
            cluster.start(leader)
            wait_for("exact counts", lambda: cluster.figures_anywhere("orders").subscriptions[0].acknowledged == 1000)
            figures = cluster.figures_anywhere("orders").subscriptions[0]
            self.assertEqual((figures.waiting, figures.in_flight, figures.dead), (0, 0, 0))

    def test_blocked_keys_are_listed_over_a_failover_and_freed(self):
        with Cluster() as cluster:
            cluster.create("orders")
            self.order_by_key(cluster, "--key-window", "5")
            with self.assertRaises(grpc.RpcError) as refused:
                cluster.send("orders", [b"no key"])
            self.assertEqual(refused.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
            self.assertIn("has no key", refused.exception.details())
            self.send(cluster, [keyed("a", 0), keyed("a", 1), keyed("b", 0), keyed("a", 2), keyed("b", 1), keyed("c", 0)])
            taken = cluster.receive("orders", most=10, lease_ms=600000)
            self.assertEqual([m.message.body for m in taken], [b"a/0", b"b/0", b"c/0"])

            def listed():
                out = cluster.command("subscription", "keys", "orders", "--output", "json")
                return json.loads(out.stdout) if out.returncode == 0 else None
            before = listed()
            self.assertEqual([(k["key"], k["in_flight"], k["waiting"]) for k in before["keys"]], [("a", True, 2), ("b", True, 1)])
            self.assertEqual((before["blocked"], before["full"]), (3, False))
            self.assertTrue(all(k["since_ms"] > 0 for k in before["keys"]))
            leader = cluster.leader("orders")
            cluster.kill(leader)
            other = leader % 3 + 1
            cluster.leader("orders", but=(leader,))
            self.assertEqual(cluster.receive("orders", number=other, wait_ms=1000), [], "all keys are blocked")
            after = wait_for("the keys", listed)
            self.assertEqual([(k["key"], k["position"], k["waiting"]) for k in after["keys"]],
                             [(k["key"], k["position"], k["waiting"]) for k in before["keys"]])
            freed = cluster.command("subscription", "unblock", "orders", "--key", "a", "--how", "drop")
            self.assertEqual((freed.returncode, freed.stdout), (0, "freed\n"), freed.stderr)
            [next_one] = cluster.receive("orders", number=other, wait_ms=5000, lease_ms=600000)
            self.assertEqual((next_one.message.body, next_one.deliveries), (b"a/1", 1))
            self.assertEqual(cluster.settle("orders", [taken[0].token], number=other), [broker_pb2.OUTCOME_LEASE_LOST])
            freed = cluster.command("subscription", "unblock", "orders", "--position", str(taken[1].position), "--how", "release")
            self.assertEqual((freed.returncode, freed.stdout), (0, "freed\n"), freed.stderr)
            [again] = cluster.receive("orders", number=other, wait_ms=5000, lease_ms=600000)
            self.assertEqual((again.message.body, again.deliveries), (b"b/0", 2))
            figures = cluster.figures_anywhere("orders").subscriptions[0]
            self.assertEqual((figures.waiting, figures.in_flight, figures.dead), (2, 3, 1))
            # When the window is full, it says so.
            self.send(cluster, [keyed("a", n) for n in range(3, 9)], number=other)
            self.assertEqual(cluster.receive("orders", number=other, wait_ms=500), [])
            self.assertTrue(wait_for("a full window", lambda: cluster.figures_anywhere("orders").subscriptions[0].waits_for_keys))
            cluster.start(leader)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        harness.main()
