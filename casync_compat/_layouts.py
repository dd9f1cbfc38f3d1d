"""The layouts of `casync_compat.schema` as plain numbers.

Written by `python -m catar.derive casync_compat.schema`, never by hand; a test proves that it is up to date.
"""

from __future__ import annotations

MAX_CHUNK_SIZE = 134217728
CHUNK_ID_SIZE = 32
WANT_FLAGS = 1
WANT_PROJID = 2
WANT_LIST = 4
WANT_LINKS = 8
WANT_RUNS = 16
WANT_LABELS = 32
INDEX_HEADER: tuple[str, dict[str, int | bytes]] = (
    "index_size:Q index_type:Q feature_flags:Q chunk_size_min:Q chunk_size_avg:Q "
    "chunk_size_max:Q table_size:Q table_type:Q",
    {
        "index_size": 48,
        "index_type": 0x96824D9C7B129FF9,
        "table_size": 0xFFFFFFFFFFFFFFFF,
        "table_type": 0xE75B9E112F17417D,
    },
)
INDEX_ITEM: tuple[str, dict[str, int | bytes]] = (
    "end:Q id:32s",
    {
    },
)
INDEX_TAIL: tuple[str, dict[str, int | bytes]] = (
    "zero1:Q zero2:Q index_offset:Q table_size:Q marker:Q",
    {
        "zero1": 0,
        "zero2": 0,
        "index_offset": 48,
        "marker": 0x4B4F050E5549ECD1,
    },
)
