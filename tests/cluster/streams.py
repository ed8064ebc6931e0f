"""A producer and a consumer that survive what the tests do to the cluster: they reconnect to any node, send again under the
same sequences, and resume their session."""

import contextlib
import queue
import threading
import time

import grpc

from trireme.v1 import broker_pb2, broker_pb2_grpc, message_pb2
import harness

STORED = (broker_pb2.OUTCOME_OK, broker_pb2.OUTCOME_DUPLICATE)


class Stream:
    """One bidirectional stream: frames out by send(), frames in by next(); ends the same way for every kind of death."""

    def __init__(self, address, method):
        self.channel = harness.channel(address)
        self.outgoing = queue.SimpleQueue()
        self.incoming = queue.SimpleQueue()
        self.call = getattr(broker_pb2_grpc.BrokerStub(self.channel), method)(iter(self.outgoing.get, None))
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            for frame in self.call:
                self.incoming.put(frame)
            self.incoming.put(None)
        except grpc.RpcError as error:
            self.incoming.put(error)

    def send(self, frame):
        self.outgoing.put(frame)

    def next(self, seconds):
        """The next frame; raises ConnectionError when the stream is over and queue.Empty after the time."""
        frame = self.incoming.get(timeout=max(seconds, 0.001))
        if frame is None:
            raise ConnectionError("the stream was ended by the broker")
        if isinstance(frame, grpc.RpcError):
            raise ConnectionError(f"{frame.code()}: {frame.details()}")
        return frame

    def finish(self, seconds=5):
        """Closes its side, as a client does in order, and waits until the broker has ended the other."""
        self.outgoing.put(None)
        self.thread.join(seconds)

    def close(self):
        self.outgoing.put(None)
        self.call.cancel()
        self.channel.close()
        self.thread.join(10)


class Worker:
    """A thread that holds one stream and opens the next when it dies, on the next node."""

    def __init__(self, addresses, name):
        self.addresses = list(addresses)
        self.thread = threading.Thread(target=self.run, name=name, daemon=True)
        self.stopping = threading.Event()
        self.failure = None
        self.address = self.addresses[0]
        self.streams = 0
        self.why = []

    def start(self):
        self.thread.start()
        return self

    def run(self):
        try:
            while not self.stopping.is_set() and not self.done():
                self.streams += 1
                try:
                    moved_to = self.serve(self.address)
                    self.why.append(f"{self.address}: moved to {moved_to}")
                except (ConnectionError, queue.Empty) as error:
                    self.why.append(f"{self.address}: {type(error).__name__} {error}")
                    moved_to = None
                    self.stopping.wait(0.05)
                self.address = moved_to or self.addresses[(self.addresses.index(self.address) + 1) % len(self.addresses)]
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def history(self):
        return f"stream {self.streams}, to {self.address}; before: {self.why[-5:]}"

    def check(self):
        if self.failure is not None:
            raise AssertionError(f"{self.thread.name} failed: {self.failure!r}; {self.history()}") from self.failure

    def join(self, seconds):
        self.thread.join(seconds)
        self.check()
        if self.thread.is_alive():
            raise AssertionError(f"{self.thread.name} is not done after {seconds} s: {self.progress()}")

    def stop(self):
        self.stopping.set()
        self.thread.join(30)


