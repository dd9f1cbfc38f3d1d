"""Reports of metadata that came back wrong, or not at all: owners, modes, times, ACLs, attributes, flags."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import inodes
import posix1e
import pytest
from archives import END
from compare import assert_same
from filesystems import FileSystems
from grounds import Grounds
from reports.trying import archive_of, complete, file, restored, top
from robustness.running import everything, run, works
from trees import SECOND, touch

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
"""cap_net_raw=ep"""
OLD = 1_234_567_890 * SECOND + 123_456_789


@pytest.fixture
def bare(filesystems: FileSystems, tmp_path: Path) -> Iterator[Path]:
    """A file system without attributes, ACLs and flags, in the mount namespace of the tests."""
    filesystems.directory("tmpfs")  # makes the namespace
    at = tmp_path / "bare"
    at.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", str(at)], check=True)
    yield at
    subprocess.run(["umount", "--lazy", str(at)], check=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.root
def test_casync_44(tmp_path: Path) -> None:
    """An owner whose name is unknown here is restored by number, with one warning that names it."""
    node = file(b"theirs", uid=4711, gid=4712, user=b"no-such-user", group=b"no-such-group")
    archive_of(tmp_path / "x.catar", [top(), (node, b"data"), END])
    line = complete("extract", "x.catar", "out", cwd=tmp_path)
    assert "no-such-user" in line
    status = (tmp_path / "out" / "theirs").stat()
    assert (status.st_uid, status.st_gid, status.st_size) == (4711, 4712, 4)


@pytest.mark.parametrize("how", ["epoch", "unknown"])
def test_desync_274(tmp_path: Path, how: str) -> None:
    """Modes come back whether times are zero or not recorded at all."""
    (tmp_path / "src" / "bin").mkdir(parents=True)
    for name, bits in (("tool", 0o755), ("secret", 0o600), ("read", 0o444), ("all", 0o666)):
        (tmp_path / "src" / "bin" / name).write_bytes(b"x")
        os.chmod(tmp_path / "src" / "bin" / name, bits)
        touch(tmp_path / "src" / "bin" / name, 0)
    os.chmod(tmp_path / "src" / "bin", 0o1775)
    options = ["--without=nsec-time"] if how == "unknown" else []
    works("make", "x.caidx", "src", *options, cwd=tmp_path)
    works("extract", "x.caidx", "out", cwd=tmp_path)
    for path in (tmp_path / "src").rglob("*"):
        assert mode(tmp_path / "out" / path.relative_to(tmp_path / "src")) == mode(path), path
    if how == "epoch":
        assert (tmp_path / "out" / "bin" / "tool").stat().st_mtime_ns == 0


def test_restic_1212(tmp_path: Path) -> None:
    """A part of an archive is extracted with its own mode and time, and so is all that lies in it."""
    for name in ("foo", "bar", "foo/deep"):
        (tmp_path / "src" / name).mkdir(parents=True)
        (tmp_path / "src" / name / "what").write_bytes(name.encode())
        os.chmod(tmp_path / "src" / name / "what", 0o640)
    os.chmod(tmp_path / "src" / "foo", 0o750)
    os.chmod(tmp_path / "src" / "foo" / "deep", 0o711)
    for number, path in enumerate(sorted((tmp_path / "src").rglob("*"), reverse=True)):
        touch(path, OLD + number * SECOND)
    works("make", "x.caidx", "src", cwd=tmp_path)
    works("extract", "x.caidx", "part", "foo", cwd=tmp_path)
    assert_same(tmp_path / "src" / "foo", tmp_path / "part" / "foo")


def test_restic_4969(tmp_path: Path) -> None:
    """All times are right, to the nanosecond, however many files and threads there are."""
    names = [f"d{number % 7}/e{number % 5}/f{number}" for number in range(400)]
    for number, name in enumerate(names):
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % (number % 60))
    for number, path in enumerate(sorted((tmp_path / "src").rglob("*"), reverse=True)):
        touch(path, OLD + number * 1_000_000_007)
    touch(tmp_path / "src", OLD)
    out = restored(tmp_path / "src", tmp_path, "--jobs=8")
    assert everything(out) == everything(tmp_path / "src")
    assert out.stat().st_mtime_ns == OLD


def test_borg_3729(tmp_path: Path) -> None:
    """Files from before 1970 are archived, and restored with their time."""
    (tmp_path / "src").mkdir()
    times = (-SECOND, -2 * SECOND, -1_000_000_000 * SECOND)
    for number, ns in enumerate(times):
        (tmp_path / "src" / f"f{number}").write_bytes(b"old")
        touch(tmp_path / "src" / f"f{number}", ns)
    out = restored(tmp_path / "src", tmp_path)
    assert [(out / f"f{number}").stat().st_mtime_ns for number in range(3)] == list(times)


def test_borg_9429(tmp_path: Path) -> None:
    """Times from 2038 and 2106 on do not wrap around."""
    (tmp_path / "src").mkdir()
    times = [2**31 * SECOND - 1, 2**31 * SECOND + 5, 2**32 * SECOND - 1, 2**32 * SECOND + 7]
    for number, ns in enumerate(times):
        (tmp_path / "src" / f"f{number}").write_bytes(b"new")
        touch(tmp_path / "src" / f"f{number}", ns)
    out = restored(tmp_path / "src", tmp_path, suffix="catar")
    assert [(out / f"f{number}").stat().st_mtime_ns for number in range(4)] == times


def test_rustic_514(ground: Grounds, tmp_path: Path) -> None:
    """The top directory's own mode, time and attributes come back, in a new directory and in one that is there."""
    source = ground("source")
    os.setxattr(source, "user.top", b"kept")
    os.chmod(source, 0o751)
    touch(source, OLD)
    here = ground("here")
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    (here / "old").mkdir(mode=0o700)
    os.setxattr(here / "old", "user.stale", b"goes")
    for name in ("new", "old"):
        works("extract", tmp_path / "x.caidx", here / name, cwd=tmp_path)
        assert_same(source, here / name)


