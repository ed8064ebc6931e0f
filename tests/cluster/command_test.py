"""The command `trireme` and the C++ library behind it, against real clusters, also while leaders die."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import uuid

import harness
from harness import Cluster, wait_for
from streams import Stream
from trireme.v1 import broker_pb2


def next_of(stream, kind):
    """The next frame of a kind; keep-alives come at any time."""
    while (frame := stream.next(20)).WhichOneof("frame") == "keep_alive":
        pass
    assert frame.WhichOneof("frame") == kind, frame
    return getattr(frame, kind)


class Commands(harness.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.addClassCleanup(cls.cluster.__exit__, None, None, None)

    def run_command(self, *arguments, code=0, text=None):
        done = self.cluster.command(*arguments, text=text)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def json(self, *arguments, text=None):
        return json.loads(self.run_command(*arguments, "--output", "json", text=text).stdout)

    def lines(self, *arguments):
        return [json.loads(line) for line in self.run_command(*arguments, "--output", "json").stdout.splitlines()]

    def test_status_and_a_second_init(self):
        status = self.json("cluster", "status")
        self.assertEqual([node["condition"] for node in status["nodes"]], ["up"] * 3)
        for repeat in (["--cluster-id", status["cluster_id"]], []):
            again = self.json("cluster", "init", *repeat)
            self.assertEqual(again["cluster_id"], status["cluster_id"])
            self.assertEqual([node["address"] for node in again["nodes"]], self.cluster.addresses)
            # Each holds the metadata at least, and one of them leads it.
            self.assertTrue(all(node["replicas"] >= 1 for node in again["nodes"]), again)
            self.assertEqual(sum(node["metadata_leader"] for node in again["nodes"]), 1)
        self.assertIn("is already cluster " + status["cluster_id"], self.run_command("cluster", "init").stdout)
        other = self.run_command("cluster", "init", "--cluster-id", "00" * 16, code=1)
        self.assertIn(status["cluster_id"], other.stderr)

    def test_health(self):
        serving = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
        call = "/grpc.health.v1.Health/"
        self.assertEqual(self.cluster.channel().unary_unary(call + "Check")(b"", timeout=10), serving)
        watch = self.cluster.channel().unary_stream(call + "Watch")(b"", timeout=10)
        self.assertEqual(next(watch), serving)
        watch.cancel()
        # What gRPC serves through callbacks has it keep threads of its own that poll the shards' sockets.
        for node in self.cluster.status()["nodes"]:
            tasks = f"/proc/{node['pid']}/task"
            names = [pathlib.Path(tasks, thread, "comm").read_text().strip() for thread in os.listdir(tasks)]
            self.assertNotIn("nexting_thread", names)

    def test_the_life_of_a_queue(self):
        self.assertTrue(self.json("queue", "create", "life")["created"])
        self.assertFalse(self.json("queue", "create", "life")["created"])
        published = self.json("publish", "life", text="".join(f"line {n}\n" for n in range(1, 501)))
        self.assertEqual((published["confirmed"], published["unknown"]), (500, 0))
        self.run_command("publish", "life", "with more", "--key", "k", "--header", "kind=test", "--count", "2")
        figures = self.json("queue", "describe", "life")
        self.assertEqual((figures["published"], figures["subscriptions"][0]["waiting"]), (502, 502))
        # A look changes nothing but the delivery counts.
        self.assertEqual([m["body"] for m in self.lines("consume", "life", "--count", "2")], ["line 1", "line 2"])
        taken = self.lines("consume", "life", "--ack")
        self.assertEqual(sorted(m["body"] for m in taken),
                         sorted([f"line {n}" for n in range(1, 501)] + ["with more"] * 2))
        self.assertEqual([(m["key"], m["headers"]) for m in taken if m["body"] == "with more"], [("k", {"kind": "test"})] * 2)
        self.assertEqual(self.json("queue", "describe", "life")["subscriptions"][0]["acknowledged"], 502)
        for _ in range(50):  # the consumers' sessions end after their commands
            replicas = self.json("queue", "replicas", "life")
            if replicas["same_index"]:
                break
        self.assertEqual((replicas["same_index"], replicas["agree"], len(replicas["replicas"])), (True, True, 3))
        self.assertEqual(len({(r["applied_index"], r["digest"]) for r in replicas["replicas"]}), 1, replicas)
        self.assertEqual(sum(r["leading"] for r in replicas["replicas"]), 1)
        self.run_command("publish", "life", "x", "--count", "7")
        self.assertEqual(self.json("queue", "purge", "life")["purged"], 7)
        self.run_command("queue", "delete", "life")
        self.assertIn("life", self.run_command("publish", "life", "x", code=1).stderr)
        self.assertIn("life", self.run_command("consume", "life", code=1).stderr)

    def test_every_replica_catches_up(self):
        self.cluster.create("caught-up")
        self.run_command("publish", "caught-up", "x", "--count", "50")
        waited = self.json("--timeout", "60", "cluster", "status", "--wait")
        self.assertEqual((waited["caught_up"], waited["behind"]), (True, []))
        self.assertIn("every replica has caught up", self.run_command("cluster", "status", "--wait").stdout)

    def test_a_list_with_figures(self):
        for count in (1, 2):
            self.cluster.create(f"deep-{count}")
            self.run_command("publish", f"deep-{count}", "x", "--count", str(count))
        listed = self.json("queue", "list", "--prefix", "deep-", "--figures")
        self.assertEqual([(q["name"], q["waiting"], q["in_flight"], q["consumers"]) for q in listed],
                         [("deep-1", 1, 0, 0), ("deep-2", 2, 0, 0)])
        self.assertNotIn("waiting", self.json("queue", "list", "--prefix", "deep-")[0])
        self.assertRegex(self.run_command("queue", "list", "--prefix", "deep-", "--figures").stdout, r"deep-2 .* 2 +0 +0")

    def test_what_was_deleted_is_told_beside_what_was_not(self):
        for name in ("gone-a", "gone-b", "gone-c"):
            self.cluster.create(name)
        done = self.run_command("queue", "delete", "gone-a", "nosuch", "gone-b", code=1)
        self.assertEqual(done.stdout, "gone-a deleted\ngone-b deleted\n")
        self.assertIn('no queue named "nosuch"', done.stderr)
        done = self.run_command("queue", "delete", "nosuch", "gone-c", "--output", "json", code=1)
        result = json.loads(done.stdout)
        self.assertEqual((result["deleted"], [f["name"] for f in result["failed"]]), (["gone-c"], ["nosuch"]))
        self.assertEqual(result["failed"][0]["error"]["reason"], "QUEUE_NOT_FOUND")
        result = self.json("queue", "delete", "gone-a", "--if-exists")
        self.assertEqual((result["deleted"], result["absent"]), ([], ["gone-a"]))

    def test_what_is_not_there_is_told_with_what_to_do(self):
        for command in (["queue", "describe"], ["queue", "purge"], ["consume"]):
            said = self.run_command(*command, "nosuch", code=1).stderr
            self.assertIn("trireme queue list", said)
            self.assertIn("trireme queue create nosuch", said)
        done = self.run_command("publish", "nosuch", "x", "--output", "json", code=1)
        error = json.loads(done.stdout)["error"]
        self.assertEqual((error["code"], error["reason"], error["name"], error["exit_code"]),
                         ("NOT_FOUND", "QUEUE_NOT_FOUND", "nosuch", 1))

    def test_a_repeated_command_stores_once(self):
        self.cluster.create("repeated")
        for duplicates in (0, 3):
            published = self.json("publish", "repeated", "--producer", "shop", "--first-sequence", "1", text="a\nb\nc\n")
            self.assertEqual((published["confirmed"], published["duplicates"]), (3, duplicates))
        published = self.json("publish", "repeated", "--producer", "shop", "--first-sequence", "3", text="c\nd\n")
        self.assertEqual((published["confirmed"], published["duplicates"]), (2, 1))
        self.assertEqual([m["body"] for m in self.lines("consume", "repeated", "--ack")], ["a", "b", "c", "d"])

    def test_the_life_of_an_exchange(self):
        self.run_command("queue", "create", "bound")
        created = self.json("exchange", "create", "events", "--type", "topic")
        self.assertTrue(created["created"])
        self.assertFalse(self.json("exchange", "create", "events", "--type", "topic")["created"])
        self.assertIn("type topic", self.run_command("exchange", "create", "events", "--type", "fanout", code=1).stderr)
        self.json("exchange", "create", "by-header", "--type", "headers", "--alternate", "events")
        listed = {e["name"]: (e["type"], e["alternate"]) for e in self.json("exchange", "list")}
        self.assertEqual(listed, {"events": ("topic", ""), "by-header": ("headers", "events")})

        self.assertTrue(self.json("binding", "create", "events", "--queue", "bound", "--key", "order.*")["created"])
        self.run_command("binding", "create", "events", "--to-exchange", "by-header", "--key", "#")
        self.run_command("binding", "create", "by-header", "--queue", "bound", "--match", "any", "--header", "size:=3",
                         "--header", "region=eu", "--header", "traced")
        self.assertIn("none", self.run_command("binding", "create", "events", "--queue", "none", code=1).stderr)
        # Every node says the same.
        for server in self.cluster.addresses:
            described = self.json("--server", server, "exchange", "describe", "by-header")
            self.assertEqual(described["from_here"], [{
                "exchange": "by-header", "queue": "bound", "routing_key": "", "match": "any",
                "headers": {"region": "eu", "size": 3, "traced": None}}])
            self.assertEqual([b["exchange"] for b in described["to_here"]], ["events"])
        self.assertIn("order.*", self.run_command("binding", "list", "--queue", "bound").stdout)
        self.assertEqual(len(self.json("binding", "list", "--exchange", "events")), 2)

        self.assertIn("alternate of exchange by-header", self.run_command("exchange", "delete", "events", code=1).stderr)
        self.run_command("binding", "delete", "events", "--queue", "bound", "--key", "order.*")
        self.run_command("binding", "delete", "events", "--queue", "bound", "--key", "order.*", code=1)
        self.run_command("exchange", "delete", "by-header", "--if-unused", code=1)
        self.run_command("queue", "delete", "bound")
        self.assertEqual(self.json("binding", "list", "--exchange", "by-header"), [], "a queue takes its bindings along")
        self.assertEqual(self.json("exchange", "delete", "by-header")["bindings"], 1)
        self.run_command("exchange", "delete", "events", "--if-unused")
        self.assertEqual(self.json("exchange", "list"), [])

    def test_many_queues(self):
        self.assertEqual(len(self.json("queue", "create", "many-%d", "--count", "50")), 50)
        names = [queue["name"] for queue in self.json("queue", "list", "--prefix", "many-")]
        self.assertEqual(sorted(names), sorted(f"many-{n}" for n in range(1, 51)))
        self.run_command("queue", "delete", "many-%d", "--count", "50")
        self.assertEqual(self.json("queue", "list", "--prefix", "many-"), [])

    def test_a_list_names_the_leaders(self):
        self.cluster.create("led")
        self.cluster.create("led-alone", replicas=1)
        leaders = {name: self.cluster.leader(name) for name in ("led", "led-alone")}
        for number in range(1, 4):
            def listed(at=number):
                found = self.json("--server", self.cluster.addresses[at - 1], "queue", "list", "--prefix", "led")
                return {queue["name"]: queue["leader_node"] for queue in found}
            # Every node has a replica of the first; of the second it may know nothing.
            wait_for("the leader", lambda: listed()["led"] == leaders["led"])
            self.assertIn(listed()["led-alone"], (0, leaders["led-alone"]))
            self.cluster.figures("led-alone", number)  # for which it had to find the leader
            self.assertEqual(listed(), leaders)
        self.assertIn(self.cluster.addresses[leaders["led"] - 1], self.run_command("queue", "list", "--prefix", "led").stdout)

    def test_binary_bodies_and_files(self):
        self.cluster.create("files")
        path = os.path.join(self.cluster.dir, "body")
        with open(path, "wb") as file:
            file.write(bytes(range(256)) * 1000)
        self.run_command("publish", "files", "--file", path)
        self.run_command("publish", "files", "--file", path, "--lines")
        first = self.lines("consume", "files", "--ack", "--count", "1")[0]
        self.assertIn("body_base64", first)
        # A file is one message, be it standard input; without --file each line is.
        self.cluster.create("whole")
        self.assertEqual(self.json("publish", "whole", "--file", "-", text="one\ntwo\n")["confirmed"], 1)
        self.assertEqual(self.json("publish", "whole", text="three\nfour\n")["confirmed"], 2)
        self.assertEqual(self.json("publish", "whole", "--file", "-", "--lines", text="five\nsix\n")["confirmed"], 2)
        self.assertEqual([m["body"] for m in self.lines("consume", "whole", "--ack")],
                         ["one\ntwo\n", "three", "four", "five", "six"])

    def test_the_dead_are_passed_over(self):
        servers = f"127.0.0.1:1,{self.cluster.servers}"
        self.run_command("--server", servers, "queue", "create", "passed")
        self.run_command("--server", servers, "publish", "passed", "x")
        nobody = self.run_command("--server", "127.0.0.1:1", "--timeout", "1", "publish", "passed", "x", code=3)
        self.assertIn("127.0.0.1:1", nobody.stderr)

    def test_bench_finds_every_message(self):
        for shape in (["--size", "100"], ["--size", "1024", "--queues", "3", "--producers", "2", "--consumers", "2"],
                      ["--size", "100", "--batch", "1", "--in-flight", "64"], ["--no-deduplicate"]):
            with self.subTest(shape=shape):
                result = self.json("bench", "--messages", "5000", *shape)
                self.assertEqual((result["confirmed"], result["settled"], result["lost"], result["duplicates"]), (5000, 5000, 0, 0))
                self.assertEqual(result["latency_ms"]["count"], 5000)
        self.assertEqual(self.json("queue", "list", "--prefix", "bench-"), [])

    def test_bench_leaves_others_messages_alone(self):
        self.cluster.create("theirs")
        self.run_command("publish", "theirs", "precious")
        refused = self.run_command("bench", "--queue", "theirs", "--messages", "10", code=1)
        self.assertIn("holds 1 messages already", refused.stderr)
        self.assertEqual([m["body"] for m in self.lines("consume", "theirs", "--count", "1")], ["precious"])

    # Safety rule 5: a connection that breaks, or a call that is cancelled, is no farewell.
    def test_a_cancelled_stream_keeps_its_session(self):
        self.cluster.create("session")
        self.cluster.send("session", [b"a", b"b"])
        session = uuid.uuid4().bytes
        opening = broker_pb2.OpenConsume(queue="session", session=session)
        for number in range(1, 4):
            stream = Stream(self.cluster.addresses[number - 1], "Consume")
            self.addCleanup(stream.close)
            stream.send(broker_pb2.ConsumeRequest(open=opening))
            opened = next_of(stream, "opened")
            self.assertEqual(opened.resumed, number > 1, f"on node {number}")
            if number == 1:
                opening.group_id = opened.group_id
                held = []
                while sum(run.count for run in held) < 2:
                    held += next_of(stream, "deliver").runs
                opening.held.extend(broker_pb2.HeldRun(first_position=run.first_position, count=run.count,
                                                       checkout_index=run.checkout_index) for run in held)
            stream.call.cancel()
        figures = self.cluster.figures("session").subscriptions[0]
        self.assertEqual((figures.in_flight, figures.waiting), (2, 0))

    def test_a_half_closed_stream_ends_its_session(self):
        self.cluster.create("farewell")
        self.cluster.send("farewell", [b"a"])
        for number in range(1, 4):
            stream = Stream(self.cluster.addresses[number - 1], "Consume")
            self.addCleanup(stream.close)
            stream.send(broker_pb2.ConsumeRequest(open=broker_pb2.OpenConsume(queue="farewell", session=b"s")))
            self.assertFalse(next_of(stream, "opened").resumed, f"on node {number}")
            self.assertEqual(next_of(stream, "deliver").runs[0].deliveries, number)
            stream.send(None)
            wait_for("the message back", lambda: self.cluster.figures("farewell").subscriptions[0].waiting == 1)


class SomethingIsMissing(harness.TestCase):
    """Errors say why, and what to do next."""

    def failing(self, cluster, *arguments):
        """The error of a command that no node could answer: its words, and the JSON."""
        done = cluster.command("--timeout", "3", *arguments, "--output", "json")
        self.assertEqual(done.returncode, 3, done.stdout + done.stderr)
        return done.stderr, json.loads(done.stdout)["error"]

    def test_each_queues_figures_are_served_by_its_leader(self):
        with Cluster() as cluster:
            for name in ("first", "second"):
                cluster.create(name)
            leader = cluster.leader("first")
            cluster.send("first", [b"x"] * 5)
            (held,) = cluster.receive("first", leader, most=1)
            sample = '{{queue="first",subscription="default"}} {}'
            for number in (1, 2, 3):
                status, text = cluster.metrics(number, "/metrics/queues")
                self.assertEqual(status, 200)
                self.assertEqual("trireme_subscription_waiting" + sample.format(4) in text, number == leader, text)
                self.assertEqual("trireme_subscription_in_flight" + sample.format(1) in text, number == leader)
                self.assertEqual('trireme_queue_published_total{queue="first"} 5' in text, number == leader)
            cluster.settle("first", [held.token], leader)
            self.assertIn("trireme_subscription_acknowledged_total" + sample.format(1), cluster.metrics(leader, "/metrics/queues")[1])

    def test_a_majority(self):
        with Cluster() as cluster:
            cluster.create("q")
            cluster.leader("q")
            wait_for("readiness", lambda: cluster.metrics(1, "/readyz")[0] == 200)
            self.assertEqual(cluster.metric(1, "trireme_peers"), 2)
            wait_for("peers", lambda: cluster.metric(1, "trireme_peers_connected") == 2)
            wait_for("leaders", lambda: cluster.metric(1, "trireme_groups_without_leader") == 0)

            cluster.kill(3)
            began = time.monotonic()
            done = cluster.command("queue", "replicas", "q", "--output", "json")
            self.assertLess(time.monotonic() - began, 15)
            replicas = json.loads(done.stdout)
            self.assertEqual((done.returncode, replicas["answered"], replicas["agree"]), (3, 2, False), done.stderr)
            wait_for("a lost peer", lambda: cluster.metric(1, "trireme_peers_connected") == 1)
            error = self.failing(cluster, "cluster", "status", "--wait")[1]
            self.assertIn(cluster.addresses[2], error["message"])

            cluster.kill(2)
            only = ["--server", cluster.addresses[0]]
            wait_for("no leader", lambda: cluster.metric(1, "trireme_groups_without_leader") == 2)
            wait_for("it to say so", lambda: cluster.metrics(1, "/readyz")[0] == 503)
            self.assertEqual(cluster.metrics(1, "/healthz"), (200, "ok\n"))
            for command in (["publish", "q", "x"], ["consume", "q"], ["queue", "purge", "q"]):
                words, error = self.failing(cluster, *only, *command)
                self.assertRegex(error["message"], "queue q has no leader|cut off from most of queue q's nodes")
                self.assertIn(f"trireme cluster status --server {cluster.addresses[0]}", words)
                self.assertNotIn("Check that the nodes run", words)
            words, error = self.failing(cluster, *only, "queue", "create", "r")
            self.assertIn("metadata", error["message"])

            for number in (2, 3):
                cluster.start(number)
            done = cluster.command("--timeout", "60", "cluster", "status", "--wait", seconds=90)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            wait_for("readiness", lambda: cluster.metrics(1, "/readyz")[0] == 200)

    def test_the_cluster(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % probe.getsockname()[1]
        with open(os.path.join(folder.name, "log"), "wb") as log:
            node = subprocess.Popen([os.path.join(harness.BIN, "trireme-broker"), "--data", os.path.join(folder.name, "data"),
                                     "--listen", address], stderr=log)
        self.addCleanup(node.wait)
        self.addCleanup(node.kill)

        def run(*arguments):
            return subprocess.run([os.path.join(harness.BIN, "trireme"), "--server", address, *arguments], capture_output=True,
                                  text=True, timeout=60, check=False)
        wait_for("the node", lambda: run("--timeout", "1", "cluster", "status").returncode == 0)
        for command in (["queue", "create", "q"], ["queue", "list"], ["publish", "q", "x"], ["consume", "q"],
                        ["bench", "--messages", "1"]):
            done = run("--timeout", "2", *command, "--output", "json")
            error = json.loads(done.stdout)["error"]
            self.assertEqual((done.returncode, error["reason"]), (3, "NO_CLUSTER"), f"{command}: {done.stdout}{done.stderr}")
            self.assertIn("waits for its cluster", done.stderr)
            self.assertIn(f"trireme cluster init --server {address}", done.stderr)
        self.assertIn("cluster ", run("cluster", "init").stdout)
        self.assertEqual(run("queue", "create", "q").returncode, 0)


class LeadersDie(harness.TestCase):
    def test_bench_loses_and_repeats_nothing(self):
        with Cluster() as cluster:
            cluster.create("q")
            environment = {**os.environ, "TRIREME_SERVER": cluster.servers}
            bench = subprocess.Popen([os.path.join(harness.BIN, "trireme"), "bench", "--queue", "q", "--size", "100", "--rate", "1000",
                                      "--messages", "20000", "--output", "json"],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
            self.addCleanup(bench.kill)
            for kill in range(1, 4):
                wait_for("messages", lambda k=kill: cluster.figures_anywhere("q").published >= 5000 * k)
                leader = cluster.leader("q")
                cluster.kill(leader)
                cluster.start(leader)
            output, errors = bench.communicate(timeout=120)
            self.assertEqual(bench.returncode, 0, errors)
            result = json.loads(output)
            self.assertEqual(result["confirmed"], 20000, output)
            for nothing in ("lost", "duplicates", "redelivered", "leases_lost", "unknown", "refused"):
                self.assertEqual(result[nothing], 0, output)
            self.assertGreaterEqual(result["reconnects"], 6)


if __name__ == "__main__":
    harness.main()
