"""The pages: what a request asks for is read, as far as whoever asks may read it, and made a page of.

Nothing is told of stores and archives that may not be read, not even that they are there. What is read of them is
bounded: directories come a page at a time, few indexes are counted, and requests
beyond some dozens are told to come back.
"""

from __future__ import annotations

import asyncio
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from urllib.parse import unquote_to_bytes

from casync_compat.errors import CasyncError, ChunkMissing, NotFound
from casync_compat.index import MAX_INDEX_SIZE, Index
from casync_compat.kinds import Kind
from casync_compat.serve.access import Grant
from casync_compat.serve.files import file_reply, file_tag
from casync_compat.serve.pages import views
from casync_compat.serve.pages.naming import content_type, disposition
from casync_compat.serve.pages.picture import count
from casync_compat.serve.pages.style import STYLE
from casync_compat.serve.pages.views import Shown, StoreShown
from casync_compat.serve.replies import Field, Reply, http_date, text
from casync_compat.serve.requests import WebRequest
from casync_compat.serve.settings import DEFAULT, FILES, Served
from casync_compat.store.base import ChunkSource
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import ONLY_HERE, Can, Files, FileStatus, Listed, StoredFile, check_name
from casync_compat.store.layered import Layered
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.assemble import ChunkFetcher, IndexReader
from casync_compat.streams.filetree import ArchiveFiles, FileStat
from casync_compat.streams.trees import Tree
from catar.errors import CatarError

__all__ = ["Looking"]

