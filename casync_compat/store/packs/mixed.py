"""A chunk store that may have packs beside chunk files, or instead of them: whichever has a chunk gives it.

Whether there are packs is looked up once, before many chunks are asked for. Chunks are written as those that are there;
into an empty store as its place has it by default, or as the user says. What he says against what is there is refused.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casync_compat.compression import Compression
from casync_compat.errors import CasyncError, ChunkCorrupt, ChunkMissing, RemoteError, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import Put
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import Can, Files
from casync_compat.store.finding import Answer, Wanted
from casync_compat.store.local import LocalFiles, LocalStore
from casync_compat.store.packs.layout import StoreLayout
from casync_compat.store.packs.place import BUCKET, LOCAL, Found, PackPlace, begin_finding_prefix, find_prefix
from casync_compat.store.removing import Before

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from casync_compat.store.packs.packed import PackedStore

__all__ = ["MixedLocalStore", "MixedStore", "Mixing"]

_BOTH = (LOCAL, BUCKET)


@dataclass(frozen=True, slots=True)
class Mixing:
    """What is known of a store's layout before anybody has looked.

    :ivar wanted: as the user says; None where he does not
    :ivar usual: of a store that is empty
    :ivar prefix: of packs in a store that has none yet
    """

    wanted: StoreLayout | None = None
    usual: StoreLayout = StoreLayout.OBJECTS
    prefix: bytes = LOCAL


class MixedStore(ChunkStore):
    """A ChunkStore with packs beside it.

    :ivar mixing: what was known beforehand
    :ivar around: opens the place that the store is a directory of
    """

    mixing: Mixing = Mixing()
    around: Callable[[], Files] | None = None
    _packs: PackedStore | None = None
    _looked = False
    _unsure = False
    _begun: Callable[[], Found] | None = None
    _target: StoreLayout | None = None
    _files_eager = False

    def mixed(self, mixing: Mixing, files: Files | None = None) -> MixedStore:
        """This store, told what is known.

        :param files: the place for packs; None for that of chunk files
        """
        self.mixing = mixing
        self._pack_files = self.files if files is None else files
        self._deciding = threading.RLock()
        return self

    def beside(self) -> Files | None:
        return None if self.around is None else self.around()

    def close(self) -> None:
        super().close()
        if self._packs is not None:
            self._packs.close()

    # ---- which there are

    @property
    def eager(self) -> bool:
        """Whether `begin` asks at once."""
        packs = self.packs()
        return self._files_eager and (packs is None or packs.eager)

    @eager.setter
    def eager(self, value: bool) -> None:
        self._files_eager = value

    def packs(self) -> PackedStore | None:
        """The packs of this store; None where it has none.

        :raises CasyncError: that cannot be found out
        """
        if not self._looked:
            with self._deciding:
                if not self._looked:
                    self._found(self._find())
        return self._packs

    def prepare(self) -> None:
        with self._deciding:
            if not self._looked and self._begun is None and self._pack_files.eager:
                with suppress(CasyncError):  # which the next look is told, too
                    self._begun = self._begin_finding()

    def _begin_finding(self) -> Callable[[], Found]:
        first = self.mixing.prefix
        return begin_finding_prefix(self._pack_files, (first, *(one for one in _BOTH if one != first)))

    def _find(self) -> Found:
        begun, self._begun = self._begun, None
        try:
            return (begun or self._begin_finding())()
        except RemoteError as error:
            if self.mixing.usual is StoreLayout.PACKS:
                raise
            # A server that does not know such names has none. One that is down is found out by who reads chunks.
            self._unsure = not 400 <= error.status < 500
            return None

    def _look_again(self) -> bool:
        """Whether there are packs after all, now that a chunk is missing."""
        self._unsure, self._looked = False, False
        return self.packs() is not None

    def _found(self, found: tuple[bytes, bytes | None] | None) -> None:
        """:param found: a prefix, and the head there if there is one"""
        with self._deciding:
            if found is not None and self._packs is None:
                self._packs = self._packs_under(*found)
            self._looked = True

    def _packs_under(self, prefix: bytes, head: bytes | None) -> PackedStore:
        from casync_compat.store.packs.packed import PackedStore  # lazily: most stores have no packs

        compression = self.compression
        place = PackPlace(self._pack_files, prefix, head=head)
        packs = PackedStore(place, compression=compression)
        packs.name = self.name
        packs.verify_reused = self.verify_reused
        return packs

    def packed(self) -> PackedStore:
        """The packs of this store, which are begun where it has none, whatever else is there."""
        packs = self.packs()
        if packs is None:
            self._found((self.mixing.prefix, None))
            packs = self._packs
            assert packs is not None
        return packs

    def packed_place(self) -> PackPlace:
        """Where packs are, though their head may be missing or damaged."""
        found = find_prefix(self._pack_files, _BOTH)
        if found is None:
            places = [PackPlace(self._pack_files, prefix) for prefix in (self.mixing.prefix, *_BOTH)]
            there = [place for place in places if next(place.pack_files(), None) is not None]
            return there[0] if there else places[0]
        return PackPlace(self._pack_files, found[0])

    def layout(self) -> StoreLayout:
        """How new chunks are written.

        :raises UsageError: that was said, and is not how those are that are there
        """
        with self._deciding:
            if self._target is None:
                self._target = self._decided()
            return self._target

    def _decided(self) -> StoreLayout:
        wanted = self.mixing.wanted
        if self.packs() is not None:
            if wanted is StoreLayout.OBJECTS:
                raise UsageError(
                    f"{self.name} is a packed store; leave out --layout, or make objects of it by `pycasync store "
                    "explode`"
                )
            return StoreLayout.PACKS
        found = (wanted or self.mixing.usual) is StoreLayout.PACKS and next(super().ids(), None) is not None
        if found and wanted is StoreLayout.PACKS:
            raise UsageError(
                f"{self.name} has chunks as objects; leave out --layout, or make packs of them by `pycasync store pack`"
            )
        target = StoreLayout.OBJECTS if found else wanted or self.mixing.usual
        if target is StoreLayout.PACKS:
            self._found((self.mixing.prefix, None))
        return target

    @property
    def _writing(self) -> PackedStore | None:
        """The packs that new chunks go to; None when they become files."""
        return self._packs if self.layout() is StoreLayout.PACKS else None

    # ---- reading

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        packs = self.packs()
        if packs is None:
            try:
                return super().get(id, digest, limit)
            except ChunkMissing:
                if not (self._unsure and self._look_again()):
                    raise
                return self.get(id, digest, limit)
        try:
            return packs.get(id, digest, limit)
        except ChunkMissing:
            return super().get(id, digest, limit)
        except ChunkCorrupt as damage:
            try:
                return super().get(id, digest, limit)
            except ChunkMissing:
                raise damage from None

    def begin_finding(self, wanted: Wanted, digest: Digest) -> Callable[[], list[Answer]]:
        packs = self.packs()
        if packs is not None:
            in_packs = packs.begin_finding(wanted, digest)
            return lambda: self._completed(in_packs(), wanted, digest)
        begun = super().begin_finding(wanted, digest)
        return lambda: self._looked_again(begun(), wanted, digest)

    def _looked_again(self, answers: list[Answer], wanted: Wanted, digest: Digest) -> list[Answer]:
        """The answers, or others where packs could not be looked for before."""
        if self._unsure and any(isinstance(one, ChunkMissing) for one in answers) and self._look_again():
            return self.find_many(wanted, digest)
        return answers

    def find_many(self, wanted: Wanted, digest: Digest) -> list[Answer]:
        """For each chunk its bytes, verified, or what `get` would raise."""
        packs = self.packs()
        if packs is None:
            return super().begin_finding(wanted, digest)()
        return self._completed(packs.find_many(wanted, digest), wanted, digest)

    def _completed(self, answers: list[Answer], wanted: Wanted, digest: Digest) -> list[Answer]:
        """What packs have, and from chunk files what they have not."""
        left = [number for number, one in enumerate(answers) if not isinstance(one, bytes)]
        if left:
            found = super().begin_finding([wanted[number] for number in left], digest)()
            for number, one in zip(left, found, strict=True):
                if not isinstance(one, ChunkMissing):
                    answers[number] = one
        return answers

    def has(self, id: ChunkId) -> bool:
        packs = self.packs()
        return (packs is not None and packs.has(id)) or super().has(id)

    def keep(self, id: ChunkId, durable_before: int = 0) -> bool:
        """As of both kinds of store."""
        packs = self.packs()
        return (packs is not None and packs.keep(id, durable_before)) or super().keep(id, durable_before)

    def is_whole(self, id: ChunkId, data: ReadableBuffer) -> bool:
        """Whether `put` would have nothing to do. :raises FileError: the store could not be read"""
        packs = self.packs()
        return (packs is not None and packs.has(id)) or super().is_whole(id, data)

    def stored_size(self, id: ChunkId) -> int | None:
        packs = self.packs()
        size = None if packs is None else packs.stored_size(id)
        return super().stored_size(id) if size is None else size

    # ---- writing

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        writing = self._writing
        if writing is None:
            return super().put(id, data)
        writing.verify_reused = self.verify_reused
        if self.files.near and not writing.has(id) and super().is_whole(id, data):
            self._found_unsynced = True  # by casync, say, that knows no packs
            return Put(False, 0)
        put = writing.put(id, data)
        if put.new and self.also is not None:
            self.also(id, data)
        return put

    def put_many(self, chunks: Sequence[tuple[ChunkId, ReadableBuffer]]) -> list[Put]:
        if self._writing is None:
            return super().put_many(chunks)
        return [self.put(id, data) for id, data in chunks]

    def flush(self) -> None:
        """As of packs, where those are written; else `sync`."""
        if self._target is StoreLayout.PACKS and self._packs is not None:
            self._packs.flush()
        else:
            super().sync()

    def sync(self) -> None:
        super().sync()
        if self._packs is not None:
            self._packs.sync()

    # ---- listing and removing

    def ids(self) -> Iterator[ChunkId]:
        if Can.LIST not in self.files.can:
            yield from super().ids()  # which says so
        packs = self.packs()
        last = b""
        for id in heapq.merge(super().ids(), packs.ids() if packs is not None else ()):
            if id != last:
                yield id
            last = id

    def remove(self, id: ChunkId) -> int:
        packs = self.packs()
        return super().remove(id) + (0 if packs is None else packs.remove(id))

    def remove_many(self, ids: Sequence[ChunkId], before: Before) -> int:
        freed = super().remove_many(ids, before)
        packs = self.packs()
        return freed + (0 if packs is None else sum(map(packs.remove, ids)))

    def repack(self, check: Callable[[], None] = lambda: None) -> int:
        """As of packs."""
        packs = self.packs()
        return 0 if packs is None else packs.repack(check)

    def younger(self, id: ChunkId, moment: int) -> bool:
        packs = self.packs()
        return super().younger(id, moment) or (packs is not None and packs.younger(id, moment))

    def clean(self, before: int) -> int:
        packs = self.packs()
        return super().clean(before) + (0 if packs is None else packs.clean(before))


class MixedLocalStore(MixedStore, LocalStore):
    """The same in a directory, where nothing of a packed store can be in casync's way."""

    @classmethod
    def at(cls, path: bytes, mixing: Mixing, compression: Compression, suffix: bytes) -> MixedLocalStore:
        """The store at a path."""
        store = cls(path, compression=compression, suffix=suffix)
        store.mixed(mixing, LocalFiles(path, what="pack", mode=0o444))
        return store
