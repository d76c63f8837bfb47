"""The CPU budget, read from cgroup trees as the kernel lays them out."""

from pathlib import Path

import pytest

from serving.engine.cpu_budget import CpuBudget, read_cpu_budget

V2_MOUNT = "30 24 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "33 25 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct"


def tree(root: Path, *, groups: str, mount: str, files: dict[str, str]) -> Path:
    """Lay out /proc/self and the cgroup files below `root`."""
    for name, content in {"proc/self/cgroup": groups, "proc/self/mountinfo": mount, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root


@pytest.mark.parametrize(
    ("content", "quota"), [("max 100000", None), ("150000 100000", 1.5), ("50000 100000", 0.5), ("800000 100000", 8)]
)
def test_v2_quota_in_a_container_that_sees_its_group_as_root(tmp_path: Path, content: str, quota: float | None) -> None:
    root = tree(tmp_path, groups="0::/", mount=V2_MOUNT.format(root="/"), files={"sys/fs/cgroup/cpu.max": content})

    assert read_cpu_budget(root=root).quota == quota


def test_v2_takes_the_tightest_quota_on_the_way_up(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        groups="0::/kubepods/pod1/server",
        mount=V2_MOUNT.format(root="/"),
        files={
            "sys/fs/cgroup/kubepods/cpu.max": "400000 100000",
            "sys/fs/cgroup/kubepods/pod1/cpu.max": "200000 100000",
            "sys/fs/cgroup/kubepods/pod1/server/cpu.max": "max 100000",
        },
    )

    assert read_cpu_budget(root=root).quota == 2


@pytest.mark.parametrize(("content", "quota"), [("-1", None), ("250000", 2.5)])
def test_v1_quota_below_a_mount_that_hides_the_host_path(tmp_path: Path, content: str, quota: float | None) -> None:
    """Docker on cgroup v1: the group's path is the host's, and the mount's root is that path."""
    root = tree(
        tmp_path,
        groups="4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc",
        mount=V1_MOUNT.format(root="/docker/abc"),
        files={
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": content,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        },
    )

    assert read_cpu_budget(root=root).quota == quota


def test_without_cgroups_the_affinity_mask_decides(tmp_path: Path) -> None:
    budget = read_cpu_budget(root=tmp_path)

    assert budget.quota is None
    assert budget.threads == budget.affinity >= 1


@pytest.mark.parametrize(
    ("affinity", "quota", "threads"), [(64, 1.5, 1), (64, 0.5, 1), (64, 4.0, 4), (2, 4.0, 2), (8, None, 8)]
)
def test_threads_are_the_least_of_mask_and_whole_quota(affinity: int, quota: float | None, threads: int) -> None:
    assert CpuBudget(affinity=affinity, quota=quota).threads == threads
