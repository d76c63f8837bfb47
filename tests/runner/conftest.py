"""Runners of either kind of model."""

import pytest

from serving.manifest import Manifest, read_manifest
from tests.runner.house import House
from tests.support.artefacts import write_lstm


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False))


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False, stepwise=True))


@pytest.fixture(params=["whole", "stepwise"])
def house(request: pytest.FixtureRequest) -> House:
    """A runner of each kind; chunks of a stepwise one are two steps."""
    return House(request.getfixturevalue(request.param))
