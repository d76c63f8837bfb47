"""ModelInfer: one request, and its answer."""

from functools import partial
from typing import TYPE_CHECKING

import grpc

from serving._proto import open_inference_pb2 as oip
from serving.wire.call import Call
from serving.wire.inference import Inference
from serving.wire.pending import OK, Pending
from serving.wire.status import STATUS_CODES, as_serving_error, finish
from serving.wire.writers import Writers

if TYPE_CHECKING:
    from serving.wire.traces import RequestTrace

UNARY = f"/{oip.DESCRIPTOR.services_by_name['GRPCInferenceService'].full_name}/ModelInfer"


class Unary:
    """One call of ModelInfer; or one request of a stream, whose front keeps the order of the answers."""

    def __init__(self, call: Call, inference: Inference, writers: Writers, *, method: str = UNARY) -> None:
        """Prepare.

        Args:
            call: that brings the request.
            inference: answers it.
            writers: write the answer.
            method: that was called, for traces.
        """
        self._call = call
        self._inference = inference
        self._writers = writers
        self._pending: Pending | None = None
        self._trace: RequestTrace | None = None
        self._method = method

    def begin(self) -> None:
        """Read the request."""
        self._call.watch(self._gone)
        self._call.receive_only(self._received)

    def _received(self, content: bytes | None) -> None:
        if content is None:
            self._call.finish(grpc.StatusCode.UNIMPLEMENTED, f"{self._method} takes exactly one message")
            return
        try:
            if self._inference.tracer is not None:
                began_ns = self._call.begun_ns
                self._trace = self._inference.tracer.begin(
                    self._method[1:], self._call.metadata, began_ns=began_ns, chosen=self._call.chosen
                )
            message = self._inference.parse(content)
            self._pending = self._inference.begin(message, self._call, self._replied, self._trace)
        except Exception as error:  # noqa: BLE001  the outermost frame of a call
            self._fail(error)

    def _gone(self) -> None:
        if self._pending is not None:
            self._pending.cancel()

    def _replied(self, pending: Pending) -> None:
        self._writers.of(pending).put(partial(self._write, pending))

    def _write(self, pending: Pending) -> None:
        try:
            content = pending.response().SerializeToString()
            self._pending = None  # the call lives until its answer is read, and would keep request and outputs
        except Exception as error:  # noqa: BLE001  the outermost frame of a call
            self._fail(error)
        else:
            self._call.finish(grpc.StatusCode.OK, content=content)
            if self._trace is not None:
                self._trace.end(grpc.StatusCode.OK.name, OK)

    def _fail(self, error: Exception) -> None:
        told = as_serving_error(error, self._call, self._trace)
        finish(self._call, told)
        if self._trace is not None:
            self._trace.end(STATUS_CODES[type(told)].name, told.reason)
