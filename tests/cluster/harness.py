"""What the cluster tests share: a cluster of real processes, and clients written against the generated stubs only, so that
they test the protocol and not the C++ library."""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import grpc

import error_pb2
from trireme.v1 import admin_pb2, admin_pb2_grpc, broker_pb2, broker_pb2_grpc, cluster_pb2_grpc, message_pb2

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "deploy", "local", "cluster")
BIN = None  # set by main()

# A call's default time: an election takes about a second, on a busy machine a few.
CALL_SECONDS = 20


def wait_for(what, condition, seconds=30, workers=()):
    """The condition's first true value; fails after the time, saying what was waited for and how far the workers are."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("\n  ".join([f"after {seconds} s still no {what}", *(w.progress() for w in workers)]))
        time.sleep(0.02)


def channel(address):
    # A pool of its own: a test that reconnects wants a new connection, not the back-off of an old one.
    return grpc.insecure_channel(address, options=[
        ("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500), ("grpc.max_receive_message_length", 16 << 20)])


class Cluster:
    """Real processes through deploy/local/cluster, in a folder that goes with it."""

    def __init__(self, nodes=3, arguments=()):
        self.size = nodes
        self.arguments = list(arguments)
        self.dir = tempfile.mkdtemp(prefix="trireme-test-")
        self.addresses = []
        self.channels = {}

    def __enter__(self):
        try:
            self.tool("up", "--nodes", str(self.size), "--bin", BIN, *(["--", *self.arguments] if self.arguments else []))
            self.addresses = [node["address"] for node in self.status()["nodes"]]
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, error, trace):
        for open_channel in self.channels.values():
            open_channel.close()
        if kind is not None:
            self.show_logs()
        with contextlib.suppress(AssertionError):
            self.tool("down")
        shutil.rmtree(self.dir, ignore_errors=True)

    def tool(self, *arguments, seconds=180):
        """Runs deploy/local/cluster; the output. Fails unless it succeeds."""
        command = [TOOL, arguments[0], "--dir", self.dir, *arguments[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        if done.returncode != 0:
            raise AssertionError(f"'cluster {' '.join(arguments)}' failed: {done.stdout}{done.stderr}")
        return done.stdout

    def status(self):
        return json.loads(self.tool("status", "--output", "json"))

    def show_logs(self):
        for number in range(1, self.size + 1):
            path = os.path.join(self.dir, f"node-{number}", "log")
            with contextlib.suppress(OSError):
                with open(path, encoding="utf-8", errors="replace") as log:
                    print(f"---- the end of node {number}'s log\n" + "".join(log.readlines()[-25:]), file=sys.stderr)

    def kill(self, number):
        self.tool("kill", str(number))
        self.forget(number)

    def forget(self, number):
        """A call on the connection to the process that was would fail, whatever the new one does."""
        if number in self.channels:
            self.channels.pop(number).close()

    def kill_now(self, number):
        """Without waiting for others: the tool lets one command at a time change a cluster."""
        os.kill(self.status()["nodes"][number - 1]["pid"], signal.SIGKILL)
        wait_for(f"node {number} to be gone", lambda: not self.status()["nodes"][number - 1]["running"])
        self.forget(number)

    def start(self, number):
        self.tool("start", str(number))

    def stop(self, number):
        self.tool("stop", str(number))
        self.forget(number)

    def number_of(self, address):
        return self.addresses.index(address) + 1

    @property
    def servers(self):
        return ",".join(self.addresses)

    # ---- clients

    def channel(self, number=1):
        if number not in self.channels:
            self.channels[number] = channel(self.addresses[number - 1])
        return self.channels[number]

    def admin(self, number=1):
        return admin_pb2_grpc.AdminStub(self.channel(number))

    def broker(self, number=1):
        return broker_pb2_grpc.BrokerStub(self.channel(number))

    def cluster(self, number=1):
        return cluster_pb2_grpc.ClusterStub(self.channel(number))

    def create(self, name, number=1, **settings):
        return self.admin(number).CreateQueue(
            admin_pb2.CreateQueueRequest(name=name, settings=admin_pb2.QueueSettings(**settings)),
            timeout=CALL_SECONDS, wait_for_ready=True)

    def metrics(self, number, path="/metrics"):
        """The status and the text that the node's metrics port answers."""
        address = self.status()["nodes"][number - 1]["metrics"]
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, number, name):
        """The sum over its labels."""
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.metrics(number)[1], re.MULTILINE)
        return sum(float(value) for value in found)

    def figures(self, name, number=1):
        answer = self.admin(number).DescribeQueue(admin_pb2.DescribeQueueRequest(name=name), timeout=CALL_SECONDS)
        return answer.figures

    def figures_anywhere(self, name):
        """From the first node that answers."""
        def ask():
            for number in range(1, self.size + 1):
                with contextlib.suppress(grpc.RpcError):
                    return self.figures(name, number)
            return None
        return wait_for(f"figures of {name}", ask)

    def send(self, name, bodies, number=1, seconds=CALL_SECONDS, **fields):
        batch = message_pb2.MessageBatch(messages=[message_pb2.Message(body=body) for body in bodies])
        return self.broker(number).Send(broker_pb2.SendRequest(queue=name, batch=batch, **fields), timeout=seconds)

    def receive(self, name, number=1, most=100, wait_ms=0, lease_ms=30000, seconds=CALL_SECONDS, subscription=""):
        request = broker_pb2.ReceiveRequest(queue=name, subscription=subscription, max_messages=most, wait_ms=wait_ms,
                                            lease_ms=lease_ms)
        return list(self.broker(number).Receive(request, timeout=seconds).messages)

    def settle(self, name, tokens, number=1, disposition=broker_pb2.DISPOSITION_ACKNOWLEDGE):
        request = broker_pb2.SettleRequest(queue=name, tokens=tokens, disposition=disposition)
        return list(self.broker(number).Settle(request, timeout=CALL_SECONDS).outcomes)

    def drain(self, name, count, number=1, seconds=60):
        """Receives and acknowledges until `count` messages came, or none comes any more; the bodies."""
        bodies = []
        deadline = time.monotonic() + seconds
        while len(bodies) < count and time.monotonic() < deadline:
            got = self.receive(name, number, most=500, wait_ms=2000)
            if not got:
                break
            assert set(self.settle(name, [m.token for m in got], number)) == {broker_pb2.OUTCOME_OK}
            bodies += [m.message.body for m in got]
        return bodies

    def leader(self, name, but=()):
        """The number of the node that leads the queue, as some running node knows; waits for one."""
        def ask():
            for number in range(1, self.size + 1):
                with contextlib.suppress(grpc.RpcError):
                    answer = self.broker(number).Resolve(broker_pb2.ResolveRequest(queue=name), timeout=2)
                    if answer.leader.address in self.addresses and self.number_of(answer.leader.address) not in but:
                        return self.number_of(answer.leader.address)
            return None
        return wait_for(f"leader of {name}", ask)

    def command(self, *arguments, seconds=60, text=None):
        """Runs the trireme command against this cluster."""
        environment = {**os.environ, "TRIREME_SERVER": self.servers}
        return subprocess.run([os.path.join(BIN, "trireme"), *arguments], capture_output=True, text=True, env=environment,
                              timeout=seconds, input=text, check=False)


