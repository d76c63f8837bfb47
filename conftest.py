"""tritonclient's stubs and ours cannot share a process, so `tests/socket` runs in a pytest of its own (`make test`)."""

from pathlib import Path

import pytest

SOCKET_TESTS = Path(__file__).parent / "tests" / "socket"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the socket tests out unless only they were asked for."""
    asked = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    if collection_path == SOCKET_TESTS and not all(path.is_relative_to(SOCKET_TESTS) for path in asked):
        return True
    return None
