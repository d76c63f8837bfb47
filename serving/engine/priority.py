"""Who gets a core that two threads want: the front, for it takes microseconds and tells callers whether to wait."""

import os
import sys
import threading

NICENESS = 2
"""Added to threads that compute. Goodput over its peak at two and four times the load that one core can serve, means of
five and three runs: 0.87 and 0.21 without it, 0.92 and 0.53 with 2, 0.81 and 0.66 with 5. At the peak it costs nothing.
"""
MOST_NICE = 19


def compute_in_the_background() -> None:
    """Let this thread, and those that it starts, yield to the others of the process. Linux only; elsewhere nothing."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, min(niceness, MOST_NICE))
