#!/usr/bin/env python3
"""Publishes numbered messages in batches and waits for their confirms.

  client/examples/stubs.sh                                     # once
  client/examples/producer.py SERVER[,SERVER] QUEUE COUNT [NAME]

Prints "confirmed N" and exits with 0 when all are stored. When a connection breaks, what is unconfirmed is sent again under
the same sequences, so nothing is stored twice. With a NAME, a second run goes on where the first one ended.
"""

import collections
import queue
import sys
import uuid

import reconnecting
from reconnecting import Moved, Reconnecting
import grpc
from trireme.v1 import broker_pb2, broker_pb2_grpc, message_pb2

BATCH = 500  # messages per frame
IN_FLIGHT = 16  # frames that are not confirmed
ALIAS = 1


class Producer(Reconnecting):
    """One queue, one name. A frame stays in `unconfirmed`, by its first sequence, until it is confirmed."""

    def __init__(self, servers, target, name):
        super().__init__(servers)
        self.target, self.name, self.epoch = target, name, 0
        self.unconfirmed = collections.OrderedDict()
        self.confirmed = 0

    def stream(self, server, count):
        """One stream, until all is confirmed or it breaks."""
        with grpc.insecure_channel(server) as channel:
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
                        raise Moved(response.unbound.leader.address)
                    elif kind == "draining":
                        raise Moved()
                    if kind in ("bound", "confirms"):
                        self.fill(count, send)
                        if not self.unconfirmed:
                            return self.confirmed
                raise Moved()
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
        self.progressed()
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
    reconnecting.main("producer.py", lambda: print("confirmed", producer.run(int(sys.argv[3]))))


if __name__ == "__main__":
    main()
