"""`report.png`: where a version's answers are and are not those of its reference."""

import io
from collections.abc import Iterable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from export.proving.accuracy import Comparison, RowError, compare_answers
from export.proving.latency import Latency
from export.proving.proofs import Judge
from export.runtime import Array, Row, Runtime

POINTS = 4000
FORMS = {"fp32": "FP32", "int8": "INT8, onnxruntime", "native": "INT8, native", "fp16": "FP16"}
SIZE = (4.5, 3.6)
"""Width and height of one panel (inches)."""


def plot_parity(runtime: Runtime, original: Judge, pool: Sequence[Row]) -> bytes:
    """Return a PNG of the FP32 file's error against the original model, by length of the sequence, each row alone."""
    got = [runtime.answer([row])[0] for row in pool]
    comparison = compare_answers(runtime.model.outputs, original.answers(pool), got, pool)
    figure, (panel,) = _panels(1)
    _errors(panel, comparison.rows, "error against the original model")
    return _png(figure)


def plot_smaller(
    comparison: Comparison, errors: Sequence[RowError], latencies: Sequence[Latency], *, name: str
) -> bytes:
    """Return a PNG of a smaller version against FP32: values, differences, error by length, and time if it was taken.

    Args:
        comparison: the answers of both, each row alone.
        errors: of rows of many lengths.
        latencies: of both; may be empty.
        name: of the smaller version's precision, such as INT8.
    """
    figure, panels = _panels(3 + bool(latencies))
    finite = np.isfinite(comparison.values[0]) & np.isfinite(comparison.values[1])
    expected, got = (values[finite].astype(np.float64) for values in comparison.values)
    if expected.size:
        _scatter(panels[0], expected, got, output=comparison.output, name=name)
        panels[1].hist(got - expected, bins=60)
        panels[1].ticklabel_format(axis="x", scilimits=(0, 0))
    panels[1].set(xlabel=f"{name} - FP32", ylabel="values", title="differences")
    _errors(panels[2], errors, "error against FP32")
    if latencies:
        _bars(panels[3], latencies)
    return _png(figure)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    with mpl.rc_context({"font.size": 9}):
        columns = min(count, 2)
        rows = -(-count // columns)
        figure = Figure(figsize=(SIZE[0] * columns, SIZE[1] * rows), layout="constrained")
        return figure, list(np.ravel(np.array(figure.subplots(rows, columns))))[:count]


def _scatter(panel: Axes, expected: Array, got: Array, *, output: str, name: str) -> None:
    shown = np.random.default_rng(0).permutation(expected.size)[:POINTS]
    panel.plot(expected[shown], got[shown], ".", markersize=3, alpha=0.4)
    ends = [expected.min(), expected.max()]
    panel.plot(ends, ends, color="black", linewidth=0.8)
    panel.set(xlabel=f"FP32 {output}", ylabel=f"{name} {output}", title="one point per value")


def _errors(panel: Axes, rows: Iterable[RowError], title: str) -> None:
    by_steps: dict[int, list[float]] = {}
    for row in rows:
        by_steps.setdefault(row.steps, []).append(row.rms_relative)
    lengths = sorted(by_steps)
    panel.plot(lengths, [float(np.mean(by_steps[steps])) for steps in lengths], "o-", markersize=3, label="mean")
    panel.plot(lengths, [max(by_steps[steps]) for steps in lengths], "^:", markersize=3, label="worst")
    panel.set(xlabel="steps of the sequence", ylabel="RMS error / RMS of outputs", title=title)
    panel.set_ylim(bottom=0)
    panel.legend()


def _bars(panel: Axes, latencies: Sequence[Latency]) -> None:
    """Draw times as shares of FP32's, so that all batch sizes fit one axis; labels say the milliseconds."""
    places = np.arange(len(latencies))
    forms = list(latencies[0].seconds)
    width = 0.85 / len(forms)
    for index, form in enumerate(forms):
        times = [latency.seconds[form] for latency in latencies]
        shares = [latency.seconds[form] / latency.seconds["fp32"] for latency in latencies]
        bars = panel.bar(places + width * index, shares, 0.95 * width, label=FORMS[form])
        panel.bar_label(bars, [f"{seconds * 1e3:.2g}" for seconds in times], fontsize=7)
    names = ["mixed" if latency.mixed else f"batch {latency.rows}" for latency in latencies]
    panel.set_xticks(places + width * (len(forms) - 1) / 2, names)
    panel.set(ylabel="time / FP32's time", title=f"one run of {latencies[0].steps} steps, one thread (bars: ms)")
    panel.margins(y=0.15)
    panel.legend(loc="lower right", fontsize=7)


def _png(figure: Figure) -> bytes:
    with mpl.rc_context({"font.size": 9}):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
