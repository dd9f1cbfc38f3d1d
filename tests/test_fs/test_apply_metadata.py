"""Owners, modes, times, attributes, ACLs, capabilities and flags of what is written."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import inodes
import posix1e
import pytest
from applying import FLAGS, SECOND, WHEN, apply, d, f, leftovers, link, special
from grounds import Grounds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casync_compat.cli._hints import hint_for
from casync_compat.errors import FileError
from casync_compat.fs import inode_flags
from casync_compat.fs.owners import IdShift
from catar import flags
from catar.flags import WITH_ALL, FeatureFlags
from catar.records import AclDefault, AclEntry, XAttr, stored_time

F = FeatureFlags
ROOT = pytest.mark.root
NO_OWNERS = WITH_ALL & ~int(F.UIDS_16BIT | F.UIDS_32BIT | F.USER_NAMES)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def ramfs(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system without any attributes."""
    libc = ctypes.CDLL(None, use_errno=True)
    at = tmp_path / "ramfs"
    at.mkdir()
    if libc.mount(b"ramfs", os.fsencode(at), b"ramfs", 0, None):
        pytest.skip(f"cannot mount ramfs: {os.strerror(ctypes.get_errno())}")
    yield at
    libc.umount2(os.fsencode(at), 2)


# Owners


@ROOT
@pytest.mark.parametrize("uid", [1, 0xFFFE, 0x10000, 1 << 31, (1 << 31) - 1, 3_000_000_000, 0xFFFFFFFE])
def test_owners_of_the_whole_range(tmp_path: Path, uid: int) -> None:
    """Every id that a file can have is restored, above 2^31, too."""
    fields = {"uid": uid, "gid": uid}
    items = [f(b"f", b"x", **fields), d(b"d", f(b"in"), **fields), link(b"l", b"f", **fields)]
    apply(tmp_path / "out", d(b"", *items))
    for name in "fdl":
        st = (tmp_path / "out" / name).lstat()
        assert (st.st_uid, st.st_gid) == (uid, uid)


@ROOT
@pytest.mark.parametrize("name", [b"4294967295", b"4294967296", b"18446744073709551616", b"9" * 200])
def test_owner_names_that_are_numbers_but_no_ids(tmp_path: Path, name: bytes) -> None:
    """A name that is too large a number to be an id is not known here: a warning, and the rest is done."""
    flags = FLAGS & ~int(F.UIDS_32BIT | F.UIDS_16BIT)
    fields = {"uid": 0, "gid": 0, "user": name, "group": name}
    warnings = apply(tmp_path / "out", d(b"", f(b"f", b"x", **fields)), feature_flags=flags)
    assert (tmp_path / "out" / "f").read_bytes() == b"x"
    assert [w for w in warnings if "not known here" in w]


# Modes


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000, pytest.param(0o777, marks=ROOT)])
def test_modes_are_exact_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    """Recorded permissions are restored, set-id and sticky bits included, under any umask, fresh or in place."""
    modes = [0o000, 0o400, 0o644, 0o755, 0o777, 0o4755, 0o2711, 0o1777, 0o6644, 0o060]
    files = [f(b"f%o" % m, b"x", mode=m) for m in modes]
    dirs = [d(b"d%o" % m, f(b"x"), mode=m) for m in modes]
    fifos = [special(b"p%o" % m, stat.S_IFIFO, m) for m in modes]
    with umask(mask):
        for _ in range(2 if os.geteuid() == 0 else 1):
            apply(tmp_path / "out", d(b"", *files, *dirs, *fifos, mode=0o751))
    assert mode(tmp_path / "out") == 0o751
    for m in modes:
        for kind in "fdp":
            assert mode(tmp_path / "out" / f"{kind}{m:o}") == m
    for m in modes:
        os.chmod(tmp_path / "out" / f"d{m:o}", 0o755)  # so that pytest can remove it


