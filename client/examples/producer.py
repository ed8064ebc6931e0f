#!/usr/bin/env python3
"""Publishes numbered messages in batches and waits for their confirms.

  client/examples/stubs.sh                                     # once
  client/examples/producer.py SERVER[,SERVER] QUEUE COUNT [NAME]

Prints "confirmed N" and exits with 0 when all are stored. When a connection breaks, what is unconfirmed is sent again under
the same sequences, so nothing is stored twice. With a NAME, a second run goes on where the first one ended.
"""

import collections
import itertools
import os
import queue
import sys
import time
import uuid

sys.path.append(os.environ.get("TRIREME_STUBS", os.path.join(os.path.dirname(__file__), "../../build/stubs")))
import grpc  # noqa: E402
from trireme.v1 import broker_pb2, broker_pb2_grpc, message_pb2  # noqa: E402

BATCH = 500  # messages per frame
IN_FLIGHT = 16  # frames that are not confirmed
ALIAS = 1
GIVE_UP_S = 60  # without any confirm


class Producer:
    """One queue, one name. A frame stays in `unconfirmed`, by its first sequence, until it is confirmed."""

    def __init__(self, servers, target, name):
        self.servers = itertools.cycle(servers)
        self.next_server = next(self.servers)
        self.target, self.name, self.epoch = target, name, 0
        self.unconfirmed = collections.OrderedDict()
        self.confirmed = 0
        self.last_progress = time.monotonic()

    def run(self, count):
        pause = 0.01
        while True:
            try:
                return self.stream(count)
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN):
                    raise
                if time.monotonic() - self.last_progress > GIVE_UP_S:
                    raise
                self.next_server = next(self.servers)
            except ConnectionResetError as moved:
                # The leader is elsewhere: go there, or ask any node.
                self.next_server = str(moved) or next(self.servers)
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def stream(self, count):
        """One stream, until all is confirmed or it breaks."""
        with grpc.insecure_channel(self.next_server) as channel:
            requests = queue.Queue()
            call = broker_pb2_grpc.BrokerStub(channel).Publish(iter(requests.get, None))
            send = lambda **frame: requests.put(broker_pb2.PublishRequest(**frame))  # noqa: E731
            send(open=broker_pb2.OpenPublish(producer=self.name, epoch=self.epoch))
            send(bind=broker_pb2.Bind(alias=ALIAS, queue=self.target))
            try:
                for response in call:
                    kind = response.WhichOneof("frame")
                    if kind == "bound":
                        if response.bound.outcome != broker_pb2.OUTCOME_OK:
                            sys.exit(f"producer.py: queue {self.target}: {response.bound.reason}")
                        self.epoch = response.bound.epoch
                        for first, batch in self.unconfirmed.items():
                            send(append=broker_pb2.Append(alias=ALIAS, first_sequence=first, batch=batch))
                        if not self.unconfirmed and self.confirmed == 0:
                            self.next_sequence = response.bound.last_sequence + 1
                    elif kind == "confirms":
                        for confirm in response.confirms.confirms:
                            self.confirm(confirm)
                    elif kind == "unbound":
                        raise ConnectionResetError(response.unbound.leader.address)
                    elif kind == "draining":
                        raise ConnectionResetError("")
                    if kind in ("bound", "confirms"):
                        self.fill(count, send)
                        if not self.unconfirmed:
                            return self.confirmed
                raise ConnectionResetError("")
            finally:
                requests.put(None)
                call.cancel()

    def fill(self, count, send):
        while len(self.unconfirmed) < IN_FLIGHT and self.next_sequence <= count:
            first = self.next_sequence
            numbers = range(first, min(first + BATCH, count + 1))
            messages = [message_pb2.Message(body=f"message {n}".encode(), content_type="text/plain") for n in numbers]
            batch = message_pb2.MessageBatch(messages=messages).SerializeToString()
            self.unconfirmed[first] = batch
            self.next_sequence += len(numbers)
            send(append=broker_pb2.Append(alias=ALIAS, first_sequence=first, batch=batch))

    def confirm(self, confirm):
        if confirm.outcome not in (broker_pb2.OUTCOME_OK, broker_pb2.OUTCOME_DUPLICATE):
            outcome = broker_pb2.Outcome.Name(confirm.outcome)
            sys.exit(f"producer.py: sequences {confirm.first_sequence} and on: {outcome} {confirm.reason}")
        self.last_progress = time.monotonic()
        self.confirmed += confirm.count
        # A frame that was partly stored before is confirmed in two parts, the last of them last.
        end = confirm.first_sequence + confirm.count
        for first in [f for f in self.unconfirmed if f < end]:
            batch = message_pb2.MessageBatch.FromString(self.unconfirmed[first])
            if first + len(batch.messages) <= end:
                del self.unconfirmed[first]


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    name = sys.argv[4] if len(sys.argv) == 5 else f"example-{uuid.uuid4().hex}"
    producer = Producer(sys.argv[1].split(","), sys.argv[2], name)
    try:
        print("confirmed", producer.run(int(sys.argv[3])))
    except grpc.RpcError as error:
        sys.exit(f"producer.py: {error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
