"""The process that plans the load and reports on it: the only one, or the master of those that send."""

import math
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import gevent
import numpy as np
from gevent import Greenlet

from loadtests import answers
from loadtests.traffic.errors import TrafficError
from loadtests.traffic.expected import with_answers
from loadtests.traffic.job import Job, Manner
from loadtests.traffic.options import Options
from loadtests.traffic.pages import Page, read_page
from loadtests.traffic.plan import PLANNED, Planned, plan_of_profile, plan_of_trace
from loadtests.traffic.records import join
from loadtests.traffic.result import Result
from loadtests.traffic.samples import Sample, make_samples
from loadtests.traffic.sending import epoch_seconds
from loadtests.traffic.served import look, read_target

GRACE_SECONDS = 30.0
"""After the last deadline, for those who send to say that they are done."""
LOOK_SECONDS = 1.0
Told = dict[str, Any]
"""What a process that sends tells: `records` as bytes, `begun` (requests so far), and whether it is `idle`: its plan is
sent, or it has no callers any more, and no request is out."""


class Conductor:
    """Plans one run after the other; between `start` and `stop` a run is under way."""

    def __init__(self, options: Options, progress: Callable[[int, int], None]) -> None:
        """Ask the server, and make all that is sent.

        Args:
            options: of the run.
            progress: told how many of how many expected answers are known.

        Raises:
            TrafficError: the server cannot be asked, or what is wanted does not fit what it serves.
        """
        self.options = options
        self._target = read_target(options.host)
        self._metrics_url = options.metrics_url or self._target.metrics_url
        engines = self._engines()
        self._metrics_known = engines is not None
        self.models = look(self._target, options.models, engines)
        rng = np.random.default_rng(options.seed)
        samples = make_samples(
            self.models, data=options.data, lengths=options.lengths, traced=_steps_of(options), rng=rng
        )
        self._samples = with_answers(
            samples, self.models, self._target, count=options.check, file=options.expected, progress=progress
        )
        self._plan = _plan(options, self._samples, rng)
        self._told: dict[str, list[Told]] = {}
        self._processes = 1
        self._pages: list[Page] = []
        self._watcher: Greenlet | None = None
        self._start = math.inf
        self._complete = False

    @property
    def manner(self) -> Manner:
        """How requests are sent."""
        options = self.options
        return Manner(
            address=self._target.address,
            open=options.open,
            deadline=options.deadline,
            retries=options.retries,
            outstanding=options.outstanding,
            piece_steps=options.piece_steps,
            stream_share=options.stream_share,
            seed=options.seed,
        )

    def start(self, processes: int, *, lead: float) -> list[Job]:
        """Begin a run, and return the jobs of the processes that send.

        Args:
            processes: how many.
            lead: seconds until the first arrival may be due, for the jobs to reach them.
        """
        self._processes, self._told, self._pages, self._complete = processes, {}, [], False
        self._start = time.monotonic() + lead
        job = Job(manner=self.manner, samples=self._samples, plan=self._plan, begin=epoch_seconds() + lead)
        if self._metrics_known:
            self._watcher = gevent.spawn(self._watch)
        return [job.share(number, processes) for number in range(processes)]

    def hear(self, process: str, told: Told) -> None:
        """Take what a process tells since the last time."""
        self._told.setdefault(process, []).append(told)

    def users(self, processes: Collection[str]) -> int | None:
        """Return how many users there should be now, None at the end of the run.

        Args:
            processes: those that send and are still there. In an open loop each that began has one user, who sends its
                part of the plan, and their number stays: locust gives the user of one that went to another, and told
                to stop one of the two there, it might take the one that sends.
        """
        elapsed = time.monotonic() - self._start
        told = [self._told[process][-1] for process in processes if process in self._told]
        idle = len(told) == len(processes) and all(each["idle"] for each in told)
        overdue = elapsed > self._seconds + self.options.deadline + GRACE_SECONDS
        self._complete = elapsed >= self._seconds and (idle or overdue)
        if self._complete or not processes:
            return None
        if self.options.open:
            return self._processes
        if elapsed >= self._seconds:
            return 0
        return max(1, round(self.options.profile.rate_at(max(0.0, elapsed))))

    def stop(self) -> Result:
        """End the run and return what it came to."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher = None
        elapsed = max(time.monotonic() - self._start, 1e-3)
        records = join([part["records"] for parts in self._told.values() for part in parts])
        seconds = self._seconds if self._complete else min(elapsed, self._seconds)
        if not self.options.open and len(records):  # callers go on until they are told to stop
            seconds = max(seconds, float(records["due"][-1]))
        planned = self._plan["seconds"] if self.options.open else None
        if planned is not None and not self._complete:
            planned = planned[planned <= elapsed]
        return Result(
            options=self.options,
            address=self._target.address,
            models=self.models,
            choices=[sample.choice for sample in self._samples],
            planned=planned,
            begun=sum(parts[-1]["begun"] for parts in self._told.values()),
            records=records,
            seconds=seconds,
            pages=self._pages,
            processes=self._processes,
            stopped=not self._complete,
        )

    @property
    def progress(self) -> float:
        """Which part of the run's time is over."""
        return float(np.clip((time.monotonic() - self._start) / self._seconds, 0.0, 1.0))

    @property
    def _seconds(self) -> float:
        return self.options.profile.seconds

    def _engines(self) -> list[answers.Served] | None:
        try:
            return answers.served(self._metrics_url)
        except (OSError, ValueError) as error:
            if self.options.metrics_url is not None:
                raise TrafficError(f"--metrics-url {self._metrics_url}: cannot be read ({error})") from error
            return None

    def _watch(self) -> None:
        while True:
            with suppress(OSError, ValueError):  # a gap in the picture; requests tell whether the server is well
                self._pages.append(read_page(self._metrics_url, start=self._start))
            gevent.sleep(LOOK_SECONDS)


def _plan(options: Options, samples: list[Sample], rng: np.random.Generator) -> Planned:
    choices = [sample.choice for sample in samples]
    if not options.open:
        return np.zeros(0, PLANNED)
    if options.trace is not None:
        return plan_of_trace(options.trace, choices, stream_share=options.stream_share, rng=rng)
    return plan_of_profile(options.profile, choices, stream_share=options.stream_share, rng=rng)


def _steps_of(options: Options) -> dict[str, list[int]] | None:
    if options.trace is None:
        return None
    steps: dict[str, list[int]] = {name.partition("/")[0]: [] for name in options.models}
    for arrival in options.trace:
        if arrival.model not in steps:
            raise TrafficError(f"--models leaves out '{arrival.model}', which the trace asks")
        steps[arrival.model].append(arrival.steps)
    if unasked := [model for model, asked in steps.items() if not asked]:
        raise TrafficError(f"--models names {', '.join(unasked)}, which the trace never asks")
    return steps
