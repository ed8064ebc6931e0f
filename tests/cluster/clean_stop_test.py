"""A leader that is told to stop hands over first: no client sees an error, and none waits for long."""

import json
import os
import signal
import subprocess
import threading
import time

import grpc

import harness
from harness import Cluster, wait_for
from trireme.v1 import broker_pb2

# Generous, for a machine that does much else; the goal is 50 ms (what it was is printed).
GAP_MS_MAX = 1500


class CleanStop(harness.TestCase):
    def terminate(self, cluster, number):
        """SIGTERM; waits for the process to be gone, and gives the seconds that it took."""
        began = time.monotonic()
        os.kill(cluster.status()["nodes"][number - 1]["pid"], signal.SIGTERM)
        wait_for(f"node {number} to be gone", lambda: not cluster.status()["nodes"][number - 1]["running"])
        cluster.forget(number)
        return time.monotonic() - began

    def test_streams_go_on_while_each_leader_in_turn_is_stopped(self):
        with Cluster() as cluster:
            cluster.create("orders")
            probe = subprocess.Popen([os.path.join(harness.BIN, "gap_probe"), cluster.servers, "orders", "15"],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.addCleanup(probe.kill)
            self.assertEqual(probe.stdout.readline(), "ready\n")
            stops = []
            for _ in range(3):
                time.sleep(1)
                leader = cluster.leader("orders")
                stops.append(self.terminate(cluster, leader))
                self.assertNotEqual(cluster.leader("orders", but=(leader,)), leader)
                cluster.start(leader)
            output, errors = probe.communicate(timeout=60)
            self.assertEqual(probe.returncode, 0, errors)
            result = json.loads(output)
            print(f"clean stops took {[round(s, 2) for s in stops]} s: {result}")
            self.assertEqual((result["not_stored"], result["leases_lost"], result["delivered_again"]), (0, 0, 0))
            self.assertLess(result["publish_gap_ms"], GAP_MS_MAX)
            self.assertLess(result["delivery_gap_ms"], GAP_MS_MAX)
            wait_for("an empty queue", lambda: all(s.waiting + s.in_flight == 0
                                                   for s in cluster.figures_anywhere("orders").subscriptions))
            self.assertEqual(cluster.figures_anywhere("orders").published, result["published"])

    def test_calls_are_answered_while_the_leader_stops(self):
        with Cluster() as cluster:
            cluster.create("calls")
            leader = cluster.leader("calls")
            through = [number for number in (1, 2, 3) if number != leader]
            errors, sent, received = [], [0], []
            over = threading.Event()

            # Without producer names: what is of unknown outcome is not tried again for them.
            def send(number):
                while not over.is_set():
                    try:
                        answer = cluster.send("calls", [b"%d" % sent[0]], number)
                        assert answer.confirms[0].outcome == broker_pb2.OUTCOME_OK
                        sent[0] += 1
                    except (grpc.RpcError, AssertionError) as error:
                        errors.append(error)

            def receive(number):
                while not over.is_set():
                    try:
                        got = cluster.receive("calls", number, wait_ms=200)
                        outcomes = cluster.settle("calls", [m.token for m in got], number)
                        assert set(outcomes) <= {broker_pb2.OUTCOME_OK}, outcomes
                        received.extend(m.message.body for m in got)
                    except (grpc.RpcError, AssertionError) as error:
                        errors.append(error)

            threads = [threading.Thread(target=send, args=(through[0],)), threading.Thread(target=receive, args=(through[1],))]
            for thread in threads:
                thread.start()
            wait_for("calls before the stop", lambda: sent[0] > 100)
            self.terminate(cluster, leader)
            before = sent[0]
            wait_for("more", lambda: sent[0] > before + 50)
            over.set()
            for thread in threads:
                thread.join(30)
            self.assertEqual(errors, [])
            received += cluster.drain("calls", sent[0] - len(received), through[0], seconds=20)
            self.assertEqual(len(received), sent[0])
            self.assertEqual(len(set(received)), sent[0])

    def test_the_last_node_does_not_wait_for_the_dead(self):
        with Cluster(arguments=("--hand-over-ms", "30000")) as cluster:
            cluster.create("q")
            leader = cluster.leader("q")
            for number in (1, 2, 3):
                if number != leader:
                    cluster.kill(number)
            self.assertLess(self.terminate(cluster, leader), 10)


if __name__ == "__main__":
    harness.main()
