"""What an index says about itself, and how its chunks are spread over sizes. Reads no chunk."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from operator import sub
from typing import Any

from casync_compat.ids import ChunkId
from casync_compat.index import Index
from casync_compat.store.base import ChunkSource, far_source
from casync_compat.streams.transfer import OrderedPool
from catar.flags import flag_names

__all__ = ["IndexInfo", "describe"]

_ASKING = 64
"""Threads that ask a store for chunks where each question takes a round trip."""


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """A summary of an index. Sizes in bytes, before compression.

    :ivar size: of the stream
    :ivar chunks: in the stream; `unique` counts each id once
    :ivar unique_size: of one copy of each chunk
    :ivar in_store: unique chunks that the store has; None when it was not asked
    :ivar distribution: `(largest size, chunks up to it)` in powers of two
    """

    digest: str
    feature_flags: int
    chunk_size_min: int
    chunk_size_avg: int
    chunk_size_max: int
    size: int
    chunks: int
    unique: int
    unique_size: int
    smallest: int
    largest: int
    in_store: int | None
    distribution: tuple[tuple[int, int], ...]

    def to_json(self) -> dict[str, Any]:
        """For `json.dumps`."""
        data = asdict(self)
        data["feature_flags"] = f"{self.feature_flags:#x}"
        data["features"] = flag_names(self.feature_flags)
        data["distribution"] = [{"up_to": up_to, "chunks": count} for up_to, count in self.distribution]
        return data


def describe(index: Index, store: ChunkSource | None = None) -> IndexInfo:
    """Summarise an index.

    :param store: asked for each unique chunk, when given
    :raises FileError: when the store cannot be read
    """
    ends = index.ends
    sizes = array("Q", map(sub, ends, chain((0,), ends)))
    buckets = Counter(map(int.bit_length, map((-1).__add__, sizes)))
    unique = unique_size = in_store = 0
    for there, size in _looked_for(index, store):
        unique += 1
        unique_size += size
        in_store += there
    return IndexInfo(
        index.digest.value,
        index.feature_flags,
        index.sizes.min,
        index.sizes.avg,
        index.sizes.max,
        index.size,
        len(index),
        unique,
        unique_size,
        min(sizes, default=0),
        max(sizes, default=0),
        None if store is None else in_store,
        tuple((1 << bits, count) for bits, count in sorted(buckets.items())),
    )


def _looked_for(index: Index, store: ChunkSource | None) -> Iterator[tuple[bool, int]]:
    """Of each chunk whether the store has it, and its size."""
    if store is None or far_source(store) is None:
        for id, size in index.distinct():
            yield store is not None and store.has(ChunkId(id)), size
        return
    far = store

    def look(id: bytes, size: int) -> tuple[bool, int]:
        return far.has(ChunkId(id)), size

    with OrderedPool[tuple[bool, int]](_ASKING, depth=4 * _ASKING) as pool:
        for id, size in index.distinct():
            yield from pool.submit(look, id, size)
        yield from pool.drain()
