"""Extracting without being root: what cannot be restored is left out and said once."""

from __future__ import annotations

import os
import stat
import traceback
from collections.abc import Callable
from pathlib import Path

import posix1e
import pytest
from applying import apply, d, f, leftovers, link, listing, special

from catar.flags import FeatureFlags
from catar.records import XAttr

F = FeatureFlags
NOBODY = 65534

pytestmark = pytest.mark.root
"""As root, because only root can become nobody; the tests fork and give up all privilege in the child."""


@pytest.fixture
def as_nobody(tmp_path: Path) -> Callable[[Callable[[Path], None]], None]:
    """Run a function as an unprivileged user, in a directory that is that user's."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and parent.parent != parent:
            parent.chmod(parent.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)

    def run(function: Callable[[Path], None]) -> None:
        child = os.fork()
        if not child:
            try:
                os.setgroups([100])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                function(home)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, "see the traceback above"

    return run


def test_what_takes_root_is_left_out_with_one_warning(as_nobody: Callable[..., None]) -> None:
    """Foreign owners, devices and flags are missing, set-id bits of foreign owners too; all else is there."""

    def check(home: Path) -> None:
        foreign = {"uid": 1, "gid": 1}
        tree = d(
            b"",
            f(b"mine", b"x", mode=0o4755),
            f(b"foreign", b"x", mode=0o4755, **foreign),
            f(b"group", b"x", mode=0o640, gid=100),
            link(b"link", b"x", **foreign),
            special(b"fifo", stat.S_IFIFO, **foreign),
            special(b"null", stat.S_IFCHR, device=(1, 3)),
            special(b"disk", stat.S_IFBLK, device=(8, 0)),
            f(b"trusted", xattrs=(XAttr(b"trusted.x", b"1"), XAttr(b"user.x", b"2"))),
            f(b"fcaps", fcaps=bytes.fromhex("0100000200200000000000000000000000000000")),
            f(b"immutable", b"x", flags=int(F.FLAG_IMMUTABLE | F.FLAG_NOATIME)),
        )
        for _ in range(2):
            warnings = apply(home / "out", tree)
            assert warnings == [
                "not restored, which takes root: owners (3), device nodes (2), trusted attributes (1), "
                "file capabilities (1), immutable and append-only flags (1)"
            ]
            out = home / "out"
            assert leftovers(out) == []
            assert {path.name for path in out.iterdir()} == {
                "mine", "foreign", "group", "link", "fifo", "trusted", "fcaps", "immutable"
            }  # fmt: skip
            assert stat.S_IMODE((out / "mine").stat().st_mode) == 0o4755
            assert stat.S_IMODE((out / "foreign").stat().st_mode) == 0o755
            assert (out / "group").stat().st_gid == 100
            assert (out / "foreign").stat().st_uid == NOBODY
            assert os.getxattr(out / "trusted", "user.x") == b"2"

    as_nobody(check)


def test_what_takes_root_does_not_make_an_update_touch_anything(as_nobody: Callable[..., None]) -> None:
    """Somebody else's archive, extracted twice: what is as near as it can be is left alone, and told again."""

    def check(home: Path) -> None:
        foreign = {"uid": 1, "gid": 1}
        tree = d(
            b"",
            f(b"foreign", b"x", mode=0o4755, **foreign),
            f(b"group", b"x", mode=0o640, gid=100),
            link(b"link", b"x", **foreign),
            special(b"pipe", stat.S_IFIFO, **foreign),
            **foreign,
        )
        out = home / "out"
        warnings = apply(out, tree)
        before = {path: path.lstat().st_ctime_ns for path in [out, *out.iterdir()]}
        assert apply(out, tree) == warnings == ["not restored, which takes root: owners (4)"]
        assert {path: path.lstat().st_ctime_ns for path in [out, *out.iterdir()]} == before

    as_nobody(check)


def test_nothing_is_said_when_nothing_is_left_out(as_nobody: Callable[..., None]) -> None:
    """One's own files come out whole, without a warning."""

    def check(home: Path) -> None:
        tree = d(b"", f(b"x", b"1"), d(b"d", f(b"y")), special(b"s", stat.S_IFSOCK))
        assert apply(home / "out", tree) == []
        assert apply(home / "out", tree) == []

    as_nobody(check)


