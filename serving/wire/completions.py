"""Calls of single methods, taken from gRPC core by one thread without a thread for each call.

grpcio's own server gives every call a thread of its pool, which waits for the request, then for the answer; the kernel
and the interpreter switch threads eight times per call, which takes most of its time (ARCHITECTURE.md has the figures).
Here one thread waits for whatever happens next on any call, and an answer is sent by whoever has it. grpcio's public
interface has no such server, so this is built on the extension module that its own Python part is built on. All that is
used of it is in this file; grpcio's server is left with calls of methods that there are not.

Source: gRPC core's completion queue (grpc/grpc.h); what grpcio's `_server.py` and `grpc.aio` do with it.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs leave it out

from serving.clock import NANOSECONDS_PER_SECOND, Clock
from serving.errors import FrontUnavailable
from serving.wire.call import Call, Metadata
from serving.wire.lag import Lag
from serving.wire.unread import Unread

NO_FLAGS = 0
LONGEST_DEADLINE_SECONDS = 10 * 365 * 24 * 3600.0
"""Core says "never" with a time far beyond it."""
LONG_AGO = 1.0
"""A deadline, as a time of day, with which a queue is looked at without waiting."""
ACCEPTING = 512
"""Calls of a method that may come while the thread is busy; more wait inside core, where no `Lag` sees them."""

Event = Any
_OnEvent = Callable[[Event], None]


class CoreCall(Call):
    """A call that the thread has taken from core."""

    def __init__(self, completions: "Completions", event: Event, *, now_ns: int) -> None:
        """Take the call that an event brings."""
        seconds = event.call_details.deadline - time.time()  # noqa: TID251  core tells it as a time of day
        never = seconds > LONGEST_DEADLINE_SECONDS
        super().__init__(
            metadata=event.invocation_metadata,
            deadline_ns=None if never else now_ns + int(seconds * NANOSECONDS_PER_SECOND),
            begun_ns=now_ns,
        )
        self._completions = completions
        self._core = event.call
        self._initial: tuple[Any, ...] = (cygrpc.SendInitialMetadataOperation((), NO_FLAGS),)
        self._active = True

    @property
    def peer(self) -> str:
        """The address at the other end of the connection, as `ipv4:127.0.0.1:1234`."""
        return cast("bytes", self._core.peer()).decode()

    def is_active(self) -> bool:
        """Return whether the client may still be there."""
        return self._active

    def watch(self, gone: Callable[[], None]) -> None:
        """Have `gone` called if the call ends otherwise than by `finish`: cancelled, late, or the connection lost."""

        def closed(event: Event) -> None:
            if event.batch_operations[0].cancelled():
                self._active = False
                gone()

        self._start((cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),), closed)

    def receive(self, then: Callable[[bytes | None], None]) -> None:
        """Have `then` called with the next message, or with None when there will be no more."""
        self._start(
            (cygrpc.ReceiveMessageOperation(NO_FLAGS),), lambda event: then(event.batch_operations[0].message())
        )

    def receive_only(self, then: Callable[[bytes | None], None]) -> None:
        """Have `then` called with the one message. Clients send it at once, so what it waits is this thread's lag."""

        def came(event: Event) -> None:
            self._completions.saw(self)
            then(event.batch_operations[0].message())

        self._start((cygrpc.ReceiveMessageOperation(NO_FLAGS),), came)

    def will_send(self, content: bytes) -> None:
        """Say that a message waits to be sent, so that it counts among what clients have not read."""
        self._completions.unread.add(self, len(content))

    def send(self, content: bytes, then: Callable[[], None]) -> None:
        """Send a message of a stream, of which `will_send` told; `then` is called when the next one may follow."""
        initial, self._initial = self._initial, ()
        size = len(content)

        def sent(_: Event) -> None:
            self._completions.unread.sent(self, size)
            then()

        self._start((*initial, cygrpc.SendMessageOperation(content, NO_FLAGS)), sent)

    def finish(
        self, code: grpc.StatusCode, details: str = "", *, metadata: Metadata = (), content: bytes | None = None
    ) -> None:
        """Send the status, after a last message if there is one."""
        status = self._status(code, details, metadata)
        operations: tuple[Any, ...] = (*self._initial, status)
        done: _OnEvent = _nothing
        if content is not None:
            self.will_send(content)
            size = len(content)
            operations = (*self._initial, cygrpc.SendMessageOperation(content, NO_FLAGS), status)
            done = lambda _: self._completions.unread.sent(self, size)  # noqa: E731  an event's form
        self._core.start_server_batch(operations, done)  # counted since it was accepted

    def refuse(self, code: grpc.StatusCode, details: str, *, metadata: Metadata) -> None:
        """Send a status in the place of everything else, for the least that a call can cost."""
        close = cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS)
        status = self._status(code, details, metadata)
        self._core.start_server_batch((close, *self._initial, status), _nothing)  # counted since it was accepted

    def drop(self) -> None:
        """End the call without sending the rest; what was started on it is told that it failed."""
        self._core.cancel(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "its answers were not read for too long")

    def _status(self, code: grpc.StatusCode, details: str, metadata: Metadata) -> Any:  # noqa: ANN401  an operation
        return cygrpc.SendStatusFromServerOperation(self._with_id(metadata), code.value[0], details.encode(), NO_FLAGS)

    def _start(self, operations: tuple[Any, ...], then: _OnEvent) -> None:
        self._completions.expect()
        self._core.start_server_batch(operations, then)


