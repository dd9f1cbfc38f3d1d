"""`mirror` and `copy` from and to real servers: what comes is what casync and desync read."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from interop.clouds import Bucket, seaweed  # noqa: F401 - a fixture
from interop.sshservers import Sshd, sshd  # noqa: F401 - a fixture
from interop.tools import Tool, better_than_casync
from interop.webservers import Nginx, nginx  # noqa: F401 - a fixture

pytestmark = better_than_casync
OLD = Random(1).randbytes(2_000_000)
NEW = OLD[:900_000] + Random(2).randbytes(50_000) + OLD[900_000:]


@pytest.fixture
def origin(tmp_path: Path, casync: Tool) -> Path:
    """A place that casync filled: two versions of a blob."""
    place = tmp_path / "origin"
    place.mkdir()
    for name, content in (("v1", OLD), ("v2", NEW)):
        (tmp_path / name).write_bytes(content)
        casync("make", place / f"{name}.caibx", tmp_path / name)
    return place


def extracts(tool: Tool, index: Path, *options: str) -> bool:
    """Whether a tool gives back the second version."""
    out = index.parent / "out"
    tool("extract", *options, index, out, cwd=index.parent)
    return out.read_bytes() == NEW


def test_from_a_server_of_files(
    origin: Path,
    tmp_path: Path,
    sshd: Sshd,  # noqa: F811
    pycasync: Tool,
    casync: Tool,
    desync: Tool,
) -> None:
    """From SFTP, which is listed, to a directory, where a `gc` of casync loses nothing."""
    ours = pycasync.given(CASYNC_SSH_PATH=sshd.ssh)
    edge = tmp_path / "edge"
    ours("mirror", f"sftp://{sshd.host}{origin}", edge)
    casync("gc", edge / "v1.caibx", edge / "v2.caibx")
    assert extracts(casync, edge / "v2.caibx")
    assert extracts(desync, edge / "v2.caibx", "-s", "default.castr")
    back = tmp_path / "back"
    back.mkdir()
    ours("mirror", "--delete", edge, f"sftp://{sshd.host}{back}")
    (edge / "v1.caibx").unlink()
    ours("mirror", "--delete", edge, f"sftp://{sshd.host}{back}")
    assert not (back / "v1.caibx").exists()
    assert extracts(casync, back / "v2.caibx")


def test_where_casync_is(
    origin: Path,
    tmp_path: Path,
    sshd: Sshd,  # noqa: F811
    pycasync: Tool,
    casync: Tool,
) -> None:
    """By casync's protocol, from there and to there; what is there is not sent again."""
    ours = pycasync.given(CASYNC_SSH_PATH=sshd.ssh, CASYNC_REMOTE_PATH=casync.command[0])
    edge = tmp_path / "edge"
    assert b"cannot be listed" in ours.run("mirror", f"{sshd.host}:{origin}", edge).err
    ours("mirror", f"{sshd.host}:{origin}", edge, "v1.caibx", "v2.caibx")
    assert extracts(casync, edge / "v2.caibx")
    back = tmp_path / "back"
    back.mkdir()
    ours("copy", edge / "v1.caibx", f"{sshd.host}:{back}/v1.caibx")
    ours("mirror", edge, f"{sshd.host}:{back}", "v1.caibx", "v2.caibx")
    assert extracts(casync, back / "v2.caibx")
    assert b"Copied 0 of 2 files" in ours("mirror", edge, f"{sshd.host}:{back}", "v1.caibx", "v2.caibx")


def test_a_bucket_and_the_web(
    origin: Path,
    tmp_path: Path,
    seaweed: Bucket,  # noqa: F811
    nginx: Nginx,  # noqa: F811
    pycasync: Tool,
    casync: Tool,
) -> None:
    """From nginx by name into a bucket, whose chunks are in packs then; and from the bucket by pattern."""
    for path in sorted(origin.rglob("*")):
        if path.is_file():
            target = nginx.root / "mirrored" / path.relative_to(origin)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    ours = pycasync.given(**seaweed.environ)
    place = seaweed.locator("mirror")
    ours("mirror", f"{nginx.plain}/mirrored", place, "v1.caibx", "v2.caibx")
    assert b"Copied 0 of 2 files" in ours("mirror", f"{nginx.plain}/mirrored", place, "v1.caibx", "v2.caibx")
    edge = tmp_path / "edge"
    ours("mirror", place, edge)
    assert extracts(casync, edge / "v2.caibx")
