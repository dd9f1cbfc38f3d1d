"""The tar reader sees the same members as Go's `archive/tar`, and refuses what that refuses."""

from __future__ import annotations

import hashlib
import itertools
import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interop.tools import peer
from test_oci import rawtar, strategies
from test_oci.rawtar import BytesView

from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.reader import Member, members

LARGEST = 1 << 26


@pytest.fixture(scope="module")
def gotar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of peers/gotar."""
    return peer("gotar", tmp_path_factory)


def theirs(program: Path, tar: bytes) -> tuple[list[dict[str, Any]], bool]:
    """The members that Go sees, and whether there was an error."""
    done = subprocess.run([program], input=tar, capture_output=True, check=True, timeout=60)
    *found, end = map(json.loads, done.stdout.splitlines())
    return found, bool(end["Error"])


def contents(tar: bytes, member: Member) -> bytes:
    out = bytearray(member.size)
    for offset, at, length in member.ranges():
        out[offset : offset + length] = tar[at : at + length]
    return bytes(out)


def described(tar: bytes, member: Member) -> dict[str, Any]:
    """A member in gotar's words."""
    raw = {key: value for key, value in (member.pax or {}).items() if key.startswith(b"SCHILY.xattr.")}
    found: dict[str, Any] = {
        "Path": member.path.hex(),
        "Link": member.linkname.hex(),
        "Type": member.typeflag.hex(),
        "Mode": member.mode,
        "UID": member.uid,
        "GID": member.gid,
        "Seconds": member.mtime // 1_000_000_000,
        "Nanoseconds": member.mtime % 1_000_000_000,
        "Major": member.device[0],
        "Minor": member.device[1],
        "Xattrs": {key[len(b"SCHILY.xattr.") :].hex(): value.hex() for key, value in raw.items()},
    }
    if member.kind == stat.S_IFREG:
        found["Size"] = member.size
        if member.size <= LARGEST:
            found["Sum"] = hashlib.sha256(contents(tar, member)).hexdigest()
    return found


@settings(max_examples=100, deadline=None)
@given(tar=st.one_of(strategies.nasty_tars(), strategies.broken_tars(), strategies.module_tars()))
def test_same_as_go(gotar: Path, tar: bytes) -> None:
    """Members, their metadata and contents, and whether there is an error at their end, are what Go has."""
    expected, failed = theirs(gotar, tar)
    ours = []
    fails = False
    try:
        for member in members(BytesView(tar)):
            ours.append(described(tar, member))  # noqa: PERF401 - what came before an error counts
    except ImageError:
        fails = True
    # Go has a size for links and devices too, which has no meaning, and no contents.
    shown = [{key: there[key] for key in our} for our, there in zip(ours, expected, strict=False)]
    assert ours == shown
    assert (len(ours), fails) == (len(expected), failed)


EXTENSIONS = {
    "x": rawtar.pax([(b"path", b"from-x"), rawtar.xattr(b"user.x", b"1")]),
    "p": rawtar.pax([(b"linkpath", b"link-from-p"), (b"mtime", b"5.25"), (b"uid", b"7")]),
    "s": rawtar.pax([(b"size", b"3")]),
    "e": rawtar.pax([(b"path", b""), (b"linkpath", b"")]),  # empty values take back what was said
    "g": rawtar.pax([(b"path", b"from-g"), (b"gid", b"9")], typeflag=b"g"),
    "L": rawtar.gnu_long(b"from-L"),
    "K": rawtar.gnu_long(b"link-from-K", b"K"),
    "l": rawtar.gnu_long(b""),
}
MEMBERS = {
    "file": rawtar.file(b"name", b"abc", prefix=b"prefix"),
    "hard link": rawtar.hard_link(b"name", b"link"),
    "symlink": rawtar.symlink(b"name", b"link"),
    "old directory": rawtar.header(b"name/", 0, b"\0", magic=rawtar.V7),
}


@pytest.mark.parametrize("member", MEMBERS)
def test_extensions_in_all_orders(gotar: Path, member: str) -> None:
    """Whatever extension headers follow each other, up to three of eight kinds, count for the member as with Go."""
    rest = MEMBERS[member] + rawtar.file(b"next", b"n") + rawtar.END
    wrong = []
    for count in range(4):
        for kinds in itertools.product(EXTENSIONS, repeat=count):
            tar = b"".join(EXTENSIONS[kind] for kind in kinds) + rest
            if not is_same(gotar, tar):
                wrong.append("".join(kinds))
    assert wrong == []


@pytest.mark.parametrize("sparse", ["sparse_00", "sparse_01", "sparse_10"])
def test_extensions_around_sparse_files(gotar: Path, sparse: str) -> None:
    """The same where the member is sparse, whose map is in such a header, too."""
    member = getattr(rawtar, sparse)(b"sparse", 9000, [(0, b"begin"), (8000, b"end")])
    wrong = []
    for count in range(4):
        for kinds in itertools.product("xgLKl", repeat=count):
            for at in range(count + 1):
                before, after = ("".join(kinds[:at]), "".join(kinds[at:]))
                tar = b"".join(EXTENSIONS[kind] for kind in before)
                head, tail = split_at_last_header(member)
                tar += head + b"".join(EXTENSIONS[kind] for kind in after) + tail
                if not is_same(gotar, tar + rawtar.file(b"next", b"n") + rawtar.END):
                    wrong.append(f"{before}|{after}")
    assert wrong == []


def split_at_last_header(member: bytes) -> tuple[bytes, bytes]:
    """A member's extension headers, and its own."""
    at = 0
    while member[at + 156 : at + 157] in (b"x", b"L", b"K"):
        size = int(member[at + 124 : at + 135], 8)
        at += 512 + size + -size % 512
    return member[:at], member[at:]


def is_same(program: Path, tar: bytes) -> bool:
    """Whether both see the same members, and both or neither an error."""
    expected, failed = theirs(program, tar)
    ours = []
    fails = False
    try:
        for member in members(BytesView(tar)):
            ours.append(described(tar, member))  # noqa: PERF401 - what came before an error counts
    except ImageError:
        fails = True
    shown = [{key: there[key] for key in our} for our, there in zip(ours, expected, strict=False)]
    return ours == shown and (len(ours), fails) == (len(expected), failed)
