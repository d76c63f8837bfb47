"""A desk of one model, for tests that need no other."""

from collections.abc import Iterator

import pytest

from serving.manifest import Manifest, read_manifest
from tests.support.artefacts import write_lstm
from tests.wire.desk import Desk


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False))


@pytest.fixture
def desk(manifest: Manifest) -> Iterator[Desk]:
    with Desk(manifest) as serving:
        yield serving
