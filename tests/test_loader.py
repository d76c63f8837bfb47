"""What a loaded version's engine has been told when its runner is ready."""

import logging
from pathlib import Path

import pytest

from serving.engine.choice import EngineChoice
from serving.loader import Loader
from serving.manifest import read_manifest
from serving.metrics import ServerMetrics
from serving.policy import Policy
from tests.support.artefacts import write_lstm


class SteadyClock:
    """A clock by which everything takes a microsecond."""

    def __init__(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        self._now_ns += 1_000
        return self._now_ns


@pytest.mark.parametrize(
    ("policy", "said"),
    [(Policy(), "in slices"), (Policy(max_batch_rows=32), "in slices"), (Policy(max_batch_rows=16), "whole")],
)
def test_large_batches_are_computed_in_slices_that_take_no_longer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, policy: Policy, said: str
) -> None:
    directory = write_lstm(tmp_path)
    loader = Loader(EngineChoice("auto", "cpu"), 1, SteadyClock(), ServerMetrics(cpu_threads=1))

    with caplog.at_level(logging.INFO):
        loader.load(read_manifest(directory), policy, directory)

    assert f"by onnxruntime, batches {said}, CostModel(" in caplog.text
