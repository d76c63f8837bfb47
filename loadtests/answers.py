"""When an answer is right: it is the one that the request gets alone. Shared by all loads that compare answers."""

import urllib.request
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

TOLERANCE = 1e-5
"""Of an answer in company from the one alone, relative to the largest value (ARCHITECTURE.md, invariants)."""
SECONDS = 10.0
"""That the page of metrics may take."""


class Served(NamedTuple):
    """A version that serves, the precision of its weights, and the engine that computes it."""

    model: str
    version: str
    precision: str
    engine: str

    @property
    def depends_on_company(self) -> bool:
        """Whether answers differ with what shares a batch: ONNX Runtime's INT8 scales by the whole tensor."""
        return (self.precision, self.engine) == ("int8", "onnxruntime")


def served(metrics_url: str) -> list[Served]:
    """Return the versions that serve, from `lstm_model_info`.

    Raises:
        OSError: the page cannot be read.
        ValueError: it is no page of metrics.
    """
    with urllib.request.urlopen(metrics_url, timeout=SECONDS) as page:  # noqa: S310  a server's metrics
        families = list(text_string_to_metric_families(page.read().decode()))
    labels = [each.labels for family in families for each in family.samples if each.name == "lstm_model_info"]
    return sorted(Served(each["model"], each["version"], each["precision"], each["engine"]) for each in labels)


def agrees(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Return whether an output is the expected one: floats within `TOLERANCE`, others exactly."""
    if found.shape != expected.shape:
        return False
    if expected.dtype.kind != "f":
        return bool(np.array_equal(found, expected))
    largest = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return bool(np.abs(found - expected).max(initial=0.0) <= TOLERANCE * largest)
