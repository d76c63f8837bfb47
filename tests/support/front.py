"""The native front's library without a server: what holds inboxes, for tests of what becomes of a request's bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from serving._proto import seam_pb2 as seam
from serving.wire.native.library import PACKAGES, CertificateSource, is_built, load_library
from serving.wire.native.slots import NativeSlots

needs_front = pytest.mark.skipif(
    not is_built(), reason=f"the native front was not built (apt-get install {PACKAGES}; make native)"
)
OUTCOMES = ("ok", "cancelled", "queue_full")
NO_MEMORY = "no memory is left"
"""How a request ends for whose answer there is none."""


@contextmanager
def front_open() -> Iterator[tuple[Any, int]]:
    """Open a front that never starts, and yield the library's functions and the handle."""
    library = load_library()
    slots = NativeSlots(1, what="requests are in flight", setting="--max-inflight-requests")
    no_memory = seam.Refusal(reason="queue_full", message=NO_MEMORY)
    settings = seam.Settings(host="127.0.0.1", max_connections=1, outcomes=OUTCOMES, no_memory=no_memory)
    content = settings.SerializeToString()
    without_certificates = CertificateSource(lambda _: 0)
    front = library.open(content, len(content), slots.handle, without_certificates, None, 0)
    assert front, "there is a free port"
    try:
        yield library, front
    finally:
        library.close(front)
