"""Builders of the trees that the tests archive: one named function each, with what it needs to be built.

    for tree in TREES.values():
        tree.build(directory)        # fills an existing, empty directory

Every tree is the same each time (random ones are seeded). A tree says on which file systems it belongs, whether it
needs root, and what is known about archiving it; `remove` takes one away again, whatever its flags and mounts.
Nothing here knows casync: trees are plain files.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import inodes
import posix1e

Builder = Callable[[Path], None]
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree and what is known about it.

    :ivar on: the file systems it is built on; "any" is whatever the test prefers
    :ivar refused: why archiving it must fail; empty when it must not
    :ivar not_restored: why casync 2 cannot extract what it archived of this tree; empty when it can
    :ivar filtered: archiving leaves nodes out, so that the extracted tree is smaller than this one
    :ivar faithful: `make` options with which the archive holds the whole tree
    :ivar lost: what no archive holds, as `compare.assert_same` takes it
    :ivar large: slow enough that only the important cases run over it
    """

    name: str
    build: Builder
    root: bool = False
    on: tuple[str, ...] = ("any",)
    refused: str = ""
    not_restored: str = ""
    filtered: bool = False
    faithful: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    large: bool = False


TREES: dict[str, Tree] = {}


def tree(name: str, **facts: object) -> Callable[[Builder], Builder]:
    """Register a builder under `name`."""

    def register(build: Builder) -> Builder:
        TREES[name] = Tree(name, build, **facts)  # type: ignore[arg-type]
        return build

    return register


def content(size: int, seed: int = 0) -> bytes:
    """`size` bytes that do not compress and are the same every time."""
    return random.Random(f"content {seed} {size}").randbytes(size)


def write(path: Path | bytes, data: bytes = b"") -> None:
    """Create a regular file; unlike Path.write_bytes it takes names that are not text."""
    with open(path, "xb") as file:
        file.write(data)


def touch(path: Path | bytes, ns: int) -> None:
    """Set the modification time of the node itself, in nanoseconds since the epoch."""
    os.utime(path, ns=(ns, ns), follow_symlinks=False)


# ---- names and shapes ------------------------------------------------------------------------------------------------


@tree("empty")
def empty(at: Path) -> None:
    """A directory without entries."""
    touch(at, 1_500_000_000 * SECOND + 1)


@tree("one-file")
def one_file(at: Path) -> None:
    """One file with one line."""
    write(at / "hello", b"hello world\n")


@tree("small")
def small(at: Path) -> None:
    """What a project directory looks like: a script, nested directories, links inside and out, empty ones."""
    write(at / "run.sh", b"#!/bin/sh\necho hello\n")
    os.chmod(at / "run.sh", 0o755)
    (at / "src" / "deep" / "deeper").mkdir(parents=True)
    (at / "void").mkdir()
    write(at / "src" / "main.c", b"int main(void) { return 0; }\n" * 40)
    write(at / "src" / "deep" / "empty")
    write(at / "src" / "deep" / "deeper" / "blob", content(100_000))
    os.symlink("src/main.c", at / "link")
    os.symlink("/etc/passwd", at / "absolute")
    os.symlink("../../..", at / "src" / "up")
    os.symlink(b"x" * 4095, at / "src" / "long")
    os.symlink(b"\xff \n\\#", at / "src" / "odd")


SORT_TRAPS = (
    b"a", b"a-b", b"a.b", b"a0", b"aa", b"A", b"_", b"~", b" ", b"  lead", b"trail ", b"-", b"--with=all", b"#", b"#x",
    b"\\", b"a\\b", b"new\nline", b"\n", b"tab\t", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xff\xfe", b"\xc3\xa9",
    b"e\xcc\x81", b"\xe2\x82\xac", b"\xed\xa0\x80", b"...", b"..a", b".a", b".hidden", b"%", b"*", b"?", b"[x]",
    b"'\"", b"$(x)", b"a=b", b"a b", b"a:b",
)  # fmt: skip


