"""The feature flag word: casync's names and values, normalisation, replay masks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import flag_words, raw_flag_words

from catar import flags
from catar.errors import UsageError
from catar.flags import (
    NAMED_SETS,
    NO_REPLAY_LIMIT,
    OPTION_NAMES,
    flag_names,
    is_normalised,
    normalise,
    normalise_mask,
    parse_flag,
    replayed,
    select,
    time_granularity,
)
from catar.flags import FeatureFlags as F

SELECTED = [
    # --with, --without, other arguments, the word that casync 2 writes
    ([], [], {}, 0xB0000001FFEFFE26),
    ([], [], {"digest_bits": 0}, 0x90000001FFEFFE26),
    (["best"], [], {}, 0xB0000001FFEFFE26),
    (["unix"], [], {}, 0xB000000000001F09),
    (["fat"], [], {}, 0xB00000000000E0C0),
    (["chattr"], [], {}, 0xB000000003EF0000),
    (["fat-attrs"], [], {}, 0xB00000000000E000),
    (["privileged"], [], {}, 0xB0000001EC414406),
    (["fuse"], [], {}, 0xB000000013EFFF22),
    (["all"], [], {}, 0xB0000001FFEFFE26),
    ([], ["all"], {}, 0xB000000000000000),
    (["sec-time"], [], {}, 0xB000000000000008),
    (["usec-time", "permissions"], [], {}, 0xB000000000000110),
    (["2sec-time"], [], {}, 0xB000000000000040),
    (["read-only"], [], {}, 0xB000000000000080),
    (["acl"], [], {}, 0xB000000020000006),
    (["16bit-uids", "32bit-uids"], [], {}, 0xB000000000000002),
    (["symlinks"], [], {}, 0xB000000000000200),
    (["subvolume-ro"], [], {}, 0xB00000000C000000),
    ([], ["acl"], {}, 0xB0000001DFEFFF26),
    ([], ["nsec-time"], {}, 0xB0000001FFEFFE16),
    ([], ["32bit-uids"], {}, 0xB0000001FFEFFE25),
    ([], ["privileged"], {}, 0xB000000013AEBB20),
    ([], [], {"exclude_nodump": False}, 0x30000001FFFFFE26),
    ([], [], {"exclude_file": False}, 0xA0000001FFEFFE26),
    ([], [], {"exclude_submounts": True}, 0xF0000001FFEFFE26),
    ([], ["user-names", "acl"], {}, 0xB0000001DFEFFF22),
    (["acl"], ["all"], {}, 0xB000000000000000),
    ([], [], {"default": 0}, 0xB000000000000000),
]  # fmt: skip


@pytest.mark.parametrize(("with_", "without", "others", "word"), SELECTED)
def test_select(with_: list[str], without: list[str], others: dict[str, int], word: int) -> None:
    """Command lines give the words that casync 2 wrote for them."""
    found = select(map(parse_flag, with_), map(parse_flag, without), **others)  # type: ignore[arg-type]
    assert hex(found) == hex(word)


def test_default() -> None:
    """Without options, what `casync make DIR` writes."""
    assert flags.DEFAULT == 0xB0000001FFEFFE26


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("all", 0x1FFFFFFFF),
        ("best", 0x1FFFFFE26),
        ("unix", 0x1F09),
        ("fat", 0xE0C0),
        ("chattr", 0x3FF0000),
        ("fat-attrs", 0xE000),
        ("privileged", 0x1EC414407),
        ("fuse", 0x13FFFFFB),
    ],
)
def test_composite_names(name: str, value: int) -> None:
    """Composite names have casync's raw values."""
    assert parse_flag(name) == value
    assert set(NAMED_SETS) == {"all", "best", "unix", "fat", "chattr", "fat-attrs", "privileged", "fuse"}


def test_single_names() -> None:
    """The 33 single names stand for the 33 lowest bits, in order."""
    assert [int(value) for value in OPTION_NAMES.values()] == [1 << bit for bit in range(33)]
    assert list(OPTION_NAMES)[::8] == [
        "16bit-uids",
        "permissions",
        "flag-append",
        "flag-nocomp",
        "quota-projid",
    ]
    assert flag_names((1 << 33) - 1) == list(OPTION_NAMES)
    assert [parse_flag(name) for name in OPTION_NAMES] == [1 << bit for bit in range(33)]


def test_other_bits() -> None:
    """Exclude and digest bits are casync's; blake3 is a bit that casync does not know."""
    assert (F.EXCLUDE_FILE, F.SHA512_256, F.EXCLUDE_SUBMOUNTS, F.EXCLUDE_NODUMP) == (
        1 << 60,
        1 << 61,
        1 << 62,
        1 << 63,
    )
    casyncs = (1 << 33) - 1 | 0xF << 60
    assert not F.BLAKE3 & casyncs


