"""The id under which a caller, and our log and traces, know a call: the caller's own, or one made when it is needed."""

import re
import uuid
from collections.abc import Iterable

REQUEST_ID_KEY = "x-request-id"
"""Metadata of the call, and of its status."""
_GOOD = re.compile(r"[\x20-\x7e]{1,128}")
"""What is taken from a caller; it goes into logs and back into metadata, which takes printable ASCII only."""


def sent(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """Return the id that came with a call, a new one in the place of one that is not fit for use, None without one."""
    for key, value in metadata:
        if key == REQUEST_ID_KEY:
            return value if isinstance(value, str) and _GOOD.fullmatch(value) else made()
    return None


def made() -> str:
    """Make an id that no other call has."""
    return uuid.uuid4().hex
