"""How many files and connections the process may have open, and how many connections that leaves room for."""

import logging
import resource

log = logging.getLogger(__name__)
RESERVE = 256
"""Descriptors for all but connections to the gRPC port: probes, models that are loaded, what libraries have open."""


def make_room(connections: int, *, descriptors: int = 1) -> int:
    """Raise the limit of open files for so many connections, as far as the hard limit lets it.

    When no descriptor is free, new connections hang and no model can be loaded; connections beyond a number of them are
    closed, and their clients try elsewhere.

    Args:
        connections: that are wanted.
        descriptors: that each of them takes.

    Returns:
        How many there is room for.
    """
    needed = descriptors * connections + RESERVE
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return connections
    limit = needed if most == resource.RLIM_INFINITY else min(needed, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    if limit == needed:
        return connections
    room = min(connections, max(limit - RESERVE, limit // 2) // descriptors)
    log.warning(
        "%d open files are allowed, and --max-connections %d takes %d: %d connections are taken at a time; raise the "
        "hard limit (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of a container), or give a smaller number",
        limit, connections, needed, room, extra={"event": "few_descriptors"},
    )  # fmt: skip
    return room
