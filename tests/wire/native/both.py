"""One model version's two implementations beside each other: what Python makes of a request's bytes, and what C++ does."""

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from serving._proto import open_inference_pb2 as oip
from serving.batching import NEVER_NS, Span
from serving.errors import ServingError
from serving.inbox import Arrival
from serving.manifest import CtcDecoding
from serving.repository import Model, Repository
from serving.tensors import Answer, Array, Layout, Part, Rows
from serving.wire import parameters
from serving.wire.codec import Decoder
from serving.wire.inference import Inference
from serving.wire.native.inbox import NativeInbox
from serving.wire.native.library import taken
from serving.wire.native.versions import version_of
from serving.wire.outputs import Offer, Output
from serving.wire.parsing import parse
from serving.wire.slots import Slots
from tests.fuzz.house import Caller
from tests.runner.house import ManualClock
from tests.wire.native.versions import Version

if TYPE_CHECKING:
    from serving.wire.call import Call

NOW_NS = 10**15
ID = 7


class Unreported:
    """Of requests that end nowhere."""

    def request_ended(
        self, model: str, version: str, outcome: str, seconds: float, *, trace_id: str | None = None
    ) -> None: ...

    def not_served(self, reason: str) -> None: ...


@dataclass(frozen=True)
class Accepted:
    """A request that Python takes."""

    message: oip.ModelInferRequest
    rows: Rows
    wanted: list[Output]
    ticket: tuple[int, int]
    """Deadline and priority, in the form in which the library tells them."""

    @property
    def is_odd(self) -> bool:
        """Whether Python alone serves it: what it wants is text, or it has fields that only a client knows."""
        return any(isinstance(output, CtcDecoding) for output in self.wanted) or has_unknown_fields(self.message)


class Both:
    """Decides requests twice, and compares what is kept of them."""

    def __init__(self, library: Any, front: int, version: Version) -> None:
        manifest, policy = version.manifest, version.policy
        self.target = version.target
        described = version_of(manifest, policy).SerializeToString()
        handle = library.inbox_open(front, described, len(described))
        assert handle, "the library knows every type that a manifest may name"
        self._library = library
        self._inbox = NativeInbox(library, front, handle, max_rows=policy.max_request_rows)
        self._decoder = Decoder(manifest, policy)
        self._offer = Offer(manifest)
        self._python, self._native = Layout(manifest), Layout(manifest)
        self._native.keeper = self._inbox
        self._model = Model(manifest=manifest, policy=policy, inbox=cast("Any", None))
        clock = ManualClock()
        clock.ns = NOW_NS
        slots = Slots(1, what="requests are in flight", setting="--max-inflight-requests")
        self._inference = Inference(repository=Repository(), metrics=Unreported(), clock=clock, slots=slots)

    def compare(self, rng: Random, content: bytes, *, deadline_ns: int | None = None) -> bool:
        """Check that both make the same of a request: its ticket, batches of its rows, and its answer.

        Returns:
            Whether the library took it.
        """
        python = self.by_python(content, deadline_ns)
        offered = self._library.offer(self._inbox.handle, content, len(content), deadline_ns or NEVER_NS, NOW_NS)
        if not offered:
            assert python is None or python.is_odd, "Python takes what the library does not"
            return False
        arrivals, cancelled = self._inbox.take(ID)
        if python is not None and has_unknown_fields(python.message):
            return self._drop(offered)
        try:
            assert python is not None, "the library takes what Python does not"
            assert not python.is_odd, "the library decodes no text"
            (arrival,) = arrivals
            assert (arrival.lengths, cancelled) == (python.rows.lengths.tolist(), [])
            assert (arrival.deadline_ns, arrival.priority) == python.ticket
            expected = self._answer(rng, python, arrival)
        finally:
            self._inbox.answer([ID])
            answer = taken(self._library.collect(offered))
        assert oip.ModelInferResponse.FromString(answer) == expected
        return True

    def _drop(self, offered: int) -> bool:
        """Let a request go that has fields in a map's entry that no entry has: the library cannot see them.

        protobuf's C++ reads such an entry without them, its Python counts the whole entry as unknown.
        """
        self._inbox.answer([ID])
        taken(self._library.collect(offered))
        return True

    def by_python(self, content: bytes, deadline_ns: int | None) -> Accepted | None:
        """Return what Python makes of a request; None if it refuses it."""
        try:
            message = parse(content)
            rows = self._decoder.decode(message)
            wanted = self._offer.requested(message)
            call = cast("Call", Caller(deadline_ns=deadline_ns))
            ends_ns = self._inference.deadline_ns(message, call, self._model)
            priority = parameters.priority(message)
        except ServingError:
            return None
        ticket = NEVER_NS if ends_ns is None else min(ends_ns, NEVER_NS), priority or 0
        return Accepted(message, rows, list(wanted), ticket)

    def _answer(self, rng: Random, python: Accepted, arrival: Arrival) -> oip.ModelInferResponse:
        """Run a request in batches of parts of its rows, twice; return the answer as Python writes it."""
        answer = self._python.answer(python.rows)
        left = {row: (0, length) for row, length in enumerate(arrival.lengths)}
        numbers = np.random.default_rng(rng.getrandbits(64))
        while left:
            spans = []
            for row in rng.sample(sorted(left), rng.randint(1, len(left))):
                start, length = left.pop(row)
                stop = rng.choice((length, rng.randint(start + 1, length)))
                spans.append(Span(ID, row, start, stop))
                if stop < length:
                    left[row] = (stop, length)
            self._run(numbers, answer, spans)
        return self._offer.encode(python.message, python.wanted, self._python.outputs_of(answer), {})

    def _run(self, numbers: np.random.Generator, answer: Answer, spans: list[Span]) -> None:
        parts = [Part(answer, row, start, stop) for _, row, start, stop in spans]
        expected, packed = self._python.pack(parts), self._native.pack(spans)
        assert packed.keys() == expected.keys()
        for name, array in expected.items():
            assert (packed[name].shape, packed[name].dtype) == (array.shape, array.dtype)
            assert packed[name].tobytes() == array.tobytes(), f"'{name}' differs"
        steps = max(stop - start for _, _, start, stop in spans)
        outputs: dict[str, Array] = {}
        for name, field in self._python.produced.items():
            shape = field.empty(len(spans), steps).shape
            outputs[name] = numbers.integers(-1000, 1000, shape).astype(field.dtype)
        self._python.scatter(outputs, parts)
        self._native.scatter(outputs, spans)


def has_unknown_fields(message: Message) -> bool:
    """Return whether a message has fields, at any depth, that the contract does not know."""
    if len(UnknownFieldSet(message)):
        return True
    for field, value in message.ListFields():
        if field.message_type is not None:
            each = [value] if isinstance(value, Message) else value.values() if hasattr(value, "values") else value
            if any(has_unknown_fields(inner) for inner in each):
                return True
    return False
