"""One look at a server: what its calls say, what its metrics say, and what could not be seen."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from serving.status import page
from serving.status.calls import Calls, Denied, Listed, Server
from serving.status.errors import NoMetrics
from serving.status.figures import Moment
from serving.status.target import Target


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen.

    Attributes:
        server: that answered.
        index: the versions in its repository; None if the caller may not know.
        moment: what was counted; None if that cannot be seen.
        whole: whether `moment` is all of the metrics, and not only what the calls tell of them.
        notes: what could not be seen, why, and what to do.
    """

    server: Server
    index: Sequence[Listed] | None
    moment: Moment | None
    whole: bool
    notes: Sequence[str]


def look(target: Target, calls: Calls) -> Look:
    """Ask all there is to ask.

    Raises:
        CannotLook: the server cannot be reached, or does not know the token.
    """
    server = calls.server()
    notes = []
    if target.token_in_the_open:
        notes.append("The token travels unencrypted, and others on the way can read it; use TLS.")
    index: Sequence[Listed] | None = None
    try:
        index = calls.index()
    except Denied as denied:
        notes.append(
            f'States of models are not shown: {denied}. That takes a token with `models: "*"` or `admin: true`.'
        )
    try:
        return Look(server, index, page.read(target), whole=True, notes=notes)
    except NoMetrics as missing:
        notes.append(
            f"No metrics from {missing}. So percentiles, queue, backlog and occupancy are not shown: give the server's "
            "port as --metrics-port, or have it forwarded too."
        )
    try:
        moment = Moment(calls.statistics(), at_seconds=time.monotonic())
    except Denied:
        return Look(server, index, None, whole=False, notes=notes)
    return Look(server, index, moment, whole=False, notes=notes)
