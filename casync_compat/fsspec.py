"""Archives and images as file systems of fsspec, for pandas, pyarrow, DuckDB, Dask and whatever else reads through it.

    >>> fs = fsspec.filesystem("pycasync", fo="https://host/data.caidx")
    >>> pandas.read_parquet(fs.open("2026/sales.parquet"))
    >>> fsspec.open("pycasync://2026/sales.parquet::https://host/data.caidx")
    >>> fsspec.open("pycasync://etc/os-release::docker://host/app:2")

Images, converted or plain, are named as `pycasync oci` names them; what is shown is their layers merged, and of a
converted one only what is read is fetched. Registries want the extra `pycasync[oci]`.
Only what is read is fetched, each chunk checked. Nothing can be written. Names that are not UTF-8 come as Python's own
functions have them (`os.fsdecode`). fsspec itself is no requirement of this package, but of this module: the extra
`pycasync[fsspec]`.
"""

from __future__ import annotations

import io
import os
import re
import stat
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractFileSystem

from casync_compat.api.given import NO_FILE, SourceLocation, open_tree, settings_for, source_of, tree_kind
from casync_compat.closing import Closing
from casync_compat.errors import CasyncError, FileError, UsageError, naming
from casync_compat.kinds import Kind
from casync_compat.locations import is_remote
from casync_compat.oci.image.files import ImageContents, ImageFiles
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.places.opened import Login, Places
from casync_compat.oci.spec.descriptor import Platform
from casync_compat.oci.spec.reference import LOCAL, Reference, parse_reference
from casync_compat.streams.filetree import ArchiveFiles, FileStat, FileTree, regular
from casync_compat.streams.lookahead import KEPT
from catar.archive import Expecting, RandomAccess

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ArchiveFileSystem", "InRegistry", "InsideFile"]

_AHEAD = 64 << 10
_IMAGE = re.compile(
    r"(?P<base>/.*?/)?(?P<transport>oci|dir|oci-archive|docker-archive):(?P<place>[^/].*|/.*)"
)
"""A name of an image that is a path; fsspec puts the current directory before it where it stands in a chained URL."""
_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