def test_modes_that_are_not_restored(tmp_path: Path) -> None:
    """Without permissions files get what the umask gives and new directories stay owner-only, as casync does it."""
    target = tmp_path / "out"
    (target / "old").mkdir(parents=True)
    (target / "old").chmod(0o711)
    mask = WITH_ALL & ~int(F.PERMISSIONS | F.ACL | F.READ_ONLY)
    with umask(0o027):
        apply(target, d(b"", f(b"x", mode=0o4755), d(b"new", mode=0o755), d(b"old", mode=0o755)), mask=mask)
    assert mode(target / "x") == 0o750
    assert mode(target / "new") == 0o700
    assert mode(target / "old") == 0o711


READ_ONLY_FLAGS = flags.select([F.READ_ONLY], digest_bits=0)


def test_read_only_takes_write_permission_and_nothing_else(tmp_path: Path) -> None:
    """Archives that know only read-only: mode minus the write bits, or with the owner's."""
    target = tmp_path / "out"
    tree = d(
        b"",
        f(b"ro", mode=0o444),
        f(b"rw", mode=0o666),
        d(b"rodir", f(b"x"), mode=0o555),
        d(b"rwdir", mode=0o777),
    )
    for item in (tree, *tree.children, *tree.children[2].children):
        item.node.uid = item.node.gid = item.node.mtime = 0
    with umask(0o022):
        apply(target, tree, feature_flags=READ_ONLY_FLAGS)
    found = {path.name: mode(path) for path in target.iterdir()}
    assert found == {"ro": 0o444, "rw": 0o644, "rodir": 0o500, "rwdir": 0o700}
    assert (target / "rodir" / "x").exists()


def test_read_only_of_existing_directories(tmp_path: Path) -> None:
    """Existing directories gain or lose write permission; what they have beside that stays."""
    target = tmp_path / "out"
    for name, old in (("a", 0o555), ("b", 0o775)):
        (target / name).mkdir(parents=True)
        (target / name).chmod(old)
    tree = d(b"", d(b"a", mode=0o777), d(b"b", mode=0o555), mode=0o777)
    for item in (tree, *tree.children):
        item.node.uid = item.node.gid = item.node.mtime = 0
    apply(target, tree, feature_flags=READ_ONLY_FLAGS)
    assert mode(target / "a") == 0o777
    assert mode(target / "b") == 0o555


@ROOT
def test_setgid_directories_in_the_target(tmp_path: Path) -> None:
    """Groups and set-group-id bits that new inodes inherit are corrected."""
    target = tmp_path / "out"
    target.mkdir()
    os.chown(target, 0, 12)
    target.chmod(0o2775)
    apply(
        target, d(b"", f(b"f"), d(b"d", f(b"g"), mode=0o755), link(b"l", b"x"), special(b"p", stat.S_IFIFO))
    )
    for path in [target, *target.rglob("*")]:
        assert (path.lstat().st_uid, path.lstat().st_gid) == (0, 0), path
    assert mode(target) == mode(target / "d") == 0o755


@ROOT
@pytest.mark.parametrize("bits", [0o2700, 0o2500, 0o500, 0o700, 0o1700, 0o2755, 0o6711, 0])
@pytest.mark.parametrize(
    "acl", ["", "u::r-x,g::---,o::---", "u::rwx,u:1:rwx,g::r-x,m::rwx,o::---", "u::---,g::---,o::---"]
)
@pytest.mark.parametrize("new", [True, False], ids=["new", "below"])
def test_modes_of_new_directories(tmp_path: Path, acl: str, bits: int, new: bool) -> None:
    """They are the recorded ones, whatever set-group-id bit and default ACL the directory above hands down."""
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o2775)
    if acl:
        posix1e.ACL(text=acl).applyto(str(above), posix1e.ACL_TYPE_DEFAULT)
    target = above / "out" if new else above
    apply(target, d(b"", d(b"d", d(b"e", f(b"f", b"x", mode=0o2750), mode=bits), mode=bits), mode=0o755))
    assert (mode(target / "d"), mode(target / "d/e"), mode(target / "d/e/f")) == (bits, bits, 0o2750)
    assert not posix1e.has_extended(str(target / "d/e"))


