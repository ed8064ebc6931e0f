"""Starts and stops the clusters that are compared: three nodes each, on loopback, with data in a fresh folder.

Each class is a context manager; what it starts are child processes or known by their process id, and only those are stopped.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
HOST = "127.0.0.1"
NODES = 3
START_SECONDS = 60


class Missing(Exception):
    """A broker or its load generator is not here."""


def free_ports(count):
    """Below those that the kernel gives to outgoing connections."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="utf-8") as limits:
        below = int(limits.read().split()[0])
    ports = []
    for port in range(below - 1, max(below - 8000, 1024), -1):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            ports.append(port)
            if len(ports) == count:
                return ports
    raise RuntimeError(f"found only {len(ports)} free ports of {count}")


def running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def await_that(what, condition, seconds=START_SECONDS):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds} s for {what}")
        time.sleep(0.1)


def listening(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def program(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        raise Missing(f"{path} is not built: deploy/build.sh release {name}")
    return path


def installed(name, package):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        raise Missing(f"{name} is not installed (Debian's package: {package})")
    return path


def run_json(command, seconds):
    """A load's outcome: its JSON object, or what went wrong."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"over {seconds} s"}
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return {"error": done.stderr.strip()[-300:] or f"exit code {done.returncode}"}


class Cluster:
    def __init__(self, bin_folder):
        self.bin = bin_folder
        self.folder = None
        self.children, self.pids, self.ports = [], [], []

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="trireme-compare-")
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def spawn(self, command, log, env=None):
        with open(os.path.join(self.folder, log), "ab") as out:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder, env=env,
                                     start_new_session=True)
        self.children.append(child)
        return child

    def stop(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.pids + [child.pid for child in self.children if child.poll() is None]:
                with contextlib.suppress(ProcessLookupError):
                    if running(pid):
                        os.kill(pid, number)
            with contextlib.suppress(RuntimeError):
                await_that("the nodes to end", lambda: not any(child.poll() is None for child in self.children)
                           and not any(running(pid) for pid in self.pids), 15)
                return
        print(f"still running after SIGKILL: {self.pids}", file=sys.stderr)

    def load_peer(self, name, shape, seconds):
        return run_json([program(self.bin, name), "--ports", ",".join(map(str, self.ports)), "--pids", ",".join(map(str, self.pids)),
                         "--queues", str(shape.queues), "--size", str(shape.size), "--in-flight", str(shape.in_flight),
                         "--duration", str(seconds), "--rate", str(shape.rate)], seconds + 200)


class Trireme(Cluster):
    name = "Trireme"

    @staticmethod
    def check(bin_folder):
        program(bin_folder, "trireme-broker")
        program(bin_folder, "trireme")

    def tool(self, *arguments, check=True):
        return subprocess.run([os.path.join(ROOT, "deploy", "local", "cluster"), *arguments, "--dir", os.path.join(self.folder, "cluster")],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, check=check).stdout

    def start(self):
        self.tool("up", "--bin", self.bin)
        nodes = json.loads(self.tool("status", "--output", "json"))["nodes"]
        self.servers = ",".join(node["address"] for node in nodes)
        self.node_pids = ",".join(str(node["pid"]) for node in nodes)

    def stop(self):
        self.tool("down", check=False)

    def load(self, shape, seconds):
        return run_json([program(self.bin, "trireme"), "--server", self.servers, "--output", "json", "bench", "--queues", str(shape.queues),
                         "--size", str(shape.size), "--batch", str(shape.batch), "--in-flight", str(shape.in_flight),
                         "--duration", str(seconds), "--rate", str(shape.rate), "--pids", self.node_pids], seconds + 200)


class RabbitMQ(Cluster):
    """Core broker without plugins, one scheduler thread a node: on few processors that is its best setting."""
    name = "RabbitMQ"

    @staticmethod
    def check(bin_folder):
        program(bin_folder, "rabbitmq_load")
        installed("rabbitmqctl", "rabbitmq-server")
        installed("epmd", "rabbitmq-server")

    def script(self, name):
        # A distribution's command may be a wrapper that changes the user; the real ones lie beside what it links to.
        return os.path.join(os.path.dirname(os.path.realpath(installed("rabbitmqctl", "rabbitmq-server"))), name)

    def env(self, node):
        home = os.path.join(self.folder, self.names[node])
        return {
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "HOME": self.folder, "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": self.names[node], "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.ports[node]), "RABBITMQ_DIST_PORT": str(self.dist_ports[node]),
            "RABBITMQ_MNESIA_BASE": os.path.join(home, "mnesia"), "RABBITMQ_LOG_BASE": os.path.join(home, "log"),
            "RABBITMQ_PID_FILE": os.path.join(home, "pid"), "RABBITMQ_CONF_ENV_FILE": os.path.join(self.folder, "env.conf"),
            "RABBITMQ_CONFIG_FILE": os.path.join(self.folder, "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": os.path.join(self.folder, "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +stbt u -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def write(self, name, text, mode=0o600):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)

    def start(self):
        self.names = [f"compare{i}@localhost" for i in range(NODES)]
        self.epmd_port, *ports = free_ports(1 + 2 * NODES)
        self.ports, self.dist_ports = ports[:NODES], ports[NODES:]
        self.write(".erlang.cookie", "TRIREMECOMPARE", 0o400)
        self.write("env.conf", "")
        self.write("enabled_plugins", "[].\n")
        self.write("rabbitmq.conf", "loopback_users = none\nlog.console = false\nlog.file.level = warning\n"
                   "cluster_formation.peer_discovery_backend = classic_config\n"
                   + "".join(f"cluster_formation.classic_config.nodes.{i + 1} = {name}\n" for i, name in enumerate(self.names)))
        self.spawn([installed("epmd", "rabbitmq-server"), "-port", str(self.epmd_port), "-address", HOST], "epmd.log")
        for i in range(NODES):
            os.mkdir(os.path.join(self.folder, self.names[i]))
            self.spawn([self.script("rabbitmq-server")], f"{self.names[i]}.log", self.env(i))
            await_that(f"RabbitMQ's node {i}", lambda port=self.ports[i]: listening(port))
            with open(os.path.join(self.folder, self.names[i], "pid"), encoding="utf-8") as pid:
                self.pids.append(int(pid.read()))
        subprocess.run([self.script("rabbitmqctl"), "-q", "-n", self.names[0], "await_online_nodes", str(NODES)], env=self.env(0),
                       cwd=self.folder, capture_output=True, timeout=START_SECONDS, check=True)

    def load(self, shape, seconds):
        return self.load_peer("rabbitmq_load", shape, seconds)


class Nats(Cluster):
    """JetStream in files on three nodes. It answers before it has synced: its figures are for a weaker promise."""
    name = "NATS"

    @staticmethod
    def check(bin_folder):
        program(bin_folder, "nats_load")
        installed("nats-server", "nats-server")

    def start(self):
        ports = free_ports(3 * NODES)
        self.ports, peers, monitors = ports[:NODES], ports[NODES:2 * NODES], ports[2 * NODES:]
        routes = ", ".join(f"nats://{HOST}:{port}" for port in peers)
        for i in range(NODES):
            path = os.path.join(self.folder, f"node{i}.conf")
            with open(path, "w", encoding="utf-8") as config:
                config.write(f"server_name: node{i}\nlisten: {HOST}:{self.ports[i]}\nhttp: {HOST}:{monitors[i]}\n"
                             f"cluster {{ name: compare, listen: {HOST}:{peers[i]}, routes: [{routes}] }}\n"
                             f"jetstream {{ store_dir: {os.path.join(self.folder, f'node{i}')}, max_file: 20G, max_mem: 1G }}\n")
            self.pids.append(self.spawn([installed("nats-server", "nats-server"), "-c", path], f"node{i}.log").pid)
        for port in self.ports:
            await_that("a NATS server", lambda port=port: listening(port))
        await_that("a leader of NATS' metadata that has all nodes", lambda: self.formed(monitors))

    @staticmethod
    def formed(monitors):
        for port in monitors:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/jsz", timeout=5) as answer:
                metadata = json.load(answer).get("meta_cluster", {})
                # Only the leader knows of its replicas.
                if len([r for r in metadata.get("replicas", []) if r.get("current")]) == NODES - 1:
                    return True
        return False

    def load(self, shape, seconds):
        return self.load_peer("nats_load", shape, seconds)


BROKERS = {"trireme": Trireme, "rabbitmq": RabbitMQ, "nats": Nats}
