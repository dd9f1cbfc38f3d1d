"""Data first: what a target cannot hold is left out, counted by kind and told with the first path of each."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xattr
from applying import Steps, apply, d, f, leftovers, link, listing, special
from grounds import Grounds

from casync_compat.errors import FileError
from casync_compat.fs.apply.left_out import LeftOutKind
from casync_compat.fs.apply.tree import ApplyOptions, TreeWriter, apply_tree
from catar import flags
from catar.records import XAttr

F = flags.FeatureFlags
ROOT = pytest.mark.root
EVERY_FLAG = flags.select(exclude_nodump=False, digest_bits=0)
TRUSTED = (XAttr(b"trusted.x", b"1"),)


@pytest.fixture
def ramfs(tmp_path: Path) -> Iterator[Path]:
    """A file system that has hardly any attributes."""
    at = tmp_path / "ramfs"
    at.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", str(at)], check=True)
    yield at
    subprocess.run(["umount", str(at)], check=True)


def restored(
    target: Path, *children: Any, feature_flags: int = EVERY_FLAG, **options: Any
) -> tuple[tuple[LeftOutKind, ...], list[str]]:
    """Write a tree; returns what was left out, and the warnings."""
    warnings: list[str] = []
    writer = TreeWriter(os.fsencode(target), None, ApplyOptions(**options), warn=warnings.append)
    apply_tree(Steps(d(b"", *children), feature_flags), writer)
    return writer.left_out, warnings


def refuse(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, number: int) -> None:
    """Have a call of the system fail."""

    def call(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, name, call)


@ROOT
def test_everything_else_is_restored(ramfs: Path) -> None:
    """Each kind is counted and named with its first path; one line tells them all."""
    left_out, warnings = restored(
        ramfs,
        f(b"a", b"1", xattrs=TRUSTED),
        d(b"d", f(b"b", b"2", xattrs=TRUSTED, fcaps=bytes(20)), f(b"c", b"3", flags=int(F.FLAG_NODUMP))),
        f(b"e", b"4", selinux=b"x", acl_group_obj=5),
    )
    at = os.fsencode(ramfs)
    assert left_out == (
        LeftOutKind("trusted attributes", 2, at + b"/a"),
        LeftOutKind("file capabilities", 1, at + b"/d/b"),
        LeftOutKind("attribute flags", 1, at + b"/d/c"),
        LeftOutKind("ACLs", 1, at + b"/e"),
        LeftOutKind("SELinux labels", 1, at + b"/e"),
    )
    assert len(warnings) == 1
    assert f"trusted attributes (2, first {ramfs}/a)" in warnings[0]
    assert listing(ramfs) == {"a": "1", "d": "/", "d/b": "2", "d/c": "3", "e": "4"}
    assert leftovers(ramfs) == []


@ROOT
@pytest.mark.parametrize(
    ("fields", "kind", "flag"),
    [
        ({"flags": int(F.FLAG_NOCOW)}, "attribute flags", F.FLAG_NOCOW),
        ({"flags": int(F.FLAG_COMPR)}, "attribute flags", F.FLAG_COMPR),
        ({"flags": int(F.FLAG_HIDDEN)}, "FAT attributes", F.FLAG_HIDDEN),
        ({"projid": 7}, "quota project ids", F.QUOTA_PROJID),
    ],
)
def test_what_other_file_systems_have(ramfs: Path, fields: dict[str, Any], kind: str, flag: F) -> None:
    """It is told, and counts as missing only where it was asked for by name."""
    left_out, warnings = restored(ramfs, f(b"f", b"x", **fields), strict=True)
    assert left_out == ()
    at = f"{kind} (1, first {ramfs}/f)"
    assert warnings == [f"not restored, as the target is another kind of file system: {at}"]
    left_out, warnings = restored(ramfs, f(b"f", b"x", **fields), named=int(flag))
    assert [(each.kind, each.count) for each in left_out] == [(kind, 1)]
    with pytest.raises(FileError, match=f"{ramfs}/f: cannot set "):
        restored(ramfs, f(b"f", b"x", **fields), named=int(flag), strict=True)


@ROOT
@pytest.mark.parametrize("child", [d(b"s", f(b"f", b"x"), flags=int(F.SUBVOLUME | F.SUBVOLUME_RO)), None])
def test_archives_of_subvolumes_elsewhere(ground: Grounds, child: Any) -> None:
    """Where there are no subvolumes, plain directories do; also for the top, and when they are there already."""
    target = ground("plain") / "out"
    top = d(b"", *([child] if child else [f(b"f", b"x")]), flags=int(F.SUBVOLUME | F.SUBVOLUME_RO))
    for _ in range(2):
        (warning,) = apply(target, top)
        assert warning.startswith(
            "not restored, as the target is another kind of file system: btrfs subvolumes"
        )
        assert "f" in {path.name for path in target.rglob("*")}


@ROOT
@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.EDQUOT])
def test_owners_that_cannot_be_set(ground: Grounds, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """In a container ids may not map, on a network disk root may be nobody: set-id bits are not given then."""
    target = ground("owners")
    refuse(monkeypatch, os, "chown", number)
    left_out, _ = restored(target, f(b"f", b"x", mode=0o4755, uid=5), link(b"l", b"f", uid=5), d(b"d", gid=5))
    assert left_out == (LeftOutKind("owners", 3, os.fsencode(target / "f")),)
    assert stat.S_IMODE((target / "f").stat().st_mode) == 0o755
    with pytest.raises(FileError, match="/f: cannot set owner of"):
        restored(target, f(b"f", b"x", uid=5), strict=True)


@ROOT
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.E2BIG, errno.EPERM, errno.EOPNOTSUPP])
def test_attributes_without_room(ground: Grounds, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """An attribute that is too large for the file system costs the attribute."""
    target = ground("attributes")
    refuse(monkeypatch, xattr, "set", number)
    left_out, _ = restored(target, f(b"f", b"x", xattrs=(XAttr(b"user.x", b"1"),)))
    assert left_out == (LeftOutKind("extended attributes", 1, os.fsencode(target / "f")),)
    assert (target / "f").read_bytes() == b"x"


@ROOT
@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
def test_real_failures_stay_failures(ground: Grounds, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A disk that breaks is not an attribute that is missing."""
    refuse(monkeypatch, xattr, "set", number)
    with pytest.raises(FileError, match="cannot set extended attribute"):
        restored(ground("broken"), f(b"f", b"x", xattrs=(XAttr(b"user.x", b"1"),)))