class Publisher(Worker):
    """Publishes `bodies` in batches, a few under way at a time, until each is confirmed."""

    def __init__(self, addresses, target, bodies, producer="", batch=20, window=8, pause=0.0):
        super().__init__(addresses, f"producer {producer!r}")
        self.target, self.producer, self.window = target, producer, window
        self.pause = pause           # seconds between batches, so that there is a middle to do things in
        # (first sequence, bodies), in order.
        self.batches = [(start + 1, bodies[start:start + batch]) for start in range(0, len(bodies), batch)]
        self.first_open = 0          # batches before it are confirmed
        self.outcome = {}            # batch number -> sequences confirmed of it
        self.tried = set()           # batch numbers that were sent at least once
        self.retried = set()         # bodies that were sent more than once
        self.confirmed = []          # bodies, as confirmed
        self.longest_gap = 0.0
        self.last_confirm = None

    def done(self):
        return self.first_open == len(self.batches)

    def progress(self):
        return f"{self.thread.name}: {len(self.confirmed)} confirmed of {sum(len(b) for _, b in self.batches)}; {self.history()}"

    def serve(self, address):
        stream = Stream(address, "Publish")
        try:
            stream.send(broker_pb2.PublishRequest(open=broker_pb2.OpenPublish(producer=self.producer)))
            stream.send(broker_pb2.PublishRequest(bind=broker_pb2.Bind(alias=1, queue=self.target)))
            under_way, next_batch, frames, bound = {}, self.first_open, 0, False
            next_send = heard = time.monotonic()
            while not self.done() and not self.stopping.is_set():
                while bound and next_batch < len(self.batches) and len(under_way) < self.window and time.monotonic() >= next_send:
                    next_send = time.monotonic() + self.pause
                    if next_batch not in self.outcome or self.outcome[next_batch] < len(self.batches[next_batch][1]):
                        frames += 1
                        self.append(stream, next_batch)
                        # Confirms of a nameless producer count frames.
                        under_way[self.batches[next_batch][0] if self.producer else frames] = next_batch
                    next_batch += 1
                try:
                    frame = stream.next(self.pause or 1)
                except queue.Empty:
                    if time.monotonic() - heard > 10:
                        raise
                    continue
                heard = time.monotonic()
                kind = frame.WhichOneof("frame")
                if kind == "bound":
                    if frame.bound.outcome != broker_pb2.OUTCOME_OK:
                        raise ConnectionError(f"not bound: {frame.bound}")
                    bound = True
                elif kind == "unbound":
                    return frame.unbound.leader.address if frame.unbound.leader.address in self.addresses else None
                elif kind == "confirms":
                    for confirm in frame.confirms.confirms:
                        if not self.take(confirm, under_way):
                            return None
                elif kind == "draining":
                    return None
            return None
        finally:
            stream.close()

    def append(self, stream, number):
        first, bodies = self.batches[number]
        if number in self.tried:
            self.retried.update(bodies)
        self.tried.add(number)
        self.outcome[number] = 0
        batch = message_pb2.MessageBatch(messages=[message_pb2.Message(body=body) for body in bodies])
        stream.send(broker_pb2.PublishRequest(append=broker_pb2.Append(
            alias=1, first_sequence=first if self.producer else 0, batch=batch.SerializeToString())))

    def take(self, confirm, under_way):
        """False when the outcome is unknown, so that a new stream is wanted."""
        if confirm.outcome not in STORED:
            if confirm.outcome == broker_pb2.OUTCOME_UNKNOWN:
                return False
            raise AssertionError(f"a publish was answered with {confirm}")
        now = time.monotonic()
        if self.last_confirm is not None:
            self.longest_gap = max(self.longest_gap, now - self.last_confirm)
        self.last_confirm = now
        if not self.producer:
            if confirm.count != 1:
                raise AssertionError(f"a confirm of frames that counts messages: {confirm}")
            self.close_batch(under_way.pop(confirm.first_sequence))
        else:
            left = confirm.count
            sequence = confirm.first_sequence
            while left > 0:
                number = (sequence - 1) // len(self.batches[0][1])
                first, bodies = self.batches[number]
                part = min(left, first + len(bodies) - sequence)
                self.outcome[number] = self.outcome.get(number, 0) + part
                if self.outcome[number] == len(bodies):
                    under_way.pop(first, None)
                    self.close_batch(number)
                left -= part
                sequence += part
        return True

    def close_batch(self, number):
        self.outcome[number] = len(self.batches[number][1])
        self.confirmed += self.batches[number][1]
        while self.first_open < len(self.batches) and self.outcome.get(self.first_open) == len(self.batches[self.first_open][1]):
            self.first_open += 1


