"""Parts of a core for processes: the cgroup quota that a container with a CPU limit has.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (cpu.max) and Documentation/scheduler/sched-bwc.rst
(cgroup v1, cpu.cfs_quota_us).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 10_000
"""After which a quota is renewed: a tenth of the usual, so that waiting for it does not become most of the latency."""


@contextmanager
def core_share(pid: int, share: float, *, cgroups: Path = CGROUPS) -> Iterator[None]:
    """Inside, let a process and its threads have no more than a part of one core's time.

    Args:
        pid: of the process.
        share: of a core, above 0.
        cgroups: where the kernel shows control groups.

    Raises:
        RuntimeError: no group can be made here.
    """
    unified = (cgroups / "cgroup.controllers").exists()
    root = cgroups if unified else cgroups / "cpu"
    group = root / f"lstm-benchmark-{os.getpid()}-{pid}"
    quota = round(share * PERIOD_US)
    limits = {"cpu.max": f"{quota} {PERIOD_US}"}
    if not unified:
        limits = {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota)}
    try:
        try:
            group.mkdir()
            for name, value in limits.items():
                (group / name).write_text(value, encoding="ascii")
            (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
        except OSError as error:
            message = (
                f"cannot limit the CPU of a process ({error}); it takes root, and control groups that can be written"
            )
            raise RuntimeError(message) from error
        yield
        (root / "cgroup.procs").write_text(str(pid), encoding="ascii")
    finally:
        with suppress(FileNotFoundError):
            group.rmdir()
