"""A node is lost with its data directory; another takes its place, and then stands in for the next one that dies."""

import json
import os
import shutil

import harness
from harness import Cluster, wait_for

# So that a new replica needs a snapshot rather than the whole log.
SHORT_LOG = ("--replica-lag-mb", "1")


class LostNode(harness.TestCase):
    def nodes(self, cluster, number):
        """What that node says of the cluster."""
        done = cluster.command("cluster", "status", "--server", cluster.addresses[number - 1], "--output", "json")
        return json.loads(done.stdout)["nodes"] if done.returncode == 0 else []

    def wipe(self, cluster, number):
        data = cluster.status()["nodes"][number - 1]["data"]
        shutil.rmtree(data)

    def test_it_is_replaced_and_nothing_is_lost_when_the_next_one_dies(self):
        with Cluster(arguments=SHORT_LOG) as cluster:
            big = [b"big-%04d-" % i + b"x" * 200000 for i in range(200)]
            small = [b"small-%04d" % i for i in range(200)]
            cluster.create("big")
            for i in range(12):
                cluster.create(f"small-{i}")
            for body in big:
                cluster.send("big", [body])
            for i in range(12):
                cluster.send(f"small-{i}", small)
            cluster.kill(3)
            self.wipe(cluster, 3)

            refused = cluster.command("cluster", "replace-node", "1")
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("is up", refused.stderr)
            wait_for("node 3 to be missed", lambda: [n for n in self.nodes(cluster, 1) if n["node"] == 3 and n["condition"] == "down"])
            done = cluster.command("cluster", "replace-node", "3", "--output", "json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["node"], 4)
            # What is confirmed while it comes is not lost either.
            cluster.send("small-0", [b"meanwhile"])
            cluster.start(3)

            def caught_up():
                nodes = self.nodes(cluster, 1)
                return sorted(n["node"] for n in nodes) == [1, 2, 4] and all(
                    n["condition"] == "up" and n["catching_up"] == 0 for n in nodes)
            wait_for("the new node to have caught up", caught_up, 120)
            with open(os.path.join(cluster.dir, "node-3", "log"), encoding="utf-8", errors="replace") as log:
                self.assertIn("installed a snapshot", log.read())

            # Now each queue's majority needs the new node.
            cluster.kill(1)
            for i in range(12):
                name = f"small-{i}"
                leader = cluster.leader(name, but=(1,))
                wanted = set(small) | ({b"meanwhile"} if i == 0 else set())
                self.assertEqual(set(cluster.drain(name, len(wanted), leader)), wanted)
            leader = cluster.leader("big", but=(1,))
            self.assertEqual(set(cluster.drain("big", len(big), leader)), set(big))
            cluster.create("later", leader, replicas=1)
            cluster.send("later", [b"x"], leader)

            # All that was left comes back as it was.
            for number in (2, 3):
                cluster.kill(number)
            for number in (1, 2, 3):
                cluster.start(number)
                cluster.forget(number)
            wait_for("all three", caught_up, 60)
            self.assertEqual(cluster.drain("later", 1, cluster.leader("later")), [b"x"])

    def test_a_replica_is_built_anew_on_its_node(self):
        with Cluster() as cluster:
            cluster.create("orders")
            wanted = [b"order-%04d" % i for i in range(300)]
            cluster.send("orders", wanted)
            done = cluster.command("cluster", "replace-replica", "orders", "2")
            self.assertEqual(done.returncode, 0, done.stderr)

            def same():
                nodes = self.nodes(cluster, 1)
                look = json.loads(cluster.command("queue", "replicas", "orders", "--output", "json").stdout or "{}")
                return all(n["catching_up"] == 0 for n in nodes) and look.get("agree") and look.get("same_index")
            wait_for("the new replica to have caught up", same, 60)
            cluster.kill(1)
            leader = cluster.leader("orders", but=(1,))
            self.assertEqual(set(cluster.drain("orders", len(wanted), leader)), set(wanted))


if __name__ == "__main__":
    harness.main()
