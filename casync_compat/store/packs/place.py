"""The files of a packed store in their place: head, segments and packs, read and checked, and the head swapped.

    head                          the one file that is replaced
    index/<sha256>                segments
    packs/<2 hex>/<sha256>        packs

In a bucket they lie beside one another; in a chunk store's directory, where casync's gc stops at any file it does not
know, in its directory `.pycasync/`. Order makes it safe: packs are durable before a segment names them, segments before
the head does, and nothing that a head names is removed. So a head never lies, whenever a run dies, and who loses a
race for the head adds what is his to the other's.

    >>> place = PackPlace(files, LOCAL)
    >>> view = place.load()
    >>> view.find(chunk_id)
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from casync_compat.errors import CasyncError, FormatError, UsageError
from casync_compat.ids import ChunkId
from casync_compat.packtable import FOOTER_SIZE, PackRow, parse_pack_table, table_size_of
from casync_compat.store.files import Can, FileChanged, FileDamaged, Files, Version
from casync_compat.store.packs.head import EMPTY, HEAD_LIMIT, Head, Removed, SegmentName
from casync_compat.store.packs.segment import Pack, PackedPlace, Segment

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "BUCKET",
    "LOCAL",
    "NEEDED",
    "Draft",
    "Found",
    "PackPlace",
    "View",
    "begin_finding_prefix",
    "find_prefix",
]

BUCKET = b""
"""In front of all names, in a place that is for nothing else."""
LOCAL = b".pycasync/"
"""The same in a chunk store's directory."""
_HEAD = b"head"

NEEDED = Can.RANGE | Can.LIST | Can.WRITE | Can.SWAP
"""What a place of files must be able to do for packs to be written there."""

_RELOADS = 16
"""Heads that are read one after another, before it is no longer believed that somebody else moves them."""
_SWAPS = 100
_PAUSE = 0.05
_PART = 256 << 10
_TAIL = 64 << 10
"""Bytes at the end of a pack that are read for its table; most tables fit."""


Found: TypeAlias = tuple[bytes, bytes] | None
"""The prefix under which a head is, and that head; None when there is no packed store."""


def find_prefix(files: Files, prefixes: Sequence[bytes] = (LOCAL, BUCKET)) -> Found:
    """The first of the prefixes under which a head is."""
    return begin_finding_prefix(files, prefixes)()


def begin_finding_prefix(files: Files, prefixes: Sequence[bytes]) -> Callable[[], Found]:
    """The same, asked at once in an eager place; what is returned waits for it."""
    heads = files.begin([(prefix + _HEAD, HEAD_LIMIT) for prefix in prefixes])
    pages = Can.LIST not in files.can  # some web servers have one for whatever they are asked for

    def found() -> Found:
        for prefix, head in zip(prefixes, heads(), strict=True):
            if head is not None and not (pages and head.lstrip().startswith(b"<")):
                return prefix, head
        return None

    return found


@dataclass(frozen=True, slots=True)
class View:
    """A head, and the segments that it names.

    :ivar version: of the head's file; None when there is none
    """

    head: Head = EMPTY
    version: Version | None = None
    segments: Mapping[bytes, Segment] = field(default_factory=dict)

    def find(self, id: bytes) -> PackedPlace | None:
        """Where a chunk is; None when no segment has it.

        :raises FormatError: it is said to be where it cannot be
        """
        for segment in self.segments.values():
            place = segment.find(id)
            if place is not None:
                return place
        return None

    def packs(self) -> dict[bytes, int]:
        """Sizes of all packs, by sha256."""
        return {pack.sha256: pack.size for segment in self.segments.values() for pack in segment.packs}


@dataclass(frozen=True, slots=True)
class Draft:
    """What a head is to be changed to.

    :ivar segments: all that it is to name; those that are new are written
    :ivar collected: whether chunks were taken out
    """

    segments: Sequence[Segment]
    removed: Sequence[Removed]
    collected: bool = False