@tree("sort-traps")
def sort_traps(at: Path) -> None:
    """Names whose order differs between bytes, paths and locales, as files and as directories."""
    top = os.fsencode(at)
    for name in SORT_TRAPS:
        write(os.path.join(top, name), name)
    for name in (b"ab", b"ab.d", b"ab-d", b"B\xff", b"\xfe"):
        os.mkdir(os.path.join(top, name))
        write(os.path.join(top, name, b"z"), b"z")
        write(os.path.join(top, name, b"\xfa"), b"")


@tree("long-names", not_restored="casync's temporary names grow past 255 bytes")
def long_names(at: Path) -> None:
    """Names up to the longest a file system takes, for every kind of node that an ordinary user can create."""
    for length in (236, 237, 238, 255):
        write(at / ("f" * length), b"%d" % length)
        os.symlink("f", at / ("l" * length))
        (at / ("d" * length)).mkdir()


@tree("fat-directory", large=True)
def fat_directory(at: Path) -> None:
    """A directory of 3,000 entries beside one of 30: deep goodbye trees, complete and not."""
    for name, count in (("large", 3000), ("thirty", 30), ("two", 2), ("one", 1)):
        (at / name).mkdir()
        for i in range(count):
            write(at / name / f"entry-{i * 7919 % count:05}", b"%d\n" % i if i % 3 else b"")


@tree("deep", on=("any", "tmpfs"))
def deep(at: Path) -> None:
    """As many levels as casync takes: 64 nodes on one path, the root counted."""
    for level in range(62):
        at = at / f"{level:02}"
        at.mkdir()
    write(at / "bottom", b"63 levels down")


@tree("too-deep", refused="casync takes 64 nodes on one path")
def too_deep(at: Path) -> None:
    """One level more than casync takes."""
    for level in range(64):
        at = at / f"{level:02}"
        at.mkdir()


# ---- contents --------------------------------------------------------------------------------------------------------

BORDERS = (0, 1, 2, 47, 48, 49, 4095, 4096, 4097, 16383, 16384, 16385, 65535, 65536, 65537)
BORDERS_LARGE = (262143, 262144, 262145, 1048575, 1048576, 1048577)


@tree("sizes")
def sizes(at: Path) -> None:
    """Files at the borders of windows, pages and chunks."""
    for size in BORDERS:
        write(at / f"{size:07}", content(size))
        write(at / f"{size:07}.zero", bytes(size))


@tree("sizes-large", large=True)
def sizes_large(at: Path) -> None:
    """Files at the borders of the largest default chunk and of usual buffers."""
    for size in BORDERS_LARGE:
        write(at / f"{size:07}", content(size))
    write(at / "zero", bytes(1_300_000))


@tree("holes", on=("any", "tmpfs"))
def holes(at: Path) -> None:
    """Sparse files: holes in front, in the middle, at the end, everywhere, and not at page borders."""
    for name, size, pieces in (
        ("front", 300_000, [(200_000, 100_000)]),
        ("middle", 400_000, [(0, 50_000), (300_000, 100_000)]),
        ("end", 350_001, [(0, 70_000)]),
        ("everywhere", 700_003, []),
        ("odd", 100_000, [(4097, 11), (40_001, 8192)]),
    ):
        with open(at / name, "xb") as file:
            for offset, length in pieces:
                os.pwrite(file.fileno(), content(length), offset)
            file.truncate(size)


@tree("duplicates")
def duplicates(at: Path) -> None:
    """The same contents over and over: chunks that one archive refers to many times, and hard links."""
    data = content(150_000, seed=5)
    for i in range(8):
        (at / f"copy{i}").mkdir()
        write(at / f"copy{i}" / "data", data)
        write(at / f"copy{i}" / "shifted", b"x" * i + data)
    os.link(at / "copy0" / "data", at / "hard")
    os.link(at / "copy0" / "data", at / "copy1" / "hard")
    write(at / "text", b"the quick brown fox jumps over the lazy dog\n" * 5000)