class InRegistry(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Lets fsspec know of `docker://HOST/REPOSITORY:TAG`, behind which images stand in chained URLs."""

    protocol = "docker"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("docker://")

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """An image alone is no file system: :raises UsageError: always"""
        raise UsageError(
            f"docker://{self._strip_protocol(path)}: pycasync://PATH::docker://... reads an image"
        )


class ArchiveFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """What is in an archive, read through an index and a store, or from a .catar file; or what is in an image.

    :param fo: the archive or index: a path, or a locator as command lines take it; or an image, as `oci:DIR:TAG`,
        `docker://HOST/REPOSITORY:TAG` or what else `pycasync oci` takes
    :param store: where an index's chunks are, or several such places; None for `default.castr` beside it. Of an image:
        what is asked for chunks before its packs are
    :param target_protocol: of `fo`, where fsspec took it off, as in chained URLs
    :param kept: bytes of chunks to keep, of an archive
    :param platform: of an image of several, as `linux/arm64`; None for this machine's
    :param insecure: a registry may speak plain HTTP, or TLS that cannot be verified
    :param environ: variables that say where credentials for registries are (`dict(os.environ)`, say); None for no login
    :raises CasyncError: from every method; also a `FileNotFoundError`, or another `OSError`, where files are concerned
    """

    protocol = "pycasync"
    root_marker = ""

    def __init__(
        self,
        fo: str | os.PathLike[str],
        store: SourceLocation | None = None,
        *,
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        kept: int = KEPT,
        platform: str | None = None,
        insecure: bool = False,
        environ: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        where = os.fspath(fo)
        if target_protocol not in (None, "file", "local") and "://" not in where:
            where = f"{target_protocol}://{where}"
        held = ExitStack()
        self._closer = weakref.finalize(self, held.close)
        image = _image_at(where)
        self._source: _ArchiveSource | _ImageSource
        if image is not None:
            self._source = _ImageSource(image, store, platform, insecure, environ, held)
            where = str(image)
        else:
            where = where if is_remote(where) else os.path.abspath(where)  # workers may be elsewhere
            self._source = _ArchiveSource(where, store, kept, held)
        self._files: FileTree = self._source.files
        self._where = where

    @property
    def fsid(self) -> str:
        """What is the same for the same archive, or image."""
        return f"pycasync-{self._where}"

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """What is known of a path; of a symlink, what it leads to, and `islink`."""
        return self._described(self._files.stat(_bytes(self._strip_protocol(path)), follow=False))

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """What is in a directory, or the file itself."""
        raw = _bytes(self._strip_protocol(path))
        found = self._files.stat(raw)
        entries = (
            [self._described(each) for each in self._files.children(raw)]
            if found.is_dir
            else [self.info(path)]
        )
        return entries if detail else [each["name"] for each in entries]

    def modified(self, path: str) -> datetime:
        """When a file was changed last, before it was archived."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """A file's contents, or a part; numbers below zero count from its end."""
        reader, at, size = self._contents(path)
        begin, stop, _ = slice(start, end).indices(size)
        return reader.read_at(at + begin, max(stop - begin, 0))

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **options: Any,
    ) -> list[Any]:
        """Parts of files, all of which are asked for at once."""
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        begins: Sequence[int | None] = starts if isinstance(starts, list) else [starts] * len(paths)
        stops: Sequence[int | None] = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(paths) == len(begins) == len(stops):
            raise ValueError("there must be as many starts and ends as paths")
        known: dict[str, tuple[RandomAccess, int, int] | CasyncError] = {}
        for path in paths:
            if path not in known:
                try:
                    known[path] = self._contents(path)
                except CasyncError as error:
                    known[path] = error
        wanted = []
        for path, start, end in zip(paths, begins, stops, strict=True):
            found = known[path]
            if not isinstance(found, CasyncError):
                begin, stop, _ = slice(start, end).indices(found[2])
                wanted.append((found[0], found[1] + begin, max(stop - begin, 0)))
        self._source.expect(wanted)
        out: list[Any] = []
        for path, start, end in zip(paths, begins, stops, strict=True):
            try:
                out.append(self.cat_file(path, start, end))
            except Exception as error:
                if on_error != "return":
                    raise
                out.append(error)
        return out

    def _open(self, path: str, mode: str = "rb", **options: Any) -> InsideFile:
        if mode != "rb":
            raise FileError(self._where, f"write {path} in", "archives and images are only read")
        return InsideFile(self, path, *self._contents(path))

    def _contents(self, path: str) -> tuple[RandomAccess, int, int]:
        """What holds a file's contents, from which offset on, and how many bytes."""
        return self._source.contents(_bytes(self._strip_protocol(path)))

    def _described(self, entry: FileStat) -> dict[str, Any]:
        meant = entry
        if entry.kind == stat.S_IFLNK:
            try:
                meant = self._files.stat(entry.path)
            except FileError:  # leads nowhere
                meant = entry
        described: dict[str, Any] = {
            "name": os.fsdecode(entry.path),
            "size": meant.size,
            "type": _TYPES.get(meant.kind, "other"),
            "mtime": meant.mtime / 1e9,
            "mode": meant.kind | meant.mode,
            "uid": meant.uid,
            "gid": meant.gid,
            "islink": entry.kind == stat.S_IFLNK,
        }
        if entry.kind == stat.S_IFLNK:
            described["destination"] = os.fsdecode(entry.target)
        return described


class _ArchiveSource:
    """An open archive, let go of with `held`."""

    def __init__(self, where: str, store: SourceLocation | None, kept: int, held: ExitStack) -> None:
        kind = tree_kind(where, None)
        if kind is Kind.DIRECTORY:
            raise UsageError(f"{where}: a directory is read without this")
        tree = held.enter_context(open_tree(where, kind, store))
        self._name = os.fsencode(where)
        with naming(self._name):
            self._archive = tree.archive(keep=kept)
        self.files = ArchiveFiles(self._archive, self._name)

    def contents(self, path: bytes) -> tuple[RandomAccess, int, int]:
        with naming(self._name):
            node = self._archive.node(regular(self.files, path).path)
        return self._archive.reader, node.payload_offset, node.size

    def expect(self, wanted: Sequence[tuple[RandomAccess, int, int]]) -> None:
        reader = self._archive.reader
        if isinstance(reader, Expecting):
            reader.expect([(offset, size) for _, offset, size in wanted])


