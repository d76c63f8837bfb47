"""One request under way: checked, queued, and at its end written."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from serving._proto import open_inference_pb2 as oip
from serving.clock import NANOSECONDS_PER_SECOND
from serving.errors import Cancelled, DeadlineExceeded, Draining, ServingError
from serving.repository import Model
from serving.tensors import Arrays, Rows
from serving.wire import outputs, parameters
from serving.wire.call import Call
from serving.wire.codec import Decoder
from serving.wire.outputs import Offer
from serving.wire.traces import RequestTrace

if TYPE_CHECKING:
    from serving.wire.inference import Inference

requests_log = logging.getLogger("serving.requests")
OK = "ok"
"""The outcome of a request that was answered; that of any other is its error's reason."""
LOGGED_ID = 128
"""Characters of a request's own id that the log takes; a client may send one as long as a message."""


class Served:
    """A model version, and what reads and writes its messages."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.decoder = Decoder(model.manifest, model.policy)
        self.offer = Offer(model.manifest)


class Pending:
    """A request under way; the runner makes its reply exactly once, which `response` then writes."""

    def __init__(
        self,
        inference: "Inference",
        message: oip.ModelInferRequest,
        call: Call,
        replied: Callable[["Pending"], None],
        trace: RequestTrace | None,
    ) -> None:
        self._inference = inference
        self._message = message
        self._call = call
        self._replied = replied
        self.trace = trace
        self._rows: Rows | None = None
        self._started_ns = inference.clock.now_ns()
        self._outputs: Arrays | None = None
        self._error: ServingError | None = None
        self._caller = call.caller if inference.slots.per_client is not None else ""
        try:
            if call.client is not None:
                call.client.check_model(message.model_name)
            self.served = inference.find(message)
        except ServingError as error:
            inference.metrics.not_served(error.reason)
            raise
        self._has_slot = False
        self._ticket_id: int | None = None

    def queue(self) -> None:
        """Check the request and hand it to the model's runner.

        Raises:
            ServingError: it was refused; the request has ended.
        """
        inference = self._inference
        try:
            inference.slots.take(self._caller)
            self._has_slot = True
            while not self._put():
                self.served = inference.find(self._message)
        except ServingError as error:
            self._end(error.reason)
            raise
        except BaseException:
            self._end(ServingError.reason)
            raise

    def _put(self) -> bool:
        """Check the request and queue it; False if the model version has left while another one serves in its place."""
        inference, served = self._inference, self.served
        self._rows = served.decoder.decode(self._message)
        self._wanted = served.offer.requested(self._message)
        self._deadline_ns = inference.deadline_ns(self._message, self._call, served.model)
        priority = parameters.priority(self._message) if self._message.parameters else None
        try:
            self._ticket_id = served.model.inbox.put(
                self._rows, self, deadline_ns=self._deadline_ns, priority=priority, trace=self.trace
            )
        except Draining:
            if inference.is_served(served):
                raise
            return False
        return True

    def cancel(self) -> None:
        """Say that nobody waits for the answer any more; any thread, any time."""
        if self._ticket_id is not None:
            self.served.model.inbox.cancel(self._ticket_id)

    def answer(self, outputs: Arrays) -> None:
        """Take the outputs; called by the runner."""
        self._outputs = outputs
        self._replied(self)

    def fail(self, error: ServingError) -> None:
        """Take the error; called by the runner."""
        self._error = error
        self._replied(self)

    @property
    def takes_a_search(self) -> bool:
        """Whether writing the answer may take as long as the model did."""
        return self._error is None and outputs.takes_a_search(self._wanted)

    def response(self) -> oip.ModelInferResponse:
        """Write the reply, once it has been made; this ends the request.

        Raises:
            ServingError: the reply is an error, or its text could not be decoded in time.
        """
        outcome = ServingError.reason
        try:
            if self._error is not None:
                self._raise()
            assert self._outputs is not None, "a reply without an error has outputs"
            texts = self._texts(self._outputs) if self.served.model.manifest.decodings else {}
            response = self.served.offer.encode(self._message, self._wanted, self._outputs, texts)
            outcome = OK
        except ServingError as error:
            outcome = error.reason
            raise
        finally:
            self._end(outcome)
        return response

    def _raise(self) -> NoReturn:
        """Raise the error, and hold on to it no longer: it holds on to this, by the frames that it passes."""
        error, self._error = self._error, None
        assert error is not None, "there is one"
        try:
            raise error
        finally:
            del error

    def _texts(self, answer: Arrays) -> dict[str, list[str]]:
        assert self._rows is not None, "an answered request has been decoded"
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
        """Give the slot back and report.

        What leads back here is let go: gRPC core counts a call for as long as anything holds it, refuses others on its
        connection when it counts too many, and in a cycle it would wait for the garbage collector.
        """
        del self._replied
        if self._has_slot:
            self._inference.slots.give_back(self._caller)
        seconds = (self._inference.clock.now_ns() - self._started_ns) / NANOSECONDS_PER_SECOND
        manifest = self.served.model.manifest
        name, version = manifest.name, str(manifest.version)
        trace_id = None if self.trace is None else self.trace.trace_id
        self._inference.metrics.request_ended(name, version, outcome, seconds, trace_id=trace_id)
        if self.trace is not None or self._inference.log_requests:
            self._tell(name, version, outcome, seconds, trace_id)

    def _tell(self, model: str, version: str, outcome: str, seconds: float, trace_id: str | None) -> None:
        """Say what the request was, in its trace and in the log, as far as it has any."""
        rows, steps = (0, 0) if self._rows is None else (self._rows.rows, int(self._rows.lengths.sum()))
        request_id = self._call.request_id
        if self.trace is not None:
            self.trace.describe(model=model, version=version, rows=rows, steps=steps, request_id=request_id)
        if self._inference.log_requests:
            requests_log.info(
                "request %s: %s version %s, %s in %.6f s, %d rows, %d steps",
                request_id, model, version, outcome, seconds, rows, steps,
                extra={
                    "event": "request", "request_id": request_id, "id": self._message.id[:LOGGED_ID],
                    "model": model, "version": version, "outcome": outcome, "seconds": round(seconds, 6),
                    "rows": rows, "steps": steps, "trace_id": trace_id,
                },
            )  # fmt: skip
