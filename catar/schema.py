"""The formats, declared: one row a record, for archives (.catar) and indexes (.caidx, .caibx).

Read this file top to bottom and you know the bytes. Every integer is an unsigned little-endian 64-bit number, strings
end in a NUL that their size counts, and nothing is padded or aligned. A record is

    size (16 + length of the body) | type | body

Each row gives the record's type, its body as a construct declaration, and the sizes a reader accepts. Programs do not
interpret these declarations: `catar.derive` reads `struct` layouts off them, into a table for `catar.layouts`, and a
test proves that both agree. Types, fields and limits are those of casync 2 (`src/caformat.h`, `CA_FORMAT_*`, and the
size checks of `src/cadecoder.c`); where a limit is ours, the row says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from construct import (
    Bytes,
    Check,
    Const,
    Construct,
    FixedSized,
    GreedyBytes,
    GreedyRange,
    Int64ul,
    NullTerminated,
    Optional,
    Struct,
    Terminated,
    this,
)

__all__ = [
    "ARCHIVE_RECORDS",
    "GOODBYE_TAIL_MARKER",
    "INDEX_HEADER",
    "INDEX_ITEM",
    "INDEX_TAIL",
    "MAX_CHUNK_SIZE",
    "TABLE_TAIL_MARKER",
    "UINT64_MAX",
    "RecordRow",
    "record",
]

UINT64_MAX = (1 << 64) - 1
HEADER_SIZE = 16
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


_USER_NAME_MAX = 256
_XATTR_NAME_MAX = 255
_XATTR_VALUE_MAX = 65536
_SYMLINK_MAX = 4096
_LABEL_MAX = 4096
_FILENAME_MAX = 4096  # ours: casync has no limit; no Linux file system has longer names

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
GOODBYE_ITEM_SIZE = 24
GOODBYE_BODY = Struct(
    "items" / FixedSized(lambda ctx: ctx._.size - HEADER_SIZE - GOODBYE_ITEM_SIZE, GreedyRange(GOODBYE_ITEM)),
    "tail" / GOODBYE_TAIL,
    Terminated,
)

ENTRY = RecordRow("ENTRY", 0x1396FABCEA5BBB51, ENTRY_BODY, 64, 64)
USER = RecordRow("USER", 0xF453131AAEEACCB3, NAME_BODY, 16 + 2, 16 + _USER_NAME_MAX)
GROUP = RecordRow("GROUP", 0x25EB6AC969396A52, NAME_BODY, 16 + 2, 16 + _USER_NAME_MAX)
XATTR = RecordRow(
    "XATTR", 0xB8157091F80BC486, XATTR_BODY, 16 + 4, 16 + _XATTR_NAME_MAX + 1 + _XATTR_VALUE_MAX
)
ACL_USER = RecordRow("ACL_USER", 0x297DC88B2EF12FAF, ACL_NAMED_BODY, 32, 32 + _USER_NAME_MAX)
ACL_GROUP = RecordRow("ACL_GROUP", 0x36F2ACB56CB3DD0B, ACL_NAMED_BODY, 32, 32 + _USER_NAME_MAX)
ACL_GROUP_OBJ = RecordRow("ACL_GROUP_OBJ", 0x23047110441F38F3, ACL_GROUP_OBJ_BODY, 24, 24)
ACL_DEFAULT = RecordRow("ACL_DEFAULT", 0xFE3EEDA6823C8CD0, ACL_DEFAULT_BODY, 48, 48)
ACL_DEFAULT_USER = RecordRow("ACL_DEFAULT_USER", 0xBDF03DF9BD010A91, ACL_NAMED_BODY, 32, 32 + _USER_NAME_MAX)
ACL_DEFAULT_GROUP = RecordRow(
    "ACL_DEFAULT_GROUP", 0xA0CB1168782D1F51, ACL_NAMED_BODY, 32, 32 + _USER_NAME_MAX
)
SELINUX = RecordRow("SELINUX", 0x46FAF0602FD26C59, NAME_BODY, 16 + 2, 16 + _LABEL_MAX)
FCAPS = RecordRow("FCAPS", 0xF7267DB0AFED0629, FCAPS_BODY, 16, 16 + _XATTR_VALUE_MAX)
QUOTA_PROJID = RecordRow("QUOTA_PROJID", 0x161BAF2D8772A72B, QUOTA_PROJID_BODY, 24, 24)
SYMLINK = RecordRow("SYMLINK", 0x664A6FB6830E0D6C, NAME_BODY, 16 + 2, 16 + _SYMLINK_MAX)
DEVICE = RecordRow("DEVICE", 0xAC3DACE369DFE643, DEVICE_BODY, 32, 32)
PAYLOAD = RecordRow("PAYLOAD", 0x8B9E1D93D6DCFFC9, PAYLOAD_BODY, 16, UNBOUNDED - 1)
FILENAME = RecordRow("FILENAME", 0x6DBB6EBCB3161F0B, NAME_BODY, 16 + 2, 16 + _FILENAME_MAX)
GOODBYE = RecordRow("GOODBYE", 0xDFD35C5E8327C403, GOODBYE_BODY, 16 + 24, UNBOUNDED - 1)

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


# Index files: INDEX record, TABLE record (items, then a tail that looks like one more item).

INDEX_TYPE = 0x96824D9C7B129FF9
TABLE_TYPE = 0xE75B9E112F17417D
TABLE_TAIL_MARKER = 0x4B4F050E5549ECD1
MAX_CHUNK_SIZE = 128 * 1024 * 1024
"""No chunk is larger (casync `src/cachunk.h`, `CA_CHUNK_SIZE_LIMIT_MAX`), in bytes."""

INDEX_HEADER = Struct(
    "index_size" / Const(48, Int64ul),
    "index_type" / Const(INDEX_TYPE, Int64ul),
    "feature_flags" / Int64ul,
    "chunk_size_min" / Int64ul,
    "chunk_size_avg" / Int64ul,
    "chunk_size_max" / Int64ul,
    "table_size" / Const(UINT64_MAX, Int64ul),
    "table_type" / Const(TABLE_TYPE, Int64ul),
)
"""The first 64 bytes. The table's size field is always UINT64_MAX; its true size stands in the tail only."""

INDEX_ITEM = Struct("end" / Int64ul, "id" / Bytes(32))
"""`end` is the offset of the first byte after the chunk; the first chunk starts at 0."""

INDEX_TAIL = Struct(
    "zero1" / Const(0, Int64ul),
    "zero2" / Const(0, Int64ul),
    "index_offset" / Const(48, Int64ul),
    "table_size" / Int64ul,
    "marker" / Const(TABLE_TAIL_MARKER, Int64ul),
)
"""`table_size` is 16 + 40 a chunk + 40. An `end` of 0 cannot occur in an item, so the tail cannot be mistaken."""
