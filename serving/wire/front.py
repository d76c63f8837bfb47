"""ModelInfer and ModelStreamInfer: the calls that make batches, without a thread for each."""

import threading

import grpc

from serving.clock import NANOSECONDS_PER_SECOND
from serving.errors import Draining, Overloaded, ServingError
from serving.wire.access import Access
from serving.wire.call import Call
from serving.wire.completions import Completions
from serving.wire.inference import Inference
from serving.wire.lag import behind
from serving.wire.slots import Slots
from serving.wire.status import refuse
from serving.wire.streams import METHOD, Stream
from serving.wire.unary import UNARY, Unary
from serving.wire.unread import Unread
from serving.wire.writers import Writers

STREAM = f"/{METHOD}"
MILLISECOND_NS = NANOSECONDS_PER_SECOND // 1000


class Front:
    """Takes both methods of a server, from `start` to `join`."""

    def __init__(
        self, server: grpc.Server, inference: Inference, access: Access, *, stream_slots: Slots, unread: Unread
    ) -> None:
        """Claim the methods; the server must not have been started.

        Args:
            server: of grpcio, which serves everything else.
            inference: answers requests.
            access: says who may call.
            stream_slots: each open stream takes one.
            unread: counts the answers that clients have not taken.

        Raises:
            FrontUnavailable: it cannot be built on the installed grpcio.
        """
        self._inference = inference
        self._access = access
        self._stream_slots = stream_slots
        self._streams: set[Stream] = set()
        self._streams_lock = threading.Lock()
        self._draining = False
        self._writers = Writers()
        methods = {UNARY: self._begin_unary, STREAM: self._begin_stream}
        self._completions = Completions(server, methods, inference.clock, unread)

    def start(self) -> None:
        """Take calls; the server has been started."""
        self._writers.start()
        self._completions.start()

    def drain(self) -> None:
        """Refuse what comes from now on; what is under way is still answered."""
        with self._streams_lock:
            self._draining = True
            streams = list(self._streams)
        for stream in streams:
            stream.drain()

    def close(self) -> None:
        """Take no more calls, not even to refuse them; the server is going to be stopped."""
        self._completions.close()

    def join(self) -> None:
        """Wait until all calls have ended; the server has been stopped."""
        self._completions.join()
        self._writers.stop()

    def _begin_unary(self, call: Call) -> None:
        if self._draining:
            self._inference.metrics.not_served(Draining.reason)
            refuse(call, Draining("the server is stopping; retry on another replica"))
        elif call.deadline_ns is not None and self._completions.lag.refuses(call.deadline_ns - call.begun_ns):
            refuse(call, self._behind())
        elif self._knows(call):
            Unary(call, self._inference, self._writers).begin()

    def _knows(self, call: Call) -> bool:
        """Find out who calls, before anything is read; False if it has been refused."""
        try:
            call.client = self._access.client(call.metadata)
        except ServingError as error:
            self._inference.metrics.not_served(error.reason)
            refuse(call, error)
            return False
        return True

    def _behind(self) -> Overloaded:
        """Count a call that is refused because the front is behind, and return what its caller is told."""
        self._inference.metrics.not_served(Overloaded.reason)
        lag_ms = -(-self._completions.lag.ns // MILLISECOND_NS)
        return Overloaded(behind(lag_ms), retry_after_ms=lag_ms)

    def _begin_stream(self, call: Call) -> None:
        if not self._knows(call):
            return
        try:
            self._stream_slots.take()
        except ServingError as error:
            self._inference.metrics.not_served(error.reason)
            refuse(call, error)
            return
        stream = Stream(call, self._inference, self._access, self._writers, over=self._stream_over)
        with self._streams_lock:
            draining = self._draining
            self._streams.add(stream)
        stream.begin()
        if draining:
            stream.drain()

    def _stream_over(self, stream: Stream) -> None:
        with self._streams_lock:
            self._streams.discard(stream)
        self._stream_slots.give_back()
