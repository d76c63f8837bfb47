"""The process's age, as `/metrics` has it."""

import os
import subprocess
import sys
import time


def test_uptime_is_counted_from_the_start_of_the_process_whatever_its_name() -> None:
    script = """
import time
from prometheus_client import CollectorRegistry
from serving.metrics.uptime import Uptime

with open("/proc/self/comm", "w") as name:
    name.write(") 0 (")
registry = CollectorRegistry()
registry.register(Uptime())
before = time.clock_gettime(time.CLOCK_BOOTTIME)
uptime = registry.get_sample_value("lstm_uptime_seconds")
print(before - uptime, time.clock_gettime(time.CLOCK_BOOTTIME) - uptime)
"""
    earliest = time.clock_gettime(time.CLOCK_BOOTTIME)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        latest = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert process.stdout is not None
        no_later, no_earlier = map(float, process.stdout.read().split())

    a_tick = 1 / os.sysconf("SC_CLK_TCK")
    assert no_earlier > earliest - a_tick
    assert no_later < latest
