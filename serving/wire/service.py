"""The Open Inference Protocol's methods over grpcio: decode, put, wait, encode."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Protocol

import grpc

from serving import __version__
from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceServicer
from serving.clock import NANOSECONDS_PER_SECOND, Clock
from serving.errors import Cancelled, DeadlineExceeded, NotReady, QueueFull, ServingError
from serving.repository import Model, Repository
from serving.tensors import Arrays
from serving.wire import codec, outputs
from serving.wire.status import errors_as_status

SERVER_NAME = "lstm-serve"
PLATFORM = "onnxruntime_onnx"


class RequestMetrics(Protocol):
    """What the front reports."""

    def request_ended(self, model: str, version: str, outcome: str, seconds: float) -> None:
        """One call of a known model version has its answer or error."""

    def not_served(self, reason: str) -> None:
        """One call named a model or version that does not serve."""


class PendingReply:
    """A reply that one thread waits for; made by the runner's thread exactly once."""

    def __init__(self) -> None:
        self._made = threading.Lock()
        self._made.acquire()
        self._outputs: Arrays | None = None
        self._error: ServingError | None = None

    def answer(self, outputs: Arrays) -> None:
        """Hand the outputs to the waiting thread."""
        self._outputs = outputs
        self._made.release()

    def fail(self, error: ServingError) -> None:
        """Hand the error to the waiting thread."""
        self._error = error
        self._made.release()

    def wait(self) -> Arrays:
        """Block until the reply is made; raise it if it is an error."""
        self._made.acquire()
        if self._error is not None:
            raise self._error
        assert self._outputs is not None, "a reply without an error has outputs"
        return self._outputs


class Slots:
    """Room for so many calls at a time; who stops the server can wait until all have left."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken = 0
        self._left = threading.Condition()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold one slot inside.

        Raises:
            QueueFull: all are taken.
        """
        with self._left:
            if self._taken == self._count:
                raise QueueFull(f"{self._count} requests are in flight already; retry later (--max-inflight-requests)")
            self._taken += 1
        try:
            yield
        finally:
            with self._left:
                self._taken -= 1
                self._left.notify_all()

    def wait_empty(self, *, seconds: float) -> None:
        """Return when no slot is taken, or when the seconds are over."""
        with self._left:
            self._left.wait_for(lambda: self._taken == 0, seconds)


