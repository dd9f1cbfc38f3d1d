"""What a chunk store is, as small protocols: a source of chunks, a sink for chunks, a store that can be pruned.

A store takes and gives raw chunks. Compression, file names and transport are its own affair, and it verifies
every chunk that it hands out: no caller ever sees bytes that do not have the id they were asked for by. This
module does no IO, and it knows no store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from casync_compat.errors import ChunkCorrupt
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.files import Files

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "BatchSink",
    "BatchSource",
    "ChunkSink",
    "ChunkSource",
    "Deferring",
    "FarSource",
    "Keeping",
    "Leased",
    "Measured",
    "Neighboured",
    "OnDisk",
    "Preparing",
    "Prunable",
    "PrunableTogether",
    "Put",
    "Repacking",
    "Rereading",
    "Store",
    "Surveyed",
    "checked",
    "far_source",
    "prepare",
]


class Put(NamedTuple):
    """What became of a chunk that was put.

    :ivar new: whether it was written; False when the store had it already
    :ivar stored: bytes written, as stored (compressed); 0 when not new
    """

    new: bool
    stored: int


class ChunkSource(Protocol):
    """Chunks can be read from it. All methods may be called from several threads at once."""

    @property
    def name(self) -> str:
        """The store as a user would name it, for messages."""

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        """The raw chunk, verified.

        :param digest: the algorithm that `id` was made with
        :param limit: the most bytes that the chunk may have
        :raises ChunkMissing: the store does not have it
        :raises ChunkCorrupt: the store has something else, or something larger than `limit`, in its place
        :raises FileError: the store could not be read
        """

    def has(self, id: ChunkId) -> bool:
        """Whether the store has the chunk; its content is not verified.

        :raises FileError: the store could not be read
        """


@runtime_checkable
class BatchSource(ChunkSource, Protocol):
    """A source that gives several chunks in less time than one by one."""

    def get_many(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> list[bytes]:
        """The raw chunks, verified, in the order in which they were asked for.

        :param wanted: for each its id, and the most bytes that it may have
        :raises ChunkMissing: as `get`, which also says what else may be raised
        """


@runtime_checkable
class FarSource(BatchSource, Protocol):
    """A source that may be so far away that chunks are asked for long before they are needed.

    :ivar far: whether it is, so that each thread that asks waits for long
    :ivar eager: whether `begin` asks at once, so that few threads are enough
    """

    @property
    def far(self) -> bool: ...
    @property
    def eager(self) -> bool: ...

    def begin(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> Callable[[], list[bytes]]:
        """Ask for several chunks and return at once; what is returned waits for them, and gives what `get_many` does.

        It is called once, on any thread, and does there what takes time: decompression, and the check of every chunk.
        """


def far_source(source: object) -> FarSource | None:
    """A source that is far away, as such; None for one that is near."""
    return source if isinstance(source, FarSource) and source.far else None


class ChunkSink(Protocol):
    """Chunks can be written to it. All methods may be called from several threads at once."""

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        """Store the raw chunk `data` under `id`, unless it is there already.

        That `id` is the digest of `data` is the caller's promise. The chunk appears whole or not at all, but is durable
        only after `sync`.

        :raises UsageError: `data` is empty
        :raises FileError: the store could not be written
        """

    def sync(self) -> None:
        """Return when every chunk put before this call would survive a loss of power.

        :raises FileError: that cannot be promised
        """


@runtime_checkable
class BatchSink(ChunkSink, Protocol):
    """A sink that takes several chunks in less time than one by one."""

    def put_many(self, chunks: Sequence[tuple[ChunkId, ReadableBuffer]]) -> list[Put]:
        """Store raw chunks under their ids, as `put` does. After an error some may have been stored."""


@runtime_checkable
class Surveyed(Protocol):
    """A store that need not be asked for each chunk as long as nobody removes any."""

    def surveyed(self) -> AbstractContextManager[None]:
        """While it lasts, nobody removes chunks: what was there once is taken to be there."""


@runtime_checkable
class Deferring(Protocol):
    """A sink that had better not be synced again and again on the way."""

    def flush(self) -> None:
        """Let what was put become durable, as far as that costs little; `sync` is for the rest.

        :raises FileError: the store could not be written
        """


@runtime_checkable
class Rereading(Protocol):
    """A store that need not believe that what it has is right.

    :ivar verify_reused: whether `put` and `keep` read a chunk that is there, to see that it is the right one
    """

    verify_reused: bool


@runtime_checkable
class Keeping(ChunkSource, ChunkSink, Protocol):
    """A store that can tell what it has, so that a cache may rely on it."""

    def keep(self, id: ChunkId, durable_before: int = 0) -> bool:
        """Whether the store has the chunk; if so, after `sync` it is as durable as one that was just put.

        :param durable_before: nanoseconds since 1970; what was there before that moment is durable already
        :raises FileError: the store could not be read
        """


class Prunable(Protocol):
    """Chunks can be listed and removed."""

    def ids(self) -> Iterator[ChunkId]:
        """The ids of all chunks, each once, in ascending order of the id.

        :raises FileError: the store could not be read
        """

    def remove(self, id: ChunkId) -> int:
        """Remove a chunk and return the bytes freed, as stored; 0 when it was not there.

        :raises FileError: the store could not be changed
        """

    def directories(self) -> int:
        """How many directories the chunks lie in; 0 where there is no such thing.

        :raises FileError: the store could not be read
        """

    def clean(self, before: int) -> int:
        """Remove temporary files of writers that were killed, if they were modified before a moment.

        :param before: nanoseconds since 1970
        :returns: how many were removed
        :raises FileError: the store could not be read
        """


@runtime_checkable
class PrunableTogether(Protocol):
    """A store that removes many chunks in less time than one by one."""

    def remove_many(self, ids: Sequence[ChunkId], before: Callable[[Sequence[ChunkId]], None]) -> int:
        """Remove chunks and return the bytes freed, as stored.

        :param ids: in ascending order, each once
        :param before: called with those that go next; may raise, and they stay
        :raises FileError: the store could not be changed; some may have gone
        """


@runtime_checkable
class Measured(Protocol):
    """A source that can tell what a chunk takes in it."""

    def stored_size(self, id: ChunkId) -> int | None:
        """Bytes of the chunk as stored (compressed); None when it is not there, or nobody knows.

        :raises FileError: the store could not be read
        """


@runtime_checkable
class Repacking(Protocol):
    """A store in which chunks that are removed leave room that is won back for many of them together."""

    def repack(self, check: Callable[[], None] = ...) -> int:
        """Win it back, once all that is to go was removed.

        :param check: called before anything is changed for good; may raise
        :returns: bytes freed beyond what `remove` said; less than 0 if it was less
        :raises FileError: the store could not be changed
        """


@runtime_checkable
class Preparing(Protocol):
    """A source that has to find something out before it gives its first chunk."""

    def prepare(self) -> None:
        """Begin to find it out, where that takes no thread, and return at once; for those who are about to read.

        What goes wrong is told by who reads.
        """


def prepare(*sources: object) -> None:
    """Have sources prepare that do so, while what says which chunks are wanted is still on its way."""
    for source in sources:
        if isinstance(source, Preparing):
            source.prepare()


@runtime_checkable
class OnDisk(Protocol):
    """Something that may lie in directories of this machine."""

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        """Those directories, so that a scan can leave them out, and an update in place spare them."""


@runtime_checkable
class Neighboured(Protocol):
    """A store in a place of files that is not on this machine, beside indexes that need its chunks."""

    def beside(self) -> Files | None:
        """The place that the store is a directory of; None where nobody knows, or it costs much to look there."""


@runtime_checkable
class Leased(Protocol):
    """A store in which those who write and those who collect garbage may leave word for one another."""

    def leases(self) -> Files | None:
        """Where they leave it (`store.leases`); None where that cannot be done, for want of dates, say."""

    def younger(self, id: ChunkId, moment: int) -> bool:
        """Whether a file of the chunk was written, or came here, after a moment; where nobody knows, it was.

        :param moment: nanoseconds since 1970, by the store's clock
        :raises FileError: the store could not be read
        """


class Store(Keeping, Prunable, OnDisk, Protocol):
    """All that a store can be: what the verbs take, and what a place of chunks is opened as."""

    def close(self) -> None:
        """Let go of what is held open. The store stays usable."""


def checked(id: ChunkId, digest: Digest, raw: bytes, where: str, file: str = "") -> bytes:
    """`raw`, if it is the chunk `id`.

    :param where: the store, for the message
    :param file: the file in it, for the message
    :raises ChunkCorrupt: it is not
    """
    found = digest.of(raw)
    if found != id:
        raise ChunkCorrupt(id, where, f"its content has the {digest.value} id {found.hex()}", file)
    return raw
