"""Request and reply, and temporary queues: what they give, and that they are gone with their client or their node (Safety rule 24)."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time

import grpc

import harness
from harness import Cluster, wait_for
from streams import Stream
from trireme.v1 import admin_pb2, broker_pb2, message_pb2

ACKNOWLEDGE = broker_pb2.DISPOSITION_ACKNOWLEDGE
# What a request may end with while nodes die, beside its reply: none came, or the outcome is unknown.
NO_REPLY = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


def create_temporary(cluster, number=1, **settings):
    """Its name."""
    temporary = admin_pb2.TemporarySettings(**settings)
    return cluster.create("", number, temporary=temporary).queue.name


def describe(cluster, name, number=1, seconds=harness.CALL_SECONDS):
    return cluster.admin(number).DescribeQueue(admin_pb2.DescribeQueueRequest(name=name), timeout=seconds)


class Replier:
    """Takes requests at one node, and sends each reply through another, until it is stopped."""

    def __init__(self, cluster, queue, takes_at, replies_at, answer=lambda body: b"re:" + body):
        self.cluster, self.queue, self.takes_at, self.replies_at, self.answer = cluster, queue, takes_at, replies_at, answer
        self.stopping = threading.Event()
        self.replied = self.late = 0
        self.failure = None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self.stopping.set()
        self.thread.join(40)
        if self.failure is not None and kind is None:
            raise self.failure

    def run(self):
        try:
            while not self.stopping.is_set():
                try:
                    got = self.cluster.receive(self.queue, self.takes_at, wait_ms=300)
                    for received in got:
                        self.reply(received.message)
                    if got:
                        self.cluster.settle(self.queue, [received.token for received in got], self.takes_at)
                except grpc.RpcError as error:
                    # Its leader was killed; what is not settled comes again.
                    if error.code() not in NO_REPLY:
                        raise
                    self.stopping.wait(0.05)
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def reply(self, request):
        reply = message_pb2.Message(body=self.answer(request.body), correlation_id=request.correlation_id)
        send = broker_pb2.SendRequest(queue=request.reply_to, batch=message_pb2.MessageBatch(messages=[reply]))
        try:
            self.cluster.broker(self.replies_at).Send(send, timeout=harness.CALL_SECONDS)
            self.replied += 1
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            self.late += 1


def request(cluster, queue, body, number=1, timeout_ms=10000, seconds=harness.CALL_SECONDS, **fields):
    message = message_pb2.Message(body=body, **fields)
    return cluster.broker(number).Request(broker_pb2.RequestRequest(queue=queue, message=message, timeout_ms=timeout_ms),
                                          timeout=seconds).reply


class RequestReply(harness.TestCase):
    def test_a_request_gets_its_reply_over_whichever_nodes(self):
        with Cluster() as cluster:
            cluster.create("echo")
            for asks, takes, replies in ((1, 2, 3), (2, 3, 1), (3, 1, 2), (1, 1, 1)):
                with Replier(cluster, "echo", takes, replies):
                    reply = request(cluster, "echo", b"hello", asks, correlation_id="mine")
                    self.assertEqual((reply.body, reply.correlation_id), (b"re:hello", "mine"))
            # An exchange leads to it as well.
            broker = cluster.broker(2)
            through = broker_pb2.RequestRequest(exchange="", message=message_pb2.Message(body=b"routed", routing_key="echo"))
            with Replier(cluster, "echo", 1, 3):
                self.assertEqual(broker.Request(through, timeout=harness.CALL_SECONDS).reply.body, b"re:routed")
            through.message.routing_key = "nobody"
            self.refused(grpc.StatusCode.NOT_FOUND, lambda: broker.Request(through, timeout=harness.CALL_SECONDS),
                         reason="UNROUTABLE")
            self.refused(grpc.StatusCode.NOT_FOUND, lambda: request(cluster, "nobody", b"?"), "nobody", reason="QUEUE_NOT_FOUND")
            self.refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: request(cluster, "echo", b"?", reply_to="me"),
                         reason="BAD_REPLY_TO")
            self.refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: request(cluster, "echo", b"?", timeout_ms=60001), 60000)

            # Nobody replies in time; who replies later is told that nobody waits.
            before = time.time()
            self.refused(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: request(cluster, "echo", b"late", timeout_ms=1500),
                         "stored", reason="NO_REPLY")
            late = cluster.receive("echo", 2, wait_ms=5000)
            self.assertEqual([received.message.body for received in late], [b"late"])
            self.assertAlmostEqual(late[0].message.expires_at_ms / 1000, before + 1.5, delta=10)
            for number in (1, 2, 3):
                self.refused(grpc.StatusCode.NOT_FOUND, lambda at=number: cluster.send(late[0].message.reply_to, [b"x"], at),
                             late[0].message.reply_to, reason="TEMPORARY_QUEUE_GONE")

            # Nobody else gets the reply.
            asking = threading.Thread(target=lambda: contextlib.suppress(grpc.RpcError) and request(cluster, "echo", b"mine"))
            asking.start()
            cluster.settle("echo", [late[0].token])
            mine = cluster.receive("echo", 3, wait_ms=5000)[0]
            self.refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: cluster.receive(mine.message.reply_to, 2),
                         reason="EXCLUSIVE_QUEUE")
            cluster.send(mine.message.reply_to, [b"done"], 2)
            asking.join(20)
            self.assertFalse(asking.is_alive())

    def test_the_leader_of_the_request_queue_is_killed_in_the_middle(self):
        with Cluster() as cluster:
            cluster.create("work")
            leader = cluster.leader("work")
            asks, works = [number for number in (1, 2, 3) if number != leader]
            outcomes, lock, stop = [], threading.Lock(), threading.Event()

            def requester(name):
                count = 0
                while not stop.is_set():
                    body = b"%d-%d" % (name, count)
                    count += 1
                    try:
                        reply = request(cluster, "work", body, asks, timeout_ms=8000, correlation_id=body.decode())
                        what = (body, reply.body, reply.correlation_id)
                    except grpc.RpcError as error:
                        what = (body, error.code(), error.details())
                    with lock:
                        outcomes.append(what)

            def replies():
                with lock:
                    return sum(isinstance(outcome[1], bytes) for outcome in outcomes)

            with Replier(cluster, "work", works, works), Replier(cluster, "work", asks, works):
                requesters = [threading.Thread(target=requester, args=(name,), daemon=True) for name in range(8)]
                for thread in requesters:
                    thread.start()
                wait_for("replies", lambda: replies() >= 100)
                cluster.kill_now(leader)
                before = replies()
                wait_for("replies under the next leader", lambda: replies() >= before + 100, 60)
                stop.set()
                for thread in requesters:
                    thread.join(30)
                    self.assertFalse(thread.is_alive(), "a request has ended neither by a reply nor by its timeout")
            unanswered = 0
            for body, answer, detail in outcomes:
                if isinstance(answer, bytes):
                    self.assertEqual((answer, detail), (b"re:" + body, body.decode()), "a request got another one's reply")
                else:
                    self.assertIn(answer, NO_REPLY, detail)
                    unanswered += 1
            # Only what was under way when the leader died: one request of each at most, and perhaps one more each.
            self.assertLessEqual(unanswered, 16, outcomes)
            print(f"requests: {len(outcomes)}, of them without a reply: {unanswered}")


class TemporaryQueues(harness.TestCase):
    def open_inbox(self, cluster, number, session, timeout_ms=1000, queue=None):
        stream = Stream(cluster.addresses[number - 1], "Consume")
        stream.send(broker_pb2.ConsumeRequest(open=broker_pb2.OpenConsume(
            queue=queue, temporary=queue is None, session=session, session_timeout_ms=timeout_ms)))
        return stream, stream.next(20).opened

    def delivery(self, stream):
        while True:
            frame = stream.next(20)
            if frame.WhichOneof("frame") == "deliver":
                return frame.deliver.runs[0]

    def gone(self, cluster, name, *words, numbers=(1, 2, 3)):
        for number in numbers:
            self.refused(grpc.StatusCode.NOT_FOUND, lambda at=number: cluster.send(name, [b"x"], at), name, *words,
                         reason="TEMPORARY_QUEUE_GONE")
            self.refused(grpc.StatusCode.NOT_FOUND, lambda at=number: describe(cluster, name, at), reason="TEMPORARY_QUEUE_GONE")

    def test_a_queue_is_gone_with_its_client(self):
        with Cluster() as cluster:
            stream, opened = self.open_inbox(cluster, 2, b"s")
            name = opened.queue
            self.assertRegex(name, r"^\$temp/\d+\.\d+/\d+$")
            # From any node, by call and by stream.
            for number in (1, 2, 3):
                body = b"from %d" % number
                self.assertEqual(cluster.send(name, [body], number).confirms[0].outcome, broker_pb2.OUTCOME_OK)
                self.assertEqual(self.delivery(stream).batch.messages[0].body, body)
            publisher = Stream(cluster.addresses[2], "Publish")
            publisher.send(broker_pb2.PublishRequest(open=broker_pb2.OpenPublish(producer="p")))
            publisher.send(broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=1, queue=name)))
            self.assertEqual(publisher.next(20).WhichOneof("frame"), "opened")
            bound = publisher.next(20).bound
            self.assertEqual(bound.outcome, broker_pb2.OUTCOME_OK, bound.reason)
            batch = message_pb2.MessageBatch(messages=[message_pb2.Message(body=b"streamed")]).SerializeToString()
            publisher.send(broker_pb2.PublishRequest(append=broker_pb2.Append(alias=1, first_sequence=1, batch=batch)))
            self.assertEqual(publisher.next(20).confirms.confirms[0].outcome, broker_pb2.OUTCOME_OK)
            self.assertEqual(self.delivery(stream).batch.messages[0].body, b"streamed")
            info = describe(cluster, name, 1)
            self.assertEqual((info.figures.subscriptions[0].in_flight, info.queue.leader_node_id), (4, opened.leader.node_id))

            # It is this session's alone, which may come back over another node.
            with self.assertRaisesRegex(ConnectionError, "FAILED_PRECONDITION"):
                self.open_inbox(cluster, 1, b"other", queue=name)
            stream.close()
            stream, again = self.open_inbox(cluster, 3, b"s", queue=name)
            self.assertEqual((again.resumed, again.queue), (True, name))
            # Closed in order, it is gone at once; broken, after the session's timeout.
            stream.outgoing.put(None)
            wait_for("end of the stream", lambda: not stream.thread.is_alive())
            self.gone(cluster, name)
            publisher.send(broker_pb2.PublishRequest(append=broker_pb2.Append(alias=1, first_sequence=2, batch=batch)))
            self.assertEqual(publisher.next(20).WhichOneof("frame"), "unbound")
            publisher.send(broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=1, queue=name)))
            bound = publisher.next(20).bound
            self.assertEqual(bound.outcome, broker_pb2.OUTCOME_REFUSED)
            self.assertIn("is not there", bound.reason)
            publisher.close()
            stream, opened = self.open_inbox(cluster, 1, b"t")
            stream.close()

            def is_gone():
                with contextlib.suppress(grpc.RpcError):
                    describe(cluster, opened.queue, 2)
                    return False
                return True
            wait_for("end of the session", is_gone)
            self.gone(cluster, opened.queue)

    def test_a_queue_is_gone_with_its_node(self):
        with Cluster() as cluster:
            stream, opened = self.open_inbox(cluster, 2, b"s", timeout_ms=30000)
            cluster.send(opened.queue, [b"a"], 1)
            self.delivery(stream)
            cluster.kill(2)
            # At once, and not at the end of its patience.
            began = time.monotonic()
            self.gone(cluster, opened.queue, "cannot be reached", numbers=(1, 3))
            self.assertLess(time.monotonic() - began, harness.CALL_SECONDS / 2)
            stream.close()
            cluster.start(2)
            # The new process gives the same numbers again; the old name leads to none of its queues.
            stream, newer = self.open_inbox(cluster, 2, b"new")
            self.assertEqual(newer.queue.split("/")[2], opened.queue.split("/")[2])
            self.assertEqual(newer.group_id, opened.group_id)
            self.gone(cluster, opened.queue, "started again")
            with self.assertRaisesRegex(ConnectionError, "NOT_FOUND"):
                self.open_inbox(cluster, 1, b"s", queue=opened.queue)
            cluster.send(newer.queue, [b"new"], 3)
            self.assertEqual(self.delivery(stream).batch.messages[0].body, b"new")
            stream.close()
            self.refused(grpc.StatusCode.NOT_FOUND, lambda: cluster.send("$temp/99.1/1", [b"x"]), "no node 99",
                         reason="TEMPORARY_QUEUE_GONE")

    def test_one_that_is_made_by_a_call(self):
        with Cluster(1) as cluster:
            name = create_temporary(cluster, shared=True, max_messages=3, idle_timeout_ms=60000)
            cluster.send(name, [b"a", b"b", b"c"])
            self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: cluster.send(name, [b"d"]), "its limit of 3")
            self.assertEqual(cluster.drain(name, 3), [b"a", b"b", b"c"])
            cluster.send(name, [b"d"])
            self.assertEqual(describe(cluster, name).queue.settings.temporary.max_messages, 3)
            self.assertEqual(cluster.admin().PurgeQueue(admin_pb2.PurgeQueueRequest(name=name), timeout=20).purged, 1)
            cluster.admin().DeleteQueue(admin_pb2.DeleteQueueRequest(name=name), timeout=harness.CALL_SECONDS)
            self.gone(cluster, name, numbers=(1,))

            idle = create_temporary(cluster, idle_timeout_ms=1000)

            def is_gone():
                with contextlib.suppress(grpc.RpcError):
                    cluster.admin().DeleteQueue(admin_pb2.DeleteQueueRequest(name=idle), timeout=harness.CALL_SECONDS)
                    return False
                return True
            # Any call to it would be a use.
            wait_for("the end of an idle queue", lambda: cluster.metric(1, "trireme_temporary_queues") == 0)
            self.assertTrue(is_gone())
            bad = grpc.StatusCode.INVALID_ARGUMENT
            self.refused(bad, lambda: cluster.create("mine", temporary=admin_pb2.TemporarySettings()), "mine", reason="BAD_QUEUE_NAME")
            self.refused(bad, lambda: cluster.create("", replicas=3, temporary=admin_pb2.TemporarySettings()), 3)
            self.refused(bad, lambda: create_temporary(cluster, idle_timeout_ms=10), 1000)
            self.refused(bad, lambda: cluster.send("$temp/mine", [b"x"]), reason="BAD_QUEUE_NAME")
            self.refused(bad, lambda: cluster.admin().CreateBinding(admin_pb2.CreateBindingRequest(binding=admin_pb2.Binding(
                exchange="e", queue=name)), timeout=harness.CALL_SECONDS), "temporary")

    def load(self, cluster, *arguments):
        return subprocess.Popen([os.path.join(harness.BIN, "temporary_load"), cluster.servers, *arguments],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def all_gone(self, cluster, names):
        """Within their session's timeout, with room for a busy machine."""
        waiting = list(names)

        def asked():
            nonlocal waiting
            still = []
            for start in range(0, len(waiting), 500):
                some = waiting[start:start + 500]
                answers = [cluster.admin().DescribeQueue.future(admin_pb2.DescribeQueueRequest(name=name), timeout=60) for name in some]
                for name, answer in zip(some, answers):
                    if answer.exception() is None:
                        still.append(name)
                    else:
                        self.assertEqual(answer.exception().code(), grpc.StatusCode.NOT_FOUND)
            waiting = still
            return not waiting
        wait_for("end of all of the inboxes", asked, 60)

    def memory_kib(self, cluster):
        with open(f"/proc/{cluster.status()['nodes'][0]['pid']}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    def test_ten_thousand_are_made_and_used_and_gone_with_their_client(self):
        with Cluster(1) as cluster:
            for ends in ("closes", "is killed"):
                before = self.memory_kib(cluster)
                client = self.load(cluster, "inboxes", "10000")
                names = []
                for line in client.stdout:
                    words = line.split()
                    if words[0] == "held":
                        break
                    names.append(words[1])
                self.assertEqual(words[:2], ["held", "10000"])
                self.assertEqual(len(set(names)), 10000)
                seconds = float(words[2])
                print(f"10000 inboxes made and used in {seconds} s, {10000 / seconds * 60:.0f} a minute; "
                      f"{(self.memory_kib(cluster) - before) / 10000:.1f} KiB each")
                if ends == "closes":
                    print(client.communicate("\n", timeout=60)[0].strip())
                    self.assertEqual(client.returncode, 0)
                else:
                    client.kill()
                    client.communicate(timeout=60)
                self.all_gone(cluster, names)

    def test_many_requests_over_one_inbox(self):
        with Cluster(3) as cluster:
            client = self.load(cluster, "requests", "20000")
            said = client.communicate(timeout=180)[0].split()
            self.assertEqual((client.returncode, said[:2]), (0, ["replied", "20000"]))
            print(f"20000 requests over one inbox in {said[2]} s")

    def test_by_the_command(self):
        with Cluster(3) as cluster:
            cluster.create("prices")
            replier = subprocess.Popen([os.path.join(harness.BIN, "trireme"), "reply", "prices", "--exec", "tr a-z A-Z; test $(wc -c) -eq 0"],
                                       env={**os.environ, "TRIREME_SERVER": cluster.servers}, stdin=subprocess.DEVNULL)
            try:
                asked = cluster.command("request", "prices", "two anchors", "--timeout", "20")
                self.assertEqual((asked.returncode, asked.stdout), (0, "TWO ANCHORS\n"), asked.stderr)
                asked = json.loads(cluster.command("request", "prices", "--output", "json", "--correlation-id", "7", text="stdin").stdout)
                self.assertEqual((asked["body"], asked["correlation_id"]), ("STDIN", "7"))
            finally:
                replier.send_signal(signal.SIGINT)
                self.assertEqual(replier.wait(30), 0)
            nobody = cluster.command("request", "prices", "?", "--timeout", "1")
            self.assertEqual(nobody.returncode, 3, nobody.stderr)
            self.assertIn("no reply came", nobody.stderr)
            # Nobody waits for that one any more, so that the next is the first that is answered.
            failing = subprocess.Popen([os.path.join(harness.BIN, "trireme"), "reply", "prices", "--exec", "exit 3", "--count", "2"],
                                       env={**os.environ, "TRIREME_SERVER": cluster.servers}, stderr=subprocess.PIPE, text=True)
            failed = cluster.command("request", "prices", "?", "--timeout", "20")
            self.assertEqual(failed.returncode, 1)
            self.assertIn("ended with 3", failed.stderr)
            self.assertIn("nobody waits", failing.communicate(timeout=30)[1])

            made = cluster.command("queue", "create", "--temporary", "--shared")
            name = made.stdout.strip()
            self.assertRegex(name, r"^\$temp/")
            self.assertEqual(cluster.command("publish", name, "hello").returncode, 0)
            self.assertEqual(cluster.command("consume", name, "--ack", "--count", "1").stdout, "hello\n")
            self.assertEqual(cluster.command("queue", "delete", name).returncode, 0)
            gone = cluster.command("publish", name, "hello")
            self.assertEqual(gone.returncode, 1, gone.stderr)
            self.assertIn("is not there", gone.stderr)
            self.assertEqual(cluster.command("queue", "create", "--temporary", "mine").returncode, 2)
            self.assertEqual(cluster.command("queue", "create").returncode, 2)


if __name__ == "__main__":
    harness.main()
