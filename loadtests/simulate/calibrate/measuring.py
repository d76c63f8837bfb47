"""Turns of a measurement: everything is measured in each of them, so that a machine that drifts drifts for all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from loadtests.benchmarks.serving_measuring import SERVER_CORE, Job, Run, Target, load, on_core
from loadtests.benchmarks.serving_models import Size, write_requests
from loadtests.simulate.calibrate.engine import Call, EngineBench, cost_of
from loadtests.simulate.calibrate.replay import Trace, engine_seconds
from loadtests.simulate.calibrate.server import Cpu, cpu_of, requests_by_outcome
from loadtests.simulate.costs import EngineCost, FrontCost, ModelCost
from serving.policy import Policy

CALLERS = 64
HOPELESS_US = 1
"""Of time: requests that are read, checked and refused."""
WAKES = 2
"""Threads of the front that are woken for a request that comes alone: to take it, and to answer it."""
QUICKEST = 1
"""Percent of the calls that come alone: those that nothing else on the machine held up."""
ENOUGH_UNREAD = 100
"""Calls refused unread tell what that costs."""
UNREAD_SHARE = 1 / 3
"""Of an answered call's cost, what taking it costs, where no call was refused unread (ARCHITECTURE.md)."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A stretch of load, and what the server's threads used meanwhile."""

    run: Run
    cpu: Cpu
    outcomes: dict[tuple[str, str], float]
    has_deadlines: bool = False

    @property
    def sent(self) -> int:
        """Requests."""
        return len(self.run.code)


def front_of(replays: Sequence[Replayed]) -> float:
    """Return the front's seconds of CPU per request, over all stretches."""
    return sum(each.cpu.front for each in replays) / sum(each.sent for each in replays)


@dataclass(slots=True)
class Measurements:
    """Of one model, in one turn or several."""

    calls: list[Call] = field(default_factory=list)
    peaks: list[Replayed] = field(default_factory=list)
    alone: list[Replayed] = field(default_factory=list)
    refused: list[Replayed] = field(default_factory=list)
    replays: dict[str, list[Replayed]] = field(default_factory=dict)

    @property
    def peak(self) -> float:
        """Requests per second that a closed loop gets answered."""
        return median(each.run.rate for each in self.peaks)

    @classmethod
    def of(cls, turns: "Sequence[Measurements]") -> "Measurements":
        """Put the measurements of several turns together."""
        every = cls()
        for turn in turns:
            every.calls += turn.calls
            every.peaks += turn.peaks
            every.alone += turn.alone
            every.refused += turn.refused
            for name, replays in turn.replays.items():
                every.replays.setdefault(name, []).extend(replays)
        return every

    def cost(self, lengths: Sequence[int], *, start: float) -> ModelCost:
        """Return what the model takes in a server.

        An engine that shares its core with a front finds its caches emptied, and so takes longer than alone in a
        process: by how much, its CPU time at the peak tells, where calls are the same as in a simulated closed loop.

        Args:
            lengths: steps of the requests.
            start: seconds from the process's start until it is ready.
        """
        alone = cost_of(self.calls)
        front = self._front(alone, steps=round(float(np.median(lengths))))
        cost = ModelCost(engine=alone, front=front, load=start)
        sent = sum(each.sent for each in self.peaks)
        supposed = engine_seconds(cost, Policy.model_validate({}), lengths, callers=CALLERS, sent=sent)
        slower = sum(each.cpu.engine for each in self.peaks) / sent / supposed
        return cost.model_copy(update={"engine": alone.slower(slower)})

    def _front(self, engine: EngineCost, *, steps: int) -> FrontCost:
        """Return what the front takes for a request, of which some are sent one at a time, and have so many steps.

        What a request costs is measured in the busiest replay without deadlines, where threads find their next work
        waiting; a request that comes alone costs two wake-ups more. What refusing unread costs is measured in overload:
        beside an engine that empties the caches it is several times what it is on an idle server. How the rest is
        shared between taking and answering is supposed: half and half.
        """
        usual, overload = (
            [each for each in self.replays.values() if each[0].has_deadlines is has] for has in (False, True)
        )
        answered = front_of(max(usual, key=lambda replays: replays[0].sent))
        idle = max(answered, front_of(self.alone))
        wake = (idle - answered) / WAKES
        refusal = min(answered, max(0.0, front_of(self.refused) - wake))
        unread = self._unread([each for replays in overload for each in replays], answered, refusal)
        message = (answered - unread) / 2
        alone = median(each.run.percentile(QUICKEST) for each in self.alone)
        return FrontCost(
            unread=unread,
            message=message,
            reply=answered - unread - message,
            error=max(0.0, refusal - unread - message),
            wake=wake,
            network=max(0.0, alone - idle - engine.seconds(1, steps)),
        )

    def _unread(self, replays: Sequence[Replayed], answered: float, refusal: float) -> float:
        """Return what a call costs that is refused before it is read: what is left when the others are paid for."""
        seconds, unread = 0.0, 0.0
        for each in replays:
            behind = sum(count for (model, _), count in each.outcomes.items() if not model)
            ok = sum(count for (_, outcome), count in each.outcomes.items() if outcome == "ok")
            read = sum(each.outcomes.values()) - behind - ok
            unread += behind
            seconds += each.cpu.front - answered * ok - refusal * read
        share = seconds / unread if unread >= ENOUGH_UNREAD else 0.0
        return share if 0 < share < answered else UNREAD_SHARE * answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is measured, and with what.

    Attributes:
        target: the server, on its core.
        engine: the same model in this process.
        generator: of load.
        folder: for files.
        model: its name.
        size: of it.
        lengths: steps of the requests, in turn.
        seconds: of each stretch of load.
    """

    target: Target
    engine: EngineBench
    generator: Path
    folder: Path
    model: str
    size: Size
    lengths: Sequence[int]
    seconds: float

    def turn(self, traces: Sequence[Trace]) -> Measurements:
        """Measure everything once."""
        into = Measurements()
        with on_core(SERVER_CORE):
            into.calls += self.engine.turns(seconds=self.seconds)
        middle = [round(float(np.median(self.lengths)))]
        into.peaks.append(self.replay(Job(messages=self._file(), seconds=self.seconds, callers=CALLERS)))
        into.alone.append(self.replay(Job(messages=self._file(middle), seconds=self.seconds / 2, callers=1)))
        hopeless = self._file(self.lengths, timeout_us=HOPELESS_US)
        into.refused.append(self.replay(Job(messages=hopeless, seconds=self.seconds / 2, callers=4)))
        for trace in traces:
            job = Job(messages=self._file(), arrivals=trace.arrivals, timeout_seconds=trace.timeout_seconds)
            into.replays[trace.name] = [self.replay(job)]
        return into

    def replay(self, job: Job) -> Replayed:
        """Send requests, and see what the server's threads use meanwhile."""
        outcomes, before = requests_by_outcome(self.target), cpu_of(self.target.pid)
        run = load(self.target, job, self.generator, self.folder, model=self.model)
        after = requests_by_outcome(self.target)
        ended = {key: count - outcomes.get(key, 0.0) for key, count in after.items()}
        return Replayed(run, cpu_of(self.target.pid).since(before), ended, bool(job.timeout_seconds))

    def _file(self, lengths: Sequence[int] | None = None, *, timeout_us: int | None = None) -> Path:
        chosen = self.lengths if lengths is None else lengths
        path = self.folder / f"{self.model}-{len(chosen)}-{timeout_us}.messages"
        if not path.exists():
            write_requests(path, self.model, self.size, chosen, timeout_us=timeout_us)
        return path
