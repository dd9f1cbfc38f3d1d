"""Advice is good: each message that names options is provoked, its options are given, and the run succeeds."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inodes
import pytest
import xattr
from applying import FLAGS, Item, archive, d, f, link, special

from casync_compat.fs import inode_flags
from catar.flags import FeatureFlags
from catar.records import AclDefault, XAttr

from .conftest import Run

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_oci.images import build, layout_at

F = FeatureFlags
_OPTION = re.compile(r"--[a-z][a-z-]*(?:=[\w-]*)?")
_VALUES = {
    "--extra-store": "store.castr",
    "--platform": "linux/amd64",
    "--max-size": "1G",
    "--uid-shift": "0",
}
"""What the reader has to know, where a message names an option without its value."""


def options_of(message: str) -> list[str]:
    """The options that a message advises, in their order, the first of alternatives."""
    advice = message.partition(" or --")[0]
    words = [word.rstrip("=") for word in _OPTION.findall(advice)]
    return [f"{word}={_VALUES[word]}" if word in _VALUES else word for word in words]


def refuse(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, number: int = errno.EOPNOTSUPP) -> None:
    """Have a function fail as a file system or the kernel would have it."""

    def fail(*args: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(holder, name, fail)


@dataclass(frozen=True, slots=True)
class Case:
    """An entry of an archive, and what refuses it.

    :ivar options: with which that is an error
    """

    item: Item
    holder: Any
    name: str
    number: int = errno.EOPNOTSUPP
    options: tuple[str, ...] = ()


_CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
_ACL = {"acl_default": AclDefault(7, 5, 5, 7)}
CASES = {
    "owner": Case(f(b"x", uid=12, gid=12), os, "chown", errno.EPERM),
    "owner of an ACL": Case(d(b"x", uid=12, gid=12, **_ACL), os, "chown", errno.EINVAL),
    "owner by name": Case(f(b"x", uid=2, gid=2, user=b"bin", group=b"bin"), os, "chown", errno.EPERM),
    "attribute": Case(f(b"x", xattrs=(XAttr(b"user.a", b"v"),)), xattr, "set"),
    "ACL": Case(d(b"x", **_ACL), xattr, "set"),
    "capabilities": Case(f(b"x", fcaps=_CAPABILITY), xattr, "set", errno.EPERM),
    "label": Case(f(b"x", selinux=b"a:b:c"), xattr, "set"),
    "flags": Case(f(b"x", flags=int(F.FLAG_NODUMP | F.FLAG_SYNC)), inode_flags, "set_flags"),
    "flags of contents": Case(f(b"x", flags=int(F.FLAG_NOATIME)), inode_flags, "set_flags"),
    "immutable": Case(f(b"x", flags=int(F.FLAG_IMMUTABLE)), inode_flags, "set_flags", errno.EPERM),
    "FAT attributes": Case(
        f(b"x", flags=int(F.FLAG_HIDDEN)), inode_flags, "set_fat", options=("--with=flag-hidden",)
    ),
    "project": Case(f(b"x", projid=7), inode_flags, "set_projid", options=("--with=quota-projid",)),
    "subvolume": Case(
        d(b"x", flags=int(F.SUBVOLUME)), inode_flags, "create_subvolume", options=("--with=subvolume",)
    ),
    "read-only subvolume": Case(
        d(b"x", flags=int(F.SUBVOLUME | F.SUBVOLUME_RO)),
        inode_flags,
        "create_subvolume",
        options=("--with=subvolume-ro",),
    ),
    "symlink": Case(link(b"x", b"y"), os, "symlink", errno.EPERM),
    "fifo": Case(special(b"x", stat.S_IFIFO), os, "mknod", errno.EPERM),
    "socket": Case(special(b"x", stat.S_IFSOCK), os, "mknod"),
    "device": Case(special(b"x", stat.S_IFCHR, device=(1, 3)), os, "mknod", errno.EPERM),
}


@pytest.mark.root
@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_restored(
    name: str, run: Run, fails: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a strict run stops at, it can be told to leave out, by the very words of the message."""
    case = CASES[name]
    features = FLAGS & ~int(F.EXCLUDE_NODUMP) | int(F.FLAG_NODUMP)
    (tmp_path / "x.catar").write_bytes(archive(d(b"", case.item, f(b"z", b"data")), features))
    (tmp_path / "out").mkdir()
    refuse(monkeypatch, case.holder, case.name, case.number)
    words = ["extract", "--strict", *case.options]
    said = fails(*words, "x.catar", "out")
    advice = options_of(said)
    assert advice, said
    result = run(*words, *advice, "x.catar", "out")
    assert result.status == 0, (said, result)
    assert (tmp_path / "out" / "z").read_bytes() == b"data"