# Owners


@ROOT
def test_owners_of_every_type(tmp_path: Path) -> None:
    """Numeric owners are set on everything, symlinks included, in new places and in old ones."""
    ids = {"uid": 1234, "gid": 4321}
    tree = d(
        b"",
        f(b"f", b"x", mode=0o660, **ids),
        f(b"suid", b"x", mode=0o6755, **ids),
        d(b"d", mode=0o2770, **ids),
        link(b"l", b"/etc/passwd", **ids),
        special(b"p", stat.S_IFIFO, 0o666, **ids),
        special(b"c", stat.S_IFCHR, 0o660, device=(1, 3), **ids),
        f(b"root"),
    )
    before = os.stat("/etc/passwd")
    for _ in range(2):
        apply(tmp_path / "out", tree)
        for item in tree.children:
            status = (tmp_path / "out" / item.node.name.decode()).lstat()
            assert (status.st_uid, status.st_gid) == (item.node.uid, item.node.gid)
            assert status.st_mode == item.node.mode
    assert os.stat("/etc/passwd") == before


@ROOT
def test_names_win_over_numbers(tmp_path: Path) -> None:
    """A name that is known here says the owner; root has no name."""
    tree = d(b"", f(b"f", uid=4242, gid=4242, user=b"daemon", group=b"tty"), f(b"r", uid=0, gid=0))
    assert apply(tmp_path / "out", tree) == []
    status = (tmp_path / "out" / "f").stat()
    assert (status.st_uid, status.st_gid) == (1, 5)
    apply(tmp_path / "out", tree, mask=WITH_ALL & ~int(F.USER_NAMES))
    assert (tmp_path / "out" / "f").stat().st_uid == 4242


@ROOT
def test_unknown_names_fall_back_to_numbers_with_one_warning(tmp_path: Path) -> None:
    """A user that this machine does not have is not the end: the number is taken, and said once a name."""
    owner = {"uid": 4242, "gid": 4343, "user": b"no-such-user", "group": b"no-such-group"}
    warnings = apply(
        tmp_path / "out", d(b"", f(b"a", **owner), f(b"b", **owner), f(b"c", **owner | {"uid": 99}))
    )
    assert sorted(warnings) == [
        "group no-such-group is not known here; its files get the recorded id 4343",
        "user no-such-user is not known here; its files get the recorded id 4242",
        "user no-such-user is not known here; its files get the recorded id 99",
    ]
    assert (tmp_path / "out" / "b").stat().st_uid == 4242


@ROOT
def test_archives_with_names_only(tmp_path: Path) -> None:
    """Without numbers: root where there is no name, digits mean an id, and unknown names stay ours."""
    only = flags.select([F.USER_NAMES, F.PERMISSIONS], digest_bits=0)
    tree = d(
        b"",
        f(b"root", uid=0, gid=0, mtime=0),
        f(b"digits", uid=0, gid=0, mtime=0, user=b"777", group=b"888"),
        f(b"unknown", uid=0, gid=0, mtime=0, user=b"no-such-user", group=b"tty"),
        mtime=0,
    )
    warnings = apply(tmp_path / "out", tree, feature_flags=only)
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in (tmp_path / "out").iterdir()}
    assert owners == {"root": (0, 0), "digits": (777, 888), "unknown": (0, 5)}
    assert warnings == ["user no-such-user is not known here and no id is recorded; its files stay yours"]


@ROOT
def test_ids_are_shifted_back(tmp_path: Path) -> None:
    """Nameless owners and ACL entries get the shift; an id that leaves the range is an error naming the file."""
    shift = IdShift(100_000, 65536, True)
    tree = d(b"", f(b"f", uid=5, gid=65535 + 7))
    apply(tmp_path / "out", tree, shift=shift)
    status = (tmp_path / "out" / "f").stat()
    assert (status.st_uid, status.st_gid) == (100_005, 100_006)
    with pytest.raises(FileError, match=r"out/f: cannot set owner of: owner id 5 is too large"):
        apply(tmp_path / "out", d(b"", f(b"f", uid=5)), shift=IdShift(0xFFFFFFFE - 3, 0, True))
    assert leftovers(tmp_path) == []


