"""The binary formats of casync_compat, declared: index files (.caidx, .caibx). Archives are declared in `catar.schema`.

As there, programs do not interpret these declarations: `python -m catar.derive casync_compat.schema` reads layouts off
them, into `_layouts.py` for Python and `_layouts.h` for C. Fields and limits are those of casync 2.
"""

from __future__ import annotations

from construct import Bytes, Const, Int64ul, Struct

from catar.schema import UINT64_MAX, Declared

__all__ = ["DECLARED", "INDEX_HEADER", "INDEX_ITEM", "INDEX_TAIL", "MAX_CHUNK_SIZE"]

MAX_CHUNK_SIZE = 128 * 1024 * 1024
"""No chunk is larger (casync `src/cachunk.h`, `CA_CHUNK_SIZE_LIMIT_MAX`), in bytes."""
CHUNK_ID_SIZE = 32

# Index files: INDEX record, TABLE record (items, then a tail that looks like one more item).

INDEX_TYPE = 0x96824D9C7B129FF9
TABLE_TYPE = 0xE75B9E112F17417D
TABLE_TAIL_MARKER = 0x4B4F050E5549ECD1
_INDEX_SIZE = 6 * Int64ul.sizeof()
"""Of the INDEX record, and so the offset of the TABLE record."""

INDEX_HEADER = Struct(
    "index_size" / Const(_INDEX_SIZE, Int64ul),
    "index_type" / Const(INDEX_TYPE, Int64ul),
    "feature_flags" / Int64ul,
    "chunk_size_min" / Int64ul,
    "chunk_size_avg" / Int64ul,
    "chunk_size_max" / Int64ul,
    "table_size" / Const(UINT64_MAX, Int64ul),
    "table_type" / Const(TABLE_TYPE, Int64ul),
)
"""The INDEX record and the head of TABLE, whose size field is always UINT64_MAX; its true size stands in the tail."""

INDEX_ITEM = Struct("end" / Int64ul, "id" / Bytes(CHUNK_ID_SIZE))
"""`end` is the offset of the first byte after the chunk; the first chunk starts at 0."""

INDEX_TAIL = Struct(
    "zero1" / Const(0, Int64ul),
    "zero2" / Const(0, Int64ul),
    "index_offset" / Const(_INDEX_SIZE, Int64ul),
    "table_size" / Int64ul,
    "marker" / Const(TABLE_TAIL_MARKER, Int64ul),
)
"""`table_size` is that of TABLE, its head and this tail included. An `end` of 0 cannot occur in an item, so the tail
cannot be mistaken."""

# What the native readers of files are to ask about each (`fs._python`).

WANT = (
    "FLAGS",  # read the chattr flags
    "PROJID",  # read the quota project id
    "LIST",  # ask whether there are extended attributes
    "LINKS",  # take symlinks into runs
    "RUNS",  # read runs at all
    "LABELS",  # leave symlinks that have an SELinux label to the caller
)

DECLARED = Declared(
    prefix="CASYNC",
    numbers={"MAX_CHUNK_SIZE": MAX_CHUNK_SIZE, "CHUNK_ID_SIZE": CHUNK_ID_SIZE},
    structs={"INDEX_HEADER": INDEX_HEADER, "INDEX_ITEM": INDEX_ITEM, "INDEX_TAIL": INDEX_TAIL},
    bits={"WANT": WANT},
)
