"""Records as `struct` layouts, and the numbers of the format: what programs use of the declarations in `catar.schema`.

The table behind it, `catar._layouts`, is written by `catar.derive` from those declarations, so that construct is not
imported where nobody interprets one. `tests/test_catar/test_layouts.py` proves that both give the same bytes.
"""

from __future__ import annotations

import struct
from enum import Enum

from catar import _layouts
from catar._layouts import (
    GOODBYE_TAIL_MARKER,
    INDEX_TYPE,
    MAX_CHUNK_SIZE,
    NODE_METADATA_MAX,
    NODE_RECORDS_MAX,
    TABLE_TAIL_MARKER,
    TABLE_TYPE,
    UINT64_MAX,
)

__all__ = [
    "BY_TYPE",
    "GOODBYE_TAIL_MARKER",
    "HEADER",
    "INDEX_TYPE",
    "MAX_CHUNK_SIZE",
    "NODE_METADATA_MAX",
    "NODE_RECORDS_MAX",
    "TABLE_TAIL_MARKER",
    "TABLE_TYPE",
    "UINT64_MAX",
    "Layout",
    "Tail",
]

HEADER = struct.Struct("<QQ")
"""size, type: the head of every record."""


class Tail(Enum):
    """What follows the fixed fields of a record."""

    NONE = "nothing"
    STRING = "bytes and a NUL"
    OPTIONAL_STRING = "nothing, or bytes and a NUL"
    RAW = "bytes to the end"
    STRING_RAW = "bytes and a NUL, then bytes to the end"
    TABLE = "goodbye items and tail"


class Layout:
    """How to pack and unpack one kind of record.

    :ivar name: casync's name for it
    :ivar type: the 64-bit number that marks it
    :ivar smallest: smallest record size a reader accepts, header included, in bytes
    :ivar largest: largest such size
    :ivar fields: names of the fixed 64-bit fields, in order
    :ivar head: header and fixed fields as one `struct.Struct`
    :ivar body: the fixed fields alone
    """

    __slots__ = ("body", "fields", "head", "largest", "name", "smallest", "tail", "type")

    def __init__(
        self, name: str, type: int, smallest: int, largest: int, fields: tuple[str, ...], tail: Tail
    ) -> None:
        self.name = name
        self.type = type
        self.smallest = smallest
        self.largest = largest
        self.fields = fields
        self.tail = tail
        self.head = struct.Struct("<QQ" + "Q" * len(fields))
        self.body = struct.Struct("<" + "Q" * len(fields))

    def pack(self, *values: int, tail: bytes = b"") -> bytes:
        """The record with these fixed fields, followed by `tail` as it stands (NULs included)."""
        return self.head.pack(self.head.size + len(tail), self.type, *values) + tail


_BY_NAME = {
    name: Layout(name, type_, smallest, largest, tuple(fields.split()), Tail[tail])
    for name, type_, smallest, largest, fields, tail in _layouts.RECORDS
}
BY_TYPE: dict[int, Layout] = {layout.type: layout for layout in _BY_NAME.values()}

ENTRY = _BY_NAME["ENTRY"]
USER = _BY_NAME["USER"]
GROUP = _BY_NAME["GROUP"]
XATTR = _BY_NAME["XATTR"]
ACL_USER = _BY_NAME["ACL_USER"]
ACL_GROUP = _BY_NAME["ACL_GROUP"]
ACL_GROUP_OBJ = _BY_NAME["ACL_GROUP_OBJ"]
ACL_DEFAULT = _BY_NAME["ACL_DEFAULT"]
ACL_DEFAULT_USER = _BY_NAME["ACL_DEFAULT_USER"]
ACL_DEFAULT_GROUP = _BY_NAME["ACL_DEFAULT_GROUP"]
SELINUX = _BY_NAME["SELINUX"]
FCAPS = _BY_NAME["FCAPS"]
QUOTA_PROJID = _BY_NAME["QUOTA_PROJID"]
SYMLINK = _BY_NAME["SYMLINK"]
DEVICE = _BY_NAME["DEVICE"]
PAYLOAD = _BY_NAME["PAYLOAD"]
FILENAME = _BY_NAME["FILENAME"]
GOODBYE = _BY_NAME["GOODBYE"]

GOODBYE_ITEM = struct.Struct(_layouts.GOODBYE_ITEM)
GOODBYE_TAIL = struct.Struct(_layouts.GOODBYE_TAIL)
INDEX_HEADER = struct.Struct(_layouts.INDEX_HEADER)
INDEX_ITEM = struct.Struct(_layouts.INDEX_ITEM)
INDEX_TAIL = struct.Struct(_layouts.INDEX_TAIL)
