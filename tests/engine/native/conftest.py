"""Everything here needs the C++ library."""

import pytest

from serving.engine.native.library import LIBRARY, instruction_sets

collect_ignore_glob = [] if LIBRARY.exists() else ["test_*.py"]


@pytest.fixture(params=instruction_sets() if LIBRARY.exists() else [])
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each set of instructions that this processor has, in turn."""
    monkeypatch.setenv("LSTM_NATIVE_ISA", request.param)
    return str(request.param)
