"""The tar reader sees the same members as Go's `archive/tar`, and refuses what that refuses."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interop.tools import peer
from test_oci import strategies
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