# Times


@given(
    st.integers(-((1 << 31) - 1) * SECOND, (1 << 33) * SECOND)
)  # ext4 has no fraction in the second before
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_times_of_three_centuries(ground: Grounds, tmp_path: Path, when: int) -> None:
    """Nanosecond times from 1901 to 2242 come back exactly, before 1970 too."""
    tree = d(b"", f(b"f", mtime=stored_time(when, 1)), link(b"l", b"x", mtime=stored_time(when, 1)))
    assert apply(tmp_path / "out", tree) == []
    assert (tmp_path / "out" / "f").stat().st_mtime_ns == when
    assert (tmp_path / "out" / "l").lstat().st_mtime_ns == when


@pytest.mark.parametrize(
    ("flag", "granularity"),
    [(F.USEC_TIME, 1000), (F.SEC_TIME, SECOND), (F.TWO_SEC_TIME, 2 * SECOND)],
)
def test_coarse_times(tmp_path: Path, flag: int, granularity: int) -> None:
    """Coarser archives restore the time that they hold, rounded towards 1970."""
    for when in (-5_000_000_001, -1, 0, 1_500_000_001_999_999_999):
        tree = d(b"", mtime=stored_time(when, granularity), uid=0, gid=0)
        only = flags.select([flag, F.PERMISSIONS], digest_bits=0)
        apply(tmp_path / "out", tree, feature_flags=only)
        wanted = abs(when) // granularity * granularity * (-1 if when < 0 else 1)
        assert (tmp_path / "out").stat().st_mtime_ns == wanted


def test_no_times(tmp_path: Path) -> None:
    """Without times, or when they are masked out, the time is now."""
    apply(
        tmp_path / "out",
        d(b"", f(b"f")),
        mask=WITH_ALL & ~int(F.NSEC_TIME | F.USEC_TIME | F.SEC_TIME | F.TWO_SEC_TIME),
    )
    assert (tmp_path / "out" / "f").stat().st_mtime_ns > WHEN + 1000 * SECOND


def test_access_times_are_kept(tmp_path: Path) -> None:
    """Restoring the modification time of an existing directory leaves its access time."""
    target = tmp_path / "out"
    target.mkdir()
    os.utime(target, ns=(77 * SECOND, 88 * SECOND))
    apply(target, d(b""))
    assert (target.stat().st_atime_ns, target.stat().st_mtime_ns) == (77 * SECOND, WHEN)


@ROOT
def test_coarse_file_systems_round_with_one_warning(ground: Grounds) -> None:
    """A file system with coarser times is no failure: one warning in all."""
    target = ground("coarse", "vfat")
    odd = {"mtime": WHEN + SECOND - WHEN % SECOND + 1}
    warnings = apply(
        target, d(b"", *(f(b"f%d" % i, b"x", **odd) for i in range(20)), **odd), mask=int(F.NSEC_TIME)
    )
    assert warnings == ["the file system cannot hold all times as recorded; some are rounded"]


# Extended attributes, ACLs, capabilities


XATTRS = (XAttr(b"trusted.t", b"\0\xff"), XAttr(b"user.a", b""), XAttr(b"user.b", bytes(1000)))


def xattrs(path: Path) -> dict[str, bytes]:
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }


@ROOT
def test_extended_attributes(ground: Grounds) -> None:
    """user.* and trusted.* become those of the archive, on new files and on directories that had others."""
    target = ground("xattrs")
    old = target / "d"
    old.mkdir()
    os.setxattr(old, "user.a", b"other")
    os.setxattr(old, "user.gone", b"x")
    os.setxattr(old, "trusted.gone", b"x")
    os.setxattr(old, "security.kept", b"x")
    assert (
        apply(
            target,
            d(b"", f(b"f", b"x", mode=0, xattrs=XATTRS), d(b"d", xattrs=XATTRS), d(b"n", xattrs=XATTRS)),
        )
        == []
    )
    wanted = {a.name.decode(): a.value for a in XATTRS}
    assert xattrs(target / "f") == xattrs(target / "n") == wanted
    assert xattrs(old) == wanted | {"security.kept": b"x"}
    apply(target, d(b"", d(b"d")), mask=WITH_ALL & ~int(F.XATTRS))
    assert "user.a" in xattrs(old)
    apply(target, d(b"", d(b"d")))
    assert xattrs(old) == {"security.kept": b"x"}


@ROOT
def test_attributes_of_other_namespaces_are_not_restored(ground: Grounds) -> None:
    """An archive cannot smuggle in capabilities or ACLs as plain attributes; a warning says so."""
    evil = (XAttr(b"security.capability", bytes(20)), XAttr(b"user.good", b"1"))
    warnings = apply(ground("other") / "out", d(b"", f(b"f", xattrs=evil)))
    assert warnings == [
        "extended attributes like security.capability are not restored, only user.* and trusted.*"
    ]


@ROOT
def test_attributes_that_the_file_system_refuses(ramfs: Path) -> None:
    """With strictness, what cannot be restored is an error that names the way round; the rest is silent."""
    target = ramfs
    assert apply(target, d(b"", f(b"plain", b"x"), d(b"d"))) == []
    assert apply(target, d(b"", f(b"plain", b"x"), d(b"d"))) == []
    for extra, option in (
        ({"xattrs": XATTRS[1:]}, "--without=xattrs"),
        ({"fcaps": bytes(20)}, "--without=fcaps"),
        ({"selinux": b"x"}, "--without=selinux"),
        ({"acl_group_obj": 5}, "--without=acl"),
        ({"flags": int(F.FLAG_NOATIME)}, "--without=chattr"),
        ({"flags": int(F.FLAG_NODUMP)}, "--without=chattr"),
    ):
        with pytest.raises(FileError, match="/f: cannot ") as caught:
            apply(
                target,
                d(b"", f(b"f", b"x", **extra)),
                feature_flags=flags.select(exclude_nodump=False),
                strict=True,
            )
        assert caught.value.errno
        assert hint_for(caught.value) == f"; {option} leaves it out"
        assert leftovers(target) == []


@ROOT
def test_capabilities(ground: Grounds) -> None:
    """File capabilities survive the change of owner, and go when the file is replaced by one without."""
    caps = bytes.fromhex("0100000200200000000000000000000000000000")
    target = ground("fcaps")
    apply(target, d(b"", f(b"f", b"x", fcaps=caps, uid=55)))
    assert xattrs(target / "f") == {"security.capability": caps}
    apply(target, d(b"", f(b"f", b"x", fcaps=caps)), mask=WITH_ALL & ~int(F.FCAPS))
    assert xattrs(target / "f") == {}


@ROOT
def test_selinux_labels(ground: Grounds) -> None:
    """Labels of every type, with the NUL that libselinux writes; removed from what has none in the archive."""
    label = b"system_u:object_r:tmp_t:s0"
    target = ground("selinux")
    tree = d(b"", f(b"f", selinux=label), d(b"d", selinux=label), link(b"l", b"x", selinux=label))
    for _ in range(2):
        apply(target, tree)
        for name in "fdl":
            assert xattrs(target / name) == {"security.selinux": label + b"\0"}
    apply(target, d(b"", d(b"d")))
    assert xattrs(target / "d") == {}


def acl_text(path: Path, kind: str = "file") -> str:
    acl = posix1e.ACL(**{kind: os.fsencode(path)})
    return acl.to_any_text(options=posix1e.TEXT_NUMERIC_IDS).decode().replace("\n", " ").strip()