def test_directories_without_write_permission_are_updated(as_nobody: Callable[..., None]) -> None:
    """One's own read-only directories are made writable while they are updated, and what must go is removed."""

    def check(home: Path) -> None:
        out = home / "out"
        apply(out, d(b"", d(b"d", f(b"old"), d(b"olddir", f(b"x"), mode=0o500), mode=0o555), f(b"conflict")))
        apply(out, d(b"", d(b"d", f(b"new"), mode=0o555), d(b"conflict", f(b"y"), mode=0o500)))
        assert listing(out) == {"d": "/", "d/new": "", "conflict": "/", "conflict/y": ""}
        assert stat.S_IMODE((out / "d").stat().st_mode) == 0o555
        apply(out, d(b"", d(b"d"), f(b"conflict")), mask=int(F.NSEC_TIME))
        assert listing(out) == {"d": "/", "conflict": ""}
        assert stat.S_IMODE((out / "d").stat().st_mode) == 0o555
        os.chmod(out / "d", 0o755)

    as_nobody(check)


def test_attributes_of_what_cannot_be_written(as_nobody: Callable[..., None]) -> None:
    """Files and directories without write permission have their extended attributes all the same."""

    def check(home: Path) -> None:
        mine = {"xattrs": (XAttr(b"user.x", b"1"),)}
        tree = d(b"", f(b"f", b"x", mode=0o444, **mine), d(b"d", mode=0o555, **mine))
        for _ in range(2):
            assert apply(home / "out", tree) == []
            for name, mode in (("f", 0o444), ("d", 0o555)):
                assert os.getxattr(home / "out" / name, "user.x") == b"1"
                assert stat.S_IMODE((home / "out" / name).stat().st_mode) == mode
        os.chmod(home / "out" / "d", 0o755)

    as_nobody(check)


def test_failures_give_borrowed_permission_back(as_nobody: Callable[..., None]) -> None:
    """A run that fails leaves an existing directory with the mode that it had."""

    def check(home: Path) -> None:
        out = home / "out"
        apply(out, d(b"", d(b"d", mode=0o555)))
        with pytest.raises(Exception, match="payload"):
            apply(out, d(b"", d(b"d", f(b"x", b"abc", size=5), mode=0o700)))
        assert stat.S_IMODE((out / "d").stat().st_mode) == 0o555
        assert listing(out) == {"d": "/"}

    as_nobody(check)


def test_others_directories_are_an_error_that_names_them(as_nobody: Callable[..., None]) -> None:
    """What belongs to somebody else and must change is a failure, not left out."""

    def check(home: Path) -> None:
        with pytest.raises(Exception, match=r"/etc: cannot .*: (Operation not permitted|Permission denied)"):
            apply(b"/etc", d(b""), delete=False)

    as_nobody(check)


@pytest.mark.parametrize("mask", [0o777, 0o200, 0o400])
@pytest.mark.parametrize("acl", ["", "u::---,g::rwx,o::rwx", "u::r-x,u:1:rwx,g::rwx,m::rwx,o::---"])
def test_new_directories_that_forbid_their_owner(as_nobody: Callable[..., None], mask: int, acl: str) -> None:
    """A default ACL or umask that takes permissions from the owner keeps nobody from writing a tree."""

    def check(home: Path) -> None:
        if acl:
            posix1e.ACL(text=acl).applyto(str(home), posix1e.ACL_TYPE_DEFAULT)
        os.umask(mask)
        tree = d(b"", d(b"d", d(b"e", f(b"f", b"x"), mode=0o2550)), d(b"g", mode=0o500))
        apply(home / "out", tree)
        assert stat.S_IMODE((home / "out/d/e").stat().st_mode) == 0o2550
        assert stat.S_IMODE((home / "out/g").stat().st_mode) == 0o500
        assert (home / "out/d/e/f").read_bytes() == b"x"

    as_nobody(check)