class PackPlace:
    """Where a packed store is.

    :param prefix: in front of all names
    :param head: the head as it was just read, so that who only reads need not read it again
    :ivar name: for messages
    """

    def __init__(self, files: Files, prefix: bytes = BUCKET, *, head: bytes | None = None) -> None:
        self.files = files
        self.name = files.name
        self.prefix = prefix
        self._head = prefix + _HEAD
        self._just_read = head

    def pack_name(self, sha256: bytes) -> bytes:
        """The name of a pack's file."""
        name = sha256.hex().encode()
        return self.prefix + b"packs/" + name[:2] + b"/" + name

    def segment_name(self, sha256: bytes) -> bytes:
        """The name of a segment's file."""
        return self.prefix + b"index/" + sha256.hex().encode()

    # ---- reading

    def load(self, known: View | None = None) -> View:
        """What is there now; `known` itself if that is so still. Empty where there is no head.

        :raises FileDamaged: the head, or a segment, is not what it should be
        """
        generation = -1
        for _ in range(_RELOADS):
            head, version = self._read_head()
            if known is not None and head == known.head and version == known.version:
                return known
            try:
                return View(head, version, self._segments(head, known))
            except _Gone as gone:
                if head.generation == generation:  # read twice, and the same: nobody moves it
                    raise FileDamaged(
                        gone.name, self.name, "the head names it, and it is not there"
                    ) from None
                generation = head.generation
        raise FileDamaged(self._head, self.name, "it changes faster than what it names can be read")

    def _read_head(self) -> tuple[Head, Version | None]:
        if self.files.near or Can.SWAP in self.files.can:
            found = self.files.peek(self._head, HEAD_LIMIT + 1)
            if found is None:
                return EMPTY, None
            status, data = found
            version = status.version
        else:
            content, self._just_read = self._just_read, None
            if content is None:
                content = self.files.read(self._head, HEAD_LIMIT)
            if content is None:
                return EMPTY, None
            data, version = content, None
        try:
            return Head.parse(data), version
        except FormatError as error:
            raise FileDamaged(self._head, self.name, error.reason) from error

    def _segments(self, head: Head, known: View | None) -> dict[bytes, Segment]:
        before = {} if known is None else known.segments
        wanted = [name for name in head.segments if name.sha256 not in before]
        found = dict(zip((name.sha256 for name in wanted), self._read_segments(wanted), strict=True))
        return {name.sha256: found.get(name.sha256) or before[name.sha256] for name in head.segments}

    def _read_segments(self, wanted: Sequence[SegmentName]) -> Iterator[Segment]:
        for name in wanted:  # one after another: they may be large
            file = self.segment_name(name.sha256)
            data = self._whole(file, name.size)
            if data is None:
                raise _Gone(file)
            if len(data) != name.size or hashlib.sha256(data).digest() != name.sha256:
                raise FileDamaged(file, self.name, "it is not what its name says")
            try:
                segment = Segment.parse(data)
            except FormatError as error:
                raise FileDamaged(file, self.name, error.reason) from error
            yield segment

    def _whole(self, file: bytes, size: int) -> bytes | None:
        """A file of a known size: where many requests cost no more than one, in parts that arrive together."""
        if not self.files.eager or Can.RANGE not in self.files.can or size <= _PART:
            return self.files.read(file, size)
        wanted = [(file, start, min(_PART, size - start)) for start in range(0, size, _PART)]
        parts = self.files.begin_ranges(wanted)()
        return None if None in parts else b"".join(part for part in parts if part is not None)

    def table(self, pack: Pack) -> list[PackRow]:
        """The table at the end of a pack.

        :raises FileDamaged: it has none, or is not there
        """
        file = self.pack_name(pack.sha256)
        start = max(0, pack.size - _TAIL)
        tail = self.files.read_range(file, start, pack.size - start)
        try:
            if tail is not None and len(tail) >= FOOTER_SIZE and (size := table_size_of(tail)) > len(tail):
                if size > pack.size:
                    raise FormatError("its table is larger than it is")
                tail = self.files.read_range(file, pack.size - size, size)
            if tail is None:
                raise FormatError("it is not there")
            return parse_pack_table(tail, pack.size)
        except FormatError as error:
            raise FileDamaged(file, self.name, error.reason) from error

    # ---- writing

    def write_pack(self, content: ReadableBuffer) -> Pack:
        """Write a pack; it is durable after `sync`."""
        sha256 = hashlib.sha256(content).digest()
        self.files.write(self.pack_name(sha256), content)
        return Pack(sha256, memoryview(content).nbytes)

    def swap(self, change: Callable[[View], Draft | None]) -> View:
        """Change the head, after all that was written is durable, and make that durable, too.

        :param change: gives what is to be there instead of what is, again when others were quicker; None for nothing
        :raises UsageError: the place cannot do that, or the store becomes too large
        """
        if NEEDED not in self.files.can:
            raise UsageError(f"{self.name}: packs cannot be written there, for want of conditional writes")
        view = self.load()
        for attempt in range(_SWAPS):
            try:
                draft = change(view)
            except FormatError as error:
                raise FileDamaged(self.prefix + b"index", self.name, error.reason) from error
            if draft is None:
                return view
            names = self._write_segments(draft, view)
            try:
                count = (view.head.collections + draft.collected) & 0xFFFFFFFF
                head = Head(view.head.generation + 1, names, tuple(draft.removed), count)
                content = head.to_bytes()
            except FormatError as error:
                raise UsageError(f"{self.name}: {error.reason}") from error
            self.files.sync()
            absent = view.version is None
            try:
                version = self.files.write(self._head, content, if_absent=absent, if_version=view.version)
            except FileChanged:
                time.sleep(random.uniform(0, _PAUSE * min(attempt + 1, 20)))
                view = self.load(view)
                continue
            self.files.sync()
            with suppress(CasyncError):  # what is left of them is for the next collection
                for sha256 in view.segments.keys() - {name.sha256 for name in names}:
                    self.files.remove(self.segment_name(sha256))
            segments = dict(zip((name.sha256 for name in names), draft.segments, strict=True))
            return View(head, version, segments)
        raise FileChanged(self._head, self.name)

    def replace(self, generation: int, change: Callable[[View], Draft | None]) -> View:
        """Write a head in the place of whatever is there, even of one that cannot be read.

        :param change: what it is to be, made of an empty one
        :raises FileChanged: somebody else has changed it meanwhile
        """
        status = self.files.stat(self._head)
        draft = change(View(Head(generation - 1))) or Draft((), ())
        names = self._write_segments(draft, View())
        head = Head(generation, names, tuple(draft.removed), generation & 0xFFFFFFFF)
        self.files.sync()
        version = self.files.write(
            self._head,
            head.to_bytes(),
            if_absent=status is None,
            if_version=None if status is None else status.version,
        )
        self.files.sync()
        return View(head, version, dict(zip((name.sha256 for name in names), draft.segments, strict=True)))

    def drop(self, view: View) -> None:
        """Remove a head that names nothing any more, if nobody has changed it meanwhile."""
        status = self.files.stat(self._head)
        if status is not None and status.version == view.version and not view.head.segments:
            self.files.remove(self._head)

    def _write_segments(self, draft: Draft, view: View) -> tuple[SegmentName, ...]:
        names = tuple(map(SegmentName.of, draft.segments))
        for name, segment in zip(names, draft.segments, strict=True):
            if name.sha256 not in view.segments:
                self.files.write(self.segment_name(name.sha256), segment.raw)
        return names

    # ---- all that is there

    def pack_files(self) -> Iterator[tuple[Pack, int | None]]:
        """All packs by their files, whether the index knows them or not, and when each was written."""
        under = re.compile(re.escape(self.prefix) + rb"packs(?:/[0-9a-f]{2})?")
        for file in self.files.list(self.prefix + b"packs/", under=under):
            last = file.name.rpartition(b"/")[2]
            if re.fullmatch(rb"[0-9a-f]{64}", last):
                sha256 = bytes.fromhex(last.decode())
                size = file.size
                if size is None:
                    status = self.files.stat(file.name)
                    size = 0 if status is None else status.size
                if file.name == self.pack_name(sha256):
                    yield Pack(sha256, size), file.modified

    def segment_files(self) -> Iterator[tuple[bytes, int | None]]:
        """Sha256 of all segments by their files, and when each was written."""
        under = re.compile(re.escape(self.prefix) + rb"index")
        for file in self.files.list(self.prefix + b"index/", under=under):
            last = file.name.rpartition(b"/")[2]
            if re.fullmatch(rb"[0-9a-f]{64}", last):
                yield bytes.fromhex(last.decode()), file.modified

    def remove_pack(self, sha256: bytes) -> int:
        """Remove the file of a pack, and return its size; 0 when there was none."""
        return self.files.remove(self.pack_name(sha256))

    def rows(self, pack: Pack) -> list[tuple[ChunkId, PackedPlace]]:
        """The chunks of a pack by its own table. :raises FileDamaged: it has none"""
        at, out = 0, []
        for row in self.table(pack):
            out.append((row.id, PackedPlace(pack.sha256, at, row.stored, row.raw)))
            at += row.stored
        return out


class _Gone(Exception):
    """A segment that a head names is not there: somebody has merged it since, and moved the head."""

    def __init__(self, name: bytes) -> None:
        super().__init__(name)
        self.name = name
