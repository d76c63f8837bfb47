"""What was probably meant by a name that is none."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return `, did you mean X?`, or nothing when no known name is like this one.

    Args:
        name: what came.
        known: what could have been meant.
        prefix: what all of them begin with besides, so that it makes none of them more alike.
    """
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f", did you mean {prefix}{close[0]}?" if close else ""