class Consumer(Worker):
    """Takes and acknowledges messages in one session, until told to stop, or until `enough` different ones have come."""

    def __init__(self, addresses, source, session, enough=None, outstanding=500, subscription=""):
        super().__init__(addresses, f"consumer {session!r} {subscription}")
        self.subscription = subscription
        self.source, self.session, self.enough, self.outstanding = source, session, enough, outstanding
        self.bodies = {}            # body -> [(position, deliveries), ...]
        self.pending = {}           # receipt -> runs that were settled and not answered yet
        self.resumed = 0
        self.repeated = set()       # receipts whose settle was sent again: what the first one settled is not current any more
        self.lost_leases = 0        # of settles that were sent once
        self.next_receipt = 1
        self.group = 0              # of the queue; with a run it makes a token
        self.standby = None         # as told

    def done(self):
        return self.enough is not None and len(self.bodies) >= self.enough and not self.pending

    def progress(self):
        return f"{self.thread.name}: {len(self.bodies)} different messages, {len(self.pending)} settles open; {self.history()}"

    def serve(self, address):
        self.standby = None
        stream = Stream(address, "Consume")
        try:
            held = [run for runs in self.pending.values() for run in runs]
            stream.send(broker_pb2.ConsumeRequest(open=broker_pb2.OpenConsume(
                queue=self.source, subscription=self.subscription, session=self.session, session_timeout_ms=30000, held=held,
                group_id=self.group, max_outstanding_messages=self.outstanding)))
            silent_since = time.monotonic()
            while not self.stopping.is_set() and not self.done():
                try:
                    frame = stream.next(0.5)
                except queue.Empty:
                    if time.monotonic() - silent_since > 30:
                        raise
                    stream.send(broker_pb2.ConsumeRequest(flow=broker_pb2.Flow()))
                    continue
                silent_since = time.monotonic()
                kind = frame.WhichOneof("frame")
                if kind == "opened":
                    if self.streams > 1 and frame.opened.resumed:
                        self.resumed += 1
                    self.group = frame.opened.group_id
                    self.standby = frame.opened.standby
                    for receipt, runs in self.pending.items():
                        self.repeated.add(receipt)
                        self.settle(stream, receipt, runs)
                elif kind == "deliver":
                    self.take(stream, frame.deliver)
                elif kind == "receipt":
                    if frame.receipt.receipt not in self.repeated:
                        self.lost_leases += sum(run.count for run in frame.receipt.lease_lost)
                    self.pending.pop(frame.receipt.receipt, None)
                elif kind == "redirect":
                    if frame.redirect.leader.address in self.addresses:
                        return frame.redirect.leader.address
                elif kind == "standing":
                    self.standby = frame.standing.standby
                elif kind == "draining":
                    return None
            # What is published later is for others, and not to wait for the end of a session that is over.
            if self.done():
                stream.finish()
            return None
        finally:
            with contextlib.suppress(Exception):
                stream.close()

    def take(self, stream, deliver):
        runs = []
        for run in deliver.runs:
            if len(run.batch.messages) != run.count:
                raise AssertionError(f"a run of {run.count} has {len(run.batch.messages)} messages")
            for slot, message in enumerate(run.batch.messages):
                self.bodies.setdefault(message.body, []).append((run.first_position + slot, run.deliveries))
            runs.append(broker_pb2.HeldRun(first_position=run.first_position, count=run.count, checkout_index=run.checkout_index))
        self.pending[self.next_receipt] = runs
        self.settle(stream, self.next_receipt, runs)
        self.next_receipt += 1

    def settle(self, stream, receipt, runs):
        stream.send(broker_pb2.ConsumeRequest(settle=broker_pb2.SettleRuns(
            runs=runs, disposition=broker_pb2.DISPOSITION_ACKNOWLEDGE, receipt=receipt, group_id=self.group)))
