"""All calls but those that infer or watch: read on one thread, answered on a few others.

With grpcio's own server a call has a thread from its beginning, which waits for a message that may never come, and for
a client that may never read. As many such calls as there are threads, and no probe would be answered any more. Here a
thread is taken when there is something to do, and nothing is waited for on it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from serving.errors import ServingError
from serving.wire.access import Access
from serving.wire.access.rights import OPEN
from serving.wire.call import Call
from serving.wire.inflation import inflated
from serving.wire.parsing import parse_as
from serving.wire.slots import Slots
from serving.wire.status import as_serving_error, finish, refuse

THREADS = 16
PROBE_THREADS = 2
"""Of those, for what probes call: an administrator's load takes as long as the model does."""
CALLS = 512
"""At a time, of all clients."""

Behave = Callable[[Any], Message]
"""Answers a message of a method's kind with one of the kind that it returns."""


class Control:
    """What such calls share: threads, room, and the rule who may call."""

    def __init__(self, access: Access, *, max_message_bytes: int) -> None:
        """Start no thread before the first call; take messages that inflate to so many bytes at most."""
        self.max_message_bytes = max_message_bytes
        self._access = access
        self._slots = Slots(CALLS, what="calls other than inference are open", setting="as many as this server takes")
        self._threads = ThreadPoolExecutor(max_workers=THREADS - PROBE_THREADS, thread_name_prefix="control")
        self._probes = ThreadPoolExecutor(max_workers=PROBE_THREADS, thread_name_prefix="probe")

    def unary(self, method: MethodDescriptor, behave: Behave) -> Callable[[Call], None]:
        """Return what begins calls of a method that takes one message and gives one."""

        def check(call: Call, message: Message) -> None:
            self._access.check(method.name, message, call.metadata, call.peer)

        threads = self._probes if method.name in OPEN else self._threads

        def begin(call: Call) -> None:
            self._begin(call, _Exchange(call, self, method, behave, check=check, threads=threads, lasts=False))

        return begin

    def stream(self, method: MethodDescriptor, behave: Behave) -> Callable[[Call], None]:
        """Return what begins calls of a method that answers each message with one, for all whom the server knows."""

        def begin(call: Call) -> None:
            try:
                self._access.client(call.metadata)
            except ServingError as error:
                refuse(call, error)
            else:
                threads = self._threads
                self._begin(call, _Exchange(call, self, method, behave, check=_nothing, threads=threads, lasts=True))

        return begin

    def stop(self) -> None:
        """Begin nothing more; all calls have ended."""
        for threads in (self._threads, self._probes):
            threads.shutdown(wait=False, cancel_futures=True)

    def give_back(self) -> None:
        """Take that a call is over."""
        self._slots.give_back()

    def _begin(self, call: Call, exchange: "_Exchange") -> None:
        try:
            self._slots.take()
        except ServingError as error:
            refuse(call, error)
        else:
            exchange.begin()


class _Exchange:
    """One call: a message is read and answered, and then perhaps the next. There is never more than one under way."""

    def __init__(  # noqa: PLR0913  what a call is made of
        self,
        call: Call,
        control: Control,
        method: MethodDescriptor,
        behave: Behave,
        *,
        check: Callable[[Call, Message], None],
        threads: Executor,
        lasts: bool,
    ) -> None:
        self._call = call
        self._control = control
        self._method = method
        self._kind = GetMessageClass(method.input_type)
        self._behave = behave
        self._check = check
        self._threads = threads
        self._lasts = lasts
        self._lock = threading.Lock()
        self._over = False

    def begin(self) -> None:
        """Read the first message."""
        self._call.watch(self._gone)
        self._call.receive(self._received)

    def _received(self, content: bytes | None) -> None:
        if content is not None:
            self._threads.submit(self._answer, content)
        elif self._lasts:
            self._end(lambda: self._call.finish(grpc.StatusCode.OK))
        else:
            text = f"{path_of(self._method)} takes exactly one message"
            self._end(lambda: self._call.finish(grpc.StatusCode.UNIMPLEMENTED, text))

    def _answer(self, content: bytes) -> None:
        try:
            message = parse_as(self._kind, inflated(content, max_bytes=self._control.max_message_bytes))
            self._check(self._call, message)
            answer = self._behave(message).SerializeToString()
        except Exception as error:  # noqa: BLE001  the outermost frame of a call
            self._fail(error)
        else:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        if not self._lasts:
            self._end(lambda: self._call.finish(grpc.StatusCode.OK, content=answer))
            return
        with self._lock:
            if not self._over:
                self._call.will_send(answer)
                self._call.send(answer, lambda: self._call.receive(self._received))

    def _fail(self, error: Exception) -> None:
        told = as_serving_error(error, self._call, None)
        self._end(lambda: finish(self._call, told))

    def _gone(self) -> None:
        """End it whatever is under way: the client has left, its time is over, or the server stops."""
        self._end(lambda: self._call.finish(grpc.StatusCode.CANCELLED, "the client ended the call"))

    def _end(self, finish: Callable[[], None]) -> None:
        with self._lock:
            over, self._over = self._over, True
            if not over:
                finish()
        if not over:
            self._control.give_back()


def path_of(method: MethodDescriptor) -> str:
    """Return a method's full name as calls have it."""
    service, _, name = method.full_name.rpartition(".")
    return f"/{service}/{name}"


def _nothing(_: Call, __: Message) -> None:
    """Let everyone through."""