@pytest.mark.root
@pytest.mark.parametrize("where", ["out", "out/x", "out/x/y", "out/gone"])
def test_what_is_locked(where: str, run: Run, fails: Callable[..., str], tmp_path: Path) -> None:
    """Immutable directories and files, to be updated, replaced or deleted."""
    (tmp_path / "x.catar").write_bytes(archive(d(b"", f(b"x", b"new")), FLAGS))
    (tmp_path / "out/x/y").mkdir(parents=True)
    (tmp_path / "out/gone").touch()
    locked = tmp_path / where
    inodes.set_flags(locked, inodes.IMMUTABLE)
    try:
        said = fails("extract", "x.catar", "out")
        assert os.fspath(Path(where)) in said
        assert run("extract", *options_of(said), "x.catar", "out").status == 0
    finally:
        if locked.exists() and not locked.is_symlink():
            inodes.set_flags(locked, drop=inodes.IMMUTABLE)
    assert (tmp_path / "out/x").read_bytes() == b"new"


def test_chunks_elsewhere(ok: Run, fails: Callable[..., str], tmp_path: Path) -> None:
    """A chunk that is missing is had from another store."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(b"f")
    ok("make", "--store=store.castr", "x.caidx", "tree")
    (tmp_path / "empty.castr").mkdir()
    said = fails("extract", "--store=empty.castr", "x.caidx", "out")
    ok("extract", "--store=empty.castr", *options_of(said), "x.caidx", "out")


@pytest.mark.root
@pytest.mark.parametrize(
    ("owner", "options"),
    [(70_000, ("--with=16bit-uids",)), (5, ("--uid-shift=1000",)), (66_000, ("--with=unix",))],
)
def test_owners_that_do_not_fit(
    owner: int, options: tuple[str, ...], ok: Run, fails: Callable[..., str], tmp_path: Path
) -> None:
    """Of a tree that is archived."""
    (tmp_path / "tree").mkdir()
    os.chown(tmp_path / "tree", owner, owner)
    said = fails("make", *options, "x.catar", "tree")
    ok("make", *options, *options_of(said), "x.catar", "tree")


@pytest.mark.root
def test_owners_that_are_shifted_too_far(ok: Run, fails: Callable[..., str], tmp_path: Path) -> None:
    """Of an archive that is extracted."""
    (tmp_path / "x.catar").write_bytes(archive(d(b"", f(b"x", uid=7, gid=7)), FLAGS))
    options = ("--uid-range=4294967296", "--uid-shift=4294967290")
    said = fails("extract", *options, "x.catar", "out")
    ok("extract", *options, *options_of(said), "x.catar", "out")


def test_indexes_nobody_named(ok: Run, run: Run, fails: Callable[..., str], tmp_path: Path) -> None:
    """`gc` that stops, and goes on when told to."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
        ok("make", "--store=store.castr", f"{name}.caidx", name)
    said = run("gc", "--store=store.castr", "a.caidx").err.decode()
    assert run("gc", "--store=store.castr", *options_of(said), "a.caidx").status == 0


@pytest.mark.root
@pytest.mark.parametrize("refused", ["chown", "mknod"])
def test_images_without_privileges(
    refused: str, run: Run, fails: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`oci unpack` where owners or devices are refused."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        device = tarfile.TarInfo("null")
        device.type, device.devmajor, device.devminor, device.uid = tarfile.CHRTYPE, 1, 3, 12
        tar.addfile(device)
    with layout_at(tmp_path / "images") as layout:
        build(layout, "app", [out.getvalue()])
    refuse(monkeypatch, os, refused, errno.EPERM)
    said = fails("oci", "unpack", "--strict", "oci:images:app", "out")
    assert run("oci", "unpack", *options_of(said), "oci:images:app", "out").status == 0
