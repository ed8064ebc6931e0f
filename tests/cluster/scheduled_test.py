"""Messages for later: each delivered once, never before its time, while the node that leads the queue is killed (Safety rules 1, 8 and 14)."""

import json
import time

import grpc

import harness
from harness import CALL_SECONDS, Cluster, wait_for
from trireme.v1 import admin_pb2, broker_pb2, message_pb2

MESSAGES = 2000


class Scheduled(harness.TestCase):
    def schedule_of(self, cluster, queue):
        return cluster.figures_anywhere(queue).schedule

    def send_later(self, cluster, queue, messages, number=1):
        answer = cluster.broker(number).Send(
            broker_pb2.SendRequest(queue=queue, batch=message_pb2.MessageBatch(messages=messages)), timeout=CALL_SECONDS)
        self.assertEqual([c.outcome for c in answer.confirms], [broker_pb2.OUTCOME_OK], answer)

    def take(self, cluster, queue, count, seconds):
        """(body, wall clock in ms of its arrival) of everything that comes, over failovers."""
        taken, deadline, number = [], time.monotonic() + seconds, 0
        while len(taken) < count and time.monotonic() < deadline:
            number += 1
            node = number % cluster.size + 1
            try:
                messages = cluster.receive(queue, number=node, most=200, wait_ms=500, lease_ms=60000, seconds=5)
                now_ms = time.time() * 1000
                if messages:
                    taken += [(m.message.body, now_ms) for m in messages]
                    cluster.settle(queue, [m.token for m in messages], number=node)
            except grpc.RpcError:
                pass  # a node is down
        return taken

    def test_each_once_and_not_before_its_time_while_the_leader_is_killed(self):
        with Cluster() as cluster:
            cluster.create("later")
            base_ms = int(time.time() * 1000)
            # Some come due before the kill, some while nobody leads, some behind it.
            due = {b"m-%05d" % i: base_ms + 4000 + i * 8000 // MESSAGES for i in range(MESSAGES)}
            bodies = list(due)
            for i in range(0, MESSAGES, 100):
                self.send_later(cluster, "later", [message_pb2.Message(body=b, due_at_ms=due[b]) for b in bodies[i:i + 100]])
            self.assertLess(time.time() * 1000, base_ms + 4000, "this machine is too slow for this test")
            figures = cluster.figures_anywhere("later")
            self.assertEqual((figures.schedule.messages, figures.published), (MESSAGES, 0))
            wait_for("a fifth", lambda: cluster.figures_anywhere("later").published > MESSAGES / 5, 30)
            leader = cluster.leader("later")
            cluster.kill(leader)
            cluster.leader("later", but=(leader,))
            taken = self.take(cluster, "later", MESSAGES, 60)
            self.assertEqual(sorted(body for body, _ in taken), bodies)
            # Queue time is within 5 s of the wall clock after a failover; on one machine it is that of its clock.
            early = [(body, due[body] - at) for body, at in taken if at < due[body] - 1]
            self.assertEqual(early, [])
            self.assertEqual(self.schedule_of(cluster, "later").messages, 0)
            cluster.start(leader)

    def test_a_quiet_queue_whose_leader_was_killed_delivers_in_time(self):
        with Cluster() as cluster:
            cluster.create("later")
            due_ms = int(time.time() * 1000) + 8000
            self.send_later(cluster, "later", [message_pb2.Message(body=b"x", due_at_ms=due_ms)])
            leader = cluster.leader("later")
            time.sleep(2)  # its group goes quiet
            cluster.kill(leader)
            time.sleep(max(0, due_ms / 1000 - time.time()))
            # Nobody has asked for it since.
            taken = self.take(cluster, "later", 1, 20)
            self.assertEqual([body for body, _ in taken], [b"x"])
            self.assertGreaterEqual(taken[0][1], due_ms - 1)

    def test_survives_every_process_and_a_replica_that_was_behind(self):
        with Cluster() as cluster:
            cluster.create("later")
            behind = 3 if cluster.leader("later") != 3 else 2
            cluster.kill(behind)
            up = cluster.leader("later", but=(behind,))
            due_ms = int(time.time() * 1000) + 12000
            self.send_later(cluster, "later", [message_pb2.Message(body=b"%d" % i, due_at_ms=due_ms) for i in range(50)], number=up)
            cluster.start(behind)
            for number in range(1, 4):
                cluster.kill(number)
            for number in range(1, 4):
                cluster.start(number)
            self.assertEqual(self.schedule_of(cluster, "later").messages, 50)
            taken = self.take(cluster, "later", 50, 60)
            self.assertEqual(len(taken), 50)
            self.assertGreaterEqual(min(at for _, at in taken), due_ms - 1)

    def test_the_command(self):
        with Cluster() as cluster:
            cluster.create("later")
            done = cluster.command("publish", "later", "in an hour", "--delay", "3600", "--output", "json")
            self.assertEqual(done.returncode, 0, done.stderr)
            position = json.loads(done.stdout)["first_position"]
            in_a_year = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 365 * 86400))
            done = cluster.command("publish", "later", "in a year", "--due", in_a_year)
            self.assertEqual(done.returncode, 0, done.stderr)
            listed = cluster.command("queue", "browse", "later", "--scheduled", "--output", "json")
            first = json.loads(listed.stdout.splitlines()[0])
            self.assertEqual((first["position"], first["state"], first["body"]), (position, "scheduled", "in an hour"))
            explained = json.loads(cluster.command("message", "explain", "later", str(position), "--output", "json").stdout)
            self.assertEqual(explained["state"], "scheduled")
            self.assertIn("scheduled", cluster.command("queue", "describe", "later").stdout)
            done = cluster.command("message", "cancel", "later", str(position))
            self.assertEqual(done.returncode, 0, done.stderr)
            again = cluster.command("message", "cancel", "later", str(position))
            self.assertNotEqual(again.returncode, 0)
            self.assertIn("cancelled", again.stderr)
            refused = cluster.command("publish", "later", "too far", "--due", "2999-01-01T00:00:00Z")
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("10 years", refused.stderr)
            purged = cluster.command("queue", "purge", "later")
            self.assertEqual(purged.returncode, 0, purged.stderr)
            self.assertEqual(self.schedule_of(cluster, "later").messages, 0)


if __name__ == "__main__":
    harness.main()