def test_borg_8750(ground: Grounds, tmp_path: Path) -> None:
    """ACL entries of ids that have no name anywhere are restored by number."""
    source, target = ground("source"), ground("target")
    (source / "shared").write_bytes(b"x")
    text = "u::rw,u:54321:r,u:4000000000:rw,g::r,g:54322:r,m::rw,o::-"
    posix1e.ACL(text=text).applyto(os.fsencode(source / "shared"))
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    works("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    assert_same(source, target)
    assert "user:54321:r--" in str(posix1e.ACL(file=os.fsencode(target / "shared")))


def test_btrfs_progs_313(ground: Grounds, tmp_path: Path) -> None:
    """Directories have their ACLs again, default ACLs too, and their attributes."""
    source, target = ground("source"), ground("target")
    (source / "team" / "docs").mkdir(parents=True)
    access = posix1e.ACL(text="u::rwx,u:54321:rwx,g::r-x,m::rwx,o::-")
    for name in ("team", "team/docs"):
        path = os.fsencode(source / name)
        access.applyto(path)
        access.applyto(path, posix1e.ACL_TYPE_DEFAULT)
        os.setxattr(path, "user.note", name.encode())
    (source / "team" / "docs" / "file").write_bytes(b"inherits")
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    works("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    assert_same(source, target)
    assert posix1e.has_extended(os.fsencode(target / "team" / "docs"))


@pytest.mark.root
def test_burp_522(ground: Grounds, tmp_path: Path) -> None:
    """Restoring an owner over an existing file does not cost its capability."""
    source, target = ground("source"), ground("target")
    (source / "ping").write_bytes(b"\x7fELF")
    os.chown(source / "ping", 33, 44)
    os.chmod(source / "ping", 0o755)
    os.setxattr(source / "ping", "security.capability", CAPABILITY)
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    works("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    os.chown(target / "ping", 1, 1)
    assert "security.capability" not in os.listxattr(target / "ping")
    works("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    assert_same(source, target)
    assert os.getxattr(target / "ping", "security.capability") == CAPABILITY


@pytest.mark.root
def test_rear_1175(ground: Grounds, tmp_path: Path) -> None:
    """A file has ACL, capability, owner and attributes all at once after a restore, and no set-id bit is lost."""
    source, target = ground("source"), ground("target")
    for name, bits in (("both", 0o750), ("set-id", 0o6755)):
        (source / name).write_bytes(b"x")
        os.chown(source / name, 33, 44)
        os.chmod(source / name, bits)
    posix1e.ACL(text="u::rwx,u:54321:r-x,g::r-x,m::r-x,o::-").applyto(os.fsencode(source / "both"))
    os.setxattr(source / "both", "security.capability", CAPABILITY)
    os.setxattr(source / "both", "user.note", b"n")
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    works("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    assert_same(source, target)
    assert mode(target / "set-id") == 0o6755


@pytest.mark.root
def test_borg_3263(ground: Grounds, tmp_path: Path) -> None:
    """What is immutable has its attributes, owner and time as well: the flag comes last."""
    source, target = ground("source"), ground("target")
    (source / "locked").write_bytes(b"contents")
    (source / "log").write_bytes(b"append")
    for name in ("locked", "log"):
        os.setxattr(source / name, "user.extra", b"this too")
        os.chown(source / name, 33, 33)
        touch(source / name, OLD)
    inodes.set_flags(source / "locked", inodes.IMMUTABLE)
    inodes.set_flags(source / "log", inodes.APPEND)
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    works("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    assert_same(source, target)
    assert inodes.flags(target / "locked") & inodes.IMMUTABLE


@pytest.mark.root
def test_rdiff_backup_30(ground: Grounds, tmp_path: Path) -> None:
    """Owners above 2^31, NFS's nobody among them, come back as they are."""
    source, target = ground("source"), ground("target")
    ids = (2**31 - 1, 2**31, 4_294_967_293, 4_294_967_294)
    for number, owner in enumerate(ids):
        (source / f"f{number}").write_bytes(b"x")
        os.chown(source / f"f{number}", owner, owner)
        (source / f"d{number}").mkdir()
        os.chown(source / f"d{number}", owner, owner)
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    works("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    assert_same(source, target)
    assert b"uid=4294967294" in works("mtree", tmp_path / "x.caidx", cwd=tmp_path).out


@pytest.mark.root
def test_restic_4510(ground: Grounds, tmp_path: Path) -> None:
    """Device nodes come back with mode and numbers, also when the target has them already."""
    source, target = ground("source"), ground("target")
    for name, kind, device in (
        ("null", stat.S_IFCHR, (1, 3)),
        ("loop", stat.S_IFBLK, (7, 0)),
        ("large", stat.S_IFBLK, (259, 70_000)),
        ("whiteout", stat.S_IFCHR, (0, 0)),
    ):
        os.mknod(source / name, kind | 0o620, os.makedev(*device))
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    for _ in range(2):
        works("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
        assert_same(source, target)


def test_restic_82(tmp_path: Path) -> None:
    """A socket that somebody left in a home directory stops nothing, and is a socket again."""
    home = tmp_path / "src" / "home"
    home.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as agent:
        here = os.open(home, os.O_DIRECTORY)  # a socket's path is limited to 107 bytes
        agent.bind(f"/proc/self/fd/{here}/S.agent")
        os.close(here)
        (home / "after").write_bytes(b"also there")
        out = restored(tmp_path / "src", tmp_path)
    assert stat.S_ISSOCK((out / "home" / "S.agent").lstat().st_mode)
    assert (out / "home" / "after").read_bytes() == b"also there"


@pytest.mark.root
def test_mkosi_3732(ground: Grounds, tmp_path: Path) -> None:
    """The no-copy-on-write flag, which btrfs alone has, does not stop a restore to another file system."""
    source, target = ground("source", "btrfs"), ground("target", "ext4")
    (source / "journal").mkdir()
    inodes.set_flags(source / "journal", inodes.NOCOW)
    (source / "journal" / "system").write_bytes(b"entries")
    touch(source / "journal" / "system", OLD)
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    line = complete("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    assert "journal" in line
    assert everything(target) == everything(source)


@pytest.mark.root
def test_casync_260(bare: Path, ground: Grounds, tmp_path: Path) -> None:
    """On a target that can hold next to nothing all data is restored, and what is missing is told: status 3."""
    source = ground("source", "ext4")
    (source / "etc").mkdir()
    (source / "etc" / "passwd").write_bytes(b"root\n")
    os.setxattr(source / "etc" / "passwd", "user.note", b"n")
    posix1e.ACL(text="u::rw,u:54321:r,g::r,m::r,o::r").applyto(os.fsencode(source / "etc" / "passwd"))
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    outcome = run("extract", tmp_path / "x.caidx", bare / "out", cwd=tmp_path)
    assert outcome.status == 3, outcome
    assert b"passwd" in outcome.err
    assert (bare / "out" / "etc" / "passwd").read_bytes() == b"root\n"
    assert run("extract", "--strict", tmp_path / "x.caidx", bare / "two", cwd=tmp_path).status == 1


@pytest.mark.root
def test_ostree_2717(ground: Grounds, tmp_path: Path) -> None:
    """An overlay's upper directory keeps its whiteouts, and the marks of its opaque directories."""
    source, target = ground("source"), ground("target")
    os.mknod(source / "gone", stat.S_IFCHR, 0)
    (source / "opaque").mkdir()
    os.setxattr(source / "opaque", "trusted.overlay.opaque", b"y")
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    works("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    assert_same(source, target)
    assert os.getxattr(target / "opaque", "trusted.overlay.opaque") == b"y"


@pytest.mark.root
def test_casync_237(ground: Grounds, tmp_path: Path) -> None:
    """Subvolumes within a tree are subvolumes again on btrfs, and directories elsewhere."""
    source, target, other = ground("source", "btrfs"), ground("target", "btrfs"), ground("other", "ext4")
    for name in ("home", "var"):
        inodes.make_subvolume(source / name)
        (source / name / "file").write_bytes(name.encode())
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    works("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    assert_same(source, target)
    assert inodes.subvolume(target / "home") == inodes.subvolume(source / "home") != ""
    complete("extract", tmp_path / "x.caidx", other, cwd=tmp_path)
    assert everything(other) == everything(source)


@pytest.mark.root
def test_casync_248(ground: Grounds, tmp_path: Path) -> None:
    """A whole btrfs file system is restored into the root of another."""
    source, target = ground("source", "btrfs"), ground("target", "btrfs")
    inodes.make_subvolume(source / "root")
    (source / "root" / "etc").mkdir()
    (source / "root" / "etc" / "fstab").write_bytes(b"# none\n")
    inodes.make_subvolume(target / "root")
    (target / "root" / "old").write_bytes(b"goes")
    works("make", tmp_path / "x.caidx", source / "root", cwd=tmp_path)
    for _ in range(2):
        works("extract", tmp_path / "x.caidx", target / "root", cwd=tmp_path)
        assert_same(source / "root", target / "root")


@pytest.mark.root
def test_borg_3808(ground: Grounds, tmp_path: Path) -> None:
    """Attributes that the target has no room for are left out and told; contents and other attributes are there."""
    source, target = ground("source", "xfs"), ground("target", "ext4")
    (source / "picture").write_bytes(b"pixels")
    os.setxattr(source / "picture", "user.thumbnail", bytes(60_000))
    os.setxattr(source / "picture", "user.title", b"small")
    (source / "after").write_bytes(b"a")
    works("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    outcome = run("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    assert outcome.status == 3, outcome
    assert b"picture" in outcome.err
    assert everything(target) == everything(source)
    assert os.listxattr(target / "picture") == ["user.title"]


@pytest.mark.root
def test_restic_3422(ground: Grounds, tmp_path: Path) -> None:
    """A file with more attributes than the kernel lists is archived without them and named; status 3."""
    source, target = ground("source", "btrfs"), ground("target", "btrfs")
    (source / "cached").write_bytes(b"package")
    for number in range(330):
        os.setxattr(source / "cached", f"user.{number:0200}", b"")
    with pytest.raises(OSError, match="Argument list too long"):
        os.listxattr(source / "cached")
    (source / "other").write_bytes(b"o")
    outcome = run("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    assert outcome.status == 3, outcome
    assert b"cached" in outcome.err
    works("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
    assert everything(target) == everything(source)
