"""Times as an archive stores them, and what the small records promise."""

from __future__ import annotations

import stat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import EARLIEST, SECOND

from catar.records import AclDefault, AclEntry, Node, signed_time, stored_time

U64 = 1 << 64
GRANULARITIES = (1, 1_000, SECOND, 2 * SECOND)
LATEST = 16_299_260_424
"""2486, in seconds since the epoch: what xfs with bigtime holds, less the last two seconds."""

moments = st.integers(EARLIEST * SECOND, LATEST * SECOND - 1) | st.builds(
    lambda second, ns: second * SECOND + ns,
    st.sampled_from([EARLIEST, -2, -1, 0, 1, (1 << 31) - 1, 1 << 31, LATEST - 1]),
    st.integers(0, SECOND - 1),
)


@given(moments)
def test_nanoseconds_come_back(ns: int) -> None:
    """Every time of ext4 and xfs, before 1970 and after 2038, is stored in 64 bits and comes back exactly."""
    raw = stored_time(ns, 1)
    assert 0 <= raw < U64
    assert signed_time(raw) == ns


@given(moments, st.sampled_from(GRANULARITIES))
@example(EARLIEST * SECOND, 1_000)
@example(EARLIEST * SECOND, SECOND)
@example(EARLIEST * SECOND + SECOND, 2 * SECOND)
def test_coarse_times_come_back(ns: int, granularity: int) -> None:
    """A multiple of the granularity comes back exactly, any other time to within it."""
    whole = max(ns - ns % granularity, EARLIEST * SECOND)
    assert signed_time(stored_time(whole, granularity), granularity) == whole
    assert abs(signed_time(stored_time(ns, granularity), granularity) - ns) < granularity


@given(moments, st.sampled_from(GRANULARITIES))
@example(EARLIEST * SECOND, 2 * SECOND)
def test_storing_again_changes_nothing(ns: int, granularity: int) -> None:
    """A time read and stored again is the same number: a tree that is extracted and archived keeps its bytes.

    Less than one unit before 1970 is the exception: it comes back as 1970 itself.
    """
    raw = stored_time(ns, granularity)
    assert raw % granularity == 0
    back = signed_time(raw, granularity)
    assert stored_time(back, granularity) == raw or (back == 0 and -granularity < ns < 0)


@pytest.mark.parametrize(
    ("ns", "granularity", "raw"),
    [
        # The first is what casync 2 wrote for `touch -d @-5.000000001` (tests/fixtures/catar/before-1970.catar).
        (-5_000_000_001, 1, 18446744068709551615),
        (-5 * SECOND, 1, 18446744068709551616),
        (-1, 1, U64 - 1),
        (1_500_000_001_123_456_789, 1, 1_500_000_001_123_456_789),
        (1_500_000_001_123_456_789, 1_000, 1_500_000_001_123_456_000),
        (1_500_000_001_123_456_789, SECOND, 1_500_000_001_000_000_000),
        (1_500_000_001_123_456_789, 2 * SECOND, 1_500_000_000_000_000_000),
        (-5 * SECOND, SECOND, 18446744068000000000),
        (1_500_000_001_123_456_789, 0, 0),
        (-1, 0, 0),
    ],
)
def test_stored(ns: int, granularity: int, raw: int) -> None:
    """Times are stored modulo 2^64 and floored as unsigned numbers, as casync does it."""
    assert stored_time(ns, granularity) == raw


def test_where_times_split() -> None:
    """Numbers from 2^64 - 2^31 s on are 1901 to 1970; the one below is the last of 2486."""
    split = U64 + EARLIEST * SECOND
    assert signed_time(split) == EARLIEST * SECOND
    assert signed_time(split - 1) == split - 1
    assert signed_time(U64 - 1) == -1
    assert signed_time(0) == 0
    # At a granularity of one second, the earliest second was floored to below the split.
    assert signed_time(split - split % SECOND, SECOND) == EARLIEST * SECOND
    assert signed_time(split - split % SECOND - SECOND, SECOND) == split - split % SECOND - SECOND


def test_acl_order() -> None:
    """ACL entries are ordered by id, then nameless first, then name, then permissions."""
    ordered = [
        AclEntry(1, 7),
        AclEntry(2, 0),
        AclEntry(2, 1),
        AclEntry(2, 7, b""),
        AclEntry(2, 0, b"a"),
        AclEntry(3, 0),
    ]
    assert sorted(ordered[3:] + ordered[:3], key=lambda entry: entry.sort_key) == ordered


@pytest.mark.parametrize(
    "kind", [stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR]
)
def test_kinds(kind: int) -> None:
    """A node is at most one of file, directory and symlink, as its mode says."""
    node = Node(b"x", kind | 0o644)
    assert node.kind == kind
    assert (node.is_regular, node.is_dir, node.is_symlink) == (
        kind == stat.S_IFREG,
        kind == stat.S_IFDIR,
        kind == stat.S_IFLNK,
    )


def test_has_acl_records() -> None:
    """A node has ACL records when it has a mask or a default ACL."""
    assert not Node(b"", stat.S_IFDIR).has_acl_records
    assert Node(b"", stat.S_IFDIR, acl_group_obj=0).has_acl_records
    assert Node(b"", stat.S_IFDIR, acl_default=AclDefault(None, None, None, None)).has_acl_records
