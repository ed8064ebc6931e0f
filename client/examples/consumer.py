#!/usr/bin/env python3
"""Prints and acknowledges messages.

  client/examples/stubs.sh                              # once
  client/examples/consumer.py SERVER[,SERVER] QUEUE COUNT

Exits with 0 after COUNT messages, all of them settled for good. When a connection breaks the session is resumed: what was
acknowledged and has no receipt yet is named as held, so that it does not come again, and acknowledged once more.
"""

import itertools
import queue
import sys
import uuid

import reconnecting
from reconnecting import Moved, Reconnecting
import grpc
from trireme.v1 import broker_pb2, broker_pb2_grpc

SESSION_TIMEOUT_MS = 30_000


class Consumer(Reconnecting):
    def __init__(self, servers, target):
        super().__init__(servers)
        self.target, self.session = target, uuid.uuid4().bytes
        self.taken = 0
        self.group = 0  # of the queue, as the stream says: a part of every token
        self.receipts = itertools.count(1)
        self.settling = {}  # by receipt: runs that are acknowledged, and not known to be settled

    def stream(self, server, count):
        """One stream, until `count` messages are settled or it breaks."""
        with grpc.insecure_channel(server) as channel:
            requests = queue.Queue()
            call = broker_pb2_grpc.BrokerStub(channel).Consume(self.frames(requests))
            requests.put(broker_pb2.ConsumeRequest(open=broker_pb2.OpenConsume(
                queue=self.target, session=self.session, session_timeout_ms=SESSION_TIMEOUT_MS, consumer="example",
                group_id=self.group, held=[run for runs in self.settling.values() for run in runs],
                max_outstanding_messages=max(1, min(1_000, count)))))
            try:
                for response in call:
                    kind = response.WhichOneof("frame")
                    if kind == "opened":
                        if not response.opened.resumed:
                            self.settling.clear()  # those leases are gone
                        self.group = response.opened.group_id
                        for receipt, runs in self.settling.items():
                            requests.put(self.acknowledgement(receipt, runs))
                    elif kind == "deliver":
                        self.deliver(response.deliver, count, requests)
                    elif kind == "receipt":
                        # Lost leases were settled by the first of two tries, or are somebody else's now.
                        self.settling.pop(response.receipt.receipt, None)
                    elif kind in ("redirect", "draining"):
                        raise Moved(response.redirect.leader.address)  # none in Draining
                    if self.taken >= count and not self.settling:
                        requests.put(None)  # half-closing ends the session
                        return
                raise Moved()
            finally:
                requests.put(None)

    def deliver(self, deliver, count, requests):
        self.progressed()
        runs = []
        for run in deliver.runs:
            messages = run.batch.messages[:max(0, count - self.taken)]
            for message in messages:
                print(message.body.decode())
            self.taken += len(messages)
            if messages:
                runs.append(broker_pb2.HeldRun(first_position=run.first_position, count=len(messages),
                                               checkout_index=run.checkout_index))
        if runs:
            receipt = next(self.receipts)
            self.settling[receipt] = runs
            requests.put(self.acknowledgement(receipt, runs))

    def acknowledgement(self, receipt, runs):
        return broker_pb2.ConsumeRequest(settle=broker_pb2.SettleRuns(
            runs=runs, group_id=self.group, disposition=broker_pb2.DISPOSITION_ACKNOWLEDGE, receipt=receipt))

    @staticmethod
    def frames(requests):
        """What is put into the queue, and a keep-alive when nothing is."""
        while True:
            try:
                frame = requests.get(timeout=SESSION_TIMEOUT_MS / 3000)
            except queue.Empty:
                frame = broker_pb2.ConsumeRequest(flow=broker_pb2.Flow())
            if frame is None:
                return
            yield frame


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    consumer = Consumer(sys.argv[1].split(","), sys.argv[2])
    reconnecting.main("consumer.py", lambda: consumer.run(int(sys.argv[3])))


if __name__ == "__main__":
    main()
