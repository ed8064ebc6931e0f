"""What expires leaves, counted exactly, while the nodes that lead are killed (Safety rules 7 and 8)."""

import contextlib
import json
import time

import harness
from harness import Cluster, wait_for


class Expiry(harness.TestCase):
    def of(self, cluster, queue):
        return cluster.figures_anywhere(queue).subscriptions[0]

    def test_all_that_expire_are_dead_letters_once_while_the_leaders_are_killed(self):
        with Cluster() as cluster:
            cluster.create("jobs")
            cluster.create("late")
            done = cluster.command("subscription", "change", "jobs", "default", "--dead-letter-queue", "late")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(cluster.command("queue", "set", "jobs", "--ttl", "8").returncode, 0)
            bodies = [b"job-%04d" % i for i in range(2000)]
            for i in range(0, len(bodies), 50):
                cluster.send("jobs", bodies[i:i + 50])
            # Some are held meanwhile: they are their consumers' own.
            held = cluster.receive("jobs", most=100, lease_ms=600000)
            self.assertEqual(len(held), 100)
            self.assertEqual(self.of(cluster, "jobs").expired, 0)
            source = cluster.leader("jobs")
            cluster.kill(source)
            # Nobody is there who would consume; the next leader has them leave.
            wait_for("most of them", lambda: self.of(cluster, "jobs").expired > 1000, 60)
            target = cluster.leader("late")
            if target != source:
                cluster.start(source)
                cluster.leader("jobs", but=())
                cluster.kill(target)
            wait_for("all of them", lambda: self.of(cluster, "jobs").expired == 1900 and self.of(cluster, "jobs").leaving == 0, 90)
            figures = self.of(cluster, "jobs")
            self.assertEqual((figures.waiting, figures.in_flight, figures.arrived), (0, 100, 1900))
            self.assertEqual(cluster.figures_anywhere("late").published, 1900)
            number = next(n for n in (1, 2, 3) if n not in (source, target)) if target != source else source % 3 + 1
            other = cluster.receive("late", number=number, most=1000, lease_ms=600000)
            other += cluster.receive("late", number=number, most=1000, lease_ms=600000)
            self.assertEqual(sorted(m.message.body for m in other), sorted(set(bodies) - {m.message.body for m in held}))
            self.assertEqual({m.message.headers["trireme-dead-reason"].text for m in other}, {"expired"})
            self.assertEqual(cluster.receive("jobs", number=number, wait_ms=500), [])

    def test_a_messages_own_time_and_the_command(self):
        with Cluster() as cluster:
            cluster.create("orders")
            for arguments in (("short", "--ttl", "3"), ("long", "--ttl", "3600"), ("behind", "--ttl", "3")):
                self.assertEqual(cluster.command("publish", "orders", *arguments).returncode, 0)
            wait_for("the first to expire", lambda: self.of(cluster, "orders").expired == 1)
            self.assertEqual(self.of(cluster, "orders").waiting, 2)
            time.sleep(3)
            leader = cluster.leader("orders")
            cluster.kill(leader)
            cluster.leader("orders", but=(leader,))
            number = leader % 3 + 1
            self.assertEqual([m.message.body for m in cluster.receive("orders", number=number)], [b"long"])
            wait_for("the last to expire", lambda: self.of(cluster, "orders").expired == 2)
            shown = json.loads(cluster.command("queue", "describe", "orders", "--output", "json").stdout)
            self.assertEqual(([s["expired"] for s in shown["subscriptions"]], shown["limits"]["ttl_ms"]), ([2], 0))
            self.assertEqual(cluster.command("queue", "set", "orders", "--ttl", "-1").returncode, 2)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        harness.main()
