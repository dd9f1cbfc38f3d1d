"""How many threads are used when nobody says: made-up files of control groups say how much time there is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casync_compat.streams import processors as room
from casync_compat.streams.processors import processors, quota


def machine(tmp_path: Path, group: str, files: dict[str, str]) -> str:
    """A root with files of control groups."""
    for path, content in {"proc/self/cgroup": group, **files}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("group", "files", "share"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("", {}, None),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "nonsense\n"}, None),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "1000 0\n"}, None),
        # of several that are within each other the tightest counts
        (
            "0::/a.slice/b.service\n",
            {
                "sys/fs/cgroup/a.slice/cpu.max": "2000 1000",
                "sys/fs/cgroup/a.slice/b.service/cpu.max": "3000 1000",
            },
            2.0,
        ),
        # in a container the path may be the host's
        ("0::/docker/0123\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/../../x\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        # version 1, alone and with an empty tree of version 2 beside it
        (
            "4:cpu,cpuacct:/docker/0123\n0::/\n",
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            "4:cpu:/\n",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        ("3:cpuset:/\n", {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "1\n"}, None),
    ],
)
def test_what_a_quota_leaves(tmp_path: Path, group: str, files: dict[str, str], share: float | None) -> None:
    """A quota is found where control groups of either version have it, and what cannot be read says nothing."""
    assert quota(machine(tmp_path, group, files)) == share


@pytest.mark.parametrize(("share", "count"), [(None, 8), (2.5, 3), (0.1, 1), (100.0, 8)])
def test_what_counts(monkeypatch: pytest.MonkeyPatch, share: float | None, count: int) -> None:
    """Threads fill the quota, are one at least, and never more than processors that may be used."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(room, "_quota_here", lambda: share)
    assert processors() == count
