"""The answers for a person: tables and plots."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from rich.console import Console
from rich.table import Table

from loadtests.simulate.experiments import Answer
from loadtests.simulate.limits import Figure
from loadtests.simulate.results import Sample

BLUE, RED, GREEN, ORANGE, GREY = "#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9aa0a6"
METRICS = {"backlog": (BLUE, "backlog, s"), "cpu": (RED, "CPU, share"), "in_flight": (GREEN, "requests under way")}
DAY_BEGINS = "scaling on "


def by_question(answers: Sequence[Answer]) -> Iterator[tuple[str, list[Answer]]]:
    """Yield the answers of one question after the other."""
    for question, group in groupby(answers, key=lambda each: each.question):
        yield question, list(group)


def show(answers: Sequence[Answer], limits: Sequence[Figure], console: Console) -> None:
    """Print a table per question, then what breaks first, if that was asked."""
    for question, group in by_question(answers):
        table = Table(
            *("setting", "in time", "per s", "p50, ms", "p99, ms", "refused", "lost", "sent", "busy", "replica h"),
            title=question,
        )
        for each in group:
            table.add_row(
                each.setting,
                f"{each.good_share:.2%}",
                f"{each.goodput:,.0f}",
                f"{each.p50 * 1000:.0f}",
                f"{each.p99 * 1000:.0f}",
                f"{each.refused_share:.2%}",
                f"{each.unavailable_share:.2%}",
                f"{each.amplification:.2f}",
                f"{each.busy_share:.0%}",
                f"{each.replica_hours:.2f}",
            )
        console.print(table)
    if limits:
        table = Table("what", "measure", "number", "bounded by", title="At a thousand replicas")
        for figure in limits:
            table.add_row(figure.subject, figure.measure, f"{figure.value:,.4g}", figure.bound)
        console.print(table)
    requests, seconds = sum(each.requests for each in answers), sum(each.wall_seconds for each in answers)
    each_us = seconds / max(1, requests) * 1e6
    console.print(f"{requests:,} requests counted, {each_us:.0f} us of a process for each.", highlight=False)


def plot(answers: Sequence[Answer], folder: Path) -> list[Path]:
    """Draw balancing, trouble, scaling and the deployed autoscaler into PNGs of the folder; returns them."""
    drawn = []
    plots = {
        "balance": _plot_balance,
        "trouble": _plot_trouble,
        "scaling": _plot_scaling,
        "deployed": _plot_deployed,
    }
    for name, draw in plots.items():
        canvas = Canvas(figsize=(11, 4.2), layout="constrained")
        draw(answers, canvas)
        path = folder / f"simulate-{name}.png"
        canvas.savefig(path, dpi=120)
        drawn.append(path)
    return drawn


def plot_run(answer: Answer, folder: Path) -> Path:
    """Draw one run over time into a PNG of the folder: answers, replicas and their backlog; returns it."""
    canvas = Canvas(figsize=(11, 4.2), layout="constrained")
    left, right = canvas.subplots(1, 2)
    _plot_rate(left, answer, "answers in time", lambda sample: sample.in_time, GREEN)
    _plot_rate(left, answer, "requests ended", lambda sample: sample.ended, GREY)
    left.set_xlabel("seconds")
    left.set_ylabel("per second")
    left.set_ylim(bottom=0)
    _finish(left)
    _plot_ready(right, answer, BLUE, "ready")
    times = [sample.at / 60 for sample in answer.samples]
    backlog = right.twinx()
    backlog.plot(times, [sample.backlog for sample in answer.samples], color=RED, linewidth=1)
    backlog.set_ylabel("mean backlog, s", color=RED)
    _finish_ready(right)
    path = folder / "simulate-scenario.png"
    canvas.savefig(path, dpi=120)
    return path


def _plot_rate(
    axes: Axes, answer: Answer, label: str, count: Callable[[Sample], int], colour: str | None = None
) -> None:
    """Draw a count as a rate over a twentieth of the run."""
    pairs = list(zip(answer.samples, answer.samples[20:], strict=False))
    rates = [(count(late) - count(early)) / (late.at - early.at) for early, late in pairs]
    axes.plot([late.at for _, late in pairs], rates, linewidth=1, color=colour, label=label)


def _bars(axes: Axes, groups: Sequence[tuple[str, list[Answer]]], value: Callable[[Answer], float], unit: str) -> None:
    """Draw grouped bars: one group per setting, one bar of it per question."""
    settings = list(dict.fromkeys(each.setting for _, group in groups for each in group))
    width = 0.8 / max(1, len(groups))
    for index, (question, group) in enumerate(groups):
        values = {each.setting: value(each) for each in group}
        places = [place + (index - (len(groups) - 1) / 2) * width for place in range(len(settings))]
        axes.bar(places, [values.get(setting, 0.0) for setting in settings], width, label=question)
    axes.set_xticks(range(len(settings)), settings, rotation=30, ha="right", fontsize=7)
    axes.set_ylabel(unit)
    _finish(axes)


def _finish(axes: Axes) -> None:
    """Name what is drawn, of which there may be nothing."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _plot_balance(answers: Sequence[Answer], canvas: Canvas) -> None:
    groups = [each for each in by_question(answers) if each[0].startswith("balance")]
    left, right = canvas.subplots(1, 2)
    _bars(left, groups, lambda each: each.p99 * 1000, "p99 of answers in time, ms")
    _bars(right, groups, lambda each: 100 * (1 - each.good_share), "not answered in time, %")


