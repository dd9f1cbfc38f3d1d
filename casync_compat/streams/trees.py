"""Whatever holds a tree - directory, archive, index over a store - opened as one stream of nodes, or by path.

    >>> with Tree(Kind.ARCHIVE_INDEX, b"etc.caidx", store) as tree:
    ...     for step in tree.stream(): ...

It hides where bytes come from; what is done with the nodes is for the verbs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack

from casync_compat.closing import Closing
from casync_compat.errors import UsageError
from casync_compat.fs.losses import Losses
from casync_compat.fs.owners import IdShift
from casync_compat.fs.readers import FileReader, StreamSource
from casync_compat.index import Index, IndexChunk
from casync_compat.kinds import Kind
from casync_compat.store.base import ChunkSource
from casync_compat.store.files import StoredFile
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream, IndexReader
from casync_compat.streams.inputs import Input, StoredArchive, load_index, path_of
from casync_compat.streams.lookahead import SharedReader
from catar.archive import Archive, Located, RangeSource
from catar.decoder import Decoder
from catar.flags import DEFAULT
from catar.walker import ByteSource, TreeStream, Walker

__all__ = ["Tree"]

_PIECE = 256 << 10


class Tree(Closing):
    """An open tree. Use it as a context manager.

    :ivar kind: what it is
    :ivar path: the file or directory, by the name that messages have; None for standard input
    :ivar index: of an archive index, else None
    :param where: the file or directory; None for standard input
    :param contents: False when no payload will be asked for, so that a directory's files are not read in advance
    :param losses: told of what of a directory is not read as it was; None fails at the first
    """

    def __init__(
        self,
        kind: Kind,
        where: Input | None,
        source: ChunkSource | None = None,
        *,
        index: Index | None = None,
        feature_flags: int = DEFAULT,
        shift: IdShift | None = None,
        jobs: int | None = None,
        contents: bool = True,
        losses: Losses | None = None,
    ) -> None:
        if not kind.is_tree:
            raise UsageError(f"a {kind.value} has no files in it")
        self.kind = kind
        self.path = path_of(where)
        self.index: Index | None = None
        self._flags = feature_flags
        self._shift = shift
        self._jobs = jobs
        self._contents = contents
        self._losses = losses
        self._stack = ExitStack()
        self._file: FileReader | None = None
        self._stored: StoredArchive | None = None
        self._fetcher: ChunkFetcher | None = None
        if kind is Kind.ARCHIVE and isinstance(where, StoredFile):
            self._stored = self._stack.enter_context(StoredArchive(where))
        elif kind is Kind.ARCHIVE and isinstance(where, bytes):
            self._file = self._stack.enter_context(FileReader(where))
        elif kind is Kind.ARCHIVE_INDEX:
            if source is None:
                raise UsageError("an index needs a chunk store")
            self.index = index or load_index(where, source)
            self._fetcher = ChunkFetcher(self.index, source, self.path)

    def close(self) -> None:
        """Let go of files and threads."""
        self._stack.close()

    @property
    def size(self) -> int | None:
        """Size of the archive in bytes, None when it is not known beforehand."""
        if self.index is not None:
            return self.index.size
        if self._file is not None and self._file.seekable:
            return self._file.size
        return self._stored.size if self._stored is not None else None

    @property
    def fetcher(self) -> ChunkFetcher | None:
        """Gets the chunks of an archive index; None for other kinds."""
        return self._fetcher

    def archive(self, *, keep: int = 0) -> Archive:
        """The tree by path.

        :param keep: bytes of chunks to keep where files are read for long and side by side, which are then read ahead;
            0 for a look or two
        :raises UsageError: when it cannot be read at any offset
        """
        if self._fetcher is not None and keep:
            reader = self._stack.enter_context(SharedReader(self._fetcher, keep))
            return Archive(reader, self._fetcher.index.feature_flags)
        if self._fetcher is not None:
            return Archive(IndexReader(self._fetcher), self._fetcher.index.feature_flags)
        if self._file is not None and self._file.seekable:
            return Archive(self._file)
        if self._stored is not None:
            return Archive(self._stored.reader())
        raise UsageError("looking up a path needs an archive file or an index, not a stream")

    def locate(self, path: bytes) -> Located:
        """Where a node is. :raises CatarError: `NotFound` when there is none"""
        return self.archive().locate(path)

    def stream(
        self,
        path: bytes = b"",
        *,
        on_chunk: Callable[[IndexChunk], None] | None = None,
        piece: int = _PIECE,
        gaps: Iterable[tuple[int, int]] = (),
    ) -> TreeStream:
        """The nodes of the whole tree, or from `path` inwards.

        :param on_chunk: called for each chunk that was read
        :param piece: bytes to read of an archive file at a time; where it is large, pieces of an index's are, too
        :param gaps: what will be passed over in a whole tree in chunks (`ChunkStream`)
        :raises UsageError: when `path` cannot be looked up in this kind of tree
        """
        if self.kind is Kind.DIRECTORY:
            if path.strip(b"/"):
                raise UsageError(
                    "a path inside is only looked up in archives; name the directory itself instead"
                )
            from casync_compat.fs.scan.scanner import Scanner  # lazily: 8 ms that only directories need

            scanner = Scanner(
                self.path or b".",
                self._flags,
                shift=self._shift,
                contents=self._contents,
                losses=self._losses,
            )
            return self._stack.enter_context(scanner)
        where = self.locate(path) if path.strip(b"/") else None
        return Walker(
            self.bytes(where, on_chunk, piece, gaps),
            self.decoder(where),
            top=where.path if where is not None else b"",
        )

    def decoder(self, where: Located | None = None) -> Decoder:
        """A decoder for `bytes(where)`."""
        flags = self.index.feature_flags if self.index is not None else None
        offset = where.entry if where is not None else 0
        return Decoder(flags, offset=offset, any_top=offset > 0)

    def bytes(
        self,
        where: Located | None = None,
        on_chunk: Callable[[IndexChunk], None] | None = None,
        piece: int = _PIECE,
        gaps: Iterable[tuple[int, int]] = (),
    ) -> ByteSource:
        """The archive's bytes, or those of one located node, as a stream."""
        if self._fetcher is not None:
            start, end = (where.entry, where.end) if where is not None else (0, None)
            joined = piece > _PIECE
            stream = ChunkStream(
                self._fetcher,
                start=start,
                end=end,
                jobs=self._jobs,
                on_chunk=on_chunk,
                joined=joined,
                gaps=gaps,
            )
            return self._stack.enter_context(stream)
        if self._stored is not None:
            if where is None:
                return self._stored.source()
            return RangeSource(self._stored.reader(), where.entry, where.end, piece)
        if self._file is None:
            return StreamSource(0, b"standard input")
        if not self._file.seekable:
            return StreamSource(self._file.fd, self._file.path)
        start, end = (where.entry, where.end) if where is not None else (0, self._file.size)
        return RangeSource(self._file, start, end, piece)