RICH = {
    "acl_users": (AclEntry(7, 4), AclEntry(9, 7)),
    "acl_groups": (AclEntry(8, 6),),
    "acl_group_obj": 5,
}
RICH_TEXT = "user::rwx user:7:r-- user:9:rwx group::r-x group:8:rw- mask::rwx other::---"


@ROOT
def test_access_acls(ground: Grounds) -> None:
    """ACLs of every type but symlinks; the group bits of the mode are the mask."""
    target = ground("acl")
    tree = d(
        b"",
        f(b"f", b"x", mode=0o4770, **RICH),
        d(b"d", mode=0o770, **RICH),
        special(b"p", stat.S_IFIFO, 0o770, **RICH),
        f(b"lone", mode=0o750, acl_group_obj=7),
    )
    for _ in range(2):
        apply(target, tree)
        assert {acl_text(target / name) for name in "fdp"} == {RICH_TEXT}
        assert acl_text(target / "lone") == "user::rwx group::rwx mask::r-x other::---"
        assert mode(target / "f") == 0o4770
    apply(target, d(b"", d(b"d", mode=0o750)))
    assert acl_text(target / "d") == "user::rwx group::r-x other::---"


@ROOT
def test_default_acls(ground: Grounds) -> None:
    """Default ACLs are set, replaced and removed; what is extracted below them does not inherit them."""
    target = ground("default")
    default = {
        "acl_default": AclDefault(7, 5, 0, 7),
        "acl_default_users": (AclEntry(7, 6),),
    }
    tree = d(
        b"",
        d(
            b"d",
            f(b"f", mode=0o664),
            d(b"sub", f(b"g", mode=0o600), mode=0o755),
            special(b"p", stat.S_IFIFO),
            **default,
        ),
    )
    text = "user::rwx user:7:rw- group::r-x mask::rwx other::---"
    for _ in range(2):
        apply(target, tree)
        assert acl_text(target / "d", "filedef") == text
        for path in (target / "d").rglob("*"):
            assert xattrs(path) == {}, path
        assert mode(target / "d" / "f") == 0o664
    apply(target, d(b"", d(b"d", d(b"new", f(b"f", mode=0o664)))))
    assert xattrs(target / "d") == xattrs(target / "d" / "new") == xattrs(target / "d" / "new" / "f") == {}
    assert mode(target / "d" / "new" / "f") == 0o664


@ROOT
def test_modes_under_a_default_acl_that_stays(ground: Grounds) -> None:
    """With ACLs masked out, inherited ones stay, and modes are still those of the archive."""
    target = ground("inherit")
    acl = posix1e.ACL(text="u::rwx,u:7:rwx,g::r-x,m::rwx,o::---")
    acl.applyto(os.fsencode(target), posix1e.ACL_TYPE_DEFAULT)
    tree = d(b"", f(b"f", b"x", mode=0o644), d(b"d", f(b"g", mode=0o604), mode=0o755), mode=0o755)
    apply(
        target,
        tree,
        mask=WITH_ALL & ~int(F.ACL) | int(F.PERMISSIONS),
        feature_flags=flags.select(without=[F.ACL], digest_bits=0),
    )
    assert mode(target / "f") == 0o644
    assert mode(target / "d") == 0o755
    assert mode(target / "d" / "g") == 0o604
    assert "system.posix_acl_default" in xattrs(target / "d")


@ROOT
def test_acl_names(ground: Grounds) -> None:
    """Names in ACLs win over numbers, and unknown ones fall back to them."""
    target = ground("acl-names")
    users = (AclEntry(70, 4, b"daemon"), AclEntry(71, 4, b"no-such-user"))
    warnings = apply(target, d(b"", f(b"f", mode=0o640, acl_users=users, acl_group_obj=4)))
    assert acl_text(target / "f") == "user::rw- user:1:r-- user:71:r-- group::r-- mask::r-- other::---"
    assert len(warnings) == 1


# Flags


