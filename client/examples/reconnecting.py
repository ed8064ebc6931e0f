"""What both examples do when a stream breaks: they open it again, at the leader that the broker named or at the next node.

Finds the stubs, too, so it is imported before them.
"""

import itertools
import os
import sys
import time

sys.path.append(os.environ.get("TRIREME_STUBS", os.path.join(os.path.dirname(__file__), "../../build/stubs")))
import grpc  # noqa: E402

GIVE_UP_S = 60  # without any progress
# What says nothing against another node, or against the same one a little later.
TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)


class Moved(Exception):
    """The stream is of no use any more. `leader`: where to go, if the broker knows."""

    def __init__(self, leader=""):
        super().__init__(leader)
        self.leader = leader


class Reconnecting:
    """Calls stream(server, count), which a subclass has, until it returns instead of raising Moved or grpc.RpcError."""

    def __init__(self, servers):
        self.servers = itertools.cycle(servers)
        self.last_progress = time.monotonic()

    def progressed(self):
        self.last_progress = time.monotonic()

    def run(self, count):
        server = next(self.servers)
        pause = 0.01
        while True:
            try:
                return self.stream(server, count)
            except grpc.RpcError as error:
                if error.code() not in TRANSIENT or time.monotonic() - self.last_progress > GIVE_UP_S:
                    raise
                server = next(self.servers)
            except Moved as moved:
                server = moved.leader or next(self.servers)
            time.sleep(pause)
            pause = min(2 * pause, 1.0)


def main(name, run):
    """run(), ended by the error that the broker gave."""
    try:
        run()
    except grpc.RpcError as error:
        sys.exit(f"{name}: {error.code().name}: {error.details()}")
