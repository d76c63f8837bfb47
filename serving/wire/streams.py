"""ModelStreamInfer: many requests over one call, answered in their order.

A stream holds two threads: one reads requests and queues them, the other waits for the oldest and sends its answer. So
requests of one stream share batches with each other and with those of other calls.
"""

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import grpc

from serving._proto import open_inference_pb2 as oip
from serving.errors import Draining, ServingError
from serving.wire.inference import Inference, Pending
from serving.wire.status import STATUS_CODES, as_serving_error

OUTSTANDING = 32
"""Requests of one stream under way; the next is not read before one of them is answered, so TCP slows the sender."""

Message = oip.ModelInferRequest
_Step = Callable[[], oip.ModelStreamInferResponse]


class Stream:
    """One call of ModelStreamInfer."""

    def __init__(self, inference: Inference, requests: Iterator[Message], call: grpc.ServicerContext) -> None:
        self._inference = inference
        self._requests = requests
        self._call = call
        self._room = threading.Semaphore(OUTSTANDING)
        self._steps: SimpleQueue[_Step | ServingError | None] = SimpleQueue()
        self._under_way: set[Pending] = set()
        self._lock = threading.Lock()
        self._over = False

    def answers(self) -> Iterator[oip.ModelStreamInferResponse]:
        """Give the answers in the order of the requests.

        Raises:
            ServingError: why the stream as a whole ends: the server stops, or bytes came that are no request.
        """
        if not self._call.add_callback(self._leave):
            return
        threading.Thread(target=self._read, name="stream-reader", daemon=True).start()
        try:
            while (step := self._steps.get()) is not None:
                if isinstance(step, ServingError):
                    raise step
                yield step()
                self._room.release()
        finally:  # what nobody will ask for any more must not keep its slot
            self._leave()
            for pending in self._under_way:
                pending.abandon()

    def drain(self) -> None:
        """Read no more; what is under way is still answered."""
        self._end(Draining("the server is stopping; go on with the last state on another replica"))

    def _read(self) -> None:
        try:
            for message in self._requests:
                if isinstance(message, ServingError):
                    self._end(message)
                    return
                self._room.acquire()
                if self._over:
                    return
                self._take(message)
        except Exception:  # noqa: BLE001  the iterator of a call that has ended raises a bare Exception
            self._leave()
        self._end(None)

    def _take(self, message: Message) -> None:
        try:
            pending = self._inference.begin(message, self._call)
        except Exception as error:  # noqa: BLE001  a fault of ours must not take the stream's other requests with it
            refused = _failed(message, as_serving_error(error))
            self._steps.put(lambda: refused)
            return
        with self._lock:
            over = self._over
            if not over:
                self._under_way.add(pending)
                self._steps.put(lambda: self._finish(message, pending))
        if over:
            pending.abandon()

    def _finish(self, message: Message, pending: Pending) -> oip.ModelStreamInferResponse:
        try:
            return oip.ModelStreamInferResponse(infer_response=pending.response())
        except Exception as error:  # noqa: BLE001  as in `_take`
            return _failed(message, as_serving_error(error))
        finally:
            with self._lock:
                self._under_way.discard(pending)

    def _leave(self) -> None:
        """Take everything back: the client has gone, or the call is over; any thread."""
        with self._lock:
            self._over = True
            left = list(self._under_way)
        for pending in left:
            pending.cancel()
        self._room.release()
        self._steps.put(None)

    def _end(self, reason: ServingError | None) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            self._steps.put(reason)
        self._room.release()


def _failed(message: Message, error: ServingError) -> oip.ModelStreamInferResponse:
    response = oip.ModelInferResponse(model_name=message.model_name, model_version=message.model_version, id=message.id)
    response.parameters["reason"].string_param = error.reason
    response.parameters["grpc_status"].string_param = STATUS_CODES[type(error)].name
    if error.retry_after_ms is not None:
        response.parameters["retry_after_ms"].int64_param = error.retry_after_ms
    return oip.ModelStreamInferResponse(error_message=str(error), infer_response=response)
