"""What an index says about itself, and how its chunks are spread over sizes. Reads no chunk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from casync_compat.index import Index
from casync_compat.store.base import ChunkSource
from catar.flags import flag_names

__all__ = ["IndexInfo", "describe"]


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
    sizes: dict[bytes, int] = {}
    buckets: dict[int, int] = {}
    smallest, largest = 0, 0
    for chunk in index:
        sizes[chunk.id] = chunk.size
        bucket = 1 << (chunk.size - 1).bit_length()
        buckets[bucket] = buckets.get(bucket, 0) + 1
        smallest = min(smallest or chunk.size, chunk.size)
        largest = max(largest, chunk.size)
    in_store = None
    if store is not None:
        in_store = sum(store.has(id_) for id_ in set(index.ids()))
    return IndexInfo(
        index.digest.value,
        index.feature_flags,
        index.sizes.min,
        index.sizes.avg,
        index.sizes.max,
        index.size,
        len(index),
        len(sizes),
        sum(sizes.values()),
        smallest,
        largest,
        in_store,
        tuple(sorted(buckets.items())),
    )
