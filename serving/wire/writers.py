"""Threads that write answers, so that neither the engine's threads nor the one that takes requests do."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

from serving.wire.pending import Pending

Job = Callable[[], None]


class Writer:
    """A thread that does jobs in their order; whoever hands in many at a time wakes it once."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name)
        self.put = self._jobs.put
        """Hand in a job; any thread."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Do what was handed in so far, and end."""
        if self._thread.ident is not None:
            self._jobs.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # it holds on to its call, which would wait for the next one


class Writers:
    """Two of them: a search for text takes as long as a model does, and must not hold up other answers.

    One thread searches: the interpreter runs one at a time, and two would only take turns at it.
    """

    def __init__(self) -> None:
        self._answers = Writer("answers")
        self._searches = Writer("searches")

    def of(self, pending: Pending) -> Writer:
        """Return the one for an answer."""
        return self._searches if pending.takes_a_search else self._answers

    def start(self) -> None:
        """Begin."""
        self._answers.start()
        self._searches.start()

    def stop(self) -> None:
        """Do what was handed in so far, and end."""
        self._answers.stop()
        self._searches.stop()
