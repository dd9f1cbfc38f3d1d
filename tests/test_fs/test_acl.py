"""The kernel's form of ACLs."""

from __future__ import annotations

import os
from pathlib import Path

import posix1e
import pytest
from grounds import Grounds
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.fs import acl
from casync_compat.fs.acl import AclItem

ITEMS = st.builds(
    AclItem,
    st.sampled_from([acl.USER_OBJ, acl.USER, acl.GROUP_OBJ, acl.GROUP, acl.MASK, acl.OTHER]),
    st.integers(0, 7),
    st.integers(0, 0xFFFFFFFF),
)


@given(st.lists(ITEMS))
def test_build_and_parse_agree(items: list[AclItem]) -> None:
    """What is built parses to the same entries, in the order that the kernel wants."""
    assert acl.parse(acl.build(items)) == sorted(items, key=lambda item: (item.tag, item.id))


@pytest.mark.root
def test_same_as_libacl(ground: Grounds) -> None:
    """libacl reads what we build, and we read what libacl writes."""
    path = ground("acl") / "f"
    path.touch()
    text = "u::rwx,u:5:r--,u:9:-wx,g::r-x,g:7:rw-,m::rwx,o::---"
    posix1e.ACL(text=text).applyto(os.fsencode(path))
    raw = os.getxattr(path, acl.ACCESS)
    items = acl.parse(raw)
    assert items == [
        AclItem(acl.USER_OBJ, 7),
        AclItem(acl.USER, 4, 5),
        AclItem(acl.USER, 3, 9),
        AclItem(acl.GROUP_OBJ, 5),
        AclItem(acl.GROUP, 6, 7),
        AclItem(acl.MASK, 7),
        AclItem(acl.OTHER, 0),
    ]
    assert acl.build(reversed(items)) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\2\0\0",
        b"\1\0\0\0",
        b"\2\0\0\0\1",
        b"\2\0\0\0" + bytes(8),
        b"\2\0\0\0" + b"\1\0\x08\0" + bytes(4),
    ],
    ids=["empty", "short", "version 1", "cut off", "tag 0", "permissions 8"],
)
def test_malformed_values(raw: bytes) -> None:
    """Every malformed value is a ValueError, and nothing else."""
    with pytest.raises(ValueError, match="ACL"):
        acl.parse(raw)


@given(st.binary(max_size=100))
def test_any_bytes(raw: bytes) -> None:
    """Arbitrary bytes parse or are a ValueError."""
    try:
        items = acl.parse(b"\2\0\0\0" + raw)
    except ValueError:
        return
    assert len(acl.build(items)) == len(raw) + 4


def test_ids_out_of_range_are_refused() -> None:
    """An id that does not fit is no silent wrap-around."""
    with pytest.raises(ValueError, match="out of range"):
        acl.build([AclItem(acl.USER, 7, 1 << 32)])


def test_an_empty_acl(tmp_path: Path) -> None:
    """No entries: just the version."""
    assert acl.parse(b"\2\0\0\0") == []
    assert acl.build([]) == b"\2\0\0\0"
