"""Callers that never rest, each of whose answers is compared with what it must be."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import sequence, tensor

OUTPUT = "last"
PATIENCE_SECONDS = 60.0


class Storm:
    """Context manager: so many threads call one model inside.

    Attributes:
        answered: right answers by model version.
        failed: errors by status and message.
        wrong: versions of answers that were not what that version answers.
    """

    def __init__(
        self,
        address: str,
        model: str,
        expected: dict[str, np.ndarray],
        x: np.ndarray,
        callers: int,
        *,
        options: Sequence[tuple[str, object]] = (),
    ) -> None:
        """Prepare.

        Args:
            address: of the server.
            model: its name.
            expected: answer to `x` by version.
            x: float32[rows, steps, features].
            callers: threads, each with a connection of its own.
            options: of its channel.
        """
        self._address = address
        self._model = model
        self._expected = expected
        self._x = x
        self._options = [("grpc.use_local_subchannel_pool", 1), *options]
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self._over = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until it is true of what has come back."""
        with self._changed:
            assert self._changed.wait_for(true, PATIENCE_SECONDS), (self.answered, self.failed)

    def until_more(self, count: int) -> None:
        """Wait until so many more calls have come back, whatever the answer."""
        now = self._count()
        self.until(lambda: self._count() >= now + count)

    def _count(self) -> int:
        return sum((self.answered + self.failed + self.wrong).values())

    def _call(self) -> None:
        with triton.InferenceServerClient(self._address, channel_args=self._options) as client:
            while not self._over.is_set():
                try:
                    result = client.infer(self._model, [tensor("x", self._x)], client_timeout=PATIENCE_SECONDS)
                except InferenceServerException as error:
                    self._note(self.failed, f"{error.status()} {error.message()}")
                    continue
                version = result.get_response().model_version
                right = np.allclose(result.as_numpy(OUTPUT), self._expected[version], rtol=1e-5, atol=1e-6)
                self._note(self.answered if right else self.wrong, version)

    def _note(self, counter: Counter[str], what: str) -> None:
        with self._changed:
            counter[what] += 1
            self._changed.notify_all()


def expectations(
    client: triton.InferenceServerClient, model: str, x: np.ndarray, *versions: str
) -> dict[str, np.ndarray]:
    """Ask each version once, alone."""
    return {
        version: client.infer(model, [tensor("x", x)], model_version=version).as_numpy(OUTPUT) for version in versions
    }


def example() -> np.ndarray:
    """Draw a request of two rows."""
    return sequence(np.random.default_rng(7), 2, 9)