# ---- kinds of node, permissions, owners ------------------------------------------------------------------------------


@tree("fifos-sockets", on=("any", "tmpfs"))
def fifos_sockets(at: Path) -> None:
    """Nodes without contents that need no privilege."""
    os.mkfifo(at / "fifo", 0o640)
    os.mknod(at / "socket", stat.S_IFSOCK | 0o600)
    os.mkfifo(os.path.join(os.fsencode(at), b"\xff"))
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as bound:
        here = os.open(at, os.O_DIRECTORY)  # socket paths are limited to 107 bytes; descriptors are short
        bound.bind(f"/proc/self/fd/{here}/bound")
        os.close(here)


DEVICES = ((1, 3), (0, 0), (8, 1), (259, 70_000), (4095, 1_048_575))


@tree("devices", root=True, on=("any", "tmpfs"))
def devices(at: Path) -> None:
    """Device nodes with small and with the largest numbers."""
    for kind, letter in ((stat.S_IFCHR, "c"), (stat.S_IFBLK, "b")):
        for major, minor in DEVICES:
            os.mknod(at / f"{letter}{major}-{minor}", kind | 0o660, os.makedev(major, minor))


MODES = (
    0o000,
    0o111,
    0o200,
    0o222,
    0o400,
    0o444,
    0o555,
    0o600,
    0o644,
    0o755,
    0o777,
    0o1777,
    0o2755,
    0o4755,
    0o7777,
)


@tree("modes", root=True)
def modes(at: Path) -> None:
    """Every interesting mode on files, directories and fifos; root, because modes may forbid reading."""
    for mode in MODES:
        write(at / f"file{mode:04o}", b"%o" % mode)
        os.mkfifo(at / f"fifo{mode:04o}")
        (at / f"dir{mode:04o}").mkdir()
        write(at / f"dir{mode:04o}" / "inside")
        for kind in ("file", "fifo", "dir"):
            os.chmod(at / f"{kind}{mode:04o}", mode)
    os.chmod(at, 0o2751)


KNOWN_IDS = (
    1,
    2,
    33,
    65534,
)  # daemon, bin, www-data, nobody on Debian; the test is about names if they are there
UNKNOWN_IDS = (12345, 60001, 65533)
LARGE_IDS = (65536, 70_000, 131_071, 4_000_000_000, 4_294_967_294)


def _owned(at: Path, ids: tuple[int, ...]) -> None:
    for uid in ids:
        for gid in (0, uid):
            name = at / f"{uid}-{gid}"
            write(name, b"%d" % uid)
            os.chown(name, uid, gid)
            (at / f"dir{uid}-{gid}").mkdir()
            os.chown(at / f"dir{uid}-{gid}", uid, gid)
            os.symlink("x", at / f"link{uid}-{gid}")
            os.lchown(at / f"link{uid}-{gid}", uid, gid)


@tree("owners", root=True)
def owners(at: Path) -> None:
    """Owners that have a name on Debian and owners that have none, all of 16 bits."""
    _owned(at, KNOWN_IDS + UNKNOWN_IDS)
    os.mkfifo(at / "fifo")
    os.chown(at / "fifo", 33, 12345)
    os.chown(at, 33, 33)


@tree("owners-large", root=True)
def owners_large(at: Path) -> None:
    """Owners above 65535: 16-bit archives must refuse them."""
    _owned(at, LARGE_IDS)


@tree("owner-65535", root=True, refused="65535 is no valid id to casync")
def owner_65535(at: Path) -> None:
    """The id that casync takes for "none"."""
    write(at / "file")
    os.chown(at / "file", 65535, 0)


# ---- times -----------------------------------------------------------------------------------------------------------

TIMES = (
    0,
    1,
    SECOND - 1,
    SECOND,
    946_684_799_999_999_999,
    1_234_567_890_123_456_789,
    1_600_000_000_000_000_000,
    1_600_000_001_000_000_000,
    1_600_000_000_999_000_000,
    1_600_000_000_000_999_999,
    2**31 * SECOND - 1,
    2**31 * SECOND,
    2**32 * SECOND + 123_456_789,
    7_258_118_400 * SECOND + 5,  # the year 2200
)


