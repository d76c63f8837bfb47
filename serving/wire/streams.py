"""ModelStreamInfer: many requests over one call, answered in their order.

The next request is read while earlier ones are under way, so that requests of one stream share batches with each other
and with those of other calls.
"""

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

import grpc

from serving._proto import open_inference_pb2 as oip
from serving.errors import Cancelled, Draining, ServingError
from serving.wire.access import Access
from serving.wire.call import Call
from serving.wire.inference import Inference
from serving.wire.pending import OK, Pending
from serving.wire.status import STATUS_CODES, as_serving_error, finish, message_of
from serving.wire.traces import RequestTrace
from serving.wire.writers import Writers

METHOD = f"{oip.DESCRIPTOR.services_by_name['GRPCInferenceService'].full_name}/ModelStreamInfer"
OUTSTANDING = 32
"""Requests of one stream under way; the next is not read before one of them is answered, so TCP slows the sender."""

FINAL = "triton_final_response"
"""Parameter of every answer, good or bad: no more come to that request. Clients of Triton count answers by it."""


class _Turn:
    """A request's place in the order of answers.

    Attributes:
        pending: the request, while it is under way.
        content: its answer as a message, once that is written.
    """

    __slots__ = ("content", "pending")

    def __init__(self) -> None:
        self.pending: Pending | None = None
        self.content: bytes | None = None


class Stream:
    """One call of ModelStreamInfer: reads, answers, and ends with one status."""

    def __init__(
        self,
        call: Call,
        inference: Inference,
        access: Access,
        writers: Writers,
        *,
        over: Callable[["Stream"], None],
    ) -> None:
        """Prepare.

        Args:
            call: of the client.
            inference: answers requests.
            access: says who may call.
            writers: write the answers.
            over: told when the status has gone out.
        """
        self._call = call
        self._inference = inference
        self._access = access
        self._writers = writers
        self._over = over
        self._lock = threading.Lock()
        self._turns: deque[_Turn] = deque()
        self._sending = False
        self._reading = False
        self._ending = False
        self._error: ServingError | None = None
        """Why the stream ends, if it is not the client that ends it."""
        self._finished = False

    def begin(self) -> None:
        """Read the first request."""
        self._call.watch(self._gone)
        self._go_on()

    def drain(self) -> None:
        """Read no more; what is under way is still answered."""
        self._end(Draining("the server is stopping; go on with the last state on another replica"))

    def _received(self, content: bytes | None) -> None:
        with self._lock:
            self._reading = False
            if self._ending:
                return
        if content is None:
            self._end(None)
            return
        trace = self._begin_trace()
        try:
            message = self._inference.parse(content)
        except ServingError as error:
            if trace is not None:
                trace.end(STATUS_CODES[type(error)].name, error.reason)
            self._end(error)
            return
        self._take(message, trace)
        self._go_on()

    def _begin_trace(self) -> RequestTrace | None:
        tracer = self._inference.tracer
        if tracer is None:
            return None
        return tracer.begin(METHOD, self._call.metadata, began_ns=self._inference.clock.now_ns())

    def _take(self, message: oip.ModelInferRequest, trace: RequestTrace | None) -> None:
        turn = _Turn()
        with self._lock:
            self._turns.append(turn)
        try:
            self._knows_still()
            turn.pending = self._inference.begin(message, self._call, partial(self._replied, turn, message), trace)
        except Exception as error:  # noqa: BLE001  a fault of ours must not take the stream's other requests with it
            self._answer(turn, self._failed(message, error, trace))

    def _knows_still(self) -> None:
        """Find out anew who calls: a token may be withdrawn, or end, before its stream does.

        Raises:
            Unauthenticated: it was.
        """
        if self._call.client is not None:
            try:
                self._call.client = self._access.client(self._call.metadata)
            except ServingError as error:
                self._inference.metrics.not_served(error.reason)
                raise

    def _replied(self, turn: _Turn, message: oip.ModelInferRequest, pending: Pending) -> None:
        self._writers.of(pending).put(partial(self._write, turn, message, pending))

    def _write(self, turn: _Turn, message: oip.ModelInferRequest, pending: Pending) -> None:
        try:
            answer = oip.ModelStreamInferResponse(infer_response=pending.response())
            answer.infer_response.parameters[FINAL].bool_param = True
        except Exception as error:  # noqa: BLE001  as in `_take`
            self._answer(turn, self._failed(message, error, pending.trace))
        else:
            self._answer(turn, answer.SerializeToString())
            if pending.trace is not None:
                pending.trace.end(grpc.StatusCode.OK.name, OK)
        self._go_on()

    def _answer(self, turn: _Turn, content: bytes) -> None:
        self._call.will_send(content)
        turn.content = content

    def _failed(self, message: oip.ModelInferRequest, error: Exception, trace: RequestTrace | None) -> bytes:
        """Return the answer that tells of an error, and end the request's trace with it."""
        told = as_serving_error(error, self._call, trace)
        if trace is not None:
            trace.end(STATUS_CODES[type(told)].name, told.reason)
        return _failed(message, told).SerializeToString()

    def _go_on(self) -> None:
        """Do what can be done now: send the next answer if it is there, read if there is room, end at the end."""
        with self._lock:
            content = self._turns[0].content if self._turns and not self._sending else None
            if content is not None:
                self._turns.popleft()
                self._sending = True
                self._call.send(content, self._sent)
            if not self._ending and not self._reading and len(self._turns) + self._sending < OUTSTANDING:
                self._reading = True
                self._call.receive(self._received)
            over = self._ending and not self._turns and not self._sending and not self._finished
            self._finished |= over
        if over:
            self._finish()

    def _sent(self) -> None:
        with self._lock:
            self._sending = False
        self._go_on()

    def _gone(self) -> None:
        """Take everything back: the client has left, or its time is over."""
        self._end(Cancelled("the client ended the stream"))
        with self._lock:
            under_way = [turn.pending for turn in self._turns if turn.pending is not None]
        for pending in under_way:
            pending.cancel()

    def _end(self, error: ServingError | None) -> None:
        with self._lock:
            if not self._ending:
                self._ending = True
                self._error = error
        self._go_on()

    def _finish(self) -> None:
        if self._error is None:
            self._call.finish(grpc.StatusCode.OK)
        else:
            finish(self._call, self._error)
            self._error = None  # it leads back here, by the frames that it has passed
        self._over(self)


def _failed(message: oip.ModelInferRequest, error: ServingError) -> oip.ModelStreamInferResponse:
    response = oip.ModelInferResponse(model_name=message.model_name, model_version=message.model_version, id=message.id)
    response.parameters[FINAL].bool_param = True
    response.parameters["reason"].string_param = error.reason
    response.parameters["grpc_status"].string_param = STATUS_CODES[type(error)].name
    if error.retry_after_ms is not None:
        response.parameters["retry_after_ms"].int64_param = error.retry_after_ms
    return oip.ModelStreamInferResponse(error_message=message_of(error), infer_response=response)
