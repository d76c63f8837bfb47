"""A runner whose requests the library keeps, without calls: offered from here, and their answers collected here."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from serving._proto import open_inference_pb2 as oip
from serving.batching import NEVER_NS
from serving.manifest import Manifest
from serving.metrics import SECONDS_BUCKETS, ServerMetrics
from serving.policy import Policy
from serving.repository import Model, Repository
from serving.wire.access import Access
from serving.wire.inference import Inference
from serving.wire.native.library import load_library, taken
from serving.wire.native.server import NativeServer
from serving.wire.native.slots import NativeSlots
from serving.wire.service import ControlService
from serving.wire.slots import Slots
from serving.wire.transport import options
from tests.runner.house import House, rows_of

MIB = 2**20


class Offered:
    """A request that the library has accepted."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def collect(self) -> bytes:
        """Return its answer, the message of its error, or itself if it was handed back; once."""
        return taken(load_library().collect(self._handle))

    def answer(self) -> oip.ModelInferResponse:
        return oip.ModelInferResponse.FromString(self.collect())

    def totals(self) -> list[float]:
        """Return what the engine summed for each row."""
        answer = self.answer()
        position = [output.name for output in answer.outputs].index("last")
        values = np.frombuffer(answer.raw_output_contents[position], "<f4")
        return [float(total) for total in values.reshape(answer.outputs[position].shape)[:, 0]]


class Kept:
    """Context manager: a server that takes no calls, and the runner of its one model.

    Attributes:
        house: the runner, and what is around it.
    """

    def __init__(
        self, manifest: Manifest, *, max_rows: int = 8, max_queue_rows: int = 4096, instances: int = 1
    ) -> None:
        self.house = House(manifest, max_rows=max_rows, max_queue_rows=max_queue_rows, instances=instances)
        self.repository = Repository()
        self.policy = Policy.model_validate({"instances": instances, "max_queue_rows": max_queue_rows})
        self.model = Model(manifest=manifest, policy=self.policy, inbox=self.house.runner)
        self.repository.serve(manifest.name, {manifest.version: self.model})
        self.metrics = ServerMetrics(cpu_threads=1)
        slots = NativeSlots(64, what="requests are in flight", setting="--max-inflight-requests")
        self.server = NativeServer(
            Inference(repository=self.repository, metrics=self.metrics, clock=self.house.clock, slots=slots),
            ControlService(self.repository, None, self.metrics),  # type: ignore[arg-type]  nobody calls it
            Access(None),
            repository=self.repository,
            slots=slots,
            host="127.0.0.1",
            port=0,
            certificates=None,
            stream_slots=Slots(4, what="streams are open", setting="--max-streams"),
            max_unread_bytes=MIB,
            max_connections=4,
            options=options(max_message_bytes=MIB, max_connections=4, max_connection_age_seconds=0),
            reflects=False,
            seconds_buckets=SECONDS_BUCKETS,
            sample_ratio=0.0,
        )
        self.metrics.add(self.server)
        inbox = self.server._inboxes[self.model]
        assert inbox is not None, "the library knows its types"
        self.inbox = inbox

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.house.runner.drain()
        self.house.run_all()
        self.house.runner.join()

    def offer(self, value: float, *, lengths: Sequence[int] = (2,), deadline_ns: int = NEVER_NS) -> Offered | None:
        """Offer a request whose rows hold one value; None if it would be Python's."""
        rows = rows_of(value, lengths)
        message = oip.ModelInferRequest(model_name=self.model.manifest.name, id=f"{value:g}")
        message.inputs.add(name="x", datatype="FP32", shape=rows.inputs["x"].shape)
        message.inputs.add(name="lengths", datatype="INT64", shape=[len(lengths)])
        message.raw_input_contents.extend([rows.inputs["x"].tobytes(), rows.lengths.tobytes()])
        content = message.SerializeToString()
        handle = load_library().offer(self.inbox.handle, content, len(content), deadline_ns, self.house.clock.now_ns())
        return Offered(handle) if handle else None

    def offered(self, value: float, *, lengths: Sequence[int] = (2,), deadline_ns: int = NEVER_NS) -> Offered:
        offered = self.offer(value, lengths=lengths, deadline_ns=deadline_ns)
        assert offered is not None
        return offered
