"""What is told when the installed grpcio is not what the front was written for."""

import re
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs leave it out

from serving.clock import SystemClock
from serving.errors import FrontUnavailable
from serving.wire.completions import Completions
from serving.wire.unread import Unread


@pytest.mark.parametrize("lacking", ["CompletionQueue", "ReceiveMessageOperation", "SendStatusFromServerOperation"])
def test_a_grpcio_that_lacks_what_the_front_needs_is_named(monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    """At the start of the server, where an operator looks, not at its first call."""
    server = grpc.server(ThreadPoolExecutor(1))
    monkeypatch.delattr(cygrpc, lacking)

    with pytest.raises(FrontUnavailable, match=rf"grpcio {re.escape(grpc.__version__)} .*{lacking}.*constraints\.txt"):
        Completions(server, {}, SystemClock(), Unread(1))

    server.stop(None)


def test_an_operation_with_other_arguments_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def taking_nothing() -> None:
        """Stand for another version's operation."""

    monkeypatch.setattr(cygrpc, "SendMessageOperation", taking_nothing)
    server = grpc.server(ThreadPoolExecutor(1))

    with pytest.raises(FrontUnavailable, match=r"taking_nothing"):
        Completions(server, {}, SystemClock(), Unread(1))

    server.stop(None)