@ROOT
def test_chattr_flags(ground: Grounds) -> None:
    """chattr flags come last, so that immutable and append-only files and directories have all their metadata."""
    target = ground("chattr")
    locked = int(F.FLAG_IMMUTABLE | F.FLAG_NOATIME)
    tree = d(
        b"",
        f(b"i", b"x", flags=locked, xattrs=XATTRS[1:]),
        f(b"a", b"x", flags=int(F.FLAG_APPEND)),
        d(b"d", f(b"inner", b"x"), flags=int(F.FLAG_IMMUTABLE)),
        f(b"plain"),
        special(b"p", stat.S_IFIFO),
        flags=int(F.FLAG_NODUMP),
    )
    feature_flags = flags.select(exclude_nodump=False, digest_bits=0)
    try:
        apply(target, tree, feature_flags=feature_flags)
        found = {
            name: inodes.flags(target / name) & inodes.ARCHIVED
            for name in ("i", "a", "d", "plain", "d/inner")
        }
        assert found == {
            "i": inodes.IMMUTABLE | inodes.NOATIME,
            "a": inodes.APPEND,
            "d": inodes.IMMUTABLE,
            "plain": 0,
            "d/inner": 0,
        }
        assert inodes.flags(target) & inodes.ARCHIVED == inodes.NODUMP
        assert {path.lstat().st_mtime_ns for path in [target, *target.rglob("*")]} == {WHEN}

        with pytest.raises(FileError, match=r"/i: cannot .*it is immutable or append-only"):
            apply(target, d(b"", f(b"i", b"y", flags=locked)), feature_flags=feature_flags, delete=False)
        assert inodes.flags(target / "i") & inodes.ARCHIVED == inodes.IMMUTABLE | inodes.NOATIME
        with pytest.raises(FileError, match=r"/d: cannot update: it is immutable or append-only"):
            apply(target, d(b"", d(b"d")), delete=False)
        for path in ("a", "d", "i"):
            with pytest.raises(FileError, match="it is immutable or append-only"):
                apply(target, d(b"", *(f(name) for name in (b"a", b"d", b"i") if name.decode() != path)))
        assert leftovers(target) == []
        apply(target, tree, feature_flags=feature_flags, undo_immutable=True)
        assert inodes.flags(target / "i") & inodes.ARCHIVED == inodes.IMMUTABLE | inodes.NOATIME
        apply(target, d(b"", f(b"d", b"now a file")), undo_immutable=True)
        assert [path.name for path in target.iterdir()] == ["d"]
        assert (
            inodes.flags(target) & inodes.ARCHIVED == inodes.NODUMP
        )  # not replayed: exclude-nodump is in FLAGS
    finally:
        for path in (target / name for name in "iad"):
            if path.exists():
                inodes.set_flags(path, drop=inodes.IMMUTABLE | inodes.APPEND)


@ROOT
def test_flags_are_not_inherited(ground: Grounds) -> None:
    """Flags that the file system hands down from a directory are not on children that have none in the archive."""
    target = ground("inherited")
    inodes.set_flags(target, inodes.NOATIME | inodes.SYNC)
    tree = d(b"", f(b"f", b"x"), d(b"d", f(b"g"), d(b"e")), flags=int(F.FLAG_NOATIME | F.FLAG_SYNC))
    apply(target, tree)
    assert inodes.flags(target) & inodes.ARCHIVED == inodes.NOATIME | inodes.SYNC
    for path in target.rglob("*"):
        assert inodes.flags(path) & inodes.ARCHIVED == 0, path
    (target / "f").unlink()
    apply(target, tree, mask=WITH_ALL & ~flags.CHATTR)
    assert inodes.flags(target / "f") & inodes.ARCHIVED == inodes.NOATIME | inodes.SYNC


