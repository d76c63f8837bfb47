"""A real server on loopback before a runner whose turns the test makes."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Self

import grpc

from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving.inbox import Reply, Trace
from serving.manifest import Manifest
from serving.metrics import ServerMetrics
from serving.policy import Policy
from serving.repository import Model, Repository
from serving.tensors import Rows
from serving.wire.access import Access
from serving.wire.inference import Inference
from serving.wire.server import GrpcServer
from serving.wire.service import ControlService
from serving.wire.slots import Slots
from serving.wire.streams import OUTSTANDING
from serving.wire.transport import options
from serving.wire.unread import Unread
from tests.runner.house import House

SECONDS = 60
SLOTS = 2 * OUTSTANDING
STREAMS = 4
UNREAD_BYTES = 2**20
MESSAGE_BYTES = 2**20


class Desk:
    """Context manager: a server of one model, which answers inside; also the model's inbox, and the request metrics.

    Attributes:
        house: the model's runner and what is around it.
        ended: requests by outcome.
        channel: to the server.
        during_put: what happens while a request is queued, on the thread that takes calls.
    """

    def __init__(self, manifest: Manifest, *, max_rows: int = 8, max_queue_rows: int = OUTSTANDING) -> None:
        self.house = House(manifest, max_rows=max_rows, max_queue_rows=max_queue_rows)
        self.ended: Counter[str] = Counter()
        self.during_put: Callable[[], None] = lambda: None
        self._came = threading.Condition()
        self.slots = Slots(SLOTS, what="requests are in flight", setting="--max-inflight-requests")
        self.stream_slots = Slots(STREAMS, what="streams are open", setting="--max-streams")
        self.unread = Unread(UNREAD_BYTES)
        model = Model(manifest=manifest, policy=Policy.model_validate({}), inbox=self)
        repository = Repository()
        repository.serve(manifest.name, {manifest.version: model})
        inference = Inference(
            repository=repository,
            metrics=self,
            clock=self.house.clock,
            slots=self.slots,
            max_message_bytes=MESSAGE_BYTES,
        )
        self._server = GrpcServer(
            inference,
            ControlService(repository, self, ServerMetrics(cpu_threads=1)),
            Access(None),
            address="127.0.0.1:0",
            credentials=None,
            stream_slots=self.stream_slots,
            unread=self.unread,
            options=options(max_message_bytes=MESSAGE_BYTES, max_connections=64, max_connection_age_seconds=0),
            reflects=True,
        )
        self.drain = self._server.drain
        self.set_ready = self._server.set_ready
        self.health = self._server._others.health
        self.control = self._server._others.control
        self.load: Callable[[str], None] = lambda _: None
        """What an administrator's call does."""
        self.port = self._server.port
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub = GRPCInferenceServiceStub(self.channel)

    def __enter__(self) -> Self:
        self._server.start()
        self._server.set_ready(ready=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.stop()

    def stop(self) -> None:
        """Stop the server; once more does no harm."""
        self._server.stop(grace_seconds=0)

    def put(
        self,
        rows: Rows,
        reply: Reply,
        *,
        deadline_ns: int | None = None,
        priority: int | None = None,
        trace: Trace | None = None,
    ) -> int:
        self.during_put()
        ticket_id = self.house.runner.put(rows, reply, deadline_ns=deadline_ns, priority=priority, trace=trace)
        self._notify()
        return ticket_id

    def cancel(self, ticket_id: int) -> None:
        self.house.runner.cancel(ticket_id)
        self._notify()

    def request_ended(
        self, model: str, version: str, outcome: str, seconds: float, *, trace_id: str | None = None
    ) -> None:
        assert trace_id is None
        assert (model, version) == ("lstm", "1")
        assert seconds >= 0
        self.ended[outcome] += 1
        self._notify()

    def not_served(self, reason: str) -> None:
        self.ended[reason] += 1
        self._notify()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when it is true; it is looked at whenever a request comes, goes or ends."""
        with self._came:
            assert self._came.wait_for(condition, SECONDS), "the condition never came true"

    def wait_for_waiting(self, rows: int) -> None:
        self.wait_for(lambda: self.house.batcher.waiting_rows == rows)

    def _notify(self) -> None:
        with self._came:
            self._came.notify_all()
