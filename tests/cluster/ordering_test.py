"""What a subscription promises that keeps its messages in order, while the node that leads the queue is killed."""

import contextlib
import json

import grpc

import harness
from harness import Cluster, wait_for
from streams import Consumer, Publisher


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


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        harness.main()
