"""Exports that several files look at; each takes seconds."""

import pytest

from export.pytorch.reference import Reference
from export.runtime import Runtime
from tests.export.models import Last
from tests.export.support import exported


@pytest.fixture(scope="session")
def last() -> tuple[Runtime, Reference]:
    """A bidirectional model that reads the last step, without lengths in its signature."""
    return exported(Last)
