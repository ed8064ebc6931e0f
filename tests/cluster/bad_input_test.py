"""Bad input of every kind: each is answered with a clear error that names the value and the limit, and changes nothing."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import grpc
from grpc import StatusCode

import harness
from harness import Cluster, wait_for
from streams import Stream
from trireme.v1 import admin_pb2, broker_pb2, cluster_pb2, message_pb2

LIMIT = 3670016  # bytes of a message, by default


def message(body=b"x", **fields):
    return message_pb2.Message(body=body, **fields)


def encoded(*messages):
    return message_pb2.MessageBatch(messages=messages).SerializeToString()


class Requests(harness.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.addClassCleanup(cls.cluster.__exit__, None, None, None)
        cls.cluster.create("q")
        cls.cluster.create("other")

    def setUp(self):
        self.before = self.state()
        # Whatever a test did, nothing was changed by it.
        self.addCleanup(lambda: self.assertEqual(self.state(), self.before))

    def state(self):
        names = [q.name for q in self.cluster.admin().ListQueues(admin_pb2.ListQueuesRequest(), timeout=20).queues]
        figures = self.cluster.figures("q")
        subscription = figures.subscriptions[0]
        return names, figures.published, subscription.waiting, subscription.in_flight, subscription.acknowledged

    # ---- names and settings

    def test_names_of_queues(self):
        for name, words in [("", ("255",)), ("x" * 256, ("256", "255")), ("a b", ("a b",)), ("-a", ("-a",)), ("\u00e4", ()),
                            ("a\nb", ()), ("a\0b", ())]:
            with self.subTest(name=name[:20]):
                self.refused(StatusCode.INVALID_ARGUMENT, lambda n=name: self.cluster.create(n), *words)
        self.refused(StatusCode.INVALID_ARGUMENT, lambda: self.cluster.send("", [b"x"]))
        self.refused(StatusCode.INVALID_ARGUMENT, lambda: self.cluster.send("x" * 256, [b"x"]), "255")

    def test_the_longest_name_is_fine(self):
        name = "n" * 255
        self.assertTrue(self.cluster.create(name).created)
        self.cluster.admin().DeleteQueue(admin_pb2.DeleteQueueRequest(name=name), timeout=20)

    def test_settings_of_queues(self):
        self.refused(StatusCode.FAILED_PRECONDITION, lambda: self.cluster.create("five", replicas=5), 5, 3, reason="TOO_MANY_REPLICAS")
        self.assertFalse(self.cluster.create("q").created, "the same again is answered as it is")
        self.refused(StatusCode.ALREADY_EXISTS, lambda: self.cluster.create("q", replicas=1), "q", reason="QUEUE_EXISTS")
        for limit in (10001, 2**32 - 1):
            self.refused(StatusCode.INVALID_ARGUMENT, lambda n=limit: self.cluster.admin().ListQueues(
                admin_pb2.ListQueuesRequest(limit=n), timeout=20), limit, 10000)

    def test_unknown_queues(self):
        admin, broker = self.cluster.admin(2), self.cluster.broker(2)
        calls = [lambda: admin.DescribeQueue(admin_pb2.DescribeQueueRequest(name="nowhere"), timeout=20),
                 lambda: admin.DeleteQueue(admin_pb2.DeleteQueueRequest(name="nowhere"), timeout=20),
                 lambda: admin.PurgeQueue(admin_pb2.PurgeQueueRequest(name="nowhere"), timeout=20),
                 lambda: self.cluster.send("nowhere", [b"x"]),
                 lambda: self.cluster.receive("nowhere"),
                 lambda: self.cluster.settle("nowhere", []),
                 lambda: broker.Resolve(broker_pb2.ResolveRequest(queue="nowhere"), timeout=20)]
        for number, call in enumerate(calls):
            with self.subTest(call=number):
                self.refused(StatusCode.NOT_FOUND, call, "nowhere", reason="QUEUE_NOT_FOUND")
        frame = self.publish(bind="nowhere").next(20)
        self.assertEqual(frame.bound.outcome, broker_pb2.OUTCOME_REFUSED)
        self.assertIn("nowhere", frame.bound.reason)
        self.ended(StatusCode.NOT_FOUND, self.consume(queue="nowhere"), "nowhere")

    # ---- messages

    def test_oversized_messages(self):
        overhead = len(message(b"x" * LIMIT).SerializeToString()) - LIMIT
        for size in (LIMIT - overhead + 1, LIMIT + 1):
            self.refused(StatusCode.RESOURCE_EXHAUSTED, lambda n=size: self.cluster.send("q", [b"x" * n]), LIMIT)
        stream = self.publish(bind="q")
        self.assertEqual(stream.next(20).bound.outcome, broker_pb2.OUTCOME_OK)
        stream.send(broker_pb2.PublishRequest(append=broker_pb2.Append(alias=1, batch=encoded(message(b"x" * LIMIT)))))
        self.refused_or_ended(stream, LIMIT)

    def test_the_largest_message_passes(self):
        overhead = len(message(b"x" * LIMIT).SerializeToString()) - LIMIT
        body = os.urandom(LIMIT - overhead)
        self.cluster.create("large")
        self.cluster.send("large", [body], 3)
        self.assertEqual(self.cluster.drain("large", 1, 2), [body])
        self.cluster.admin().DeleteQueue(admin_pb2.DeleteQueueRequest(name="large"), timeout=20)

    def test_batches_that_are_none(self):
        self.refused(StatusCode.INVALID_ARGUMENT, lambda: self.cluster.send("q", []))
        bad = [b"", b"\xff\xff\xff\xff", b"\x0a\x05ab", b"\x0a\xff\xff\xff\xff\x0f", b"\x12\x02ab", encoded(message()) + b"\x0a\x7f",
               b"\x0a\x03\x0a\x05a", os.urandom(300)]
        for batch in bad:
            with self.subTest(batch=batch[:12]):
                stream = self.publish(bind="q")
                self.assertEqual(stream.next(20).bound.outcome, broker_pb2.OUTCOME_OK)
                stream.send(broker_pb2.PublishRequest(append=broker_pb2.Append(alias=1, batch=batch)))
                self.refused_or_ended(stream)

    def test_fields_of_messages(self):
        self.refused(StatusCode.INVALID_ARGUMENT, lambda: self.cluster.broker().Send(broker_pb2.SendRequest(
            queue="q", batch=message_pb2.MessageBatch(messages=[message(id="i" * 256)])), timeout=20), 255)

    def test_too_many_messages_in_one_batch(self):
        stream = self.publish(bind="q")
        self.assertEqual(stream.next(20).bound.outcome, broker_pb2.OUTCOME_OK)
        stream.send(broker_pb2.PublishRequest(append=broker_pb2.Append(alias=1, batch=b"\x0a\x00" * 65536)))
        self.refused_or_ended(stream, 65535)

    # ---- publishing

    def test_producers(self):
        self.refused(StatusCode.INVALID_ARGUMENT, lambda: self.cluster.send("q", [b"x"], producer="p" * 256, first_sequence=1), 255)
        stream = Stream(self.cluster.addresses[0], "Publish")
        self.addCleanup(stream.close)
        stream.send(broker_pb2.PublishRequest(open=broker_pb2.OpenPublish(producer="p" * 256)))
        self.ended(StatusCode.INVALID_ARGUMENT, stream, 255)
        # A sequence is counted from 1.
        self.refused(StatusCode.INVALID_ARGUMENT, lambda: self.cluster.send("q", [b"x"], producer="p", epoch=1, first_sequence=0))

    def test_order_of_frames(self):
        bind = broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=1, queue="q"))
        opening = broker_pb2.PublishRequest(open=broker_pb2.OpenPublish())
        append = broker_pb2.PublishRequest(append=broker_pb2.Append(alias=7, batch=encoded(message())))
        for frames in ([bind], [append], [broker_pb2.PublishRequest()], [opening, opening],
                       [opening, broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=65536, queue="q"))],
                       [opening, broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=1, queue="q" * 5000))]):
            with self.subTest(frames=[f.WhichOneof("frame") for f in frames]):
                stream = Stream(self.cluster.addresses[1], "Publish")
                self.addCleanup(stream.close)
                for frame in frames:
                    stream.send(frame)
                self.ended(StatusCode.INVALID_ARGUMENT, stream)
        stream = self.publish(bind="q")
        self.assertEqual(stream.next(20).bound.outcome, broker_pb2.OUTCOME_OK)
        stream.send(append)
        self.refused_or_ended(stream, 7)
        consuming = Stream(self.cluster.addresses[1], "Consume")
        self.addCleanup(consuming.close)
        consuming.send(broker_pb2.ConsumeRequest(flow=broker_pb2.Flow(max_outstanding_messages=1)))
        self.ended(StatusCode.INVALID_ARGUMENT, consuming)

    # A refused frame is answered with all of its sequences, so that a client knows what to send again.
    def test_an_append_before_its_bound(self):
        self.cluster.create("early")
        leader = self.cluster.leader("early")
        other = next(address for number, address in enumerate(self.cluster.addresses, 1) if number != leader)
        three = encoded(message(b"a"), message(b"b"), message(b"c"))
        for producer, range_of_it in (("p", (7, 3)), ("", (0, 1))):
            def refusal(name=producer):
                stream = Stream(other, "Publish")
                self.addCleanup(stream.close)
                # Bound takes a round trip to the leader, and with a name to the disks of a majority, too.
                for frame in (broker_pb2.PublishRequest(open=broker_pb2.OpenPublish(producer=name)),
                              broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=1, queue="early")),
                              broker_pb2.PublishRequest(append=broker_pb2.Append(alias=1, first_sequence=7, batch=three))):
                    stream.send(frame)
                frames = [stream.next(20) for _ in range(3)]
                self.assertEqual(sorted(f.WhichOneof("frame") for f in frames), ["bound", "confirms", "opened"])
                confirm = next(f for f in frames if f.WhichOneof("frame") == "confirms").confirms.confirms[0]
                return confirm if confirm.outcome == broker_pb2.OUTCOME_REFUSED else None
            confirm = wait_for("an Append that comes before Bound", refusal)
            self.assertEqual((confirm.alias, confirm.first_sequence, confirm.count), (1, *range_of_it))
            self.assertIn("Bound", confirm.reason)
        self.cluster.admin().DeleteQueue(admin_pb2.DeleteQueueRequest(name="early"), timeout=20)

    # ---- consuming

    def test_credit_and_sessions(self):
        minus_one = 2**32 - 1  # as a negative number arrives
        for fields, words in [({"max_outstanding_messages": 100001}, (100001, 100000)),
                              ({"max_outstanding_messages": minus_one}, (100000,)),
                              ({"session_timeout_ms": 999}, (999, 1000)), ({"session_timeout_ms": 3600001}, (3600001, 3600000)),
                              ({"session": b""}, (64,)), ({"session": b"s" * 65}, (65, 64)),
                              ({"consumer": "c" * 256}, (255,))]:
            with self.subTest(fields=fields):
                self.ended(StatusCode.INVALID_ARGUMENT, self.consume(**fields), *words)
        self.ended(StatusCode.NOT_FOUND, self.consume(subscription="none"), "none")
        stream = self.consume()
        self.assertEqual(self.skip_others(stream).WhichOneof("frame"), "opened")
        stream.send(broker_pb2.ConsumeRequest(flow=broker_pb2.Flow(max_outstanding_messages=minus_one)))
        self.ended(StatusCode.INVALID_ARGUMENT, stream, 100000)

    def test_receive_and_extend(self):
        broker = self.cluster.broker()
        for fields, words in [({"max_messages": 1001}, (1001, 1000)), ({"wait_ms": 60001}, (60001, 60000)),
                              ({"lease_ms": 999}, (999, 1000)), ({"lease_ms": 43200001}, (43200001, 43200000))]:
            with self.subTest(fields=fields):
                self.refused(StatusCode.INVALID_ARGUMENT, lambda f=fields: broker.Receive(
                    broker_pb2.ReceiveRequest(queue="q", **f), timeout=20), *words)
        for lease in (0, 999, 43200001):
            self.refused(StatusCode.INVALID_ARGUMENT, lambda n=lease: broker.Extend(
                broker_pb2.ExtendRequest(queue="q", tokens=[b"x"], lease_ms=n), timeout=20), 1000)

    def test_foreign_tokens(self):
        self.cluster.send("other", [b"theirs"])
        theirs = self.cluster.receive("other")[0].token
        changed = bytes([theirs[0] ^ 0xff]) + theirs[1:]
        for token in (b"", b"x", os.urandom(16), os.urandom(200), theirs, changed, theirs[:-1], theirs + b"\0"):
            with self.subTest(token=token.hex()[:40]):
                for call in (lambda t=token: self.cluster.settle("q", [t]),
                             lambda t=token: list(self.cluster.broker(3).Extend(broker_pb2.ExtendRequest(
                                 queue="q", tokens=[t], lease_ms=5000), timeout=20).outcomes)):
                    try:
                        self.assertEqual(call(), [broker_pb2.OUTCOME_LEASE_LOST])
                    except grpc.RpcError as error:
                        self.assertEqual(error.code(), StatusCode.INVALID_ARGUMENT, error.details())
        self.assertEqual(self.cluster.settle("other", [theirs]), [broker_pb2.OUTCOME_OK], "its own queue still takes it")
        self.assertEqual(self.cluster.settle("other", [theirs]), [broker_pb2.OUTCOME_LEASE_LOST], "once")
        self.refused(StatusCode.INVALID_ARGUMENT, lambda: self.cluster.settle("q", [theirs], disposition=0))
        self.refused(StatusCode.INVALID_ARGUMENT, lambda: self.cluster.settle("q", [theirs], disposition=99))

    def test_foreign_runs(self):
        for first, count, checkout in [(1 << 16, 1, 1), (2**64 - 1, 1, 2**64 - 1), (0, 1, 0), (5 << 16, 65535, 9)]:
            with self.subTest(first=first):
                stream = self.consume(session=b"f%d" % checkout)
                opened = self.skip_others(stream)
                run = broker_pb2.HeldRun(first_position=first, count=count, checkout_index=checkout)
                stream.send(broker_pb2.ConsumeRequest(settle=broker_pb2.SettleRuns(
                    runs=[run], disposition=broker_pb2.DISPOSITION_ACKNOWLEDGE, receipt=5, group_id=opened.opened.group_id)))
                try:
                    frame = self.skip_others(stream)
                    self.assertEqual(frame.receipt.receipt, 5, frame)
                    self.assertEqual(sum(lost.count for lost in frame.receipt.lease_lost), count)
                except ConnectionError as error:
                    self.assertIn("INVALID_ARGUMENT", str(error))
        for fields in ({"disposition": 0}, {"disposition": 77}, {"group_id": 0}):
            stream = self.consume(session=b"d")
            opened = self.skip_others(stream)
            fields = {"disposition": broker_pb2.DISPOSITION_ACKNOWLEDGE, "group_id": opened.opened.group_id, **fields}
            stream.send(broker_pb2.ConsumeRequest(settle=broker_pb2.SettleRuns(
                runs=[broker_pb2.HeldRun(first_position=1 << 16, count=1, checkout_index=1)], receipt=5, **fields)))
            self.ended(StatusCode.INVALID_ARGUMENT, stream)
        held = [broker_pb2.HeldRun(first_position=1 << 16, count=1, checkout_index=1)]
        self.ended(StatusCode.INVALID_ARGUMENT, self.consume(session=b"h", held=held))

    # A frame that would be millions of objects is refused before they are made.
    def test_frames_of_very_many_runs(self):
        for count in (600_000, 2_000_000):
            held = [broker_pb2.HeldRun()] * count
            began = time.monotonic()
            self.ended(StatusCode.INVALID_ARGUMENT, self.consume(session=b"m", held=held, group_id=1))
            self.assertLess(time.monotonic() - began, 30)
        stream = self.consume(session=b"n")
        opened = self.skip_others(stream)
        stream.send(broker_pb2.ConsumeRequest(settle=broker_pb2.SettleRuns(
            runs=[broker_pb2.HeldRun()] * 2_000_000, disposition=broker_pb2.DISPOSITION_ACKNOWLEDGE,
            group_id=opened.opened.group_id)))
        self.ended(StatusCode.INVALID_ARGUMENT, stream)

    # ---- broken bytes

    def test_raw_bytes_on_the_port(self):
        seed = random.randrange(2**32)
        noise = random.Random(seed)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        settings = b"\0\0\0\x04\0\0\0\0\0"
        attempts = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + noise.randbytes(500), preface,
                    preface + settings + b"\xff\xff\xff\x01\x04\0\0\0\x01", preface + settings + b"\0\0\x05\x01\x04\0\0\0\x01\xff\xff\xff\xff\xff"]
        attempts += [noise.randbytes(noise.randrange(1, 5000)) for _ in range(20)]
        attempts += [preface + settings + noise.randbytes(noise.randrange(1, 2000)) for _ in range(20)]
        for address in self.cluster.addresses:
            host, port = address.split(":")
            for data in attempts:
                with socket.create_connection((host, int(port)), 5) as connection:
                    connection.settimeout(0.05)
                    try:
                        connection.sendall(data)
                        connection.recv(4096)
                    except OSError:
                        pass
        self.still_served(f"seed {seed}")

    def test_garbage_in_calls_and_streams(self):
        seed = random.randrange(2**32)
        noise = random.Random(seed)
        methods = [("Broker/Send", False), ("Broker/Receive", False), ("Broker/Settle", False), ("Broker/Resolve", False), ("Admin/CreateQueue", False),
                   ("Admin/ListQueues", False), ("Cluster/Init", False), ("Broker/Publish", True), ("Broker/Consume", True)]
        for method, streamed in methods:
            for data in [b"\xff\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x7f", noise.randbytes(200), noise.randbytes(5000)]:
                with self.subTest(method=method, data=data[:8], seed=seed):
                    if streamed:
                        call = self.cluster.channel(2).stream_stream(f"/trireme.v1.{method}")
                        problem = lambda c=call, d=data: list(c(iter([d]), timeout=10))
                    else:
                        call = self.cluster.channel(2).unary_unary(f"/trireme.v1.{method}")
                        problem = lambda c=call, d=data: c(d, timeout=10)
                    with self.assertRaises(grpc.RpcError) as caught:
                        problem()
                    self.assertIn(caught.exception.code(), (StatusCode.INVALID_ARGUMENT, StatusCode.INTERNAL), caught.exception.details())
        for path in ("/trireme.v1.Broker/Nothing", "/nothing.at.All/Here", "/"):
            with self.assertRaises(grpc.RpcError) as caught:
                self.cluster.channel(2).unary_unary(path)(b"", timeout=10)
            self.assertEqual(caught.exception.code(), StatusCode.UNIMPLEMENTED)
        self.still_served(f"seed {seed}")

    def test_the_nodes_own_service_refuses_strangers(self):
        for metadata in ((), (("trireme-cluster", "00" * 16), ("trireme-cluster-bin", b"\0" * 16))):
            call = self.cluster.channel(1).stream_stream("/trireme.peer.v1.Peer/Raft")
            with self.assertRaises(grpc.RpcError) as caught:
                list(call(iter([os.urandom(100)]), metadata=metadata, timeout=10))
            self.assertIn(caught.exception.code(), (StatusCode.FAILED_PRECONDITION, StatusCode.INVALID_ARGUMENT,
                                                    StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED))
        self.still_served("after strangers")

    # ---- the command

    def test_the_command_says_what_is_wrong(self):
        for arguments, words in [(("queue", "create", "a b"), ("a b",)), (("queue", "describe", "nowhere"), ("nowhere",)),
                                 (("publish", "nowhere", "text"), ("nowhere",)), (("consume", "nowhere", "--count", "1"), ("nowhere",)),
                                 (("queue", "create", "five", "--replicas", "5"), ("5", "3")),
                                 (("nonsense",), ("nonsense",)), (("bench", "--queue", "q", "--size", "-1"), ("-1",))]:
            with self.subTest(arguments=arguments):
                done = self.cluster.command(*arguments)
                self.assertNotEqual(done.returncode, 0, done.stdout)
                for word in words:
                    self.assertIn(word, done.stderr)
                self.assertEqual(done.stdout.strip(), "")
        done = subprocess.run([os.path.join(harness.BIN, "trireme"), "cluster", "status", "--server", "127.0.0.1:99999"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("99999", done.stderr)

    # ---- helpers

    def publish(self, bind, **opening):
        """A stream that was opened; its next frame answers the bind."""
        stream = Stream(self.cluster.addresses[1], "Publish")
        self.addCleanup(stream.close)
        stream.send(broker_pb2.PublishRequest(open=broker_pb2.OpenPublish(**opening)))
        stream.send(broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=1, queue=bind)))
        self.assertEqual(stream.next(20).WhichOneof("frame"), "opened")
        return stream

    def consume(self, **fields):
        stream = Stream(self.cluster.addresses[1], "Consume")
        self.addCleanup(stream.close)
        fields = {"queue": "q", "session": b"bad-input", **fields}
        stream.send(broker_pb2.ConsumeRequest(open=broker_pb2.OpenConsume(**fields)))
        return stream

    def skip_others(self, stream):
        frame = stream.next(20)
        while frame.WhichOneof("frame") in ("redirect", "keep_alive"):
            frame = stream.next(20)
        return frame

    def ended(self, code, stream, *words):
        """The stream ends with that code; its message has all of the words."""
        try:
            while True:
                frame = stream.next(20)
                self.assertIn(frame.WhichOneof("frame"), ("opened", "redirect", "keep_alive"), frame)
        except ConnectionError as error:
            self.assertIn(str(code), str(error))
            for word in words:
                self.assertIn(str(word), str(error))

    def refused_or_ended(self, stream, *words):
        """What was published is refused: in a confirm, or by the stream's end."""
        try:
            frame = stream.next(20)
            self.assertEqual(frame.WhichOneof("frame"), "confirms", frame)
            confirm = frame.confirms.confirms[0]
            self.assertEqual(confirm.outcome, broker_pb2.OUTCOME_REFUSED, confirm)
            said = confirm.reason
        except ConnectionError as error:
            said = str(error)
            self.assertRegex(said, "INVALID_ARGUMENT|RESOURCE_EXHAUSTED")
        for word in words:
            self.assertIn(str(word), said)

    def still_served(self, what):
        for number in (1, 2, 3):
            # A node's own view may lag a little behind what another test has just deleted.
            wait_for(f"sound node {number}, {what}", lambda n=number: self.cluster.cluster(n).Status(
                cluster_pb2.StatusRequest(), timeout=20).queues == 2)
        for number, node in enumerate(self.cluster.status()["nodes"], 1):
            self.assertTrue(node["running"], f"node {number}, {what}")


