"""What became of each of several chunks: what stores that are put together ask of one another.

`get_many` fails at the first chunk that is not to be had; here each has an answer of its own, so that those a store
lacks are asked for in the next. No IO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from casync_compat.errors import CasyncError, ChunkLocked, ChunkMissing, StoreError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import BatchSource, ChunkSource, FarSource

__all__ = ["Answer", "Finder", "Finding", "Wanted", "find_in", "look_for"]

Answer: TypeAlias = bytes | StoreError
"""A chunk, verified, or what `get` would raise: that it is missing, or damaged."""
Wanted: TypeAlias = Sequence[tuple[ChunkId, int]]
"""For each chunk its id, and the most bytes that it may have."""


@runtime_checkable
class Finding(FarSource, Protocol):
    """A source that has an answer for each of several chunks."""

    def begin_finding(self, wanted: Wanted, digest: Digest) -> Callable[[], list[Answer]]:
        """As `begin`, but what is returned raises only where the source could not be read at all."""


class Finder:
    """The ways to read of a source that has `begin_finding`."""

    def begin_finding(self, wanted: Wanted, digest: Digest) -> Callable[[], list[Answer]]:
        """See `Finding`."""
        raise NotImplementedError

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        """See `ChunkSource`."""
        return self.get_many([(id, limit)], digest)[0]

    def get_many(self, wanted: Wanted, digest: Digest) -> list[bytes]:
        """See `BatchSource`."""
        return self.begin(wanted, digest)()

    def begin(self, wanted: Wanted, digest: Digest) -> Callable[[], list[bytes]]:
        """See `FarSource`."""
        answers = self.begin_finding(wanted, digest)
        return lambda: [
            answer if isinstance(answer, bytes) else self._complain(answer, id, digest, limit)
            for answer, (id, limit) in zip(answers(), wanted, strict=True)
        ]

    @property
    def behind(self) -> Sequence[ChunkSource]:
        """The sources that it is put together of."""
        raise NotImplementedError

    def _complain(self, error: StoreError, id: ChunkId, digest: Digest, limit: int) -> bytes:
        """Raise what is wrong with a chunk.

        Of one that is missing a source may have more to say when it is asked for it alone: that it has it, encrypted
        with another key.
        """
        if type(error) is ChunkMissing:
            for source in self.behind:
                try:
                    return source.get(id, digest, limit)
                except ChunkLocked:
                    raise
                except ChunkMissing as missing:
                    error = ChunkMissing(id, error.where, missing.why or error.why)
                except CasyncError:  # which was told, or is passed over, when it was asked before
                    continue
        raise error


def find_in(source: ChunkSource, wanted: Wanted, digest: Digest) -> list[Answer]:
    """The answers of any source."""
    if isinstance(source, Finding):
        return source.begin_finding(wanted, digest)()
    if isinstance(source, BatchSource) and len(wanted) > 1:
        try:
            return list(source.get_many(wanted, digest))
        except StoreError:  # one of them; which others, it does not say
            pass
    return [look_for(source, id, digest, limit) for id, limit in wanted]


def look_for(source: ChunkSource, id: ChunkId, digest: Digest, limit: int) -> Answer:
    """The answer for one chunk."""
    try:
        return source.get(id, digest, limit)
    except StoreError as error:
        return error.with_traceback(None)  # whose frames hold buffers