def _timed(at: Path, times: tuple[int, ...]) -> None:
    for i, ns in enumerate(times):
        write(at / f"file{i:02}", b"%d" % ns)
        os.symlink(f"file{i:02}", at / f"link{i:02}")
        os.mkfifo(at / f"fifo{i:02}")
        (at / f"dir{i:02}").mkdir()
        write(at / f"dir{i:02}" / "x")
        touch(at / f"dir{i:02}" / "x", ns)
        for kind in ("file", "link", "fifo", "dir"):
            touch(at / f"{kind}{i:02}", ns)
    touch(at, times[-1])


@tree("times", on=("any", "tmpfs"))
def times(at: Path) -> None:
    """From the epoch to the year 2200, to the nanosecond, on every kind of node."""
    _timed(at, TIMES)


@tree("times-before-1970", not_restored="casync reads times before 1970 as the year 2554")
def times_before_1970(at: Path) -> None:
    """Negative times, whole and with nanoseconds."""
    _timed(at, (-2 * SECOND, -5 * SECOND, -SECOND - 1, -SECOND // 2, -1_000_000_000 * SECOND + 999_999_999))


@tree("time-minus-one", not_restored="one nanosecond before the epoch is casync's mark for no time")
def time_minus_one(at: Path) -> None:
    """One nanosecond before the epoch: all bits set."""
    _timed(at, (-1,))


# ---- extended attributes, ACLs, labels, flags ------------------------------------------------------------------------


@tree("xattrs-user", on=("any", "btrfs", "xfs"))
def xattrs_user(at: Path) -> None:
    """Attributes of users: many, empty, binary, odd names, on files and directories and the root."""
    write(at / "many", b"x")
    for i in range(60):
        os.setxattr(at / "many", f"user.n{i * 37 % 60}", b"%d" % i)
    write(at / "odd", b"x")
    top = os.fsencode(at / "odd")
    for name, value in (
        (b"user.empty", b""),
        (b"user.nul", b"\0"),
        (b"user.nuls", b"a\0b\0"),
        (b"user.a.b.c", b"dots"),
        (b"user.trail.", b"dot at the end"),
        (b"user.\xff\xfe", b"not text"),
        (b"user.new\nline \\#", b"\\ # \n"),
        (b"user.A", b"upper"),
        (b"user." + b"n" * 250, b"longest name"),
    ):
        os.setxattr(top, name, value)
    (at / "dir").mkdir()
    os.setxattr(at / "dir", "user.dir", content(3000))
    os.setxattr(at, "user.root", b"the root")


@tree("xattrs-large", on=("xfs",), root=True)
def xattrs_large(at: Path) -> None:
    """Values up to the largest that Linux takes, which is the largest that casync takes."""
    for size in (4096, 65535, 65536):
        write(at / f"{size}")
        os.setxattr(at / f"{size}", "user.large", content(size))
        os.setxattr(at / f"{size}", "trusted.large", content(size, seed=1))


@tree("xattrs-trusted", root=True, on=("any", "tmpfs"), lost=("link:xattrs", "fifo:xattrs", "device:xattrs"))
def xattrs_trusted(at: Path) -> None:
    """Attributes that only root sees; on links, fifos and devices they exist and are not archived."""
    write(at / "file")
    (at / "dir").mkdir()
    os.symlink("file", at / "link")
    os.mkfifo(at / "fifo")
    os.mknod(at / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for name in ("file", "dir", "link", "fifo", "device"):
        os.setxattr(at / name, "trusted.mark", name.encode(), follow_symlinks=False)
        os.setxattr(at / name, "trusted.nul", b"\0\0", follow_symlinks=False)
    os.setxattr(at, "trusted.root", b"1")


@tree("acls", root=True, on=("any", "btrfs", "tmpfs"))
def acls(at: Path) -> None:
    """Access and default ACLs: named users and groups, known and not, with masks, and masks alone."""
    cases = {
        "user": "u::rw,u:33:r,g::r,m::rw,o::-",
        "unknown": "u::rw,u:12345:rw,g::r,g:54321:-,m::r,o::r",
        "several": "u::rwx,u:2:x,u:1:rw,u:0:r,u:33:-,g::rx,g:33:r,g:0:w,g:1:x,m::rwx,o::x",
        "mask-only": "u::rw,g::rw,m::r,o::-",
        "large": "u::rw,u:70000:r,g::r,g:4294967294:rw,m::rwx,o::-",
        "root": "u::rw,u:0:r,g::r,m::r,o::-",
    }
    for name, text in cases.items():
        write(at / name, name.encode())
        (at / f"dir-{name}").mkdir()
        (at / f"default-{name}").mkdir()
        os.mkfifo(at / f"fifo-{name}")
        acl = posix1e.ACL(text=text)
        acl.applyto(str(at / name))
        acl.applyto(str(at / f"dir-{name}"))
        acl.applyto(str(at / f"fifo-{name}"))
        acl.applyto(str(at / f"default-{name}"), posix1e.ACL_TYPE_DEFAULT)
        write(at / f"default-{name}" / "inherits")
    (at / "default-plain").mkdir()
    posix1e.ACL(text="u::rwx,g::rx,o::-").applyto(str(at / "default-plain"), posix1e.ACL_TYPE_DEFAULT)
    both = posix1e.ACL(text="u::rwx,u:33:rwx,g::rx,m::rx,o::-")
    both.applyto(str(at))
    both.applyto(str(at), posix1e.ACL_TYPE_DEFAULT)


def _capability(revision: int, *root_id: int) -> bytes:
    return struct.pack("<5I", revision << 24 | 1, 1 << 10, 0, 0, 0) + b"".join(
        struct.pack("<I", i) for i in root_id
    )


@tree("capabilities", root=True)
def capabilities(at: Path) -> None:
    """File capabilities in the form of 20 bytes and in that of 24, which names a root user."""
    for name, value in (("v2", _capability(2)), ("v3", _capability(3, 1000))):
        write(at / name, b"#!/bin/true\n")
        os.chmod(at / name, 0o755)
        os.chown(at / name, 1, 1)
        os.setxattr(at / name, "security.capability", value)


@tree("selinux", root=True, on=("any", "tmpfs"))
def selinux(at: Path) -> None:
    """Labels on every kind of node; without SELinux in the kernel they are attributes like others."""
    write(at / "file")
    (at / "dir").mkdir()
    os.symlink("file", at / "link")
    os.mkfifo(at / "fifo")
    os.mknod(at / "device", stat.S_IFBLK | 0o600, os.makedev(7, 7))
    for name in (".", "file", "dir", "link", "fifo", "device"):
        label = f"system_u:object_r:{name.strip('.')}_t:s0".encode() + b"\0"
        os.setxattr(at / name, "security.selinux", label, follow_symlinks=False)


CHATTR = {
    "append": inodes.APPEND,
    "immutable": inodes.IMMUTABLE,
    "noatime": inodes.NOATIME,
    "nodump": inodes.NODUMP,
    "sync": inodes.SYNC,
    "all": inodes.APPEND | inodes.IMMUTABLE | inodes.NOATIME | inodes.SYNC,
}
CHATTR_DIRECTORY = {**CHATTR, "dirsync": inodes.DIRSYNC}


def _flagged(at: Path, more: dict[str, int]) -> None:
    for name, value in {**CHATTR, **more}.items():
        write(at / name, name.encode())
        inodes.set_flags(at / name, value)
    for name, value in {**CHATTR_DIRECTORY, **more}.items():
        (at / f"dir-{name}").mkdir()
        write(at / f"dir-{name}" / "inside", name.encode())
        inodes.set_flags(at / f"dir-{name}", value)


@tree("chattr", root=True, on=("ext4",), faithful=("--exclude-nodump=no",))
def chattr(at: Path) -> None:
    """The chattr flags that ext4 keeps, on files and directories."""
    _flagged(at, {})


@tree("chattr-btrfs", root=True, on=("btrfs",), faithful=("--exclude-nodump=no",))
def chattr_btrfs(at: Path) -> None:
    """The chattr flags that only btrfs keeps: compression, no compression, no copy on write."""
    for name, value in (("compr", inodes.COMPR), ("nocomp", inodes.NOCOMP), ("nocow", inodes.NOCOW)):
        write(at / name)
        inodes.set_flags(at / name, value)
        with open(at / name, "wb") as file:
            file.write(content(50_000))
        (at / f"dir-{name}").mkdir()
        inodes.set_flags(at / f"dir-{name}", value)
        write(at / f"dir-{name}" / "inherits", content(10_000))


@tree("subvolumes", root=True, on=("btrfs",))
def subvolumes(at: Path) -> None:
    """Subvolumes of btrfs, writable and read-only, nested, and beside plain directories."""
    (at / "plain").mkdir()
    for name in ("writable", "read-only", "plain/inner"):
        inodes.make_subvolume(at / name)
        write(at / name / "file", name.encode())
    inodes.set_read_only(at / "read-only", True)


@tree("projects", root=True, on=("xfs",))
def projects(at: Path) -> None:
    """Quota project ids, small and large, and a directory that hands them down."""
    for project in (1, 42, 4_294_967_294):
        write(at / f"file{project}")
        (at / f"dir{project}").mkdir()
        inodes.set_project(at / f"file{project}", project)
        inodes.set_project(at / f"dir{project}", project)
    (at / "inherit").mkdir()
    inodes.set_project(at / "inherit", 7)
    inodes.set_flags(at / "inherit", inodes.PROJINHERIT)
    write(at / "inherit" / "file")


# ---- what is left out ------------------------------------------------------------------------------------------------


@tree("nodump", on=("ext4",), root=True, filtered=True)
def nodump(at: Path) -> None:
    """Nodes marked "do not dump": a file, a directory with contents, and the root itself."""
    write(at / "kept", b"kept")
    write(at / "gone", b"gone")
    (at / "dir").mkdir()
    write(at / "dir" / "inside", b"gone too")
    for path in (at / "gone", at / "dir", at):
        inodes.set_flags(path, inodes.NODUMP)


CAEXCLUDE = {
    "": b"# comment\n\n  *.o \n!keep.o\n/anchored\nbuild/\nsub/inner/*.tmp\n\\#odd\n[ab]x\n?dot\nlink*/\nq\\*q\ndirt/",
    "sub": b"*.log\n!important.log\n*\\\\*\n/deep\n",
    "sub/inner": b"!x.o\n.dotfile\n",
    "only": b".caexclude\n*\n",
}
CAEXCLUDE_NAMES = (
    "x.o", ".x.o", "keep.o", "anchored", "x.tmp", "x.log", "important.log", "#odd", "ax", "bx", "cx", ".dot", "xdot",
    "q*q", "qxq", "back\\slash", "deep", "CR", "CR\r", ".dotfile", "dirt",
)  # fmt: skip


@tree("caexclude", filtered=True)
def caexclude(at: Path) -> None:
    """Exclusion rules of every form, in nested directories, over the same names in each."""
    for where in ("", "sub", "sub/inner", "build", "other", "other/sub/inner", "other/build", "only"):
        (at / where).mkdir(parents=True, exist_ok=True)
        for name in CAEXCLUDE_NAMES:
            write(at / where / name, where.encode())
        (at / where / "linkdir").mkdir()
        os.symlink("linkdir", at / where / "linkto")
        (at / where / "z.o").mkdir()
        write(at / where / "z.o" / "inside")
        if where in CAEXCLUDE:
            write(at / where / ".caexclude", CAEXCLUDE[where])
    (at / "linked").mkdir()
    write(at / "linked" / "rules", b"hidden*\n")
    os.symlink("rules", at / "linked" / ".caexclude")
    write(at / "linked" / "hidden1")
    write(at / "linked" / "seen")


@tree("caexclude-bad", refused="a rule with `..` in it is invalid")
def caexclude_bad(at: Path) -> None:
    """A rule that casync refuses."""
    write(at / ".caexclude", b"fine\na/../b\n")


@tree("caexclude-large", filtered=True)
def caexclude_large(at: Path) -> None:
    """More rules than fit into one buffer, the last of which counts."""
    write(at / ".caexclude", b"rule\n" * 14_000 + b"hidden")
    write(at / "hidden")


@tree("caexclude-long", refused="casync reads lines of 64 KiB at most")
def caexclude_long(at: Path) -> None:
    """A rule that is longer than casync reads."""
    write(at / ".caexclude", b"fine\n" + b"x" * 65_536 + b"\n")


def _mount(at: Path, *arguments: str) -> None:
    subprocess.run(["mount", *arguments, os.fspath(at)], check=True, capture_output=True)


@tree("submounts", root=True, filtered=True)
def submounts(at: Path) -> None:
    """Other file systems mounted beneath: a tmpfs, a directory and a file bound elsewhere, and one level further."""
    for name in ("tmpfs", "bound", "plain", "source"):
        (at / name).mkdir()
    write(at / "source" / "file", b"source")
    write(at / "plain" / "target", b"covered")
    _mount(at / "tmpfs", "-t", "tmpfs", "-o", "mode=0751", "none")
    write(at / "tmpfs" / "inside", b"inside")
    (at / "tmpfs" / "again").mkdir()
    _mount(at / "tmpfs" / "again", "-t", "tmpfs", "none")
    write(at / "tmpfs" / "again" / "deeper", b"deeper")
    _mount(at / "bound", "--bind", os.fspath(at / "source"))
    _mount(at / "plain" / "target", "--bind", os.fspath(at / "source" / "file"))


@tree("virtual", root=True, filtered=True)
def virtual(at: Path) -> None:
    """A virtual file system mounted beneath is stored as an empty directory, a file of one without contents.

    A node of sysfs has no time of its own until somebody sets one or asks for its extended attributes: the kernel
    (`fs/kernfs/inode.c`, `__kernfs_iattrs`) then gives it the time of that moment, and before, that of its latest
    inode. Whoever archives it first would see another time than whoever comes second; so the times are set here.
    """
    (at / "sys").mkdir()
    write(at / "file", b"covered")
    _mount(at / "sys", "-t", "sysfs", "none")
    _mount(
        at / "file", "--bind", os.fspath(at / "sys" / "kernel" / "mm" / "transparent_hugepage" / "enabled")
    )
    for name in ("sys", "file"):
        touch(at / name, 1_500_000_000 * SECOND + 3)


# ---- everything together ---------------------------------------------------------------------------------------------

MIXED: tuple[Builder, ...] = (
    small, fifos_sockets, devices, modes, owners, times, xattrs_user, xattrs_trusted, acls, capabilities, selinux,
    chattr, caexclude, duplicates,
)  # fmt: skip


@tree("everything", root=True, on=("ext4",), filtered=True)
def everything(at: Path) -> None:
    """All kinds of node and attribute in one tree."""
    for build in MIXED:
        (at / build.__name__).mkdir()
        build(at / build.__name__)


def _random_name(rng: random.Random) -> bytes:
    while True:
        length = rng.choice((1, 2, 3, 8, 8, 20))
        alphabet = rng.choice((bytes(range(1, 256)), b"abc", b"ab.-_ \xff\x80"))
        name = bytes(rng.choice(alphabet) for _ in range(length))
        if b"/" not in name and name not in (b".", b".."):
            return name


def _random_node(rng: random.Random, path: bytes, privileged: bool) -> None:
    kind = rng.choice(("file",) * 6 + ("link", "fifo", "socket") + (("device",) if privileged else ()))
    if kind == "file":
        size = rng.choice(
            (0, 1, rng.randrange(300), rng.randrange(300), rng.randrange(9000), rng.randrange(90_000))
        )
        write(path, rng.choice((content(size, seed=size % 7), bytes(size))))
    elif kind == "link":
        os.symlink(_random_name(rng) + b"/" + _random_name(rng), path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o644)
    else:
        os.mknod(
            path,
            rng.choice((stat.S_IFCHR, stat.S_IFBLK)),
            os.makedev(rng.randrange(4096), rng.randrange(2**20)),
        )
    _random_metadata(rng, path, kind, privileged)


def _random_metadata(rng: random.Random, path: bytes, kind: str, privileged: bool) -> None:
    if privileged:
        ids = (0, 0, 1, 33, 12345, 60_000)
        os.lchown(path, rng.choice(ids), rng.choice(ids))
    if kind in ("file", "directory") and rng.random() < 0.3:
        for _ in range(rng.randrange(5)):
            os.setxattr(path, b"user.r" + bytes(rng.choice(b"abc.\xfe") for _ in range(6)), rng.randbytes(9))
    if kind != "link":
        os.chmod(path, rng.choice(MODES if privileged else (0o700, 0o711, 0o755)))
        if privileged and kind != "socket" and rng.random() < 0.2:
            text = f"u::rw,u:{rng.randrange(70)}:r,g::r,g:{rng.randrange(60_000)}:rw,m::rx,o::r"
            posix1e.ACL(text=text).applyto(path)
    touch(path, rng.randrange(2**32) * SECOND + rng.randrange(SECOND))


def random_tree(at: Path, seed: int, *, privileged: bool) -> None:
    """Fill `at` with up to a hundred random nodes, the same for the same seed."""
    rng = random.Random(f"tree {seed}")

    def fill(where: bytes, depth: int) -> None:
        count = rng.choice((0, 1, 2, 5, 9, 20) if depth else (12, 25, 60))
        for name in sorted({_random_name(rng) for _ in range(count)}):
            path = os.path.join(where, name)
            if depth < 5 and rng.random() < 0.2:
                os.mkdir(path)
                fill(path, depth + 1)
                _random_metadata(rng, path, "directory", privileged)
            else:
                _random_node(rng, path, privileged)

    fill(os.fsencode(at), 0)


def _register_random(count: int) -> None:
    for seed in range(count):

        def build(at: Path, seed: int = seed) -> None:
            random_tree(at, seed, privileged=os.geteuid() == 0)

        TREES[f"random-{seed}"] = Tree(f"random-{seed}", build)


_register_random(int(os.environ.get("PYCASYNC_TEST_RANDOM_TREES", "6")))


# ---- taking them away ------------------------------------------------------------------------------------------------


def _mounts_beneath(at: Path) -> Iterator[str]:
    with open("/proc/self/mountinfo") as table:
        points = [line.split()[4].encode().decode("unicode_escape") for line in table]
    return (point for point in reversed(points) if point.startswith(f"{at}/"))


def remove(at: Path) -> None:
    """Remove a tree: unmount what is mounted in it, and drop the flags that would protect it."""
    for point in _mounts_beneath(at):
        subprocess.run(["umount", "--lazy", point], check=True, capture_output=True)
    for where, directories, files in os.walk(os.fsencode(at)):
        for name in (b".", *directories, *files):
            path = os.path.join(where, name)
            if stat.S_IFMT(os.lstat(path).st_mode) not in (stat.S_IFDIR, stat.S_IFREG):
                continue
            with contextlib.suppress(OSError):
                if inodes.subvolume(path):
                    inodes.set_read_only(Path(os.fsdecode(path)), False)
                if inodes.flags(path) & (inodes.IMMUTABLE | inodes.APPEND):
                    inodes.set_flags(path, drop=inodes.IMMUTABLE | inodes.APPEND)
    shutil.rmtree(at)
