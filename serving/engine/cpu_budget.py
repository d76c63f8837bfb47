"""How many cores this process may use: the least of its affinity mask and its cgroup's quota, never the host's count.

ONNX Runtime by itself sizes its pool from the host's cores, which in a container with a quota means throttling
(github.com/microsoft/onnxruntime issue 29510).
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuBudget:
    """Cores this process may use.

    Attributes:
        affinity: cores in the scheduler's mask.
        quota: cores' worth of time that the cgroup allows (1.5 = 150 ms per 100 ms), None without a quota.
    """

    affinity: int
    quota: float | None

    @property
    def threads(self) -> int:
        """Threads that compute: the quota rounded down, so that the front has the rest; at least 1."""
        if self.quota is None:
            return self.affinity
        return max(1, min(self.affinity, math.floor(self.quota)))

    def __str__(self) -> str:
        quota = "none" if self.quota is None else f"{self.quota:g}"
        return f"{self.threads} threads (affinity {self.affinity} cores, cgroup quota {quota})"


def read_cpu_budget(*, root: Path = Path("/")) -> CpuBudget:
    """Read the affinity mask and the cgroup quotas (v1 and v2, every level up to the mount) of this process.

    Args:
        root: where `proc` and the cgroup mounts are looked for; `/` but in tests.
    """
    quotas = [quota for directory in _cgroup_directories(root) if (quota := _quota(directory)) is not None]
    return CpuBudget(affinity=len(os.sched_getaffinity(0)), quota=min(quotas, default=None))


def _cgroup_directories(root: Path) -> list[Path]:
    """List this process's cgroup folders that may hold a CPU quota, each with its parents up to the mount point.

    Source: proc(5), cgroups(7). A mount shows the hierarchy from its own `root` field on (a container often sees its
    group as the whole tree), so that field is taken off the group's path.
    """
    groups: dict[str, PurePosixPath] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), PurePosixPath(path))
    directories: list[Path] = []
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, tail = line.partition(" - ")
        mount_root, mount_point = fields.split()[3:5]
        kind, _, options = tail.split(maxsplit=2)
        if kind == "cgroup2":
            group = groups.get("")
        elif kind == "cgroup" and "cpu" in options.split(","):
            group = groups.get("cpu")
        else:
            continue
        if group is None:
            continue
        mount = root / mount_point.lstrip("/")
        inside = group.relative_to(mount_root) if group.is_relative_to(mount_root) else PurePosixPath()
        directories += [mount / level for level in (inside, *inside.parents)]
    return directories


def _quota(directory: Path) -> float | None:
    """Return the cores' worth of quota set in one cgroup folder, None if none is.

    Source: the kernel's cgroup-v2 (`cpu.max`: "$MAX $PERIOD", microseconds) and sched-bwc documents (v1).
    """
    for line in _lines(directory / "cpu.max"):
        quota, period = line.split()
        return None if quota == "max" else int(quota) / int(period)
    quota_us = _lines(directory / "cpu.cfs_quota_us")
    period_us = _lines(directory / "cpu.cfs_period_us")
    if quota_us and period_us and int(quota_us[0]) > 0:
        return int(quota_us[0]) / int(period_us[0])
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
