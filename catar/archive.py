"""Random access by path, over anything that can read at an offset.

A directory ends in its GOODBYE record, whose last bytes say where the record and the directory begin; so a path is
found from the archive's end inwards, reading one record a component. The lookup tables come from the archive and are
not trusted: every offset is checked to fall inside its parent before it is followed, and the name found there counts.

    >>> archive = Archive(reader)
    >>> with archive.open(b"etc/hostname") as file:
    ...     file.read()
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from catar import goodbye
from catar.decoder import NEED_DATA, Decoder
from catar.errors import CatarError, FormatError, NotFound
from catar.grammar import check_name
from catar.layouts import ENTRY, FILENAME, GOODBYE, GOODBYE_ITEM, HEADER
from catar.ordinary import ordinary_node
from catar.records import Node
from catar.walker import Walker

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Archive", "Expecting", "Located", "NotFound", "PayloadReader", "RandomAccess", "RangeSource"]

_GOODBYE_HEAD = GOODBYE.head.size
_PIECE = 65536
_BATCH = 1024
_EXPECTED = 64
"""Children of a directory that are said to be read soon."""
_ORDINARY = 512
"""Bytes to look for a node in that has little metadata."""
_NODE = 1024
"""Bytes in which the name and the metadata of most nodes have room."""

_pack_header = HEADER.writer("size", "type")
_read_header = HEADER.reader("size", "type")
_ranges = GOODBYE_ITEM.row_reader("offset", "size")


class RandomAccess(Protocol):
    """Bytes of known size that can be read in any order."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, `size` of them or as many as there are."""
        ...


@runtime_checkable
class Expecting(RandomAccess, Protocol):
    """Bytes that are far away, so that it pays to say what will be read."""

    def expect(self, ranges: Sequence[tuple[int, int]], /) -> None:
        """What will be read soon: an offset and a size each."""
        ...


class Located(NamedTuple):
    """Where a node stands in the archive.

    :ivar path: from the root, without a leading slash; empty for the root
    :ivar entry: offset of its ENTRY
    :ivar end: offset of the first byte after the node
    """

    path: bytes
    entry: int
    end: int


class RangeSource:
    """A range of a random access reader as a stream (`catar.walker.ByteSource`).

    :param piece: bytes read at a time
    """

    def __init__(self, reader: RandomAccess, start: int, end: int, piece: int = _PIECE) -> None:
        self._reader = reader
        self._at = start
        self._end = end
        self._piece = piece

    def read(self) -> bytes:
        """The next piece; empty at the end of the range."""
        want = min(self._piece, self._end - self._at)
        if want <= 0:
            return b""
        data = self._reader.read_at(self._at, want)
        self._at += len(data)
        return data

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        self._at += count

    def back(self, count: int) -> None:
        """Go back by `count` bytes."""
        self._at -= count


class PayloadReader(io.RawIOBase):
    """A regular file's contents as a seekable, read-only binary file."""

    def __init__(self, reader: RandomAccess, start: int, size: int) -> None:
        super().__init__()
        self._reader = reader
        self._start = start
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        self._check_open()
        return True

    def seekable(self) -> bool:
        self._check_open()
        return True

    def tell(self) -> int:
        self._check_open()
        return self._at

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check_open()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}
        if whence not in base:
            raise ValueError(f"invalid whence {whence}")
        at = base[whence] + offset
        if at < 0:
            raise ValueError("negative seek position")
        self._at = at
        return at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        want = min(len(view), self._size - self._at)
        if want <= 0:
            return 0
        data = self._reader.read_at(self._start + self._at, want)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


