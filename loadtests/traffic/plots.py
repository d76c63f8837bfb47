"""The pictures of a run."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from loadtests.traffic.figures import buckets_of
from loadtests.traffic.pages import course_of
from loadtests.traffic.records import OK, RESOURCE_EXHAUSTED, WRONG, latencies
from loadtests.traffic.result import Result

BLUE, ORANGE, GREEN, RED, GREY = "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9aa0a6"
PALETTE = (BLUE, ORANGE, GREEN, "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22")
MOST_POINTS = 20_000
MILLISECONDS = 1000.0
BARS = 120
"""Of the outcomes over time, at most."""


def draw(result: Result, path: Path) -> None:
    """Draw latency over time, latency by length, outcomes over time, and the server's backlog and occupancy."""
    canvas = Canvas(figsize=(12, 7.5), layout="constrained")
    (over_time, by_length), (outcomes, server) = canvas.subplots(2, 2)
    _latency_over_time(result, over_time)
    _latency_by_length(result, by_length)
    _outcomes_over_time(result, outcomes)
    _server(result, server)
    for axes in (over_time, by_length, outcomes, server):
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=110)


def _latency_over_time(result: Result, axes: Axes) -> None:
    answered = result.records[result.records["status"] == OK]
    shown = answered[:: max(1, len(answered) // MOST_POINTS)]
    axes.scatter(
        shown["due"], latencies(shown) * MILLISECONDS, s=5, color=GREY, alpha=0.5, linewidths=0, label="answers"
    )
    width = _width(result)
    windows = result.windows(width)
    middles = [(number + 0.5) * width for number in range(len(windows))]
    axes.plot(middles, [window.p50 * MILLISECONDS for window in windows], color=BLUE, label="p50")
    axes.plot(middles, [window.p99 * MILLISECONDS for window in windows], color=RED, label="p99")
    objectives = result.options.objectives
    if objectives.p99_seconds is not None:
        axes.axhline(objectives.p99_seconds * MILLISECONDS, color=RED, linestyle=":", label="objective of the p99")
    axes.set_yscale("log")
    axes.set_title("ms from when a request was due to its answer")
    axes.set_xlabel("seconds")
    axes.legend(loc="upper right", fontsize=8)


def _latency_by_length(result: Result, axes: Axes) -> None:
    steps = [choice.steps for choice in result.choices]
    models = np.array([choice.model for choice in result.choices])
    for model, colour in zip(result.models, PALETTE * len(result.models), strict=False):
        mine = result.records[models[result.records["sample"]] == model.name]
        buckets = buckets_of(mine, steps)
        for share, style in (("p50", "-"), ("p99", "--")):
            values = [getattr(bucket, share) * MILLISECONDS for bucket in buckets]
            axes.plot(
                [bucket.mean for bucket in buckets],
                values,
                style,
                marker="o",
                markersize=4,
                color=colour,
                label=f"{model.name} {share}",
            )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(bottom=0)
    axes.set_title("ms by length of the sequence (buckets that double)")
    axes.set_xlabel("steps")
    axes.legend(fontsize=8)


def _outcomes_over_time(result: Result, axes: Axes) -> None:
    width = _width(result)
    edges = np.arange(0.0, result.seconds + width, width)
    records, latency = result.records, latencies(result.records)
    answered = records["status"] == OK
    wrong = answered & (records["verdict"] == WRONG)
    in_time = answered & ~wrong & (latency <= result.options.deadline)
    shed = records["status"] == RESOURCE_EXHAUSTED
    bottom = np.zeros(len(edges) - 1)
    for label, chosen, colour in (
        ("in time", in_time, BLUE),
        ("late", answered & ~in_time & ~wrong, ORANGE),
        ("shed", shed, GREY),
        ("errors", ~answered & ~shed, RED),
        ("wrong", wrong, "black"),
    ):
        rates = np.histogram(records["due"][chosen], edges)[0] / width
        if rates.any():
            axes.bar(edges[:-1], rates, width, bottom=bottom, align="edge", color=colour, label=label)
        bottom = bottom + rates
    if result.options.open and result.options.trace is None:
        times = np.linspace(0, result.seconds, 200)
        axes.plot(times, [result.options.profile.rate_at(time) for time in times], color="black", label="offered, mean")
    axes.set_title("requests per second, by what became of them")
    axes.set_xlabel("seconds")
    axes.legend(loc="lower right", fontsize=8)


def _server(result: Result, axes: Axes) -> None:
    axes.set_title("on the server: backlog (ms, lines), batch occupancy (%, dots)")
    axes.set_xlabel("seconds")
    if not result.pages:
        axes.text(0.5, 0.5, "no metrics", ha="center", transform=axes.transAxes)
        return
    right = axes.twinx()
    for model, colour in zip(result.models, PALETTE * len(result.models), strict=False):
        course = course_of(result.pages, model.name)
        axes.plot(course.seconds, [each * MILLISECONDS for each in course.backlog], color=colour, label=model.name)
        right.plot(
            course.seconds, [100 * each for each in course.occupancy], ".", markersize=4, color=colour, alpha=0.6
        )
    axes.set_ylim(bottom=0)
    right.set_ylim(0, 105)
    right.spines["top"].set_visible(False)
    axes.legend(loc="upper left", fontsize=8)


def _width(result: Result) -> float:
    return max(1.0, float(np.ceil(result.seconds / BARS)))
