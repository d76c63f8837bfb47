"""What was measured against what was asked for, and why it came out so."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from export.proving.latency import describe_cpu
from loadtests.benchmarks.int8_measuring import BATCHES, RandomModel, TrainedModel
from training.turns import Spread

TARGET_HIDDEN = 256
"""From this size on, recurrent layers have targets."""
WEIGHTS_TARGET = 0.26
LATENCY_TARGET = 0.40
RMS_TARGET = 0.05
ACCURACY_LOSS_TARGET = 0.005
ACCURACY_LOSS = "accuracy loss"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One figure, a ratio to FP32's.

    Attributes:
        target: the largest value that was asked for; None if nothing was.
        spread: quartiles of the runs, of a time.
        why: what the figure consists of.
    """

    model: str
    measure: str
    measured: float
    target: float | None
    spread: Spread | None = None
    why: str

    @property
    def verdict(self) -> Literal["met", "missed", "no target"]:
        """Whether the target was met; the median decides."""
        if self.target is None:
            return "no target"
        return "met" if self.measured <= self.target else "missed"

    @property
    def straddled(self) -> bool:
        """Whether the target lies between the quartiles, so that another run may come to another verdict."""
        return self.target is not None and self.spread is not None and self.spread.p25 <= self.target <= self.spread.p75


def check_random(models: Sequence[RandomModel]) -> list[Check]:
    """Return the checks of the random LSTMs."""
    cpu = describe_cpu()
    return [check for model in models for check in _checks_of(model, cpu)]


def check_trained(models: Sequence[TrainedModel]) -> list[Check]:
    """Return the checks of the trained classifiers."""
    return [
        Check(
            model=model.name,
            measure=ACCURACY_LOSS,
            measured=(model.right[0] - model.right[1]) / model.rows,
            target=ACCURACY_LOSS_TARGET,
            why=(
                f"{model.right[0]} and {model.right[1]} of {model.rows} held-out rows right, "
                f"{model.agreed} named alike; a row is {1 / model.rows:.2%}"
            ),
        )
        for model in models
    ]


def _checks_of(model: RandomModel, cpu: str) -> list[Check]:
    name, asked = model.size.name, model.size.hidden >= TARGET_HIDDEN
    weights, files = model.weights_bytes, model.file_bytes
    latency, batched = BATCHES
    return [
        Check(
            model=name,
            measure="weights, bytes",
            measured=weights[1] / weights[0],
            target=WEIGHTS_TARGET if asked else None,
            why=f"{_megabytes(weights)}: a byte for four, 5 per channel for scale and zero point",
        ),
        Check(
            model=name,
            measure="file, bytes",
            measured=files[1] / files[0],
            target=None,
            why=f"{_megabytes(files)}: biases stay float",
        ),
        Check(
            model=name,
            measure=f"latency, batch {latency}",
            measured=model.ratios[latency].median,
            target=LATENCY_TARGET if asked else None,
            spread=model.ratios[latency],
            why=f"{_milliseconds(model, latency)}: a step reads all weights for one row; gates stay float",
        ),
        Check(
            model=name,
            measure=f"latency, batch {batched}",
            measured=model.ratios[batched].median,
            target=None,
            spread=model.ratios[batched],
            why=f"{_milliseconds(model, batched)}: {batched} rows share each read; {_products(cpu)}",
        ),
        Check(
            model=name,
            measure="RMS error",
            measured=model.rms,
            target=RMS_TARGET if asked else None,
            why="7-bit weights, 8-bit activations; random weights and noise",
        ),
    ]


def _products(cpu: str) -> str:
    """Say what decides how fast INT8 products are: AVX2 alone takes three instructions for what VNNI does in one."""
    if "vnni" in cpu or "amx_int8" in cpu:
        return "INT8 products have an instruction of their own"
    return "no VNNI: three instructions per INT8 product" if "avx2" in cpu else "INT8 products decide"


def _megabytes(pair: tuple[int, int]) -> str:
    return f"{pair[0] / 1e6:.2f} to {pair[1] / 1e6:.2f} MB"


def _milliseconds(model: RandomModel, batch: int) -> str:
    fp32, int8 = (seconds * 1e3 for seconds in model.seconds[batch])
    return f"{fp32:.2f} to {int8:.2f} ms"
