"""The one table from our errors to gRPC status codes, and the one place that sends errors."""

import logging
import uuid
from typing import NoReturn

import grpc

from serving.errors import (
    Cancelled,
    ClientLimit,
    ControlOff,
    DeadlineExceeded,
    Draining,
    EngineError,
    InvalidRequest,
    LoadRefused,
    ModelNotFound,
    NotOffered,
    NotReady,
    Overloaded,
    PermissionDenied,
    QueueFull,
    ServingError,
    StateMismatch,
    Unauthenticated,
)
from serving.wire import request_ids
from serving.wire.call import Call, Metadata
from serving.wire.traces import RequestTrace

log = logging.getLogger(__name__)

STATUS_CODES: dict[type[ServingError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    ModelNotFound: grpc.StatusCode.NOT_FOUND,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    Draining: grpc.StatusCode.UNAVAILABLE,
    ControlOff: grpc.StatusCode.FAILED_PRECONDITION,
    LoadRefused: grpc.StatusCode.FAILED_PRECONDITION,
    NotOffered: grpc.StatusCode.UNIMPLEMENTED,
    StateMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    ClientLimit: grpc.StatusCode.RESOURCE_EXHAUSTED,
    QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Cancelled: grpc.StatusCode.CANCELLED,
    EngineError: grpc.StatusCode.INTERNAL,
}
REASON_KEY = "reason"
"""Trailing metadata: tells our RESOURCE_EXHAUSTED from gRPC's own."""
PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata: the client's next attempt waits for so many milliseconds. Source: gRPC proposal A6, retries."""
MESSAGE_BYTES = 2000
"""Of a message, at most: it repeats what was sent, and clients refuse more than 8 KiB of metadata in all, with an error
that says to try again. gRPC sends what is not ASCII in three times as many bytes."""
LEFT_OUT = " [...] "


def message_of(error: ServingError) -> str:
    """Return what a caller is told of an error: its beginning and its end, if it is long."""
    text = str(error)
    content = text.encode()
    if len(content) <= MESSAGE_BYTES:
        return text
    end = MESSAGE_BYTES // 3
    beginning = MESSAGE_BYTES - end - len(LEFT_OUT)
    return content[:beginning].decode(errors="ignore") + LEFT_OUT + content[-end:].decode(errors="ignore")


def finish(call: Call, error: ServingError) -> None:
    """End a call with the error's status, its message and its reason."""
    call.finish(STATUS_CODES[type(error)], message_of(error), metadata=metadata_of(error))


def refuse(call: Call, error: ServingError) -> None:
    """End a call of which nothing has been read, with the error's status, its message and its reason."""
    call.refuse(STATUS_CODES[type(error)], message_of(error), metadata=metadata_of(error))


def abort(context: grpc.ServicerContext, error: ServingError) -> NoReturn:
    """End a call that grpcio took with the error's status, its message, its reason, and the id that the caller sent."""
    request_id = request_ids.sent(context.invocation_metadata())
    name = () if request_id is None else ((request_ids.REQUEST_ID_KEY, request_id),)
    context.set_trailing_metadata((*metadata_of(error), *name))
    context.abort(STATUS_CODES[type(error)], message_of(error))


def as_serving_error(error: Exception, call: Call, trace: RequestTrace | None) -> ServingError:
    """Return the error itself, or for an unforeseen one what may be told of it; the log has the rest.

    Args:
        error: that ended a request.
        call: that brought the request.
        trace: of the request, if it is traced.
    """
    trace_id = None if trace is None else trace.trace_id
    if isinstance(error, ServingError):
        if isinstance(error, EngineError):
            log_of_fault(error, call.request_id, trace_id)
        return error
    return _fault(error, call.request_id, trace_id)


def log_of_fault(error: EngineError, request_id: str, trace_id: str | None) -> None:
    """Log to which request an engine's fault is the answer: the engine's own log of it knows no calls."""
    log.error(
        "engine fault %s is the answer to request %s", error.fault, request_id,
        extra={"event": "fault_told", "fault": error.fault, "request_id": request_id, "trace_id": trace_id},
    )  # fmt: skip


def _fault(error: Exception, request_id: str, trace_id: str | None = None) -> EngineError:
    """Log what nobody had foreseen, and return what the caller is told of it."""
    fault = uuid.uuid4().hex[:12]
    log.error(
        "fault %s in request %s", fault, request_id, exc_info=error,
        extra={"event": "fault", "fault": fault, "request_id": request_id, "trace_id": trace_id},
    )  # fmt: skip
    return EngineError(f"a fault of the server; its log has it as {fault}", fault=fault)


def metadata_of(error: ServingError) -> Metadata:
    """Return what the status of an error tells beside its message."""
    reason = (REASON_KEY, error.reason)
    return (reason,) if error.retry_after_ms is None else (reason, (PUSHBACK_KEY, str(error.retry_after_ms)))
