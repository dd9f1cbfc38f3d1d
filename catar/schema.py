"""The format of archives (.catar), declared: one row a record.

Read this file top to bottom and you know the bytes. Every integer is an unsigned little-endian 64-bit number, strings
end in a NUL that their size counts, and nothing is padded or aligned. A record is

    size (16 + length of the body) | type | body

Each row gives the record's type, its body as a construct declaration, and the sizes a reader accepts. Programs do not
interpret these declarations: `catar.derive` reads layouts off them, into `_layouts.py` for Python and `_layouts.h` for
C, and tests prove that all agree. This is the only place where a type, a size, an offset or a limit is written. They
are those of casync 2 (`src/caformat.h`, `CA_FORMAT_*`, and the size checks of `src/cadecoder.c`); where a limit is
ours, it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from construct import (
    Check,
    Const,
    Construct,
    FixedSized,
    GreedyBytes,
    GreedyRange,
    Int64ul,
    NullTerminated,
    Optional,
    SizeofError,
    Struct,
    Terminated,
    this,
)

__all__ = [
    "ARCHIVE_RECORDS",
    "DECLARED",
    "GOODBYE_TAIL_MARKER",
    "UINT64_MAX",
    "Declared",
    "RecordRow",
    "record",
]

UINT64_MAX = (1 << 64) - 1
HEADER = Struct("size" / Int64ul, "type" / Int64ul)
"""The head of every record; `size` counts it."""
HEADER_SIZE = HEADER.sizeof()
UNBOUNDED = UINT64_MAX

NUL_STRING = NullTerminated(GreedyBytes)
"""Bytes up to a NUL that must be the last byte of the record."""
OPTIONAL_NUL_STRING = Optional(NUL_STRING)
"""Nothing at all, or bytes and a NUL."""
RAW = GreedyBytes
"""Every byte to the end of the record."""


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One kind of archive record.

    :ivar name: casync's name for it
    :ivar type: the 64-bit number that marks it
    :ivar body: construct declaration of what follows the 16-byte header
    :ivar smallest: smallest record size a reader accepts, header included, in bytes
    :ivar largest: largest such size
    """

    name: str
    type: int
    body: Construct[Any, Any]
    smallest: int
    largest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """All that one package's `_layouts.py` and `_layouts.h` are derived from (see `catar.derive`).

    :ivar prefix: put before the names of records, structures and numbers in C
    :ivar numbers: markers, limits and other constants, by name
    :ivar structs: structures of fixed size, by name
    :ivar records: kinds of records
    :ivar rows: names of the columns of rows in which C and Python hand numbers to each other, 64 bits each in the
        machine's byte order, by the name of the row
    :ivar bits: names of bits, from the lowest on, by the name of the word that they are in
    """

    prefix: str
    numbers: Mapping[str, int] = field(default_factory=dict)
    structs: Mapping[str, Construct[Any, Any]] = field(default_factory=dict)
    records: tuple[RecordRow, ...] = ()
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# Limits. Those of strings count the NUL.

USER_NAME_MAX = 256
XATTR_NAME_MAX = 255  # without a NUL
XATTR_VALUE_MAX = 65536
SYMLINK_MAX = 4096
LABEL_MAX = 4096
FILENAME_MAX = 4096  # ours: casync has no limit; no Linux file system has longer names

ORDINARY_NAME_MAX = min(255, FILENAME_MAX - 1)
"""Ours: bytes of the longest name in a run of nodes encoded in one call; no Linux file system has longer ones."""
DEPTH_MAX = 64
"""Most nodes on a path, the top node included (`NODES_MAX`)."""
PAYLOAD_MAX = (1 << 63) - 1
"""What an off_t holds."""
DEVICE_MAJOR_MAX = (1 << 12) - 1
DEVICE_MINOR_MAX = (1 << 20) - 1
ID_INVALID = 0xFFFFFFFF
"""Neither a user, a group nor a project: -1 as 32 bits."""
ID16_INVALID = 0xFFFF
"""Neither a user nor a group: -1 as 16 bits."""
NODE_METADATA_MAX = 64 * 1024 * 1024
"""Ours: most bytes of metadata records one node may have, so that a hostile archive cannot fill the memory."""
NODE_RECORDS_MAX = 65536
"""Ours, for the same reason: most of them. Linux lists 64 KiB of attribute names at most, some 20,000 attributes."""