@ROOT
def test_flags_of_new_directories_reach_their_children_only_where_recorded(ground: Grounds) -> None:
    """A flag that is set on an empty directory is inherited by what is written into it, and taken away again."""
    target = ground("early")
    noatime = int(F.FLAG_NOATIME)
    apply(target, d(b"", d(b"d", f(b"f"), f(b"with", flags=noatime), d(b"e", f(b"g")), flags=noatime)))
    found = {str(p.relative_to(target)): inodes.flags(p) & inodes.ARCHIVED for p in target.rglob("*")}
    assert found == {"d": inodes.NOATIME, "d/f": 0, "d/with": inodes.NOATIME, "d/e": 0, "d/e/g": 0}


@ROOT
def test_fat_attributes(ground: Grounds) -> None:
    """FAT attributes are restored on vfat, and missed elsewhere by who asks for them."""
    hidden = int(F.FLAG_HIDDEN)
    fat = flags.select([flags.NAMED_SETS["fat"]], digest_bits=0)
    tree = d(b"", f(b"h", b"x", mode=0o444, flags=hidden), f(b"n", b"x", mode=0o666), mode=0o777)
    for item in (tree, *tree.children):
        item.node.uid = item.node.gid = item.node.mtime = 0
    with pytest.raises(FileError, match="FAT attributes") as caught:
        apply(ground("no-fat"), tree, feature_flags=fat, strict=True, named=hidden)
    assert "--without=fat-attrs" in hint_for(caught.value)
    target = ground("fat", "vfat")
    apply(target, tree, feature_flags=fat)
    found = {}
    for name in ("h", "n"):
        fd = os.open(target / name, os.O_RDONLY)
        found[name] = (inode_flags.get_fat(fd), mode(target / name) & 0o200)
        os.close(fd)
    assert found == {"h": (hidden, 0), "n": (0, 0o200)}


@ROOT
def test_subvolumes(ground: Grounds) -> None:
    """btrfs subvolumes come back as such, read-only where they were; a plain directory cannot become one."""
    target = ground("subvolumes", "btrfs")
    sub, read_only = int(F.SUBVOLUME), int(F.SUBVOLUME | F.SUBVOLUME_RO)
    tree = d(b"", d(b"s", f(b"f", b"x"), flags=sub), d(b"r", f(b"f", b"x"), flags=read_only), d(b"d"))
    apply(target, tree)
    found = {name: inodes.subvolume(target / name) for name in "srd"}
    assert found == {"s": "subvolume", "r": "subvolume-ro", "d": ""}
    assert mode(target / "s") == 0o755
    assert (target / "r" / "f").read_bytes() == b"x"
    with pytest.raises(FileError) as caught:
        apply(target, d(b"", d(b"d", flags=sub)), delete=False, strict=True)
    assert "--without=subvolume " in hint_for(caught.value)
    (warning,) = apply(target, d(b"", d(b"d", flags=sub)), delete=False)
    assert warning.endswith(f"btrfs subvolumes (1, first {target}/d)")
    inodes.set_read_only(target / "r", False)


@ROOT
def test_subvolumes_elsewhere(ground: Grounds) -> None:
    """Where there are no subvolumes, who asks for one gets an error that says what to do."""
    with pytest.raises(FileError, match="cannot create subvolume: ") as caught:
        apply(ground("plain"), d(b"", d(b"s", flags=int(F.SUBVOLUME))), strict=True, named=int(F.SUBVOLUME))
    assert "--without=subvolume " in hint_for(caught.value)


@ROOT
def test_project_ids(ground: Grounds) -> None:
    """Quota project ids are restored where the file system has them."""
    target = ground("projects", "xfs")
    apply(target, d(b"", f(b"f", b"x", projid=5), d(b"d", f(b"g"), projid=6)))
    found = {str(p.relative_to(target)): inodes.project(p) for p in target.rglob("*")}
    assert found == {"f": 5, "d": 6, "d/g": 0}
    apply(target, d(b"", d(b"d")))
    assert inodes.project(target / "d") == 0


def test_flags_constant_is_casyncs_default() -> None:
    """The tests here run with what `casync make` records, but for the digest."""
    assert int(F.SHA512_256) | FLAGS == flags.DEFAULT