def _plot_trouble(answers: Sequence[Answer], canvas: Canvas) -> None:
    left, right = canvas.subplots(1, 2)
    deaths = [each for each in by_question(answers) if each[0].startswith("one in ten")]
    _bars(left, deaths, lambda each: 100 * (1 - each.good_share), "not answered in time, %")
    for _, group in (each for each in by_question(answers) if each[0].startswith("load 0.7")):
        for each in group:
            label = f"{each.setting} (sent {each.amplification:.2f} times)"
            _plot_rate(right, each, label, lambda sample: sample.in_time)
    right.set_xlabel("seconds; overload in the middle third")
    right.set_ylabel("answers in time per second")
    right.set_ylim(bottom=0)
    _finish(right)


def _plot_scaling(answers: Sequence[Answer], canvas: Canvas) -> None:
    left, right = canvas.subplots(1, 2)
    for metric, (colour, unit) in METRICS.items():
        group = [each for each in answers if each.question == DAY_BEGINS + metric]
        hours = [each.replica_hours for each in group]
        left.plot(hours, [100 * (1 - each.good_share) for each in group], "o-", color=colour, label=f"target: {unit}")
        for each in group:
            words = each.setting.removeprefix("target ")
            point = (each.replica_hours, 100 * (1 - each.good_share))
            left.annotate(words, point, textcoords="offset points", xytext=(4, 4), fontsize=7)
        if group:
            middle = group[len(group) // 2]
            _plot_ready(right, middle, colour, f"{metric}, {middle.setting}")
    left.set_xlabel("replica hours of the day")
    left.set_ylabel("not answered in time, %")
    left.set_yscale("symlog", linthresh=0.1)
    _finish(left)
    _finish_ready(right)


def _plot_deployed(answers: Sequence[Answer], canvas: Canvas) -> None:
    left, right = canvas.subplots(1, 2)
    groups = [each for each in by_question(answers) if each[0].startswith("deployed")]
    _bars(left, groups, lambda each: 100 * (1 - each.good_share), "not answered in time, %")
    for question, group in groups:
        if question.endswith("times"):
            right.set_title(question, fontsize=9)
            for each, colour in zip(group, (ORANGE, BLUE, RED), strict=True):
                _plot_ready(right, each, colour, f"{each.setting} ({each.replica_hours:.1f} replica hours)")
    _finish_ready(right)


def _plot_ready(axes: Axes, answer: Answer, colour: str, label: str) -> None:
    times, ready = zip(*((sample.at / 60, sample.ready) for sample in answer.samples), strict=True)
    axes.plot(times, ready, color=colour, linewidth=1, label=label)


def _finish_ready(axes: Axes) -> None:
    axes.set_xlabel("minutes")
    axes.set_ylabel("replicas that are ready")
    _finish(axes)