class Nodes(harness.TestCase):
    """The broker's own command line, and data directories that are not its own."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="trireme-test-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def broker(self, *arguments, data=None, address=None):
        """Runs a broker that has to end by itself; its exit code and what it said."""
        address = address or "127.0.0.1:%d" % self.free_port()
        command = [os.path.join(harness.BIN, "trireme-broker"), "--data", data or os.path.join(self.dir, "data"),
                   "--listen", address, "--advertise", address, *arguments]
        if "--join" not in arguments:
            command += ["--join", address]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            output, _ = process.communicate(timeout=20)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            output, _ = process.communicate()
            self.fail(f"{command} did not end by itself; it said:\n{output}")

    @staticmethod
    def free_port():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def fails(self, words, *arguments, **places):
        code, output = self.broker(*arguments, **places)
        self.assertNotIn(code, (0, -signal.SIGABRT, -signal.SIGSEGV), output)
        for word in words:
            self.assertIn(str(word), output)

    def test_the_command_line(self):
        for arguments, words in [(("--join", "127.0.0.1:99999"), ("99999",)), (("--nonsense",), ("nonsense",)),
                                 (("--join", "127.0.0.1:1,127.0.0.1:2"), ("advertise",)), (("--tick-ms", "0"), ("tick", "0")),
                                 (("--metrics-listen", "nowhere"), ("nowhere",)), (("--log-level", "loud"), ("loud",)),
                                 (("--young-log-mb", "-5"), ("-5",)), (("--config", "/nonexistent/file"), ("/nonexistent/file",))]:
            with self.subTest(arguments=arguments):
                self.fails(words, *arguments)
        self.fails(["127.0.0.1:port"], address="127.0.0.1:port")
        file = os.path.join(self.dir, "file")
        with open(file, "w", encoding="utf-8") as made:
            made.write("not a directory")
        self.fails([file], data=file)

    def test_what_belongs_to_others(self):
        with Cluster() as first, Cluster(nodes=1) as second:
            first.create("kept")
            first.send("kept", [b"m"])
            one, two = first.status()["nodes"][:2]
            # In use: the directory, then the address.
            self.fails([one["data"]], "--join", first.servers, data=one["data"], address=one["address"])
            self.fails([one["address"]], "--join", first.servers, address=one["address"])
            # Another node's directory.
            first.stop(1)
            first.stop(2)
            self.fails([one["data"], one["address"], two["address"]], "--join", first.servers, data=one["data"], address=two["address"])
            # A directory without its identity is not taken for a new one.
            first.start(1)
            first.start(2)
            first.leader("kept")
            # Init of what is a cluster already, with another id.
            known = self.id_of(first)
            self.refused(StatusCode.FAILED_PRECONDITION, lambda: first.cluster(1).Init(
                cluster_pb2.InitRequest(cluster_id=b"x" * 16), timeout=20), known.hex())
            self.refused(StatusCode.INVALID_ARGUMENT, lambda: first.cluster(1).Init(
                cluster_pb2.InitRequest(cluster_id=b"short"), timeout=20), 16)
            # A node of the second cluster that is told to be one of the first.
            stranger = second.status()["nodes"][0]
            second.stop(1)
            code, output = self.broker_for_a_while("--join", f"{first.servers},{stranger['address']}", data=stranger["data"],
                                                   address=stranger["address"])
            self.assertNotIn(code, (-signal.SIGABRT, -signal.SIGSEGV), output)
            self.assertEqual(self.id_of(first), known)
            nodes = first.cluster(1).Status(cluster_pb2.StatusRequest(), timeout=20).nodes
            self.assertEqual(sorted(node.address for node in nodes), sorted(first.addresses))
            self.assertEqual(first.drain("kept", 1), [b"m"])
            second.start(1)

    def broker_for_a_while(self, *arguments, data, address):
        process = subprocess.Popen([os.path.join(harness.BIN, "trireme-broker"), "--data", data, "--listen", address, "--advertise", address,
                                    *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            output, _ = process.communicate(timeout=4)
        except subprocess.TimeoutExpired:
            process.terminate()
            output, _ = process.communicate(timeout=20)
        return process.returncode, output

    @staticmethod
    def id_of(cluster):
        return wait_for("a cluster id", lambda: cluster.cluster(1).Status(cluster_pb2.StatusRequest(), timeout=20).cluster_id)


if __name__ == "__main__":
    harness.main()
