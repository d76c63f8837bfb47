"""A real server for the tests of a file."""

from collections.abc import Iterator

import pytest

from tests.fuzz.served import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("models")) as running:
        yield running
