"""Health checks (grpc.health.v1): asked once by probes, watched by clients that choose among replicas.

Not grpcio's own servicer: that sends to watchers while it holds the lock that every check takes, so one watcher that
reads nothing would silence health checks and keep the server from stopping. Here nothing waits for a watcher.

Source: grpc/health/v1/health.proto.
"""

import threading
from typing import TYPE_CHECKING, cast

import grpc
from grpc_health.v1 import health_pb2

from serving.errors import Draining, InvalidRequest, ModelNotFound, ServingError
from serving.wire.call import Call
from serving.wire.inflation import inflated
from serving.wire.parsing import parse_as
from serving.wire.slots import Slots
from serving.wire.status import finish, refuse

if TYPE_CHECKING:
    from google.protobuf.descriptor import ServiceDescriptor

OVERALL = ""
"""The name under which the whole server is asked for."""
SERVICE = cast("ServiceDescriptor", health_pb2.DESCRIPTOR.services_by_name["Health"])
CHECK = SERVICE.methods_by_name["Check"]
WATCH = f"/{SERVICE.full_name}/Watch"
STOPPING = "the server is stopping; watch another replica"
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
Status = int
"""A value of `HealthCheckResponse.ServingStatus`."""


class Health:
    """What is told of each service. Safe to use from any thread."""

    def __init__(self, *, max_watches: int, max_message_bytes: int) -> None:
        """Know no service yet, and take so many watches at a time, whose messages inflate to so many bytes at most."""
        self.max_message_bytes = max_message_bytes
        self.lock = threading.Lock()
        """Of this and of its watches; nothing that is done under it waits."""
        self._statuses: dict[str, Status] = {}
        self._watches: set[_Watch] = set()
        self.slots = Slots(max_watches, what="health watches are open", setting="as many as this server takes")
        self._closed = False

    def set(self, service: str, status: Status) -> None:
        """Say how a service is; who watches it is told."""
        with self.lock:
            self._statuses[service] = status
            for watch in self._watches:
                if watch.service == service:
                    watch.tell(status)

    def Check(self, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:  # noqa: N802  the protocol's
        """Answer how a service is.

        Raises:
            ModelNotFound: it is none of this server's.
        """
        status = self._statuses.get(request.service)
        if status is None:
            known = ", ".join(f"'{name}'" for name in sorted(self._statuses))
            raise ModelNotFound(f"no service '{request.service}' has a health here; those that have one are {known}")
        return health_pb2.HealthCheckResponse(status=status)

    def begin_watch(self, call: Call) -> None:
        """Take a call of Watch."""
        try:
            self.slots.take()
        except ServingError as error:
            refuse(call, error)
        else:
            _Watch(call, self).begin()

    def close(self) -> None:
        """End all watches, and those that come."""
        with self.lock:
            self._closed = True
            for watch in list(self._watches):
                watch.end(Draining(STOPPING))

    def join(self, watch: "_Watch") -> None:
        """Tell a watch how its service is, from now on; called under the lock."""
        self._watches.add(watch)
        watch.tell(self._statuses.get(watch.service, SERVICE_UNKNOWN))
        if self._closed:
            watch.end(Draining(STOPPING))

    def leave(self, watch: "_Watch") -> None:
        """Forget a watch that is over; called once for each, under the lock."""
        self._watches.discard(watch)
        self.slots.give_back()


class _Watch:
    """One call of Watch. Of what it could not send yet it keeps the newest only, as nobody asks how a service was.

    Attributes:
        service: that it watches, once it has said which.
    """

    def __init__(self, call: Call, health: Health) -> None:
        self.service = ""
        self._call = call
        self._health = health
        self._news: Status | None = None
        self._sending = False
        self._end: ServingError | None = None
        self._finished = False

    def begin(self) -> None:
        """Read which service is meant."""
        self._call.watch(self._gone)
        self._call.receive(self._received)

    def tell(self, status: Status) -> None:
        """Send a status, after the one that is on its way; called under the lock."""
        self._news = status
        self._go_on()

    def end(self, error: ServingError) -> None:
        """End the call, after what is on its way; called under the lock."""
        self._end = self._end or error
        self._go_on()

    def _received(self, content: bytes | None) -> None:
        if content is None:
            self._finish(grpc.StatusCode.UNIMPLEMENTED, f"{WATCH} takes exactly one message")
            return
        try:
            message = inflated(content, max_bytes=self._health.max_message_bytes)
            service = parse_as(health_pb2.HealthCheckRequest, message).service
        except InvalidRequest as error:
            told = str(error)  # the error itself holds on to this, by the frames that it has passed
            with self._health.lock:
                self.end(InvalidRequest(told))
            return
        with self._health.lock:
            self.service = service
            if not self._finished:
                self._health.join(self)

    def _go_on(self) -> None:
        if self._sending or self._finished:
            return
        if self._news is not None:
            content = health_pb2.HealthCheckResponse(status=self._news).SerializeToString()
            self._news, self._sending = None, True
            self._call.will_send(content)
            self._call.send(content, self._sent)
        elif self._end is not None:
            self._finished = True
            finish(self._call, self._end)
            self._health.leave(self)

    def _sent(self) -> None:
        with self._health.lock:
            self._sending = False
            self._go_on()

    def _gone(self) -> None:
        """End it whatever is on its way: the client has left, or its time is over."""
        self._finish(grpc.StatusCode.CANCELLED, "the client ended the watch")

    def _finish(self, code: grpc.StatusCode, details: str) -> None:
        with self._health.lock:
            if not self._finished:
                self._finished = True
                self._call.finish(code, details)
                self._health.leave(self)