Begin = Callable[[Call], None]
"""Takes a call."""


class Completions:
    """A thread that takes the calls of some methods of a server, and runs what was asked for when something is done."""

    def __init__(  # noqa: PLR0913  the last two have defaults
        self,
        server: grpc.Server,
        methods: Mapping[str, Begin],
        clock: Clock,
        unread: Unread,
        *,
        name: str = "grpc-inference",
        accepting: int = ACCEPTING,
    ) -> None:
        """Claim the methods; the server must not have been started.

        Args:
            server: of grpcio; its `stop` ends these calls as well.
            methods: what begins a call, by full name; runs on the one thread, so it must not wait.
            clock: of deadlines.
            unread: counts the answers that clients have not taken.
            name: of the thread.
            accepting: calls of a method that may come while the thread is busy.

        Raises:
            FrontUnavailable: the installed grpcio is built otherwise than those that this was written for.
        """
        self._methods = methods
        self._accepting = accepting
        self._clock = clock
        self.unread = unread
        self.lag = Lag()
        """Of the thread; to be used on it only."""
        self._lock = threading.Lock()
        self._closed = False
        self._due = 0
        """Events to come: of each call's operations and of its status, and of each call that may come."""
        self._thread = threading.Thread(target=self._run, name=name)
        try:
            self._core = cast("Any", server)._cy_server  # noqa: SLF001  see the module's docstring
            self._queue = cygrpc.CompletionQueue()
            self._core.register_completion_queue(self._queue)
            for method in methods:
                self._core.register_method(method)
            _make_operations()
        except (AttributeError, TypeError) as error:
            raise FrontUnavailable(
                f"grpcio {grpc.__version__} does not offer what this server needs of it ({error}); "
                "install the version in constraints.txt"
            ) from error

    def start(self) -> None:
        """Take calls; the server has been started."""
        for method, begin in self._methods.items():
            for _ in range(self._accepting):
                self._accept(method, begin)
        self._thread.start()

    def close(self) -> None:
        """Take no more calls; to be called before the server is stopped, which would not stand being asked for them."""
        with self._lock:
            self._closed = True

    def join(self) -> None:
        """Wait until all calls have ended; the server has been stopped."""
        if self._thread.ident is not None:
            self._thread.join()

    def expect(self) -> None:
        """Count an event that is to come."""
        with self._lock:
            self._due += 1

    def saw(self, call: CoreCall) -> None:
        """Take that a call's message has its turn, and so what it waited."""
        self.lag.saw(self._clock.now_ns() - call.begun_ns)

    def _accept(self, method: str, begin: Callable[[Call], None]) -> None:
        def came(event: Event) -> None:
            if not event.success:  # the server stops
                return
            self._accept(method, begin)
            self.expect()  # the status that `finish` will send
            begin(CoreCall(self, event, now_ns=self._clock.now_ns()))

        with self._lock:
            if not self._closed:
                self._due += 1
                self._core.request_registered_call(self._queue, self._queue, method, came)

    def _run(self) -> None:
        while (event := self._next()).completion_type != cygrpc.CompletionType.queue_shutdown:
            event.tag(event)
            event = None  # it holds on to its call, which is over only when nobody does
            with self._lock:
                self._due -= 1
                over = not self._due
            if over:
                self._queue.shutdown()

    def _next(self) -> Event:
        """Return the next event; one that has to be waited for shows that the thread has caught up."""
        if self.lag.matters:
            event = self._queue.poll(deadline=LONG_AGO)
            if event.completion_type != cygrpc.CompletionType.queue_timeout:
                return event
            self.lag.caught_up()
        return self._queue.poll()


def _make_operations() -> None:
    """Make one of each kind, so that a grpcio that wants them otherwise shows at the start, not at the first call."""
    cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS)
    cygrpc.ReceiveMessageOperation(NO_FLAGS)
    cygrpc.SendInitialMetadataOperation((), NO_FLAGS)
    cygrpc.SendMessageOperation(b"", NO_FLAGS)
    cygrpc.SendStatusFromServerOperation((), grpc.StatusCode.OK.value[0], b"", NO_FLAGS)


def _nothing(_: Event) -> None:
    """Do nothing when the status is out."""
