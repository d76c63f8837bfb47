"""A real server with tiny models, for the runs of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

SLOW = "max_batch_rows: 1\nmax_request_rows: 1\nmax_queue_rows: 1\n"


@pytest.fixture(scope="package")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, "whole")
    write_lstm(root, "stepwise", bidirectional=False, stepwise=True)
    write_lstm(root, "slow", hidden=128)
    (root / "slow" / "model.yaml").write_text(SLOW)
    return root


@pytest.fixture(scope="package")
def server(repository: Path) -> Iterator[LocalServer]:
    with LocalServer(repository) as running:
        yield running
    assert running.process.returncode == 0, "".join(running.log)
