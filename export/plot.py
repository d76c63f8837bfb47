"""`report.png`: INT8 outputs against FP32's, and the histogram of their differences."""

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from export.runtime import Row, Runtime

POINTS = 4000
ROWS = 32


def plot_outputs(fp32: Runtime, int8: Runtime, rows: Sequence[Row]) -> bytes:
    """Return a PNG of the first output's values on up to 32 rows, each run alone."""
    name = fp32.model.outputs[0].name
    pairs = [(fp32.answer([row])[0][name], int8.answer([row])[0][name]) for row in rows[:ROWS]]
    expected, got = (np.concatenate([np.ravel(pair[i]) for pair in pairs]).astype(float) for i in range(2))
    shown = np.random.default_rng(0).permutation(expected.size)[:POINTS]
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        scatter, histogram = figure.subplots(1, 2)
        scatter.plot(expected[shown], got[shown], ".", markersize=3, alpha=0.4)
        ends = [expected.min(), expected.max()]
        scatter.plot(ends, ends, color="black", linewidth=0.8)
        scatter.set(xlabel=f"FP32 {name}", ylabel=f"INT8 {name}", title="one point per value")
        histogram.hist(got - expected, bins=60)
        histogram.set(xlabel="INT8 - FP32", ylabel="values", title="differences")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