@pytest.mark.parametrize(
    "name", ["", "Best", "best,acl", "acl ", "no-such", "help", "blake3", "exclude-file"]
)
def test_unknown_names(name: str) -> None:
    """Only casync's names are taken: no lists, no other case, no bits that have their own option."""
    with pytest.raises(UsageError, match="unknown feature flag"):
        parse_flag(name)


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        (F.UIDS_16BIT | F.UIDS_32BIT, F.UIDS_32BIT),
        (F.NSEC_TIME | F.USEC_TIME | F.SEC_TIME | F.TWO_SEC_TIME, F.NSEC_TIME),
        (F.USEC_TIME | F.SEC_TIME | F.TWO_SEC_TIME, F.USEC_TIME),
        (F.SEC_TIME | F.TWO_SEC_TIME, F.SEC_TIME),
        (F.ACL, F.ACL | F.UIDS_32BIT | F.USER_NAMES),
        (F.ACL | F.UIDS_16BIT | F.PERMISSIONS | F.READ_ONLY, F.ACL | F.UIDS_16BIT),
        (F.ACL | F.USER_NAMES, F.ACL | F.USER_NAMES),
        (F.PERMISSIONS | F.READ_ONLY, F.PERMISSIONS),
        (F.EXCLUDE_NODUMP | F.FLAG_NODUMP, F.EXCLUDE_NODUMP),
        (F.FLAG_NODUMP, F.FLAG_NODUMP),
        (F.SUBVOLUME_RO, F.SUBVOLUME | F.SUBVOLUME_RO),
        (0, 0),
    ],
)
def test_normalise(raw: int, normal: int) -> None:
    """Stronger flags displace weaker ones, and flags bring what they need."""
    assert normalise(raw) == normal
    assert is_normalised(raw) == (raw == normal)
    assert is_normalised(normal)


@given(raw_flag_words())
def test_normalise_once_is_enough(raw: int) -> None:
    """Normalising is idempotent, adds no more than the two documented needs, and keeps the kinds of metadata."""
    normal = normalise(raw)
    assert normalise(normal) == normal
    assert is_normalised(normal)
    assert not normal & ~(raw | F.UIDS_32BIT | F.USER_NAMES | F.SUBVOLUME)
    assert bool(time_granularity(normal)) == bool(time_granularity(raw))


@pytest.mark.parametrize("bit", [33, 34, 40, 58])
def test_unknown_bits(bit: int) -> None:
    """Unknown bits are refused."""
    with pytest.raises(UsageError, match="unknown feature flags"):
        normalise(1 << bit)
    assert not is_normalised(1 << bit)


def test_one_digest() -> None:
    """A word with two digests could mean either, and is refused."""
    assert is_normalised(F.SHA512_256)
    assert is_normalised(F.BLAKE3)
    assert not is_normalised(F.SHA512_256 | F.BLAKE3)


def test_not_a_word() -> None:
    """Neither more than 64 bits nor a negative number is a flag word."""
    assert not is_normalised(1 << 64)
    assert not is_normalised(-1)
    assert not is_normalised((1 << 64) - 1)


@pytest.mark.parametrize(
    ("mask", "wide"),
    [
        (F.UIDS_16BIT, F.UIDS_16BIT | F.UIDS_32BIT),
        (F.TWO_SEC_TIME, F.TWO_SEC_TIME | F.SEC_TIME | F.USEC_TIME | F.NSEC_TIME),
        (F.PERMISSIONS, F.PERMISSIONS | F.READ_ONLY),
        (F.ACL, F.ACL | F.PERMISSIONS | F.READ_ONLY),
        (F.SUBVOLUME_RO, F.SUBVOLUME | F.SUBVOLUME_RO),
        (F.READ_ONLY, F.READ_ONLY),
        (NO_REPLAY_LIMIT, NO_REPLAY_LIMIT),
        (0, 0),
    ],
)
def test_masks(mask: int, wide: int) -> None:
    """A mask that names one precision of something covers all of them."""
    assert normalise_mask(mask) == wide
    assert normalise_mask(wide) == wide


@pytest.mark.parametrize(
    ("archive", "mask", "both"),
    [
        (F.NSEC_TIME, F.SEC_TIME, F.NSEC_TIME),
        (F.ACL | F.UIDS_32BIT, F.PERMISSIONS, F.PERMISSIONS),
        (F.UIDS_16BIT, F.UIDS_32BIT, F.UIDS_32BIT),
        (F.PERMISSIONS, F.READ_ONLY, F.READ_ONLY),
        (F.XATTRS, F.ACL, 0),
    ],
)
def test_replayed(archive: int, mask: int, both: int) -> None:
    """What is restored is what the archive has and the mask allows, whatever the precision."""
    assert replayed(archive, mask) == both


@given(flag_words(), raw_flag_words())
def test_replayed_is_normal(archive: int, mask: int) -> None:
    """Any archive and mask give a usable word; without limit it covers all that the archive has, and no more."""
    assert is_normalised(replayed(archive, mask))
    assert replayed(archive, 0) == 0
    unlimited = replayed(archive, NO_REPLAY_LIMIT)
    assert not archive & ~normalise_mask(unlimited)
    assert not unlimited & ~normalise_mask(archive)


@given(
    st.lists(st.sampled_from(sorted(OPTION_NAMES)), max_size=6),
    st.lists(st.sampled_from(sorted(OPTION_NAMES)), max_size=6),
)
def test_order_does_not_matter(with_: list[str], without: list[str]) -> None:
    """`--with` and `--without` may come in any order, and may repeat."""
    a, b = [parse_flag(name) for name in with_], [parse_flag(name) for name in without]
    assert select(a, b) == select(reversed(a * 2), reversed(b * 2))


@pytest.mark.parametrize(
    ("word", "ns"),
    [(F.NSEC_TIME, 1), (F.USEC_TIME, 10**3), (F.SEC_TIME, 10**9), (F.TWO_SEC_TIME, 2 * 10**9), (F.ACL, 0)],
)
def test_time_granularity(word: int, ns: int) -> None:
    """Each time flag has its granularity in nanoseconds."""
    assert time_granularity(word) == ns