def error_info(error):
    """The google.rpc.ErrorInfo in the details of an error."""
    status, info = error_pb2.Status(), error_pb2.ErrorInfo()
    status.ParseFromString(dict(error.trailing_metadata()).get("grpc-status-details-bin", b""))
    assert len(status.details) == 1 and status.details[0].Unpack(info), f"no ErrorInfo in the details of: {error.details()}"
    return info


class TestCase(unittest.TestCase):
    def refused(self, code, call, *words, reason=None):
        """The call fails with that code, its message has all of the words, and its details the reason; the message."""
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        error = caught.exception
        self.assertEqual(error.code(), code, error.details())
        for word in words:
            self.assertIn(str(word), error.details())
        info = error_info(error)
        self.assertEqual(info.domain, "trireme")
        self.assertRegex(info.reason, "^[A-Z][A-Z_]+$")
        if reason is not None:
            self.assertEqual(info.reason, reason, error.details())
        return error.details()


def main():
    global BIN
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True, help="the folder of trireme-broker and trireme")
    options, rest = parser.parse_known_args()
    BIN = os.path.abspath(options.bin)
    for name in ("trireme-broker", "trireme"):
        if not os.path.exists(os.path.join(BIN, name)):
            sys.exit(f"{BIN}/{name} is not there: build it first")
    result = unittest.main(module="__main__", argv=[sys.argv[0], *rest], exit=False).result
    if not result.wasSuccessful():
        failed = [case.id().removeprefix("__main__.") for case, _ in result.failures + result.errors if hasattr(case, "_testMethodName")]
        print(f"replay: PYTHONPATH={os.environ.get('PYTHONPATH', '')} {sys.executable} {sys.argv[0]} --bin {BIN} {' '.join(failed)}", file=sys.stderr)
        sys.exit(1)
