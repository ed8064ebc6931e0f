"""A node that was away for longer than the log is kept for it gets the queues' state, and is as good as any other then."""

import json
import os

import harness
from harness import Cluster, wait_for

# So that little has to be missed: a snapshot is taken every 16 MiB, and the log behind it goes after 1 MiB.
SHORT_LOG = ("--replica-lag-mb", "1")
INSTALLED = "installed a snapshot"


def log_of(cluster, number):
    with open(os.path.join(cluster.dir, f"node-{number}", "log"), encoding="utf-8", errors="replace") as log:
        return log.read()


class FarBehind(harness.TestCase):
    def test_a_node_that_was_away_for_long_gets_a_snapshot_and_then_stands_in_for_another(self):
        with Cluster(arguments=SHORT_LOG) as cluster:
            cluster.create("backlog")
            wanted = [b"first-%04d" % i for i in range(50)]
            cluster.send("backlog", wanted)
            leader = cluster.leader("backlog")
            away = next(number for number in (1, 2, 3) if number != leader)
            cluster.kill(away)
            # More than two snapshots' worth. A third of it is settled, here and there, and so has died in the log.
            big = [b"big-%04d-" % i + b"x" * 200000 for i in range(250)]
            for body in big:
                cluster.send("backlog", [body], leader)
            wanted += big
            got = cluster.receive("backlog", leader, most=600, lease_ms=600000)
            tokens = [m.token for m in got[::2]]
            cluster.settle("backlog", tokens, leader)
            settled = {m.message.body for m in got[::2]}
            self.assertGreater(len(settled), 10)
            self.assertNotIn(INSTALLED, log_of(cluster, away))
            cluster.start(away)
            wait_for("a snapshot on the node that was away", lambda: INSTALLED in log_of(cluster, away), 60)
            # What comes behind it follows by the log.
            wanted += [b"last-%04d" % i for i in range(50)]
            cluster.send("backlog", wanted[-50:], leader)
            self.same_state(cluster, "backlog")
            # Without the leader, one half of what there is lies with the one that was away.
            cluster.kill(leader)
            now = cluster.leader("backlog", but=(leader,))
            held = [m.token for m in got[1::2]]
            cluster.settle("backlog", held, now)
            settled |= {m.message.body for m in got[1::2]}
            bodies = cluster.drain("backlog", len(wanted) - len(settled), now)
            self.assertEqual(len(bodies), len(set(bodies)))
            self.assertEqual(set(bodies) | settled, set(wanted))
            self.assertFalse(set(bodies) & settled)

    def same_state(self, cluster, queue):
        def same():
            done = cluster.command("queue", "replicas", queue, "--output", "json")
            self.assertEqual(done.returncode, 0, done.stderr)
            look = json.loads(done.stdout)
            self.assertTrue(look["agree"], look)
            return look["same_index"] and len(look["replicas"]) == 3
        wait_for("three replicas with the same state", same)


if __name__ == "__main__":
    harness.main()