class InferenceService(GRPCInferenceServiceServicer):
    """One thread per call, which waits for its reply; ModelInfer calls take a slot each."""

    def __init__(self, *, repository: Repository, metrics: RequestMetrics, clock: Clock, slots: Slots) -> None:
        self._repository = repository
        self._metrics = metrics
        self._clock = clock
        self._slots = slots
        self._searching = threading.Lock()
        """Held while text is searched for: the interpreter runs one thread, and two would only take turns at it."""
        self.ready = False

    def ServerLive(self, request: oip.ServerLiveRequest, context: grpc.ServicerContext) -> oip.ServerLiveResponse:
        """Answer true: the process runs."""
        del request, context
        return oip.ServerLiveResponse(live=True)

    def ServerReady(self, request: oip.ServerReadyRequest, context: grpc.ServicerContext) -> oip.ServerReadyResponse:
        """Answer whether the server takes requests."""
        del request, context
        return oip.ServerReadyResponse(ready=self.ready)

    def ModelReady(self, request: oip.ModelReadyRequest, context: grpc.ServicerContext) -> oip.ModelReadyResponse:
        """Answer whether a model (a version of it) serves; NOT_FOUND if there is none of that name."""
        with errors_as_status(context):
            try:
                self._repository.find(request.name, request.version)
            except NotReady:
                return oip.ModelReadyResponse(ready=False)
            return oip.ModelReadyResponse(ready=self.ready)

    def ServerMetadata(
        self, request: oip.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> oip.ServerMetadataResponse:
        """Answer name, version and the extensions of the protocol that are offered."""
        del request, context
        return oip.ServerMetadataResponse(name=SERVER_NAME, version=__version__, extensions=["binary_tensor_data"])

    def ModelMetadata(
        self, request: oip.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> oip.ModelMetadataResponse:
        """Answer a model's tensors, the versions that serve, and the properties that decide how it is batched."""
        with errors_as_status(context):
            model = self._repository.find(request.name, request.version)
            return self._metadata(model)

    def ModelInfer(self, request: oip.ModelInferRequest, context: grpc.ServicerContext) -> oip.ModelInferResponse:
        """Answer the rows of one request, batched with whatever else waits."""
        with errors_as_status(context), self._found(request) as model, self._slots.one():
            rows = codec.decode(request, model.manifest, model.policy)
            wanted = outputs.requested(request, model.manifest)
            deadline_ns = self._deadline_ns(request, context, model)
            reply = PendingReply()
            ticket_id = model.inbox.put(rows, reply, deadline_ns=deadline_ns)
            if not context.add_callback(lambda: model.inbox.cancel(ticket_id)):
                model.inbox.cancel(ticket_id)  # the client has left already
            answer = reply.wait()
            with self._searching if outputs.takes_a_search(wanted) else nullcontext():
                texts = outputs.decode_texts(
                    wanted, answer, rows.lengths, checkpoint=lambda: self._check_waited_for(context, deadline_ns)
                )
            return outputs.encode(request, model.manifest, wanted, {**answer, **texts})

    @contextmanager
    def _found(self, request: oip.ModelInferRequest) -> Iterator[Model]:
        """Find the model, and report how the call ended and how long it took."""
        started_ns = self._clock.now_ns()
        try:
            model = self._repository.find(request.model_name, request.model_version)
        except ServingError as error:
            self._metrics.not_served(error.reason)
            raise
        outcome = ServingError.reason
        try:
            yield model
            outcome = "ok"
        except ServingError as error:
            outcome = error.reason
            raise
        finally:
            seconds = (self._clock.now_ns() - started_ns) / NANOSECONDS_PER_SECOND
            self._metrics.request_ended(model.manifest.name, str(model.manifest.version), outcome, seconds)

    def _deadline_ns(self, request: oip.ModelInferRequest, context: grpc.ServicerContext, model: Model) -> int | None:
        """Return the earliest of the gRPC deadline and the request's `timeout`, or else the model's default."""
        now_ns = self._clock.now_ns()
        remaining = context.time_remaining()
        timeout_ns = codec.timeout_ns(request)
        deadlines = [] if remaining is None else [now_ns + int(remaining * NANOSECONDS_PER_SECOND)]
        deadlines += [] if timeout_ns is None else [now_ns + timeout_ns]
        default_ms = model.policy.default_timeout_ms
        if not deadlines and default_ms is not None:
            deadlines = [now_ns + default_ms * NANOSECONDS_PER_SECOND // 1000]
        return min(deadlines, default=None)

    def _check_waited_for(self, context: grpc.ServicerContext, deadline_ns: int | None) -> None:
        """End a search for text that nobody will read; it may take longer than the model did.

        Raises:
            DeadlineExceeded: the deadline has passed.
            Cancelled: the client has left.
        """
        if deadline_ns is not None and self._clock.now_ns() >= deadline_ns:
            raise DeadlineExceeded("the deadline passed while text was decoded")
        if not context.is_active():
            raise Cancelled("the client left while text was decoded")

    def _metadata(self, model: Model) -> oip.ModelMetadataResponse:
        manifest = model.manifest
        response = oip.ModelMetadataResponse(
            name=manifest.name,
            versions=[str(version) for version in self._repository.versions(manifest.name)],
            platform=PLATFORM,
            properties={
                "precision": manifest.precision,
                "stepwise": str(manifest.stepwise).lower(),
                "equal_lengths": str(manifest.equal_lengths).lower(),
                "lengths_input": manifest.lengths_input or "",
            },
        )
        for tensor in manifest.inputs:
            if tensor.vocabulary is not None:
                response.properties[f"vocabulary.{tensor.name}"] = str(tensor.vocabulary)
        for side, described in ((response.inputs, manifest.inputs), (response.outputs, outputs.offered(manifest))):
            for output in described:
                side.add(name=output.name, datatype=outputs.wire_datatype(output), shape=outputs.wire_shape(output))
        return response