POLICY = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'none'; base-uri 'none'; "
    b"frame-ancestors 'none'",
)
_SAFE: tuple[Field, ...] = (
    POLICY,
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_HTML = (b"content-type", b"text/html; charset=utf-8")
_WHAT = {
    Kind.ARCHIVE: "archive",
    Kind.ARCHIVE_INDEX: "index of an archive",
    Kind.BLOB_INDEX: "index of a blob",
}
_ENTRIES = 500
"""Entries of a directory on a page."""
_LISTED = 1000
"""Files on the first page."""
_READ = 100
"""Indexes that are read for it."""
_SMALL = 4 << 20
"""Bytes of an index that is read for it."""
_COMPARED = 24
_OPEN = 16
"""Archives that stay open."""
_THREADS = 4
_WAITING = 64
_PIECE = 256 << 10
_PATIENCE = 0.5
"""Seconds that a page waits for a store to be counted."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """An archive, or the index of a blob.

    :ivar tag: changes with the file
    :ivar tree: None for a blob
    """

    shown: Shown
    tag: bytes
    tree: ArchiveFiles | None
    index: Index | None = None
    reader: IndexReader | None = None


class Looking:
    """`serve.application.Pages`.

    :param tell: called with a line when something is wrong that no visitor is told in full
    """

    def __init__(self, served: Served, tell: Callable[[str], None] = lambda line: None) -> None:
        self._served = served
        self._tell = tell
        self._threads = ThreadPoolExecutor(_THREADS, "pages")
        self._counting = ThreadPoolExecutor(1, "counting")
        self._waiting = 0
        self._closed = False
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[bytes, bytes, frozenset[str]], _Opened] = OrderedDict()
        self._indexes: OrderedDict[Listed, tuple[int, int]] = OrderedDict()
        self._counts: dict[str, Future[tuple[int, int] | None]] = {}

    def close(self) -> None:
        """End its threads."""
        self._closed = True
        for threads in (self._threads, self._counting):
            threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: WebRequest, path: bytes, grant: Grant) -> Reply | None:
        """The page at a path; None where there is none, or nothing of it may be seen."""
        if path == b"/-/style.css":
            return Reply(200, [(b"content-type", b"text/css; charset=utf-8"), _kept(300), *_SAFE], STYLE)
        pages = {
            b"/": self._home,
            b"/-/tree": self._tree,
            b"/-/file": self._file,
            b"/-/sharing": self._sharing,
        }
        page = pages.get(path)
        if page is None or not self._sees_any(grant):
            return None
        if path != b"/" and not self._sees_files(grant):
            return None
        if self._waiting >= _WAITING:
            return text(503, "too many requests are waiting", (b"retry-after", b"1"))
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._page, page, request, grant)
        finally:
            self._waiting -= 1

    def _page(
        self,
        page: Callable[[WebRequest, dict[bytes, bytes], Grant], Reply],
        request: WebRequest,
        grant: Grant,
    ) -> Reply:
        """Runs on a thread."""
        try:
            return page(request, _query(request.query), grant)
        except NotFound:
            return _sorry(404, "Not found", "There is nothing of this name.")
        except ChunkMissing as error:
            self._tell(str(error))
            return _sorry(
                404, "A chunk is missing", "The store that you may read does not have all that this needs."
            )
        except (CasyncError, CatarError) as error:
            self._tell(str(error))
            return _sorry(500, "This cannot be read", "The server's log says why.")

    # ---- what may be seen

    def _stores(self, grant: Grant) -> list[str]:
        return [name for name in self._served.stores if grant.may_read(name)]

    def _sees_files(self, grant: Grant) -> bool:
        return self._served.files is not None and grant.may_read(FILES)

    def _sees_any(self, grant: Grant) -> bool:
        return bool(self._stores(grant)) or self._sees_files(grant)

    @property
    def _files(self) -> Files:
        assert self._served.files is not None
        return self._served.files

    # ---- pages

    def _home(self, request: WebRequest, query: dict[bytes, bytes], grant: Grant) -> Reply:
        stores = [self._store(name) for name in self._stores(grant)]
        shown: list[Shown] | None = None
        note = ""
        if self._sees_files(grant):
            shown = []
            if Can.LIST not in self._files.can:
                note = "The place that they are in cannot be listed. Whoever knows a name can fetch it."
            else:
                found, more = self._listed()
                shown = [self._shown(file, number < _READ) for number, file in enumerate(found)]
                note = f"Only the first {_LISTED} are shown." if more else ""
        return _html(views.home(stores, shown, note))

    def _listed(self) -> tuple[list[Listed], bool]:
        """The indexes and archives, and whether there are more."""
        files = (one for one in self._files.list(under=ONLY_HERE) if Kind.of_suffix(one.name) in _WHAT)
        found = list(islice((one for one in files if b"/" not in one.name), _LISTED + 1))
        return found[:_LISTED], len(found) > _LISTED

    def _shown(self, file: Listed, look: bool) -> Shown:
        kind = Kind.of_suffix(file.name)
        assert kind is not None
        content = chunks = None
        if not kind.is_index:
            content = file.size
        elif look and (known := self._summary(file)) is not None:
            content, chunks = known
        return Shown(file.name, _WHAT[kind], file.size, file.modified, content, chunks)

    def _summary(self, file: Listed) -> tuple[int, int] | None:
        """The size of what an index describes, and the number of its chunks; None where it is not looked at."""
        known = self._indexes.get(file)
        if known is None and file.size is not None and file.size <= _SMALL:
            with suppress(CasyncError):
                index = self._read(file.name)
                known = self._indexes[file] = (index.size, len(index))
                while len(self._indexes) > 4 * _READ:
                    self._indexes.popitem(last=False)
        return known

    def _read(self, name: bytes) -> Index:
        content = self._files.read(name, MAX_INDEX_SIZE)
        if content is None:
            raise _absent(name)
        return Index.parse(content, name)

    def _store(self, name: str) -> StoreShown:
        source = self._served.stores[name]
        path = "/" if name == DEFAULT else f"/{name}/"
        if not isinstance(source, ChunkStore) or not source.files.near:
            return StoreShown(name, path, None, "not counted")
        with self._lock:
            counting = self._counts.get(name)
            if counting is None:
                counting = self._counts[name] = self._counting.submit(self._count, source)
        try:
            counted = counting.result(_PATIENCE)
        except NotYet:
            return StoreShown(name, path, None, "being counted")
        except CasyncError as error:
            self._tell(str(error))
            return StoreShown(name, path, None, "cannot be counted")
        finally:
            if counting.done():  # the next visitor has it counted anew
                self._counts.pop(name, None)
        return StoreShown(name, path, counted, "not counted" if counted is None else "")

    def _count(self, store: ChunkStore) -> tuple[int, int] | None:
        """Runs on a thread of its own."""
        chunks = size = 0
        for _ in store.ids():
            chunks += 1
            if self._closed:
                return None
        for file in store.files.list():
            size += file.size or 0
            if self._closed:
                return None
        return chunks, size

    def _tree(self, request: WebRequest, query: dict[bytes, bytes], grant: Grant) -> Reply:
        opened = self._opened(query, grant)
        if opened.tree is None:
            assert opened.index is not None
            return _html(views.blob(opened.shown, len(set(opened.index.ids()))))
        found = opened.tree.stat(query.get(b"at", b""), follow=b"nofollow" not in query)
        if not found.is_dir:
            return _html(views.file(opened.shown.name, found))
        start = _whole(query.get(b"from", b"0"))
        children = list(islice(opened.tree.children(found.path), start, start + _ENTRIES + 1))
        more = start + _ENTRIES if len(children) > _ENTRIES else None
        return _html(views.directory(opened.shown.name, found, children[:_ENTRIES], start, more))

    def _file(self, request: WebRequest, query: dict[bytes, bytes], grant: Grant) -> Reply:
        opened = self._opened(query, grant)
        if opened.tree is None:
            assert opened.reader is not None
            name, size = opened.shown.name.rpartition(b"/")[2].rpartition(b".")[0], opened.reader.size
            return _download(request, name, size, opened.tag, None, _blob_pieces(opened.reader))
        found = opened.tree.stat(query.get(b"at", b""))
        if found.kind != stat.S_IFREG:
            return _sorry(404, "This is no file", "Only files can be downloaded.")
        said = repr((opened.tag, found.path, found.size, found.mtime))
        tag = b'"%s"' % sha256(said.encode()).hexdigest()[:24].encode()
        pieces = _file_pieces(opened.tree, found)
        return _download(request, found.name, found.size, tag, found.mtime, pieces)

    def _sharing(self, request: WebRequest, query: dict[bytes, bytes], grant: Grant) -> Reply:
        if Can.LIST not in self._files.can:
            return _sorry(404, "Not found", "The place that indexes are in cannot be listed.")
        found = [file for file in self._listed()[0] if file.name.endswith((b".caidx", b".caibx"))]
        some = [file for file in found if file.size is not None and file.size <= _SMALL][:_COMPARED]
        counted = count((file.name, index) for file in some for index in self._readable(file.name))
        return _html(views.sharing(counted, len(found) - len(counted.rows)))

    def _readable(self, name: bytes) -> list[Index]:
        try:
            return [self._read(name)]
        except CasyncError as error:
            self._tell(str(error))
            return []

    # ---- archives

    def _opened(self, query: dict[bytes, bytes], grant: Grant) -> _Opened:
        """:raises NotFound: there is none of that name"""
        name = query.get(b"in", b"")
        kind = Kind.of_suffix(name)
        try:
            check_name(name)
        except ValueError:
            raise _absent(name) from None
        status = self._files.stat(name) if kind in _WHAT else None
        if status is None or kind is None:
            raise _absent(name)
        tag = file_tag(status)
        stores = frozenset(self._stores(grant))
        key = (name, tag or b"", stores)
        with self._lock:
            opened = self._open.get(key) if tag is not None else None
            if opened is not None:
                self._open.move_to_end(key)
                return opened
        opened = self._begin(name, kind, status, tag or b'"unknown"', self._source(stores))
        with self._lock:
            self._open[key] = opened
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return opened

    def _begin(self, name: bytes, kind: Kind, status: FileStatus, tag: bytes, source: ChunkSource) -> _Opened:
        shown = Shown(name, _WHAT[kind], status.size, status.modified)
        if kind is Kind.BLOB_INDEX:
            index = self._read(name)
            shown = Shown(name, shown.what, status.size, status.modified, index.size, len(index))
            return _Opened(shown, tag, None, index, IndexReader(ChunkFetcher(index, source, name)))
        tree = Tree(kind, StoredFile(self._files, name, name), source, jobs=1)
        return _Opened(shown, tag, ArchiveFiles(tree.archive(), name))

    def _source(self, stores: frozenset[str]) -> ChunkSource:
        """The stores that may be read, that without a name first."""
        named = sorted(stores, key=lambda name: (name != DEFAULT, name))
        found = [self._served.stores[name] for name in named]
        if not found:
            return MemoryStore()
        return found[0] if len(found) == 1 else Layered(*found, warn=self._tell)


def _absent(name: bytes) -> NotFound:
    return NotFound(name, "open", FileNotFoundError(2, "No such file or directory"))


def _query(raw: bytes) -> dict[bytes, bytes]:
    """The fields of a query, with any bytes."""
    pairs = (pair.partition(b"=") for pair in raw.split(b"&") if pair)
    return {
        unquote_to_bytes(key.replace(b"+", b" ")): unquote_to_bytes(value.replace(b"+", b" "))
        for key, _, value in pairs
    }


def _whole(value: bytes) -> int:
    return int(value) if value.isdigit() and len(value) < 10 else 0


def _kept(seconds: int) -> Field:
    return b"cache-control", b"private, max-age=%d" % seconds


def _html(content: bytes, status: int = 200) -> Reply:
    return Reply(status, [_HTML, (b"cache-control", b"private, no-store"), *_SAFE], content)


def _sorry(status: int, title: str, why: str) -> Reply:
    return _html(views.sorry(title, why), status)


def _download(
    request: WebRequest,
    name: bytes,
    size: int,
    tag: bytes,
    modified: int | None,
    pieces: Callable[[int, int], Iterator[bytes]],
) -> Reply:
    """A file, or the part of it that is asked for. It is kept, never shown: it may be a page of somebody else's."""
    told = [
        content_type(name),
        disposition(name),
        (b"etag", tag),
        (b"cache-control", b"private, no-cache"),
        *_SAFE,
    ]
    if modified is not None and modified >= 0:
        with suppress(ValueError, OverflowError, OSError):
            told.append((b"last-modified", http_date(modified)))
    return file_reply(request.fields, told, size, tag, None, pieces, head=request.method == "HEAD")


def _blob_pieces(reader: IndexReader) -> Callable[[int, int], Iterator[bytes]]:
    def pieces(start: int, stop: int) -> Iterator[bytes]:
        for at in range(start, stop, _PIECE):
            yield reader.read_at(at, min(_PIECE, stop - at))

    return pieces


def _file_pieces(tree: ArchiveFiles, found: FileStat) -> Callable[[int, int], Iterator[bytes]]:
    def pieces(start: int, stop: int) -> Iterator[bytes]:
        with tree.open(found.path) as file:
            file.seek(start)
            while start < stop and (piece := file.read(min(_PIECE, stop - start))):
                start += len(piece)
                yield piece

    return pieces
