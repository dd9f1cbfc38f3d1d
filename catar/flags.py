"""Feature flags: which metadata an archive records, as one 64-bit word in every ENTRY and index header.

The word has three parts: the *with* bits (what `--with` and `--without` name), the exclude bits (which only say how
the tree was filtered) and the digest bits. Values are casync 2's (`src/caformat.h`, `CA_FORMAT_*`).

`BLAKE3` is the one bit that is not casync's: it marks indexes that casync and desync must refuse, because their chunk
ids are blake3. Both refuse unknown bits, so no reader can mistake such an index for another.

    >>> hex(normalise(NAMED_SETS["unix"]))
    '0x1f09'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntFlag

from catar.errors import UsageError

__all__ = [
    "DEFAULT",
    "NAMED_SETS",
    "OPTION_NAMES",
    "WITH_ALL",
    "FeatureFlags",
    "flag_names",
    "is_normalised",
    "normalise",
    "normalise_mask",
    "parse_flag",
    "replayed",
    "select",
    "time_granularity",
]


class FeatureFlags(IntFlag):
    """The bits of the feature flag word."""

    UIDS_16BIT = 0x1
    UIDS_32BIT = 0x2
    USER_NAMES = 0x4
    SEC_TIME = 0x8
    USEC_TIME = 0x10
    NSEC_TIME = 0x20
    TWO_SEC_TIME = 0x40
    READ_ONLY = 0x80
    PERMISSIONS = 0x100
    SYMLINKS = 0x200
    DEVICE_NODES = 0x400
    FIFOS = 0x800
    SOCKETS = 0x1000
    FLAG_HIDDEN = 0x2000
    FLAG_SYSTEM = 0x4000
    FLAG_ARCHIVE = 0x8000
    FLAG_APPEND = 0x10000
    FLAG_NOATIME = 0x20000
    FLAG_COMPR = 0x40000
    FLAG_NOCOW = 0x80000
    FLAG_NODUMP = 0x100000
    FLAG_DIRSYNC = 0x200000
    FLAG_IMMUTABLE = 0x400000
    FLAG_SYNC = 0x800000
    FLAG_NOCOMP = 0x1000000
    FLAG_PROJINHERIT = 0x2000000
    SUBVOLUME = 0x4000000
    SUBVOLUME_RO = 0x8000000
    XATTRS = 0x10000000
    ACL = 0x20000000
    SELINUX = 0x40000000
    FCAPS = 0x80000000
    QUOTA_PROJID = 0x100000000

    BLAKE3 = 1 << 59
    EXCLUDE_FILE = 1 << 60
    SHA512_256 = 1 << 61
    EXCLUDE_SUBMOUNTS = 1 << 62
    EXCLUDE_NODUMP = 1 << 63


F = FeatureFlags

OPTION_NAMES: Mapping[str, FeatureFlags] = {
    "16bit-uids": F.UIDS_16BIT,
    "32bit-uids": F.UIDS_32BIT,
    "user-names": F.USER_NAMES,
    "sec-time": F.SEC_TIME,
    "usec-time": F.USEC_TIME,
    "nsec-time": F.NSEC_TIME,
    "2sec-time": F.TWO_SEC_TIME,
    "read-only": F.READ_ONLY,
    "permissions": F.PERMISSIONS,
    "symlinks": F.SYMLINKS,
    "device-nodes": F.DEVICE_NODES,
    "fifos": F.FIFOS,
    "sockets": F.SOCKETS,
    "flag-hidden": F.FLAG_HIDDEN,
    "flag-system": F.FLAG_SYSTEM,
    "flag-archive": F.FLAG_ARCHIVE,
    "flag-append": F.FLAG_APPEND,
    "flag-noatime": F.FLAG_NOATIME,
    "flag-compr": F.FLAG_COMPR,
    "flag-nocow": F.FLAG_NOCOW,
    "flag-nodump": F.FLAG_NODUMP,
    "flag-dirsync": F.FLAG_DIRSYNC,
    "flag-immutable": F.FLAG_IMMUTABLE,
    "flag-sync": F.FLAG_SYNC,
    "flag-nocomp": F.FLAG_NOCOMP,
    "flag-projinherit": F.FLAG_PROJINHERIT,
    "subvolume": F.SUBVOLUME,
    "subvolume-ro": F.SUBVOLUME_RO,
    "xattrs": F.XATTRS,
    "acl": F.ACL,
    "selinux": F.SELINUX,
    "fcaps": F.FCAPS,
    "quota-projid": F.QUOTA_PROJID,
}
"""Names that `--with` and `--without` take, in bit order (casync `src/caformat-util.c`)."""

# Plain ints from here on: arithmetic on IntFlag members costs a microsecond each.
_UID_BITS = int(F.UIDS_16BIT | F.UIDS_32BIT)
_TIME_BITS = int(F.SEC_TIME | F.USEC_TIME | F.NSEC_TIME | F.TWO_SEC_TIME)

WITH_ALL = sum(int(flag) for flag in OPTION_NAMES.values())
FAT_ATTRS = int(F.FLAG_HIDDEN | F.FLAG_SYSTEM | F.FLAG_ARCHIVE)
CHATTR = int(
    F.FLAG_APPEND
    | F.FLAG_NOATIME
    | F.FLAG_COMPR
    | F.FLAG_NOCOW
    | F.FLAG_NODUMP
    | F.FLAG_DIRSYNC
    | F.FLAG_IMMUTABLE
    | F.FLAG_SYNC
    | F.FLAG_NOCOMP
    | F.FLAG_PROJINHERIT
)
SUBVOLUME_BITS = int(F.SUBVOLUME | F.SUBVOLUME_RO)
NODE_FLAGS = FAT_ATTRS | CHATTR | SUBVOLUME_BITS
"""Bits that may stand in the `flags` field of an ENTRY: the same values as the feature flags that enable them."""

_SPECIAL_NODES = int(F.SYMLINKS | F.DEVICE_NODES | F.FIFOS | F.SOCKETS)

NAMED_SETS: Mapping[str, int] = {
    "all": WITH_ALL,
    "best": WITH_ALL
    & ~int(F.UIDS_16BIT | F.SEC_TIME | F.USEC_TIME | F.TWO_SEC_TIME | F.READ_ONLY | F.PERMISSIONS),
    "unix": int(F.UIDS_16BIT | F.SEC_TIME | F.PERMISSIONS) | _SPECIAL_NODES,
    "fat": int(F.TWO_SEC_TIME | F.READ_ONLY) | FAT_ATTRS,
    "chattr": CHATTR,
    "fat-attrs": FAT_ATTRS,
    "privileged": _UID_BITS
    | int(F.USER_NAMES | F.DEVICE_NODES | F.FLAG_SYSTEM | F.FLAG_APPEND | F.FLAG_IMMUTABLE)
    | SUBVOLUME_BITS
    | int(F.ACL | F.SELINUX | F.FCAPS | F.QUOTA_PROJID),
    "fuse": _UID_BITS
    | _TIME_BITS
    | int(F.READ_ONLY | F.PERMISSIONS | F.XATTRS)
    | _SPECIAL_NODES
    | FAT_ATTRS
    | CHATTR,
}
"""Composite names of `--with` and `--without`, raw values before normalisation (casync `CA_FORMAT_WITH_*`)."""

_OTHER_BITS = int(F.BLAKE3 | F.EXCLUDE_FILE | F.SHA512_256 | F.EXCLUDE_SUBMOUNTS | F.EXCLUDE_NODUMP)
_DIGESTS = int(F.SHA512_256 | F.BLAKE3)
KNOWN_BITS = WITH_ALL | _OTHER_BITS

NO_REPLAY_LIMIT = (1 << 64) - 1
"""The mask that limits nothing (`UINT64_MAX` in casync)."""


def _clear(flags: int, when: FeatureFlags, what: int) -> int:
    return flags & ~what if flags & when else flags


def normalise(flags: int) -> int:
    """Drop what stronger flags make redundant and add what they need, in casync's order.

    :param flags: any combination of known bits
    :raises UsageError: for bits that are not known
    """
    if flags & ~KNOWN_BITS:
        raise UsageError(f"unknown feature flags {flags & ~KNOWN_BITS:#x}")
    if flags & F.ACL and not flags & (_UID_BITS | F.USER_NAMES):
        flags |= int(F.UIDS_32BIT | F.USER_NAMES)
    flags = _clear(flags, F.UIDS_32BIT, F.UIDS_16BIT)
    flags = _clear(flags, F.NSEC_TIME, F.USEC_TIME | F.SEC_TIME | F.TWO_SEC_TIME)
    flags = _clear(flags, F.USEC_TIME, F.SEC_TIME | F.TWO_SEC_TIME)
    flags = _clear(flags, F.SEC_TIME, F.TWO_SEC_TIME)
    flags = _clear(flags, F.ACL, F.PERMISSIONS | F.READ_ONLY)
    flags = _clear(flags, F.PERMISSIONS, F.READ_ONLY)
    flags = _clear(flags, F.EXCLUDE_NODUMP, F.FLAG_NODUMP)
    if flags & F.SUBVOLUME_RO:
        flags |= F.SUBVOLUME
    return int(flags)


def is_normalised(flags: int) -> bool:
    """Whether a decoder may accept `flags`: bits known, one digest at most, and `normalise` changes nothing."""
    if flags & ~KNOWN_BITS or flags & _DIGESTS == _DIGESTS:
        return False
    return normalise(flags) == flags


def normalise_mask(mask: int) -> int:
    """Widen a replay mask so that it covers every precision of what it names (casync's mask normalisation)."""
    if mask == NO_REPLAY_LIMIT:
        return mask
    if mask & _UID_BITS:
        mask |= _UID_BITS
    if mask & _TIME_BITS:
        mask |= _TIME_BITS
    if mask & F.ACL:
        mask |= int(F.PERMISSIONS | F.READ_ONLY)
    if mask & F.PERMISSIONS:
        mask |= F.READ_ONLY
    if mask & F.SUBVOLUME_RO:
        mask |= F.SUBVOLUME
    return int(mask)


def replayed(archive_flags: int, mask: int) -> int:
    """The flags that extraction or a listing honours: those of the archive, limited by what the user asked for."""
    both = normalise_mask(archive_flags) & normalise_mask(mask)
    return normalise(both & KNOWN_BITS)


def parse_flag(name: str) -> int:
    """The raw value of one `--with`/`--without` argument.

    :raises UsageError: for a name that casync does not have; names are case-sensitive and not lists
    """
    if name in OPTION_NAMES:
        return int(OPTION_NAMES[name])
    if name in NAMED_SETS:
        return NAMED_SETS[name]
    raise UsageError(f"unknown feature flag {name!r}; --with=help lists those there are")


def select(
    with_: Iterable[int] = (),
    without: Iterable[int] = (),
    *,
    default: int = WITH_ALL,
    exclude_nodump: bool = True,
    exclude_submounts: bool = False,
    exclude_file: bool = True,
    digest_bits: int = int(F.SHA512_256),
) -> int:
    """The normalised flag word that a command line asks for, whatever the order of its options.

    :param with_: values to record; when there are none, `default`
    :param without: values to leave out; they win over `with_`
    :param digest_bits: `SHA512_256`, `BLAKE3`, or 0 for SHA-256
    """
    chosen = 0
    for value in with_:
        chosen |= value
    if not chosen:
        chosen = default
    for value in without:
        chosen &= ~value
    if exclude_nodump:
        chosen |= F.EXCLUDE_NODUMP
    if exclude_submounts:
        chosen |= F.EXCLUDE_SUBMOUNTS
    if exclude_file:
        chosen |= F.EXCLUDE_FILE
    return normalise(int(chosen | digest_bits))


DEFAULT = select()
"""What `casync make DIR` records: 0xb0000001ffeffe26."""


def flag_names(flags: int) -> list[str]:
    """Option names of the *with* bits that are set, in bit order."""
    return [name for name, bit in OPTION_NAMES.items() if flags & bit]


def time_granularity(flags: int) -> int:
    """Nanoseconds between two times that the flags can tell apart; 0 when no time is recorded."""
    if flags & F.NSEC_TIME:
        return 1
    if flags & F.USEC_TIME:
        return 1_000
    if flags & F.SEC_TIME:
        return 1_000_000_000
    if flags & F.TWO_SEC_TIME:
        return 2_000_000_000
    return 0
