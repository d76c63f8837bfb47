"""What glibc's allocator is told, so that models can come and go for weeks: it keeps what it hopes to need again.

By itself it gives every few threads an arena of their own, and after the first large block is freed it takes blocks of
up to 32 MiB from arenas too. Weights, batches and messages then lie mixed, and what a version leaves is freed in pieces
that no other fits: a server grew by 48 MiB in twenty minutes with forty reloads. Source: mallopt(3), malloc_trim(3).
"""

import ctypes
import gc
import os
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
ARENAS = 2
"""Threads that allocate hold the interpreter, mostly, so more of them seldom meet."""
OWN_PAGES_BYTES = 2**19
"""Blocks from this size on have pages of their own, which go back to the system at once: weights, above all."""
KEPT_BYTES = 2**22
"""Free memory at an arena's end that is kept, so that it is not asked for again with the next batch."""


def tune_allocator() -> None:
    """Set the allocator up; before threads are started. Does nothing if the environment does (`MALLOC_...`)."""
    mallopt = _of_glibc("mallopt")
    if mallopt is None or any(name.startswith("MALLOC_") for name in os.environ):
        return
    for setting, value in ((M_ARENA_MAX, ARENAS), (M_MMAP_THRESHOLD, OWN_PAGES_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES)):
        mallopt(setting, value)


def return_memory() -> None:
    """Hand free pages back to the system: glibc keeps what an engine had allocated in small pieces."""
    gc.collect()
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Any:  # noqa: ANN401  a foreign function
    """Return a function, None where the C library is another one."""
    return getattr(ctypes.CDLL(None), name, None)