ENTRY_BODY = Struct(
    "feature_flags" / Int64ul,
    "mode" / Int64ul,
    "flags" / Int64ul,
    "uid" / Int64ul,
    "gid" / Int64ul,
    "mtime" / Int64ul,
)
NAME_BODY = Struct("name" / NUL_STRING, Terminated)
XATTR_BODY = Struct("name" / NUL_STRING, "value" / RAW)
ACL_NAMED_BODY = Struct("id" / Int64ul, "permissions" / Int64ul, "name" / OPTIONAL_NUL_STRING, Terminated)
ACL_GROUP_OBJ_BODY = Struct("permissions" / Int64ul, Terminated)
ACL_DEFAULT_BODY = Struct(
    "user_obj" / Int64ul,
    "group_obj" / Int64ul,
    "other" / Int64ul,
    "mask" / Int64ul,
    Terminated,
)
FCAPS_BODY = Struct("data" / RAW)
QUOTA_PROJID_BODY = Struct("projid" / Int64ul, Terminated)
DEVICE_BODY = Struct("major" / Int64ul, "minor" / Int64ul, Terminated)
PAYLOAD_BODY = Struct("data" / RAW)

GOODBYE_ITEM = Struct("offset" / Int64ul, "size" / Int64ul, "hash" / Int64ul)
"""`offset` counts backwards from the GOODBYE record to the child's FILENAME; `size` is FILENAME and node together."""
GOODBYE_TAIL_MARKER = 0x57446FA533702943
GOODBYE_TAIL = Struct(
    "entry_offset" / Int64ul, "size" / Int64ul, "marker" / Const(GOODBYE_TAIL_MARKER, Int64ul)
)
"""`entry_offset` counts backwards from the GOODBYE record to the directory's ENTRY; `size` repeats the record's."""
GOODBYE_BODY = Struct(
    "items"
    / FixedSized(lambda ctx: ctx._.size - HEADER_SIZE - GOODBYE_TAIL.sizeof(), GreedyRange(GOODBYE_ITEM)),
    "tail" / GOODBYE_TAIL,
    Terminated,
)


def _head(body: Any) -> int:
    """Bytes of a record's header and of its fields before the first that has no fixed size."""
    size = HEADER_SIZE
    for part in body.subcons:
        try:
            size += part.sizeof()
        except (SizeofError, AttributeError):  # the latter for a size that another field tells
            break
    return size


def _row(name: str, type_: int, body: Construct[Any, Any], least: int = 0, most: int = 0) -> RecordRow:
    """:param least, most: bytes behind the fixed fields, NULs included"""
    head = _head(body)
    return RecordRow(name, type_, body, head + least, min(head + most, UNBOUNDED - 1))


ENTRY = _row("ENTRY", 0x1396FABCEA5BBB51, ENTRY_BODY)
USER = _row("USER", 0xF453131AAEEACCB3, NAME_BODY, 2, USER_NAME_MAX)
GROUP = _row("GROUP", 0x25EB6AC969396A52, NAME_BODY, 2, USER_NAME_MAX)
XATTR = _row("XATTR", 0xB8157091F80BC486, XATTR_BODY, 4, XATTR_NAME_MAX + 1 + XATTR_VALUE_MAX)
ACL_USER = _row("ACL_USER", 0x297DC88B2EF12FAF, ACL_NAMED_BODY, 0, USER_NAME_MAX)
ACL_GROUP = _row("ACL_GROUP", 0x36F2ACB56CB3DD0B, ACL_NAMED_BODY, 0, USER_NAME_MAX)
ACL_GROUP_OBJ = _row("ACL_GROUP_OBJ", 0x23047110441F38F3, ACL_GROUP_OBJ_BODY)
ACL_DEFAULT = _row("ACL_DEFAULT", 0xFE3EEDA6823C8CD0, ACL_DEFAULT_BODY)
ACL_DEFAULT_USER = _row("ACL_DEFAULT_USER", 0xBDF03DF9BD010A91, ACL_NAMED_BODY, 0, USER_NAME_MAX)
ACL_DEFAULT_GROUP = _row("ACL_DEFAULT_GROUP", 0xA0CB1168782D1F51, ACL_NAMED_BODY, 0, USER_NAME_MAX)
SELINUX = _row("SELINUX", 0x46FAF0602FD26C59, NAME_BODY, 2, LABEL_MAX)
FCAPS = _row("FCAPS", 0xF7267DB0AFED0629, FCAPS_BODY, 0, XATTR_VALUE_MAX)
QUOTA_PROJID = _row("QUOTA_PROJID", 0x161BAF2D8772A72B, QUOTA_PROJID_BODY)
SYMLINK = _row("SYMLINK", 0x664A6FB6830E0D6C, NAME_BODY, 2, SYMLINK_MAX)
DEVICE = _row("DEVICE", 0xAC3DACE369DFE643, DEVICE_BODY)
PAYLOAD = _row("PAYLOAD", 0x8B9E1D93D6DCFFC9, PAYLOAD_BODY, 0, UNBOUNDED)
FILENAME = _row("FILENAME", 0x6DBB6EBCB3161F0B, NAME_BODY, 2, FILENAME_MAX)
GOODBYE = _row("GOODBYE", 0xDFD35C5E8327C403, GOODBYE_BODY, GOODBYE_TAIL.sizeof(), UNBOUNDED)

