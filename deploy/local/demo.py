#!/usr/bin/env python3
"""The second half of deploy/local/run: a cluster, a load, two kills of the leader, and what came of it."""

import argparse
import importlib.machinery
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
QUEUE = "demo"
RATE = 2000  # messages per second

loader = importlib.machinery.SourceFileLoader("cluster_tool", os.path.join(HERE, "cluster"))
tool = importlib.util.module_from_spec(importlib.util.spec_from_loader("cluster_tool", loader))
loader.exec_module(tool)


def run_tool(*arguments):
    done = subprocess.run([os.path.join(HERE, "cluster"), *arguments], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


class Demo:
    def __init__(self, folder, programs, seconds):
        self.folder, self.programs, self.seconds = folder, programs, seconds
        self.began = 0.0

    @property
    def cluster(self):
        return tool.Cluster(self.folder)

    def trireme(self, *arguments, check=True):
        done = subprocess.run([os.path.join(self.programs, "trireme"), *arguments, "--server", self.cluster.servers],
                              capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode != 0:
            sys.exit(f"trireme {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def leader(self, but=None):
        """The number of the node that leads the queue; waits until it is another than `but`."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                queue = json.loads(self.trireme("queue", "describe", QUEUE, "--output", "json", check=False))
                address = next((r["address"] for r in queue["replicas"] if r["node"] == queue["leader_node"]), None)
                for node in self.cluster.nodes:
                    if node["address"] == address and node["node"] != but:
                        return node["node"]
            except (json.JSONDecodeError, KeyError):
                pass
            time.sleep(0.1)
        sys.exit(f"the queue '{QUEUE}' has had no leader for 30 s: {HERE}/cluster logs 1 says more")

    def say(self, text):
        print(f"  {time.monotonic() - self.began:5.1f} s  {text}", flush=True)

    def wait(self, seconds, load):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and load.poll() is None:
            time.sleep(0.05)

    def fresh_programs(self):
        """Nodes of an earlier run may be older than what has just been built: those are started anew, one by one."""
        for node in self.cluster.nodes:
            try:
                old = os.readlink(f"/proc/{node['pid']}/exe").endswith(" (deleted)")
            except OSError:
                old = False
            if old and tool.running(node):
                run_tool("stop", str(node["node"]), "--dir", self.folder)
        run_tool("up", "--dir", self.folder, "--bin", self.programs)

    def run(self):
        if self.cluster.state is None:
            run_tool("up", "--nodes", "3", "--dir", self.folder, "--bin", self.programs)
        else:
            self.fresh_programs()
        if len(self.cluster.nodes) < 3:
            sys.exit(f"the cluster in {self.folder} has too few nodes to survive a loss: '{HERE}/cluster down', then again")
        self.trireme("queue", "delete", QUEUE, check=False)  # of an earlier run
        self.trireme("queue", "create", QUEUE)
        leader = self.leader()
        print(f"\nSending {RATE * self.seconds:,} messages of 1 KiB at {RATE:,}/s through the queue '{QUEUE}', receiving them beside it:")
        self.began = time.monotonic()
        command = [os.path.join(self.programs, "trireme"), "bench", "--server", self.cluster.servers, "--queue", QUEUE,
                   "--producers", "1", "--consumers", "1", "--messages", str(RATE * self.seconds), "--size", "1024", "--batch", "20",
                   "--rate", str(RATE), "--output", "json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
            try:
                self.say(f"node {leader} leads the queue")
                for _ in range(2):
                    self.wait(self.seconds / 5, load)
                    run = subprocess.run([os.path.join(HERE, "cluster"), "kill", str(leader), "--dir", self.folder],
                                         capture_output=True, text=True, check=False)
                    if run.returncode != 0:
                        sys.exit(run.stderr)
                    self.say(f"killed node {leader}, the leader (SIGKILL)")
                    killed, leader = leader, self.leader(but=leader)
                    self.say(f"node {leader} leads")
                    self.wait(self.seconds / 10, load)
                    run = subprocess.run([os.path.join(HERE, "cluster"), "start", str(killed), "--dir", self.folder],
                                         capture_output=True, text=True, check=False)
                    if run.returncode != 0:
                        sys.exit(run.stderr)
                    self.say(f"started node {killed} again")
                output, errors = load.communicate(timeout=self.seconds * 3 + 120)
            except subprocess.TimeoutExpired:
                load.kill()
                sys.exit("the load did not end in time")
            except BaseException:
                load.kill()
                raise
        self.say("all received")
        try:
            return json.loads(output)
        except json.JSONDecodeError:
            sys.exit(f"trireme bench failed ({load.returncode}): {errors.strip()}")


def main():
    parser = argparse.ArgumentParser(prog="run", description="Shows a cluster that survives the loss of its leader.")
    parser.add_argument("--bin", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--dir", default=tool.default_dir(), help="where the cluster lives (default: %(default)s)")
    parser.add_argument("--seconds", type=tool.whole_number(5, 600), default=15, help="how long to send (default: %(default)s)")
    options = parser.parse_args()
    demo = Demo(os.path.abspath(options.dir), options.bin, options.seconds)
    result = demo.run()

    rows = [("sent", result["published"]), ("confirmed", result["confirmed"]), ("received", result["delivered"]), ("lost", result["lost"]),
            ("duplicates", result["duplicates"]), ("longest gap", f"{result['longest_confirm_gap_ms'] / 1000:.2f} s")]
    print()
    for name, value in rows:
        print(f"  {name:<12} {value:>10,}" if isinstance(value, int) else f"  {name:<12} {value:>10}")
    good = result["lost"] == 0 and result["confirmed"] == result["published"]
    print("\nNothing was lost." if good else "\nSOMETHING WAS LOST: please report this with the nodes' logs.")

    servers = demo.cluster.servers
    trireme = os.path.relpath(os.path.join(options.bin, "trireme"))
    cluster = os.path.relpath(os.path.join(HERE, "cluster"))
    place = "" if options.dir == tool.default_dir() else f" --dir {shlex.quote(options.dir)}"
    print(f"""
The cluster goes on running. Try next:
  export TRIREME_SERVER={servers}
  {trireme} queue create orders
  {trireme} publish orders "hello"
  {trireme} consume orders --ack --count 1
  {trireme} queue describe orders
  {cluster} status{place}
  {cluster} kill 1{place}          and publish again; then: start 1
  {cluster} down{place}            stops it and deletes its data""")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
