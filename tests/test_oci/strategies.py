"""Hypothesis strategies for tars of layers: ordinary, odd and broken ones.

Names come from a small pool, so that members meet: duplicates, links to each other, files where directories were.
"""

from __future__ import annotations

import io
import tarfile

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from test_oci import rawtar

__all__ = ["broken_tars", "module_tars", "nasty_tars"]

FILES = [
    *(
        b"a",
        b"b",
        b"./a",
        b"d/a",
        b"d/b",
        b"./d/a",
        b"d//a",
        b"d/./b",
        b"d/e/f/g",
        b".wh.a",
        b"d/.wh..wh..opq",
    ),
    *(b"d/.wh.b", b"caf\xc3\xa9", b"\xff\xfe", b"n\nl", b"/abs", b"d/" + b"n" * 90),
]
DIRECTORIES = [b"./", b"d", b"d/", b"./d/", b"d/e", b"d/e/f/", b"/", b".", b"caf\xc3\xa9/", b"d/a", b"a/"]
ODD = [b"../x", b"d/../a", b"..", b"d/" + b"n" * 256, b"x/" * 70 + b"y", b"a/", b"a/b", b"d", b""]
TARGETS = [b"a", b"./a", b"d/a", b"/abs", b"missing", b"d/b", b"b", b"caf\xc3\xa9", b"a", b"../a", b"d"]


def _mostly(usual: list[bytes]) -> SearchStrategy[bytes]:
    return st.integers(0, 19).flatmap(lambda n: st.sampled_from(usual if n else ODD))


file_names = _mostly(FILES)
directory_names = _mostly(DIRECTORIES)
payloads = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"", b"x" * 511, b"y" * 512, b"z" * 513, bytes(1024), b"0123456789abcdef" * 300]),
)
ids = st.sampled_from([0, 0, 1, 1000, 65534, 65535, 65536, 2_097_152, (1 << 32) - 1, 1 << 32, -1])
times = st.sampled_from([0, 1, 1_700_000_000, -1, -86400, 1 << 33, 1 << 34, 1 << 40])
modes = st.sampled_from([0o644, 0o755, 0o4755, 0o2755, 0o1777, 0, 0o100644, 0o777])
dialects = st.sampled_from([rawtar.USTAR, rawtar.GNU, rawtar.V7])


@st.composite
def _options(draw: st.DrawFn) -> dict[str, object]:
    return {
        "mode": draw(modes),
        "uid": draw(ids),
        "gid": draw(ids),
        "mtime": draw(times),
        "magic": draw(dialects),
        "owner": draw(st.sampled_from([b"", b"root", b"\xff"])),
        "signed": draw(st.integers(0, 9)) == 0,
    }


@st.composite
def _sparse(draw: st.DrawFn) -> bytes:
    parts = []
    at = 0
    for _ in range(draw(st.sampled_from([0, 1, 2, 5, 30]))):
        at += draw(st.sampled_from([0, 1, 512, 4096, 70_000]))
        data = draw(st.sampled_from([b"", b"p", b"q" * 512, b"r" * 1000]))
        parts.append((at, data))
        at += len(data)
    size = at + draw(st.sampled_from([0, 1, 100_000]))
    make = rawtar.SPARSE[draw(st.sampled_from(sorted(rawtar.SPARSE)))]
    return make(draw(file_names), size, parts, mtime=draw(times))


RECORDS = [
    (b"mtime", b"1.5"),
    (b"mtime", b"-1.25"),
    (b"mtime", b"1700000000.123456789123"),
    (b"mtime", b"99999999999999"),
    (b"atime", b"0"),
    (b"uid", b"4294967296"),
    (b"gid", b"65535"),
    (b"uname", b"somebody"),
    (b"path", b"d/from-pax"),
    (b"path", b""),
    (b"linkpath", b"d/a"),
    (b"hdrcharset", b"BINARY"),
    (b"comment", b"nothing to see"),
    rawtar.xattr(b"user.empty", b""),
    rawtar.xattr(b"user.x", b"\x00\xff="),
    rawtar.xattr(b"trusted.overlay.opaque", b"y"),
    rawtar.xattr(b"security.capability", bytes.fromhex("0100000200040000000000000000000000000000")),
    rawtar.xattr(b"security.selinux", b"system_u:object_r:bin_t:s0\0"),
    rawtar.xattr(b"security.ima", b"\3"),
    rawtar.xattr(b"odd", b"1"),
    rawtar.xattr(b"user." + b"n" * 300, b"1"),
    rawtar.xattr(b"user.large", b"v" * 70_000),
    rawtar.xattr(
        b"system.posix_acl_access",
        bytes.fromhex("02000000" "01000600ffffffff" "02000700e8030000" "04000400ffffffff" "10000700ffffffff")
        + bytes.fromhex("20000400ffffffff"),
    ),
    rawtar.xattr(b"system.posix_acl_access", b"\2\0\0\0\1"),
    rawtar.xattr(
        b"system.posix_acl_default",
        bytes.fromhex("02000000" "01000700ffffffff" "04000500ffffffff" "20000500ffffffff"),
    ),
    rawtar.libarchive_xattr(b"user.from%20libarchive", b"\0\1\2"),
    (b"SCHILY.acl.access", b"user::rw-,group::r--,other::r--"),
    (b"SCHILY.acl.access", b"user::rw-,user:7:r-x,group::r--,mask::r--,other::r--"),
    (b"SCHILY.acl.access", b"user::rw-,user:lisa:r-x,group::r--,mask::r--,other::r--"),
    (b"SCHILY.acl.default", b"user::rwx,user:lisa:r-x:500,group::r-x,mask::r-x,other::---"),
    (b"SCHILY.acl.default", b"\xff,,:"),
]  # fmt: skip


