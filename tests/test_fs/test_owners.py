"""Names of owners and the shift of their ids."""

from __future__ import annotations

import grp
import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.fs.owners import IdShift, Names

IDS = st.integers(0, 0xFFFFFFFE).filter(lambda id_: id_ != 0xFFFF)


def test_names_of_the_system() -> None:
    """Every user and group but root is found by id and by name."""
    names = Names()
    for _ in range(2):
        for user in pwd.getpwall():
            first = os.fsencode(pwd.getpwuid(user.pw_uid).pw_name)
            assert names.user(user.pw_uid) == (first if user.pw_uid else None)
            assert names.uid(os.fsencode(user.pw_name)) == user.pw_uid
        for group in grp.getgrall():
            first = os.fsencode(grp.getgrgid(group.gr_gid).gr_name)
            assert names.group(group.gr_gid) == (first if group.gr_gid else None)
            assert names.gid(os.fsencode(group.gr_name)) == group.gr_gid


def test_unknown_names_are_none() -> None:
    """Ids and names that the system does not know, and such as it cannot, are None."""
    names = Names()
    assert names.user(4_000_000_001) is None
    assert names.group(4_000_000_001) is None
    assert names.user(1 << 40) is None
    for name in (b"no-such-owner", b"", b"\xff", b"a\0b", b"x" * 10_000):
        assert names.uid(name) is None
        assert names.gid(name) is None


@given(IDS)
def test_without_a_shift_ids_stay(id_: int) -> None:
    """Disabled, the numbers of a shift have no effect."""
    for shift in (IdShift(), IdShift(1000, 10, False)):
        assert shift.encode(id_) == id_
        assert shift.decode(id_) == id_


@given(st.integers(0, 1 << 20), st.integers(0, 65534))
def test_shifted_ids_come_back(shift: int, id_: int) -> None:
    """An id of the range above the shift is stored without it and restored with it."""
    both = IdShift(shift, 65536, True)
    if shift + id_ == 0xFFFF:
        return
    assert both.encode(shift + id_) == id_
    assert both.decode(id_) == shift + id_


def test_casyncs_examples() -> None:
    """--uid-shift=yes stores 70000 as 4464; --uid-shift=100000 restores an archived 100000 as 134464 [casync 2]."""
    assert IdShift(0, 65536, True).encode(70000) == 4464
    assert IdShift(100_000, 65536, True).decode(100_000) == 134_464
    assert IdShift(100_000, 0, True).decode(100_000) == 200_000


@pytest.mark.parametrize(
    ("shift", "id_"),
    [
        (IdShift(), 0xFFFF),
        (IdShift(), 0xFFFFFFFF),
        (IdShift(1000, 65536, True), 999),
        (IdShift(1000, 65536, True), 1000 + 65535),
        (IdShift(1, 0, True), 0x10000),
    ],
)
def test_ids_that_no_archive_holds(shift: IdShift, id_: int) -> None:
    """65535 and 2^32-1, before and after shifting, and what is below the shift, are errors that say so."""
    with pytest.raises(ValueError, match=str(id_)):
        shift.encode(id_)


def test_ids_that_no_file_can_have() -> None:
    """A shift that leaves 32 bits is an error."""
    with pytest.raises(ValueError, match="too large"):
        IdShift(0xFFFFFFF0, 0, True).decode(15)
