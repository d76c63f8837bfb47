"""What a run is told on the command line, beside what locust itself takes."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from loadtests.traffic.errors import TrafficError
from loadtests.traffic.lengths import FORMS as DISTRIBUTIONS
from loadtests.traffic.profiles import FORMS as SHAPES
from loadtests.traffic.profiles import Profile, read_profile
from loadtests.traffic.samples import LENGTHS, SYNTHETIC_LENGTHS
from loadtests.traffic.served import METRICS_PORT
from loadtests.traffic.slo import Objectives, read_objectives
from loadtests.traffic.trace import LONGEST_GAP_SECONDS, Arrival, read_trace

OPEN, CLOSED = "open", "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A run.

    Attributes:
        host: as `served.read_target` takes it.
        metrics_url: where the server's metrics are; None: on its host, at the usual port, if they can be read there.
        open: whether arrivals are independent of answers.
        profile: arrivals a second, or callers of a closed loop.
        trace: recorded arrivals in place of a profile; None: none.
        models: that are asked; empty: all that serve.
        lengths: distribution of steps; None: the real sequences'.
        data: folder of real sequences.
        deadline: of a request, in seconds.
        stream_share: of requests to stepwise models that go over a stream.
        piece_steps: steps of a stream's messages.
        outstanding: requests of an open loop that each process may have out.
        retries: of a request that is refused for load.
        check: answers of each model that are compared.
        expected: file of what they must be; None: they are asked before the load.
        seed: of everything that is drawn.
        objectives: that the run is judged by.
        output: folder of the report.
    """

    host: str
    metrics_url: str | None
    open: bool
    profile: Profile
    trace: list[Arrival] | None
    models: tuple[str, ...]
    lengths: str | None
    data: Path
    deadline: float
    stream_share: float
    piece_steps: int
    outstanding: int
    retries: int
    check: int
    expected: Path | None
    seed: int
    objectives: Objectives
    output: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add our own arguments to locust's."""
    group = parser.add_argument_group("traffic", "What is sent to a server of the Open Inference Protocol")
    group.add_argument("--loop", choices=(OPEN, CLOSED), default=OPEN, help="open: arrivals do not wait for answers")
    group.add_argument(
        "--shape", default="steady:50", help=f"arrivals/s over time, or callers of a closed loop: {SHAPES} (steady:50)"
    )
    group.add_argument("--seconds", default="60", help="how long requests are sent (60)")
    group.add_argument("--trace", default="", metavar="FILE", help="send recorded arrivals instead: CSV or JSON lines")
    group.add_argument("--longest-gap", default=str(LONGEST_GAP_SECONDS), help="seconds without arrivals in a trace")
    group.add_argument("--models", default="", metavar="NAMES", help="NAME or NAME/VERSION, by comma (all that serve)")
    group.add_argument(
        "--lengths", default="", help=f"of sequences: {DISTRIBUTIONS} (the real ones', or {SYNTHETIC_LENGTHS})"
    )
    group.add_argument(
        "--data", default="demo-output/weights", metavar="DIR", help=f"real sequences: NAME-test.npz with {LENGTHS}"
    )
    group.add_argument("--deadline", default="1", help="seconds from when a request is due (1)")
    group.add_argument("--stream-share", default="0", help="of requests to stepwise models, over streams (0)")
    group.add_argument("--piece-steps", default="8", help="steps of a stream's messages (8)")
    group.add_argument("--outstanding", default="512", help="requests of an open loop that a process has out (512)")
    group.add_argument("--retries", default="0", help="of a request that is refused for load (0)")
    group.add_argument("--check", default="256", help="requests of each model whose answers are compared (256)")
    group.add_argument("--expected", default="", metavar="FILE", help="of expected answers, written at first")
    group.add_argument("--seed", default="0", help="of all that is drawn (0)")
    group.add_argument("--slo", default="", metavar="FILE", help="objectives (YAML) that decide the exit code")
    group.add_argument("--metrics-url", default="", help=f"the server's metrics (http://HOST:{METRICS_PORT}/metrics)")
    group.add_argument("--output", default="load-output", metavar="DIR", help="folder of the report (load-output)")


def read_options(given: argparse.Namespace) -> Options:
    """Return what the arguments mean.

    Raises:
        TrafficError: one of them is wrong, or a file that it names.
    """
    if not given.host:
        raise TrafficError("--host is missing; expected HOST:PORT of the server's gRPC port, as 127.0.0.1:8001")
    seconds = _number("--seconds", given.seconds, 1, 86400)
    trace = _trace(given) if given.trace else None
    if trace is not None and given.loop == CLOSED:
        raise TrafficError("--trace goes with --loop open: callers that wait for answers cannot keep its times")
    if trace is not None and given.lengths:
        raise TrafficError("--trace has its own lengths; leave out --lengths")
    if given.loop == CLOSED and int(_number("--retries", given.retries, 0, 100)):
        raise TrafficError("--retries goes with --loop open: a caller of a closed loop waits and then sends its next")
    models = tuple(name.strip() for name in given.models.split(",") if name.strip())
    if len({name.partition("/")[0] for name in models}) < len(models):
        raise TrafficError(f"--models {given.models}: names a model twice; send to one version of it at a time")
    return Options(
        host=given.host,
        metrics_url=given.metrics_url or None,
        open=given.loop == OPEN,
        profile=read_profile(given.shape, seconds if trace is None else max(trace[-1].seconds, 1.0)),
        trace=trace,
        models=models or tuple(sorted({arrival.model for arrival in trace or ()})),
        lengths=given.lengths or None,
        data=Path(given.data),
        deadline=_number("--deadline", given.deadline, 0.001, 3600),
        stream_share=_number("--stream-share", given.stream_share, 0, 1),
        piece_steps=_whole("--piece-steps", given.piece_steps, 1, 100_000),
        outstanding=_whole("--outstanding", given.outstanding, 1, 100_000),
        retries=_whole("--retries", given.retries, 0, 100),
        check=_whole("--check", given.check, 0, 256),
        expected=Path(given.expected) if given.expected else None,
        seed=_whole("--seed", given.seed, 0, 2**32 - 1),
        objectives=read_objectives(Path(given.slo)) if given.slo else Objectives.model_validate({}),
        output=Path(given.output),
    )


def _trace(given: argparse.Namespace) -> list[Arrival]:
    arrivals = read_trace(Path(given.trace), longest_gap=_number("--longest-gap", given.longest_gap, 0.001, 86400))
    if arrivals[-1].seconds > 86400:
        raise TrafficError(f"--trace {given.trace}: lasts {arrivals[-1].seconds:g} s; expected a day (86400 s) at most")
    return arrivals


def _number(name: str, text: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise TrafficError(f"{name} {text}: expected a number from {least:g} to {most:g}")
    return number


def _whole(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
        raise TrafficError(f"{name} {text}: expected a whole number from {least} to {most}")
    return int(text)