@ROOT
@pytest.mark.parametrize(
    ("call", "item", "kind"),
    [
        ("mknod", special(b"n", stat.S_IFCHR, device=(1, 3)), "device nodes"),
        ("mknod", special(b"n", stat.S_IFIFO), "fifos"),
        ("mknod", special(b"n", stat.S_IFSOCK), "sockets"),
        ("symlink", link(b"n", b"x"), "symlinks"),
    ],
)
def test_entries_that_cannot_be_made(
    ground: Grounds, monkeypatch: pytest.MonkeyPatch, call: str, item: Any, kind: str
) -> None:
    """Root in a container makes no devices, FAT has no links: the entry is missing, the rest is there."""
    target = ground("entries")
    refuse(monkeypatch, os, call, errno.EPERM)
    left_out, _ = restored(target, item, f(b"x", b"1"))
    assert left_out == (LeftOutKind(kind, 1, os.fsencode(target / "n")),)
    assert listing(target) == {"x": "1"}
    with pytest.raises(FileError, match="/n: cannot create"):
        restored(target, item, strict=True)


@ROOT
@pytest.mark.parametrize(("call", "kind"), [("chmod", "permissions"), ("utime", "times")])
def test_modes_and_times(ground: Grounds, monkeypatch: pytest.MonkeyPatch, call: str, kind: str) -> None:
    """Some file systems hold no modes, and no times."""
    target = ground("modes")
    refuse(monkeypatch, os, call, errno.EPERM)
    left_out, _ = restored(target, f(b"f", b"x", mode=0o4711))
    assert [each.kind for each in left_out] == [kind]
    assert listing(target) == {"f": "x"}


@ROOT
def test_project_id_that_the_kernel_has_not(ground: Grounds) -> None:
    """The highest number is the kernel's invalid id."""
    left_out, _ = restored(ground("project", "xfs"), f(b"f", b"x", projid=0xFFFFFFFF))
    assert [(each.kind, each.count) for each in left_out] == [("quota project ids", 1)]


@ROOT
def test_acls_as_xfs_shows_them(ground: Grounds) -> None:
    """They are restored as ACLs, and their second names are neither written nor removed."""
    again = (XAttr(b"trusted.SGI_ACL_FILE", b"x"), XAttr(b"trusted.x", b"1"))
    acl = {"acl_group_obj": 5, "xattrs": again}
    for kind in ("ext4", "xfs"):
        target = ground(f"acls-{kind}", kind)
        for _ in range(2):
            assert restored(target, f(b"f", b"x", **acl), d(b"d", **acl)) == ((), [])
        assert "trusted.SGI_ACL_FILE" not in os.listxattr(target / "f") or kind == "xfs"
