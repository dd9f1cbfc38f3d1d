"""The chunk store in a local directory (.castr), as casync and desync lay it out.

A chunk is the file ``<first 4 hex digits of its id>/<64 hex digits>.cacnk``, compressed, or the same name
without suffix, uncompressed. Both forms may live side by side, written by different programs. Layout, modes and
lookup order are those of casync 2 (casync `src/castore.c`); stricter, on purpose, in these places:

* a file that is not regular or is empty counts as missing. Files are not synced one by one, so an empty one under a
  final name is what a loss of power leaves behind; the next `put` replaces it;
* the size of a file is checked before it is read;
* `sync` makes a whole run of puts durable with one system call. casync never syncs.

Not here: verifying or repairing a whole store, and deciding what may be removed (``gc``). A damaged chunk is reported,
never replaced: `put` looks at names, not at content.

    >>> store = LocalStore(b"/srv/default.castr")
    >>> store.put(id, raw)
    Put(new=True, stored=1482)
    >>> store.sync()
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from casync_compat.compression import Compression, CompressionError, compress, decompress
from casync_compat.errors import ChunkCorrupt, ChunkMissing, FileError, UsageError, show_path
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import Put, checked

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["LocalStore"]

_SUB_DIRECTORY = re.compile(rb"[0-9a-f]{4}")
_CHUNK_NAME = re.compile(rb"[0-9a-f]{64}")
_TEMPORARY = re.compile(rb"[0-9a-f]{64}.*\.tmp|\.tmp-cacnk.*", re.DOTALL)
"""``<id>.<random>.tmp`` is ours and casync's (`src/castore.c`), ``.tmp-cacnk<random>`` is desync's (`local.go`)."""

_READ_FLAGS = (
    os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
)  # NONBLOCK: a FIFO must not hang
_WRITE_FLAGS = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL
_ABSENT = frozenset(
    {errno.ENOENT, errno.ELOOP, errno.ENXIO}
)  # nothing, a symbolic link, a socket: never a chunk
_OPEN_ATTEMPTS = 4


class LocalStore:
    """A ChunkSource, ChunkSink and Prunable over one directory, which the first `put` makes if it is not there.

    :ivar path: the directory
    :ivar name: the same for messages
    :ivar compression: how new chunks are written; whatever is there is read
    """

    def __init__(
        self, path: bytes, *, compression: Compression = Compression.ZSTD, suffix: bytes = b".cacnk"
    ) -> None:
        """
        :param suffix: what compressed chunk files end in; casync has `CASYNC_COMPRESSED_CHUNK_SUFFIX` for it
        :raises UsageError: `path` or `suffix` cannot be used
        """
        if not path or b"\0" in path:
            raise UsageError("the path of a chunk store is empty or has a NUL in it")
        if not suffix or b"/" in suffix or b"\0" in suffix or suffix.endswith(b".tmp"):
            raise UsageError(f"{show_path(suffix) or 'nothing'} cannot be the suffix of compressed chunks")
        self.path = path
        self.name = show_path(path)
        self.compression = compression
        self._suffix = suffix
        self._prefix = path if path.endswith(b"/") else path + b"/"
        self._lock = threading.Lock()
        self._root_fd: int | None = None
        self._unsynced = False
        self._mostly_packed = compression is not Compression.NONE
        self._lost: OSError | None = None

    def close(self) -> None:
        """Let go of the directory, which keeps its file system busy. The store stays usable: it opens it again."""
        with self._lock:
            fd, self._root_fd = self._root_fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        with suppress(Exception):  # half-made objects, and a module table emptied at exit
            self.close()

    # ---- reading

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        damage: ChunkCorrupt | None = None
        plain, packed = self._paths(id)
        for path in (plain, packed):
            try:
                stored = self._read(path, limit if path is plain else limit + limit // 8 + (64 << 10))
                if stored is None:
                    continue
                return checked(id, digest, stored if path is plain else decompress(stored, limit), self.name)
            except CompressionError as e:
                damage = damage or ChunkCorrupt(id, self.name, str(e))
            except ChunkCorrupt as e:
                damage = damage or e
        if damage is not None:
            try:
                raise damage
            finally:
                del damage  # or the error and this frame, buffers and all, keep each other alive
        raise ChunkMissing(id, self.name)

    def get_many(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> list[bytes]:
        found = [self._unchecked(id, limit) for id, limit in wanted]
        ids = iter(digest.of_many([raw for raw in found if raw is not None]))
        # Anything strange is left to `get`, which looks at every form of the chunk before it complains.
        return [
            raw if raw is not None and next(ids) == id else self.get(id, digest, limit)
            for raw, (id, limit) in zip(found, wanted, strict=True)
        ]

    def _unchecked(self, id: ChunkId, limit: int) -> bytes | None:
        """The content of a chunk in the form that it is likely to have; None when it is not one of a good form."""
        plain, packed = self._paths(id)
        try:
            for form in (packed, plain) if self._mostly_packed else (plain, packed):
                stored = self._read(form, limit if form is plain else limit + limit // 8 + (64 << 10))
                if stored is not None:
                    self._mostly_packed = form is packed
                    return stored if form is plain else decompress(stored, limit)
        except CompressionError:
            pass
        return None

    def has(self, id: ChunkId) -> bool:
        return self._look(id) is not None

    def keep(self, id: ChunkId, durable_before: int = 0) -> bool:
        """`has`; and if so, after `sync` the chunk is as durable as one that was just put.

        :param durable_before: nanoseconds since 1970; what was there before that moment is durable already
        """
        status = self._look(id)
        if status is None:
            return False
        if status.st_ctime_ns >= durable_before:
            self._unsynced = True  # as in `put`: whoever wrote it may not have synced
        return True

    def _look(self, id: ChunkId) -> os.stat_result | None:
        """About the file of a chunk, None if there is none."""
        plain, packed = self._paths(id)
        for path in (packed, plain) if self._mostly_packed else (plain, packed):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            except OSError as e:
                raise self._error(path, "look for a chunk", e) from e
            if stat.S_ISREG(status.st_mode) and status.st_size > 0:
                return status
        return None

    def _paths(self, id: ChunkId) -> tuple[bytes, bytes]:
        name = id.hex().encode("ascii")
        plain = self._prefix + name[:4] + b"/" + name
        return plain, plain + self._suffix

    def _read(self, path: bytes, most: int) -> bytes | None:
        """The content of a chunk file, or None if there is none.

        :raises CompressionError: it has more than `most` bytes
        """
        try:
            fd = os.open(path, _READ_FLAGS)
        except OSError as e:
            if e.errno in _ABSENT:
                return None
            raise self._error(path, "open", e) from e
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
                return None
            if status.st_size > most:
                raise CompressionError(
                    f"its file has {status.st_size} bytes, more than the {most} it may have"
                )
            return _read_all(fd, status.st_size)
        except OSError as e:
            raise self._error(path, "read", e) from e
        finally:
            os.close(fd)

    # ---- writing

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        if memoryview(data).nbytes == 0:
            raise UsageError("a chunk has at least one byte")
        if self.has(id):
            self._unsynced = (
                True  # whoever wrote it may not have synced: a run that was killed, or one still going on
            )
            return Put(False, 0)
        plain, packed = self._paths(id)
        if self.compression is Compression.NONE:
            target, content = plain, memoryview(data).cast("B")
        else:
            target, content = packed, memoryview(compress(self.compression, data))
        try:
            self._write(plain, target, content)
        except OSError as e:
            raise self._error(self.path, "store a chunk", e) from e
        return Put(True, content.nbytes)

    def sync(self) -> None:
        with self._lock:  # to the end: a second caller must not return before the first one's writes are down
            if self._unsynced:
                self._unsynced = False
                try:
                    # Covers the chunk files, their directories, and the store's own entry in its parent.
                    _sync_file_system(self._held_root())
                except OSError as e:
                    # The kernel reports a failed write once and forgets it; trying again would succeed and be a lie.
                    self._lost = e
        if self._lost is not None:
            raise FileError(self.path, "make the stored chunks durable", self._lost) from self._lost

    def _write(self, plain: bytes, target: bytes, content: memoryview) -> None:
        temporary = plain + b"." + os.urandom(8).hex().encode("ascii") + b".tmp"
        fd = self._create(temporary)
        try:
            try:
                if self._root_fd is None:
                    with self._lock:
                        self._held_root()
                _write_all(fd, content)
            finally:
                os.close(fd)
            # Losing a race only replaces a chunk by itself, so no need for RENAME_NOREPLACE.
            os.rename(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        self._unsynced = True  # only now: a sync() that runs meanwhile must not take this chunk for done

    def _create(self, temporary: bytes) -> int:
        # Try first, make directories when they are missing: one call in the usual case, and it also recovers when
        # a remove() in another process has just taken the emptied directory away.
        for _ in range(_OPEN_ATTEMPTS):
            try:
                return os.open(temporary, _WRITE_FLAGS, 0o444)
            except FileNotFoundError:
                self._make_directory(os.path.dirname(temporary))
        return os.open(temporary, _WRITE_FLAGS, 0o444)

    def _make_directory(self, path: bytes) -> None:
        with suppress(FileExistsError):
            try:
                os.mkdir(path)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(self.path)  # one level only, as casync: a mistyped path must not grow a tree
                os.mkdir(path)

    def _held_root(self) -> int:
        """The descriptor of the directory, kept from before the first byte was written. Call with the lock held.

        syncfs(2) reports the write errors since its descriptor was opened, so one opened for the call would miss them.
        """
        if self._root_fd is None:
            self._root_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._root_fd

    # ---- listing and removing

    def ids(self) -> Iterator[ChunkId]:
        for sub in self._sub_directories():
            found = set()
            for entry in self._files(sub):
                name = entry.removesuffix(self._suffix)
                if name.startswith(sub) and _CHUNK_NAME.fullmatch(name):
                    found.add(name)
            for name in sorted(found):
                yield ChunkId.from_hex(name.decode("ascii"))

    def stale_temps(self) -> Iterator[bytes]:
        """Paths of temporary files, left by a run that was killed or in use by one that is not: look at their age.

        :raises FileError: the store could not be read
        """
        for sub in self._sub_directories():
            for entry in self._files(sub):
                if _TEMPORARY.fullmatch(entry):
                    yield self._prefix + sub + b"/" + entry

    def remove(self, id: ChunkId) -> int:
        freed = 0
        plain, packed = self._paths(id)
        for path in (plain, packed):
            try:
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode):
                    os.unlink(path)
                    freed += status.st_size
            except FileNotFoundError:
                continue
            except OSError as e:
                raise self._error(path, "remove", e) from e
        with suppress(OSError):  # almost always not empty; and a directory left behind harms nobody
            os.rmdir(os.path.dirname(plain))
        return freed

    def _sub_directories(self) -> list[bytes]:
        # By name and type, without following links: scandir() never yields "." and "..", which casync's gc walks.
        try:
            with os.scandir(self.path) as entries:
                found = [
                    e.name
                    for e in entries
                    if _SUB_DIRECTORY.fullmatch(e.name) and e.is_dir(follow_symlinks=False)
                ]
        except FileNotFoundError:
            return []
        except OSError as e:
            raise self._error(self.path, "list", e) from e
        return sorted(found)

    def _files(self, sub: bytes) -> list[bytes]:
        path = self._prefix + sub
        try:
            with os.scandir(path) as entries:
                return sorted(e.name for e in entries if e.is_file(follow_symlinks=False))
        except FileNotFoundError:  # removed since
            return []
        except OSError as e:
            raise self._error(path, "list", e) from e

    def _error(self, path: bytes, op: str, cause: OSError) -> FileError:
        if cause.errno == errno.ENOTDIR and not os.path.isdir(self.path):
            return FileError(self.path, "use as a chunk store", "it is not a directory")
        return FileError(path, op, cause)


def _read_all(fd: int, size: int) -> bytes:
    data = os.read(fd, size)
    while (
        len(data) < size
    ):  # network file systems may return less; a file that shrinks is found out by its digest
        more = os.read(fd, size - len(data))
        if not more:
            break
        data += more
    return data


def _write_all(fd: int, content: memoryview) -> None:
    done = os.write(fd, content)
    while done < content.nbytes:  # a full disk takes what fits, and the next call says ENOSPC
        done += os.write(fd, content[done:])


def _sync_file_system(fd: int) -> None:
    """syncfs(2), which Python does not offer, or sync(2) where the C library or kernel lacks it."""
    import ctypes  # lazily: 10 ms that only writers need to pay

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
    elif libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        if number != errno.ENOSYS:
            raise OSError(number, os.strerror(number))
        os.sync()
