"""Looking at a queue without taking from it: browse, explain, who holds what; and taking a message back from its holder."""

import json

import grpc

from trireme.v1 import admin_pb2, broker_pb2
import harness
import streams

WAITING, IN_FLIGHT, RETURNED = admin_pb2.MESSAGE_STATE_WAITING, admin_pb2.MESSAGE_STATE_IN_FLIGHT, admin_pb2.MESSAGE_STATE_RETURNED
SETTLED = admin_pb2.MESSAGE_STATE_SETTLED


class Looking(harness.TestCase):
    def browse(self, cluster, name, number=1, page=4):
        """All of it, page by page."""
        messages, position = [], 0
        while True:
            answer = cluster.admin(number).BrowseQueue(
                admin_pb2.BrowseQueueRequest(name=name, from_position=position, limit=page), timeout=harness.CALL_SECONDS)
            messages += answer.messages
            self.assertLessEqual(len(answer.messages), page)
            position = answer.next_position
            if position == 0:
                return messages

    def explain(self, cluster, name, position, number=1):
        return cluster.admin(number).ExplainMessage(
            admin_pb2.ExplainMessageRequest(name=name, position=position), timeout=harness.CALL_SECONDS)

    def leases(self, cluster, name, number=1):
        return list(cluster.admin(number).ListLeases(admin_pb2.ListLeasesRequest(name=name), timeout=harness.CALL_SECONDS).leases)

    def run_json(self, cluster, *arguments):
        done = cluster.command(*arguments, "--output", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_looks_change_nothing_and_survive_a_failover(self):
        with harness.Cluster() as cluster:
            cluster.create("orders")
            cluster.send("orders", [b"%d" % i for i in range(8)], producer="shop", first_sequence=1)
            stream = streams.Stream(cluster.addresses[0], "Consume")
            stream.send(broker_pb2.ConsumeRequest(open=broker_pb2.OpenConsume(
                queue="orders", session=b"s" * 16, consumer="worker-7", max_outstanding_messages=2, session_timeout_ms=600_000)))
            held = []
            while sum(run.count for run in held) < 2:
                held += stream.next(20).deliver.runs
            taken = cluster.receive("orders", most=2, lease_ms=600_000)
            cluster.settle("orders", [taken[0].token])
            before = cluster.figures("orders")

            seen = self.browse(cluster, "orders")
            self.assertEqual([m.message.body for m in seen], [b"0", b"1", b"3", b"4", b"5", b"6", b"7"])
            self.assertEqual([m.stand.state for m in seen], [IN_FLIGHT] * 3 + [WAITING] * 4)
            self.assertEqual([m.stand.deliveries for m in seen], [1] * 3 + [0] * 4)
            self.assertEqual([m.stand.holder.consumer for m in seen], ["worker-7", "worker-7", "", "", "", "", ""])
            self.assertGreater(seen[2].stand.holder.deadline_ms, seen[2].published_at_ms)

            explained = self.explain(cluster, "orders", seen[1].position, number=2)
            self.assertEqual((explained.producer, explained.sequence, explained.batch_messages, explained.in_log), ("shop", 2, 8, True))
            self.assertEqual(explained.stand.holder.session, b"s" * 16)
            self.assertEqual(self.explain(cluster, "orders", taken[0].position).stand.state, SETTLED)

            leases = self.leases(cluster, "orders", number=3)
            self.assertEqual(sum(lease.count for lease in leases), 3)
            self.assertEqual([lease.holder.consumer for lease in leases if lease.holder.session], ["worker-7"] * (len(leases) - 1))
            self.assertTrue(all(lease.since_ms >= seen[0].published_at_ms for lease in leases))
            self.assertEqual(cluster.figures("orders").at_index, before.at_index, "looking writes nothing")

            # The same, whoever leads.
            leader = cluster.leader("orders")
            stream.close()
            cluster.kill_now(leader)
            other = cluster.leader("orders", but=[leader])
            again = self.browse(cluster, "orders", other, page=100)
            self.assertEqual([(m.position, m.stand.state, m.stand.deliveries, m.stand.holder) for m in again],
                             [(m.position, m.stand.state, m.stand.deliveries, m.stand.holder) for m in seen])
            self.assertEqual([m.message for m in again], [m.message for m in seen])

            # The session's messages are taken back, and go to others with their counts.
            admin = cluster.admin(other)
            released = admin.ReleaseLeases(admin_pb2.ReleaseLeasesRequest(name="orders", session=b"s" * 16), timeout=harness.CALL_SECONDS)
            self.assertEqual(released.released, 2)
            self.assertEqual([m.stand.state for m in self.browse(cluster, "orders", other)], [RETURNED] * 2 + [IN_FLIGHT] + [WAITING] * 4)
            got = cluster.receive("orders", other, most=2)
            self.assertEqual([(m.message.body, m.deliveries) for m in got], [(b"0", 2), (b"1", 2)])
            # And a single one, by its position: its holder's token is worth nothing any more.
            released = admin.ReleaseLeases(admin_pb2.ReleaseLeasesRequest(
                name="orders", positions=admin_pb2.Positions(first_position=taken[1].position, count=1)), timeout=harness.CALL_SECONDS)
            self.assertEqual(released.released, 1)
            self.assertEqual(cluster.settle("orders", [taken[1].token], other), [broker_pb2.OUTCOME_LEASE_LOST])

    def test_errors_say_what_is_wrong(self):
        with harness.Cluster(nodes=1) as cluster:
            cluster.create("orders")
            position = cluster.send("orders", [b"a"]).confirms[0].first_position
            admin = cluster.admin()
            self.refused(grpc.StatusCode.OUT_OF_RANGE, lambda: self.explain(cluster, "orders", position + 1), "orders", "1 messages",
                         reason="NO_MESSAGE")
            self.refused(grpc.StatusCode.OUT_OF_RANGE, lambda: self.explain(cluster, "orders", position + (1 << 40)), reason="NO_MESSAGE")
            self.refused(grpc.StatusCode.NOT_FOUND, lambda: self.explain(cluster, "none", position), "none")
            self.refused(grpc.StatusCode.INVALID_ARGUMENT,
                         lambda: admin.BrowseQueue(admin_pb2.BrowseQueueRequest(name="orders", limit=1001), timeout=harness.CALL_SECONDS), "1001", "1000")
            self.refused(grpc.StatusCode.INVALID_ARGUMENT,
                         lambda: admin.ReleaseLeases(admin_pb2.ReleaseLeasesRequest(name="orders"), timeout=harness.CALL_SECONDS), "session",
                         reason="NOTHING_NAMED")
            self.refused(grpc.StatusCode.NOT_FOUND, lambda: admin.ReleaseLeases(
                admin_pb2.ReleaseLeasesRequest(name="orders", session=b"x"), timeout=harness.CALL_SECONDS), "session", reason="NOT_THERE")

    def test_the_command_looks_and_releases(self):
        with harness.Cluster(nodes=1) as cluster:
            cluster.create("orders")
            cluster.send("orders", [b"first", b"second"], producer="shop", first_sequence=1)
            taken = cluster.receive("orders", most=1)[0]
            lines = [json.loads(line) for line in self.run_json(cluster, "queue", "browse", "orders").splitlines()]
            self.assertEqual([(line["body"], line["state"]) for line in lines], [("first", "in flight"), ("second", "waiting")])
            text = f"{taken.position >> 16}:{taken.position & 0xffff}"
            table = cluster.command("queue", "browse", "orders", "--from", text, "--limit", "1").stdout
            self.assertIn("first", table)
            self.assertNotIn("second", table)
            self.assertIn("--from", table, "it says how to go on")

            explained = json.loads(self.run_json(cluster, "message", "explain", "orders", text))
            self.assertEqual((explained["producer"], explained["sequence"], explained["state"], explained["body"]), ("shop", 1, "in flight", "first"))
            self.assertIn("delivery number 1", cluster.command("message", "explain", "orders", text).stdout)

            leases = json.loads(self.run_json(cluster, "lease", "list", "orders"))
            self.assertEqual([(lease["first_position"], lease["count"]) for lease in leases], [(taken.position, 1)])
            self.assertIn(text, cluster.command("lease", "list", "orders").stdout)
            released = json.loads(self.run_json(cluster, "lease", "release", "orders", "--position", text))
            self.assertEqual(released["released"], 1)
            self.assertIn("nobody", cluster.command("lease", "list", "orders").stdout)

            for arguments, code, words in ((("message", "explain", "orders", "x"), 2, "INDEX:SLOT"),
                                           (("message", "explain", "orders", "9999:0"), 1, "log goes from 1"),
                                           (("lease", "release", "orders"), 2, "--session")):
                done = cluster.command(*arguments)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(words, done.stderr)


if __name__ == "__main__":
    harness.main()
