"""What a process that sends has to know: made once by the master, dealt out to the workers as plain values."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from loadtests.traffic.plan import PLANNED, Planned, share_of
from loadtests.traffic.samples import Sample
from serving._proto import open_inference_pb2 as oip


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How requests are sent.

    Attributes:
        address: `host:port` of the server.
        open: at the plan's times, whatever the answers; else each caller waits for its answer.
        deadline: of a request, in seconds from when it was due.
        retries: how often a request that was refused for load is sent again, when the server says.
        outstanding: requests of an open loop that one process may have out.
        piece_steps: steps of a stream's messages.
        stream_share: of a closed loop's requests at models that can stream.
        seed: of what callers of a closed loop draw.
    """

    address: str
    open: bool
    deadline: float
    retries: int
    outstanding: int
    piece_steps: int
    stream_share: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One process's part of the load.

    Attributes:
        manner: how it sends.
        samples: what it sends.
        plan: when, PLANNED[n]; empty in a closed loop.
        begin: when the plan's time starts, in seconds since the epoch.
    """

    manner: Manner
    samples: Sequence[Sample]
    plan: Planned
    begin: float

    def share(self, worker: int, workers: int) -> "Job":
        """Return the part of one of several workers; they draw differently as callers."""
        manner = replace(self.manner, seed=self.manner.seed * workers + worker)
        return replace(self, manner=manner, plan=share_of(self.plan, worker, workers))

    def to_message(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "manner": asdict(self.manner),
            "samples": [
                (
                    sample.model,
                    sample.steps,
                    sample.request.SerializeToString(),
                    sample.state,
                    list(sample.timed),
                    None if sample.answer is None else sample.answer.SerializeToString(),
                )
                for sample in self.samples
            ],
            "plan": self.plan.tobytes(),
            "begin": self.begin,
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "Job":
        """Return it from plain values."""
        samples = [
            Sample(
                model=model,
                steps=steps,
                request=oip.ModelInferRequest.FromString(request),
                state=state,
                timed=tuple(timed),
                answer=None if answer is None else oip.ModelInferResponse.FromString(answer),
            )
            for model, steps, request, state, timed, answer in message["samples"]
        ]
        plan = np.frombuffer(message["plan"], PLANNED)
        return cls(manner=Manner(**message["manner"]), samples=samples, plan=plan, begin=message["begin"])