@st.composite
def _member(draw: st.DrawFn) -> bytes:
    kind = draw(
        st.sampled_from(
            [
                *("file", "file", "file", "directory", "directory", "symlink", "hard link", "hard link"),
                *("device", "fifo", "sparse", "old", "contiguous", "global", "whiteout", "unknown"),
            ]
        )
    )
    if kind == "sparse":
        return draw(_sparse())
    if kind == "global":
        return rawtar.pax([(b"comment", b"c"), (b"mtime", b"7")], b"g")
    if kind == "whiteout":
        return rawtar.file(draw(st.sampled_from([b"d/.wh.a", b".wh.b", b".wh..wh..opq"])))
    name = draw(directory_names if kind == "directory" else file_names)
    options = draw(_options())
    front = b""
    if draw(st.integers(0, 3)) == 0:
        front = rawtar.pax(draw(st.lists(st.sampled_from(RECORDS), max_size=4)))
    if draw(st.integers(0, 7)) == 0:
        front += rawtar.gnu_long(name + b"-" + b"l" * 120)
    elif draw(st.integers(0, 7)) == 0:
        options["prefix"] = b"d/prefix"
    if kind == "symlink":
        target = draw(st.sampled_from([b"a", b"/abs", b"../..", b"t" * 100, b""]))
        if draw(st.integers(0, 5)) == 0:
            front += rawtar.gnu_long(b"t" * 300, b"K")
        return front + rawtar.symlink(name, target, **options)
    if kind == "hard link":
        return front + rawtar.hard_link(name, draw(st.sampled_from(TARGETS)), **options)
    if kind == "directory":
        return front + rawtar.directory(name, **options)
    if kind == "device":
        device = draw(st.sampled_from([(0, 0), (1, 3), (4095, 1048575), (4096, 0)]))
        typeflag = draw(st.sampled_from([b"3", b"4"]))
        return front + rawtar.header(name, 0, typeflag, device=device, **options)  # type: ignore[arg-type]
    if kind == "fifo":
        return front + rawtar.header(name, 0, b"6", **options)  # type: ignore[arg-type]
    if kind == "unknown":
        # Rare: a single one makes the whole layer unrepresentable.
        options["typeflag"] = draw(st.sampled_from([b"7", b"7", b"7", b"7", b"V"]))
    elif kind == "old":
        options["typeflag"] = b"\0"
    elif kind == "contiguous":
        options["typeflag"] = b"7"
    return front + rawtar.file(name, draw(payloads), **options)


ENDS = [
    *(rawtar.END, rawtar.END, bytes(10240), b"", bytes(512), bytes(100_000)),
    *(rawtar.END + b"garbage", rawtar.END + rawtar.file(b"after", b"the end"), bytes(1024) + b"\1" * 2000),
]


@st.composite
def nasty_tars(draw: st.DrawFn, max_members: int = 12) -> bytes:
    """Well-formed tars with everything that may be in one."""
    found = draw(st.lists(_member(), max_size=max_members))
    return b"".join(found) + draw(st.sampled_from(ENDS))


@st.composite
def broken_tars(draw: st.DrawFn) -> bytes:
    """Nasty tars that are cut short somewhere, or have bytes that were changed."""
    tar = bytearray(draw(nasty_tars(max_members=6)))
    if draw(st.booleans()):
        del tar[draw(st.integers(0, len(tar))) :]
    for _ in range(draw(st.integers(0, 3))):
        if tar:
            tar[draw(st.integers(0, len(tar) - 1))] = draw(st.integers(0, 255))
    return bytes(tar)


@st.composite
def _info(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(draw(st.sampled_from(["a", "d", "d/a", "d/b", "é", "l" * 120, "d/" + "m" * 180])))
    info.type = draw(
        st.sampled_from([tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
    )
    info.mode = draw(modes) & 0o7777
    info.uid = draw(st.integers(0, 1 << 20))
    info.mtime = draw(st.one_of(st.integers(0, 1 << 33), st.sampled_from([0.5, 1e9 + 0.25])))
    info.uname = draw(st.sampled_from(["", "root", "é"]))
    data = b""
    if info.type == tarfile.REGTYPE:
        data = draw(payloads)
        info.size = len(data)
    elif info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = draw(st.sampled_from(["a", "d/a", "é", "k" * 130]))
    return info, data


@st.composite
def module_tars(draw: st.DrawFn) -> bytes:
    """Tars that Python's tarfile writes, in one of its formats."""
    out = io.BytesIO()
    dialect = draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]))
    with tarfile.open(fileobj=out, mode="w", format=dialect, errors="surrogateescape") as tar:
        for info, data in draw(st.lists(_info(), max_size=8)):
            if dialect == tarfile.USTAR_FORMAT:
                info.name, info.linkname = info.name[:90], info.linkname[:90]
                info.mtime = int(info.mtime) % (1 << 32)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def any_tars() -> SearchStrategy[bytes]:
    """Well-formed tars of both makers."""
    return st.one_of(nasty_tars(), module_tars())
