"""What the demo measures of one model, through a running server."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.manifest import MODEL_FILE, read_manifest
from training.client import Endpoint, latencies_seconds, predict
from training.demo.examples import Example

FP32, INT8 = "1", "2"
"""Versions that the exporter and the quantizer write into a new model's folder."""
LATENCY_CALLS = 200
SAME = 1e-4
"""Largest relative difference between PyTorch's metric and the server's in FP32."""
INT8_LOSS = 0.01
"""Largest loss of INT8: one percentage point of accuracy, or one percent of the mean absolute error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was measured for one model.

    Attributes:
        pytorch: the metric with PyTorch's own answers, one row at a time.
        fp32, int8: the metric with the server's answers.
        bytes_fp32, bytes_int8: of the files that are served.
        seconds_fp32, seconds_int8: median time of a call of one row on an idle server, the wire included.
    """

    example: Example
    rows: int
    pytorch: float
    fp32: float
    int8: float
    bytes_fp32: int
    bytes_int8: int
    seconds_fp32: float
    seconds_int8: float

    @property
    def problems(self) -> list[str]:
        """Say what the server got worse than it may."""
        found = []
        if abs(self.fp32 - self.pytorch) > SAME * abs(self.pytorch):
            found.append(f"{self.example.name}: FP32 gives {self.fp32}, PyTorch {self.pytorch}")
        loss = self.pytorch - self.int8 if self.example.higher_is_better else self.int8 / self.pytorch - 1
        if loss > INT8_LOSS:
            found.append(f"{self.example.name}: INT8 loses {loss:.2%}")
        return found


def measure(example: Example, address: str, weights: Path, models: Path) -> Outcome:
    """Call both versions of a model with its held-out rows."""
    with np.load(weights / f"{example.name}-test.npz", allow_pickle=False) as test:
        rows = [x[:length] for x, length in zip(test["x"], test["lengths"], strict=True)]
        target, expected = test["target"], test["prediction"]
    fp32, int8 = (Endpoint(address=address, model=example.name, version=v, output="output") for v in (FP32, INT8))
    timed = [rows[i % len(rows)] for i in range(LATENCY_CALLS)]
    folder = models / example.name
    return Outcome(
        example=example,
        rows=len(rows),
        pytorch=example.metric(expected, target),
        fp32=example.metric(predict(fp32, rows), target),
        int8=example.metric(predict(int8, rows), target),
        bytes_fp32=(folder / FP32 / MODEL_FILE).stat().st_size,
        bytes_int8=_bytes_served(folder / INT8),
        seconds_fp32=float(np.median(latencies_seconds(fp32, timed))),
        seconds_int8=float(np.median(latencies_seconds(int8, timed))),
    )


def _bytes_served(version: Path) -> int:
    """Return the size of the form that the version prefers."""
    manifest = read_manifest(version.resolve())
    if manifest.native is None or manifest.int8 is None or manifest.int8.engine == "onnxruntime":
        return manifest.file.bytes
    return sum(file.bytes for file in manifest.native.files)
