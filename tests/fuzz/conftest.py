"""A real server for the tests of a file."""

from collections.abc import Iterator

import pytest

from tests.fuzz.served import Served, serving, write_models


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("models")
    write_models(root)
    with serving(root) as running:
        yield running