class _ImageSource:
    """An open image, let go of with `held`."""

    def __init__(
        self,
        image: Reference,
        store: SourceLocation | None,
        platform: str | None,
        insecure: bool,
        environ: Mapping[str, str] | None,
        held: ExitStack,
    ) -> None:
        places = held.enter_context(Places(environ=environ or {}, login=Login(insecure)))
        chunks = None if store is None else source_of(store, NO_FILE, settings_for())
        if isinstance(chunks, Closing):
            held.enter_context(chunks)
        tree = ImageTree.open(
            places.readable(image),
            image.target,
            where=str(image),
            platform=None if platform is None else Platform.parse(platform),
            store=chunks,
            shared=True,
        )
        held.enter_context(tree)
        assert tree.tree  # malformed layers are told of now
        self.files = ImageFiles(tree)

    def contents(self, path: bytes) -> tuple[RandomAccess, int, int]:
        found = self.files.contents(path)
        return found, 0, found.size

    def expect(self, wanted: Sequence[tuple[RandomAccess, int, int]]) -> None:
        self.files.expect(
            (contents, offset, size)
            for contents, offset, size in wanted
            if isinstance(contents, ImageContents)
        )


class _Position(threading.local):
    """Where each thread is."""

    at: int | None = None


class InsideFile(io.RawIOBase):
    """A file in an archive: read-only, seekable, and without a buffer, since chunks are kept below.

    Threads may share one: each has a position of its own, and begins where the file was moved to last.
    """

    mode = "rb"

    def __init__(self, fs: ArchiveFileSystem, path: str, reader: RandomAccess, start: int, size: int) -> None:
        super().__init__()
        self.fs = fs
        self.path = path
        self.size = size
        self._reader = reader
        self._start = start
        self._last = 0
        self._own = _Position()

    @property
    def details(self) -> dict[str, Any]:
        """What `fs.info` says of it."""
        return self.fs.info(self.path)

    def info(self) -> dict[str, Any]:
        """The same."""
        return self.details

    def readable(self) -> bool:
        self._check()
        return True

    def seekable(self) -> bool:
        self._check()
        return True

    def tell(self) -> int:
        self._check()
        return self._last if self._own.at is None else self._own.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.size}
        if whence not in base:
            raise ValueError(f"invalid whence {whence}")
        if base[whence] + offset < 0:
            raise ValueError("negative seek position")
        return self._move(base[whence] + offset)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._at(self.tell(), len(view))
        view[: len(data)] = data
        self._move(self.tell() + len(data))
        return len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        data = self._at(at, self.size if size is None or size < 0 else size)
        self._move(at + len(data))
        return data

    def readall(self) -> bytes:
        return self.read()

    def read1(self, size: int = -1, /) -> bytes:
        """As `read`, but not all at once where no size is given."""
        return self.read(size if size >= 0 else _AHEAD)

    def peek(self, size: int = 0, /) -> bytes:
        """Bytes that come next; the position stays."""
        return self._at(self.tell(), max(size, _AHEAD))

    def _at(self, at: int, size: int) -> bytes:
        size = min(size, self.size - at)
        return self._reader.read_at(self._start + at, size) if size > 0 else b""

    def _move(self, at: int) -> int:
        self._own.at = self._last = at
        return at

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def _bytes(path: str) -> bytes:
    return os.fsencode(path)


def _image_at(where: str) -> Reference | None:
    """The image of this name, by its absolute path; None for what is an archive, if anything."""
    if where.startswith(("docker://", *(f"{transport}:" for transport in LOCAL))):
        return parse_reference(where)
    found = _IMAGE.fullmatch(where)
    if found is None or os.path.lexists(where):
        return None
    place = os.path.join(found["base"] or os.getcwd(), found["place"])
    return parse_reference(f"{found['transport']}:{place}")
