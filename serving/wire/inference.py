"""The way of one request, whichever call brought it: check, queue, wait, decode text, write the answer."""

import threading
from contextlib import nullcontext
from typing import Protocol

import grpc

from serving._proto import open_inference_pb2 as oip
from serving.clock import NANOSECONDS_PER_SECOND, Clock
from serving.errors import Cancelled, DeadlineExceeded, ServingError
from serving.repository import Model, Repository
from serving.tensors import Arrays
from serving.wire import outputs, parameters
from serving.wire.codec import Decoder
from serving.wire.outputs import Offer
from serving.wire.slots import Slots

MILLISECOND_NS = NANOSECONDS_PER_SECOND // 1000


class RequestMetrics(Protocol):
    """What the front reports."""

    def request_ended(self, model: str, version: str, outcome: str, seconds: float) -> None:
        """One request for a known model version has its answer or error."""

    def not_served(self, reason: str) -> None:
        """One request named a model or version that does not serve."""


class _Served:
    """A model version, and what reads and writes its messages."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.decoder = Decoder(model.manifest, model.policy)
        self.offer = Offer(model.manifest)


class Pending:
    """A request that has been queued; `answer` waits for its end.

    The runner's thread makes the reply exactly once; one thread waits for it.
    """

    def __init__(self, inference: "Inference", message: oip.ModelInferRequest, call: grpc.ServicerContext) -> None:
        self._inference = inference
        self._message = message
        self._call = call
        self._started_ns = inference.clock.now_ns()
        self._made = threading.Lock()
        self._made.acquire()
        self._outputs: Arrays | None = None
        self._error: ServingError | None = None
        self.served = inference.find(message)
        self._ended = False
        self._has_slot = False
        self._ticket_id: int | None = None

    def queue(self) -> None:
        """Check the request and hand it to the model's runner.

        Raises:
            ServingError: it was refused; the request has ended.
        """
        inference, model = self._inference, self.served.model
        try:
            inference.slots.take()
            self._has_slot = True
            self._rows = self.served.decoder.decode(self._message)
            self._wanted = self.served.offer.requested(self._message)
            self._deadline_ns = inference.deadline_ns(self._message, self._call, model)
            priority = parameters.priority(self._message) if self._message.parameters else None
            self._ticket_id = model.inbox.put(self._rows, self, deadline_ns=self._deadline_ns, priority=priority)
        except ServingError as error:
            self._end(error.reason)
            raise
        except BaseException:
            self._end(ServingError.reason)
            raise

    def cancel(self) -> None:
        """Say that nobody waits for the answer any more; any thread, any time after `queue`."""
        if self._ticket_id is not None:
            self.served.model.inbox.cancel(self._ticket_id)

    def abandon(self) -> None:
        """End a request whose answer nobody will ask for."""
        self.cancel()
        self._end(Cancelled.reason)

    def answer(self, outputs: Arrays) -> None:
        """Take the outputs; called by the runner."""
        self._outputs = outputs
        self._made.release()

    def fail(self, error: ServingError) -> None:
        """Take the error; called by the runner."""
        self._error = error
        self._made.release()

    def response(self) -> oip.ModelInferResponse:
        """Wait for the reply and write it.

        Raises:
            ServingError: the reply is an error, or its text could not be decoded in time.
        """
        outcome = ServingError.reason
        try:
            self._made.acquire()
            if self._error is not None:
                raise self._error
            assert self._outputs is not None, "a reply without an error has outputs"
            texts = self._texts(self._outputs) if self.served.model.manifest.decodings else {}
            response = self.served.offer.encode(self._message, self._wanted, self._outputs, texts)
            outcome = "ok"
        except ServingError as error:
            outcome = error.reason
            raise
        finally:
            self._end(outcome)
        return response

    def _texts(self, answer: Arrays) -> dict[str, list[str]]:
        with self._inference.searching if outputs.takes_a_search(self._wanted) else nullcontext():
            return outputs.decode_texts(self._wanted, answer, self._rows.lengths, checkpoint=self._check_waited_for)

    def _check_waited_for(self) -> None:
        """End a search for text that nobody will read; it may take longer than the model did.

        Raises:
            DeadlineExceeded: the deadline has passed.
            Cancelled: the client has left.
        """
        if self._deadline_ns is not None and self._inference.clock.now_ns() >= self._deadline_ns:
            raise DeadlineExceeded("the deadline passed while text was decoded")
        if not self._call.is_active():
            raise Cancelled("the client left while text was decoded")

    def _end(self, outcome: str) -> None:
        """Give the slot back and report, once."""
        if self._ended:
            return
        self._ended = True
        if self._has_slot:
            self._inference.slots.give_back()
        seconds = (self._inference.clock.now_ns() - self._started_ns) / NANOSECONDS_PER_SECOND
        manifest = self.served.model.manifest
        self._inference.metrics.request_ended(manifest.name, str(manifest.version), outcome, seconds)


class Inference:
    """Brings requests to the models of a repository."""

    def __init__(self, *, repository: Repository, metrics: RequestMetrics, clock: Clock, slots: Slots) -> None:
        """Prepare what each model's messages are checked with.

        Args:
            repository: of models.
            metrics: of requests.
            clock: of deadlines.
            slots: each request takes one while it is under way.
        """
        self._repository = repository
        self._served = {key: _Served(model) for key, model in repository.models.items()}
        self.metrics = metrics
        self.clock = clock
        self.slots = slots
        self.searching = threading.Lock()
        """Held while text is searched for: the interpreter runs one thread, and two would only take turns at it."""

    def begin(self, message: oip.ModelInferRequest, call: grpc.ServicerContext) -> Pending:
        """Check and queue a request of a call.

        Raises:
            ServingError: it was refused.
        """
        pending = Pending(self, message, call)
        pending.queue()
        return pending

    def find(self, message: oip.ModelInferRequest) -> _Served:
        """Return the model that a request means.

        Raises:
            ModelNotFound: no such name or version.
            NotReady: it was refused at load.
        """
        try:
            manifest = self._repository.find(message.model_name, message.model_version).manifest
        except ServingError as error:
            self.metrics.not_served(error.reason)
            raise
        return self._served[manifest.name, manifest.version]

    def deadline_ns(self, message: oip.ModelInferRequest, call: grpc.ServicerContext, model: Model) -> int | None:
        """Return the earliest of the call's deadline and the request's `timeout`, or else the model's default."""
        remaining = call.time_remaining()
        timeout_ns = parameters.timeout_ns(message) if message.parameters else None
        default_ms = model.policy.default_timeout_ms
        if remaining is None and timeout_ns is None:
            if default_ms is None:
                return None
            timeout_ns = default_ms * MILLISECOND_NS
        patiences = [] if remaining is None else [int(remaining * NANOSECONDS_PER_SECOND)]
        patiences += [] if timeout_ns is None else [timeout_ns]
        return self.clock.now_ns() + min(patiences)
