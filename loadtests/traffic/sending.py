"""Sends a job's requests and writes down what becomes of each. For a process that gevent runs."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import gevent
import numpy as np
from gevent.pool import Pool

from loadtests.traffic.calls import Caller, Outcome
from loadtests.traffic.job import Job
from loadtests.traffic.records import (
    DEADLINE_EXCEEDED,
    NOT_ENDED,
    NOT_SENT,
    RECORD,
    RESOURCE_EXHAUSTED,
)
from loadtests.traffic.samples import Sample
from serving.status.target import Target

LATE, OUTSTANDING = "late", "outstanding"
"""Our own reasons: the time was over before the request could be sent; too many others were out."""


class Turn(NamedTuple):
    """A request that is due: the number of its sample, whether it goes over a stream, and when, from the start."""

    number: int
    stream: bool
    due: float


Told = Callable[[Sample, Turn, float, Outcome], None]
"""Hears of each request's sample, its seconds from when it was due, and its outcome."""


def epoch_seconds() -> float:
    """Return the seconds since the epoch, which processes of several machines can agree on."""
    return datetime.now(UTC).timestamp()


class Sender:
    """The requests of one process.

    Attributes:
        begun: requests that were due so far.
        over: those of them that something has become of.
        plan_sent: whether the plan has been sent and every request of it is over.
    """

    def __init__(self, job: Job, target: Target, told: Told) -> None:
        """Prepare the connection.

        Args:
            job: what to send.
            target: to whom.
            told: hears of every request that was sent and is over.
        """
        self.begun = self.over = 0
        self.plan_sent = False
        self._job = job
        self._caller = Caller(target, job.manner.piece_steps)
        self._told = told
        self._rows: list[tuple[object, ...]] = []
        self._random = random.Random(job.manner.seed)  # noqa: S311  a schedule, no secret
        self._start = time.monotonic() + job.begin - epoch_seconds()

    def close(self) -> None:
        """Disconnect."""
        self._caller.close()

    def take_records(self) -> bytes:
        """Return RECORD[n] of the requests that were over since the last time, as bytes."""
        rows, self._rows = self._rows, []
        return np.array(rows, RECORD).tobytes()

    def send_plan(self) -> None:
        """Send every request of the plan at its time, and return when all of them are over."""
        pool = Pool(self._job.manner.outstanding)
        try:
            for seconds, number, stream in self._job.plan.tolist():
                gevent.sleep(max(0.0, self._start + seconds - time.monotonic()))
                self.begun += 1
                turn = Turn(number, stream, seconds)
                if pool.full():
                    self._write(turn, seconds, 0, Outcome(status=NOT_SENT, reason=OUTSTANDING))
                else:
                    pool.spawn(self._send, turn)
            pool.join()
            self.plan_sent = True
        finally:
            pool.kill()

    def send_one(self) -> None:
        """Send any request, wait for its end, and then for as long as the server asks those it refuses to wait."""
        gevent.sleep(max(0.0, -self._now()))
        number = self._random.randrange(len(self._job.samples))
        stream = bool(self._job.samples[number].state) and self._random.random() < self._job.manner.stream_share
        self.begun += 1
        outcome = self._send(Turn(number, stream, self._now()))
        if outcome.pushback is not None:
            gevent.sleep(outcome.pushback)

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _send(self, turn: Turn) -> Outcome:
        sample, manner = self._job.samples[turn.number], self._job.manner
        ask = self._caller.stream if turn.stream else self._caller.infer
        sent, end = self._now(), turn.due + manner.deadline
        outcome, tries = Outcome(status=NOT_ENDED), 0
        try:
            while True:
                left = end - self._now()
                if left <= 0:
                    outcome = Outcome(status=DEADLINE_EXCEEDED, reason=LATE)
                    break
                tries += 1
                outcome = ask(sample, left)
                wait = outcome.pushback or 0.0
                again = outcome.status == RESOURCE_EXHAUSTED and tries <= manner.retries
                if not again or self._now() + wait >= end:
                    break
                gevent.sleep(wait)
        finally:
            self._write(turn, sent, tries, outcome)
        return outcome

    def _write(self, turn: Turn, sent: float, tries: int, outcome: Outcome) -> None:
        ended, reason = self._now(), outcome.reason.encode()
        what = (turn.number, tries, turn.stream, outcome.status, outcome.verdict, reason)
        self.over += 1
        self._rows.append((turn.due, sent, ended, *what))
        self._told(self._job.samples[turn.number], turn, ended - turn.due, outcome)