ARCHIVE_RECORDS: tuple[RecordRow, ...] = (
    ENTRY,
    USER,
    GROUP,
    XATTR,
    ACL_USER,
    ACL_GROUP,
    ACL_GROUP_OBJ,
    ACL_DEFAULT,
    ACL_DEFAULT_USER,
    ACL_DEFAULT_GROUP,
    SELINUX,
    FCAPS,
    QUOTA_PROJID,
    SYMLINK,
    DEVICE,
    PAYLOAD,
    FILENAME,
    GOODBYE,
)
"""Every archive record, in the order in which they may follow one another (see `catar.grammar`)."""


def record(row: RecordRow) -> Construct[Any, Any]:
    """The whole record of a row, header included, as one declaration: the reference that tests compare with.

    Parsing checks the size against the row's limits before anything is read.
    """
    return Struct(
        "size" / Int64ul,
        _limits(row),
        "type" / Const(row.type, Int64ul),
        "body" / FixedSized(this.size - HEADER_SIZE, row.body),
    )


def _limits(row: RecordRow) -> Construct[Any, Any]:
    return Check(lambda ctx: row.smallest <= ctx.size <= row.largest)


NODE_ROW = (
    "mode",
    "name",
    "name_len",
    "uid",
    "gid",
    "mtime",
    "user",
    "user_len",
    "group",
    "group_len",
    "target",
    "target_len",
    "size",
    "start",
    "entry",
    "behind",
)
"""An ordinary node, or the end of a directory, as the native decoder hands it out (`catar.records.Run`).

`mode` is 0 for the end of a directory. `name`, `user`, `group`, `target` are places in the buffer, the column behind
each is the length, 0 for none. `size` is that of the payload; `start`, `entry` and `behind` are places: of FILENAME (or
GOODBYE), of the node's ENTRY (modulo 2^64, as the buffer may not hold that of a directory that ends), and of what
follows the node's own records."""

FILE_ROW = ("mode", "uid", "gid", "mtime", "size", "place")
"""An ordinary node whose contents lie where they are to be archived, on its way to the encoder (`catar.filling`).

`mtime` is in nanoseconds modulo 2^64. `size` and `place` are those of the contents: a symlink's target with a NUL."""

GAP_ROW = ("uid", "gid", "length")
"""Ids of an owner on disk, and how many bytes of USER and GROUP stand between ENTRY and tail of what is theirs."""

DECLARED = Declared(
    prefix="CATAR",
    numbers={
        "UINT64_MAX": UINT64_MAX,
        "GOODBYE_TAIL_MARKER": GOODBYE_TAIL_MARKER,
        "XATTR_NAME_MAX": XATTR_NAME_MAX,
        "XATTR_VALUE_MAX": XATTR_VALUE_MAX,
        "ORDINARY_NAME_MAX": ORDINARY_NAME_MAX,
        "DEPTH_MAX": DEPTH_MAX,
        "PAYLOAD_MAX": PAYLOAD_MAX,
        "DEVICE_MAJOR_MAX": DEVICE_MAJOR_MAX,
        "DEVICE_MINOR_MAX": DEVICE_MINOR_MAX,
        "ID_INVALID": ID_INVALID,
        "ID16_INVALID": ID16_INVALID,
        "NODE_METADATA_MAX": NODE_METADATA_MAX,
        "NODE_RECORDS_MAX": NODE_RECORDS_MAX,
    },
    structs={"HEADER": HEADER, "GOODBYE_ITEM": GOODBYE_ITEM, "GOODBYE_TAIL": GOODBYE_TAIL},
    records=ARCHIVE_RECORDS,
    rows={"ROW": NODE_ROW, "FILE": FILE_ROW, "GAP": GAP_ROW},
)