class Archive:
    """An archive whose nodes are looked up by path.

    :param reader: the archive's bytes, from its first to its last
    :param feature_flags: what the archive must have (an index says so), or None
    :raises FormatError: from any method, when the archive is malformed

    Paths are bytes; leading and repeated slashes do not count.
    """

    def __init__(self, reader: RandomAccess, feature_flags: int | None = None) -> None:
        self.reader = reader
        self._flags = feature_flags

    @property
    def feature_flags(self) -> int:
        """The archive's feature flag word."""
        if self._flags is None:
            self._node_at(0, self.reader.size)
        assert self._flags is not None
        return self._flags

    def locate(self, path: bytes = b"") -> Located:
        """Find a node through the lookup tables of its parents.

        :raises NotFound: when there is none
        """
        here = Located(b"", 0, self.reader.size)
        for name in filter(None, path.split(b"/")):
            try:
                child = self.child(here, name)
            except NotFound:  # `here` is not a directory
                child = None
            if child is None:
                raise NotFound(path)
            here = child
        return here

    def node(self, path: bytes = b"") -> Node:
        """The metadata of a node. :raises NotFound: when there is none"""
        where = self.locate(path)
        return self.node_at(where)

    def node_at(self, where: Located) -> Node:
        """The metadata of a located node."""
        node = self._node_at(where.entry, where.end)
        node.name = where.path.rpartition(b"/")[2]
        return node

    def children(self, path: bytes = b"") -> Iterator[Located]:
        """The entries of a directory, in the order of the archive.

        :raises NotFound: when there is no such directory
        """
        yield from self.children_of(self.locate(path))

    def children_of(self, where: Located) -> Iterator[Located]:
        """The entries of a located directory, in the order of the archive. :raises NotFound: when it is none"""
        ranges = self.ranges_of(where)
        for number, (start, end) in enumerate(ranges):
            if not number % _EXPECTED:
                self.expect(ranges[number : number + _EXPECTED])
            name, entry = self._filename(start, end)
            yield Located(where.path + b"/" + name if where.path else name, entry, end)

    def ranges_of(self, where: Located) -> list[tuple[int, int]]:
        """Where the entries of a located directory begin and end, in the order of the archive (see `entry_at`).

        :raises NotFound: when it is no directory
        """
        record, count, expected = self._table(where)
        starts: list[tuple[int, int]] = []
        for first in range(0, count, _BATCH):
            size = min(_BATCH, count - first) * goodbye.ITEM_SIZE
            items = self._exactly(record + _GOODBYE_HEAD + first * goodbye.ITEM_SIZE, size)
            for back, length in _ranges(items):
                starts.append(self._item_range(where, record, back, length))
        starts.sort()
        # Entries must fill the directory: overlapping ones would give nested tables exponentially many paths.
        for start, end in [*starts, (record, record)]:
            if start != expected:
                raise FormatError("entries in the lookup table overlap or leave a gap", record)
            expected = end
        return starts

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Say of which entries names and metadata will be read soon; each where it begins and ends."""
        if isinstance(self.reader, Expecting):
            self.reader.expect([(start, min(_NODE, end - start)) for start, end in ranges])

    def entry_at(self, start: int, end: int) -> tuple[Located, Node]:
        """The entry that begins and ends there, as `ranges_of` told, and its metadata; the path is only its name."""
        data = self.reader.read_at(start, min(_ORDINARY, end - start))
        name, entry = self._filename(start, end, data)
        found = self._ordinary(data, entry - start, entry, end, name)
        node = found[0] if found is not None else self._decoded(entry, end)[0]
        node.name = name
        return Located(name, entry, end), node

    def child(self, where: Located, name: bytes) -> Located | None:
        """What a located directory has under a name, None for nothing. :raises NotFound: when it is no directory"""
        record, count, _ = self._table(where)
        items = record + _GOODBYE_HEAD

        def read_item(i: int) -> bytes:
            return self._exactly(items + i * goodbye.ITEM_SIZE, goodbye.ITEM_SIZE)

        for back, length in goodbye.find(read_item, count, name):
            start, end = self._item_range(where, record, back, length)
            found, entry = self._filename(start, end)
            if found == name:
                return Located(where.path + b"/" + name if where.path else name, entry, end)
        return None

    def walk(self, path: bytes = b"") -> Walker:
        """Iterate over a node and everything below it (see `catar.walker.Walker`)."""
        where = self.locate(path)
        return Walker(self.source(where), self.decoder(where), top=where.path)

    def open(self, path: bytes) -> io.BufferedReader:
        """A regular file's contents, seekable; only what is read is fetched.

        :raises NotFound: when there is no such path
        :raises CatarError: when it is not a regular file
        """
        node = self.node(path)
        if not node.is_regular:
            raise CatarError(f"not a regular file: {path.decode('utf-8', 'backslashreplace')}")
        return io.BufferedReader(PayloadReader(self.reader, node.payload_offset, node.size), _PIECE)

    def source(self, where: Located) -> RangeSource:
        """The bytes of a located node as a stream."""
        return RangeSource(self.reader, where.entry, where.end)

    def decoder(self, where: Located) -> Decoder:
        """A decoder for `source(where)`."""
        return Decoder(self._flags, offset=where.entry, any_top=where.entry > 0)

    # Following untrusted offsets

    def _exactly(self, offset: int, size: int) -> bytes:
        data = self.reader.read_at(offset, size)
        if len(data) != size:
            raise FormatError("archive is truncated", offset + len(data))
        return data

    def _node_at(self, entry: int, end: int) -> Node:
        return self._node_and_rest(entry, end)[0]

    def _node_and_rest(self, entry: int, end: int) -> tuple[Node, int]:
        """A node, and the offset of what follows its metadata."""
        found = None
        if entry:
            data = self.reader.read_at(entry, min(_ORDINARY, end - entry))
            found = self._ordinary(data, 0, entry, end, b"")
        return found if found is not None else self._decoded(entry, end)

    def _ordinary(self, data: bytes, at: int, entry: int, end: int, name: bytes) -> tuple[Node, int] | None:
        if self._flags is None:
            return None
        found = ordinary_node(data, at, entry, name, self._flags)
        return found if found is None or found[1] + found[0].size <= end else None

    def _decoded(self, entry: int, end: int) -> tuple[Node, int]:
        decoder = Decoder(self._flags, offset=entry, any_top=entry > 0)
        source = RangeSource(self.reader, entry, end, 4096)
        while True:
            event = decoder.next_event()
            if event is NEED_DATA:
                decoder.receive(source.read())
                continue
            assert isinstance(event, Node)
            self._flags = decoder.feature_flags
            if event.payload_offset + event.size > end:
                raise FormatError("payload runs past the end of its node", event.offset)
            return event, decoder.offset

    def _table(self, where: Located) -> tuple[int, int, int]:
        """Offset of a directory's GOODBYE record, the number of its items, and where its first child must begin."""
        # The kind is read from the ENTRY, not guessed from the tail: a file's contents may imitate a table.
        node, first = self._node_and_rest(where.entry, where.end)
        if not node.is_dir:
            raise NotFound(where.path)
        if where.end - where.entry < ENTRY.head.size + goodbye.record_size(0):
            raise FormatError("archive is truncated", where.end)
        tail_at = where.end - goodbye.TAIL_SIZE
        tail = goodbye.parse_tail(self._exactly(tail_at, goodbye.TAIL_SIZE))
        if tail is None:
            raise FormatError("no lookup table at the end of this directory", tail_at)
        back, size = tail
        record = where.end - size
        if record - back != where.entry or record < where.entry + ENTRY.head.size:
            raise FormatError("lookup table points outside its directory", tail_at)
        if self._exactly(record, HEADER.size) != _pack_header(size, GOODBYE.type):
            raise FormatError("lookup table has no GOODBYE header", record)
        return record, (size - goodbye.record_size(0)) // goodbye.ITEM_SIZE, first

    def _item_range(self, where: Located, record: int, back: int, length: int) -> tuple[int, int]:
        start = record - back
        if not where.entry + ENTRY.head.size <= start < record or not 0 < length <= back:
            raise FormatError("lookup table points outside its directory", record)
        return start, start + length

    def _filename(self, start: int, end: int, data: bytes = b"") -> tuple[bytes, int]:
        """The name in the FILENAME record at `start`, and the offset of the ENTRY after it.

        :param data: what was read there already
        """
        size, type_ = _read_header(data if len(data) > HEADER.size else self._exactly(start, HEADER.size), 0)
        if type_ != FILENAME.type or not FILENAME.accepts(size) or start + size > end:
            raise FormatError("lookup table points to something that is not a FILENAME", start)
        if len(data) < size:
            data = self._exactly(start, size)
        name = data[HEADER.size : size - 1]
        reason = check_name(name) if not data[size - 1] else "file name without its NUL"
        if reason:
            raise FormatError(reason, start)
        return name, start + size
