"""Where requests come in, whichever call brought them: read, and brought to the model that they mean."""

from collections.abc import Callable
from typing import Protocol

from serving._proto import open_inference_pb2 as oip
from serving.clock import NANOSECONDS_PER_SECOND, Clock
from serving.errors import NotReady, ServingError
from serving.repository import Model, Repository
from serving.wire import parameters
from serving.wire.call import Call
from serving.wire.inflation import MIB, inflated
from serving.wire.parsing import parse
from serving.wire.pending import Pending, Served
from serving.wire.slots import Slots
from serving.wire.traces import RequestTrace, Tracer

MILLISECOND_NS = NANOSECONDS_PER_SECOND // 1000


class RequestMetrics(Protocol):
    """What the front reports."""

    def request_ended(
        self, model: str, version: str, outcome: str, seconds: float, *, trace_id: str | None = None
    ) -> None:
        """One request for a known model version has its answer or error; the id is that of its trace, if it has one."""

    def not_served(self, reason: str) -> None:
        """One request came to no model: no message, none that serves, or the server stops or has no room for it."""


class Inference:
    """Brings requests to the models of a repository."""

    def __init__(  # noqa: PLR0913  what every request needs
        self,
        *,
        repository: Repository,
        metrics: RequestMetrics,
        clock: Clock,
        slots: Slots,
        tracer: Tracer | None = None,
        log_requests: bool = False,
        max_message_bytes: int = 64 * MIB,
    ) -> None:
        """Prepare what each model's messages are checked with.

        Args:
            repository: of models.
            metrics: of requests.
            clock: of deadlines.
            slots: each request takes one while it is under way.
            tracer: of requests; None for no traces.
            log_requests: whether each request of a model that serves gets a line in the log.
            max_message_bytes: largest message, inflated if it comes compressed.
        """
        self._repository = repository
        self._served: dict[tuple[str, str], Served] = {}
        self.metrics = metrics
        self.clock = clock
        self.slots = slots
        self.tracer = tracer
        self.log_requests = log_requests
        self.max_message_bytes = max_message_bytes
        repository.watch(self._look_up)

    def _look_up(self) -> None:
        """Prepare for the versions that serve now; a call finds either all of the old ones or all of the new."""
        known = {served.model: served for served in self._served.values()}
        served: dict[tuple[str, str], Served] = {}
        for (name, version), model in self._repository.models.items():  # oldest first: the newest is the default
            served[name, str(version)] = served[name, ""] = known.get(model) or Served(model)
        self._served = served

    def is_served(self, served: Served) -> bool:
        """Return whether a version still serves."""
        manifest = served.model.manifest
        return self._served.get((manifest.name, str(manifest.version))) is served

    def parse(self, content: bytes) -> oip.ModelInferRequest:
        """Read a request's message.

        Raises:
            InvalidRequest: the bytes are none, or too many once they are inflated.
        """
        try:
            return parse(inflated(content, max_bytes=self.max_message_bytes))
        except ServingError as error:
            self.metrics.not_served(error.reason)
            raise

    def begin(
        self,
        message: oip.ModelInferRequest,
        call: Call,
        replied: Callable[[Pending], None],
        trace: RequestTrace | None = None,
    ) -> Pending:
        """Check and queue a request of a call.

        Args:
            message: the request.
            call: that brought it.
            replied: told that its `response` may be written; by any thread, also before this returns.
            trace: of the request; the caller ends it.

        Raises:
            ServingError: it was refused.
        """
        pending = Pending(self, message, call, replied, trace)
        pending.queue()
        return pending

    def find(self, message: oip.ModelInferRequest) -> Served:
        """Return the model that a request means.

        Raises:
            ModelNotFound: no such name or version.
            NotReady: it is known, but does not serve.
        """
        served = self._served.get((message.model_name, message.model_version))
        if served is not None:
            return served
        manifest = self._repository.find(message.model_name, message.model_version).manifest
        raise NotReady(f"model '{manifest.name}' version {manifest.version} is being loaded; retry")

    def deadline_ns(self, message: oip.ModelInferRequest, call: Call, model: Model) -> int | None:
        """Return the earliest of the call's deadline and the request's `timeout`, or else the model's default."""
        timeout_ns = parameters.timeout_ns(message) if message.parameters else None
        if timeout_ns is None:
            default_ms = model.policy.default_timeout_ms
            if call.deadline_ns is not None or default_ms is None:
                return call.deadline_ns
            timeout_ns = default_ms * MILLISECOND_NS
        deadline_ns = self.clock.now_ns() + timeout_ns
        return deadline_ns if call.deadline_ns is None else min(deadline_ns, call.deadline_ns)
