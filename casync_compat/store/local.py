"""A directory as a place of files, and the chunk store in one (.castr), as casync and desync lay it out.

Modes are those of casync 2 (casync `src/castore.c`); stricter, on purpose, in these places:

* what is not a regular file counts as missing;
* a file has no name until it is complete, where the file system can do that: a run that is killed leaves nothing;
* `sync` makes a whole run of writes durable with one system call. casync never syncs.

Not here: what the files mean (`store.chunks` knows chunks).

    >>> store = LocalStore(b"/srv/default.castr")
    >>> store.put(id, raw)
    Put(new=True, stored=1482)
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING

from casync_compat.compression import Compression
from casync_compat.errors import FileError, UsageError, show_path
from casync_compat.fs.descriptors import read_all, read_in_memory, write_all
from casync_compat.fs.exclusive import alone_in, place, renew
from casync_compat.fs.inode_flags import on_private_fs
from casync_compat.fs.syncfs import sync_file_system
from casync_compat.fs.unnamed import NAMELESS, give_name, open_unnamed
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import Can, FileChanged, FileDamaged, Files, FileStatus, Listed, Version
from casync_compat.store.tidy import TidyFiles

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["LocalFiles", "LocalStore"]

_TEMPORARY = rb"(?s:[0-9a-f]{64}.*\.tmp|\.tmp-cacnk.*)"
"""``<id>….<random>.tmp`` is ours and casync's (`src/castore.c`), ``.tmp-cacnk<random>`` is desync's (`local.go`)."""

# NONBLOCK: a FIFO must not hang
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_WRITE_FLAGS = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL
_ABSENT = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO})  # nothing, a symlink, a socket: no file of ours
_OPEN_ATTEMPTS = 16


class LocalFiles(Files):
    """The files in a directory, which the first `write` makes if it is not there.

    :ivar path: the directory
    :ivar name: the same for messages
    :param what: what messages call one file
    :param mode: of new files, before the umask
    """

    can = Can.RANGE | Can.LIST | Can.WRITE | Can.SWAP | Can.DATES
    near = True
    name: str = ""

    def __init__(self, path: bytes, *, what: str = "file", mode: int = 0o666) -> None:
        if not path or b"\0" in path:
            raise UsageError(f"the path of a {what} store is empty or has a NUL in it")
        self.path = path
        self.name = show_path(path)
        self._what = what
        self._mode = mode
        self._prefix = path if path.endswith(b"/") else path + b"/"
        self._lock = threading.Lock()
        self._root_fd: int | None = None
        self._unnamed = True  # until the file system says that it has no files without a name
        self._tells = True  # alike, that it cannot tell what is in memory
        self._unsynced = False
        self._lost: OSError | None = None

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        return (self.path,)

    @property
    def one_kernel(self) -> bool:
        return on_private_fs(self.path)

    def close(self) -> None:
        """Let go of the directory, which keeps its file system busy. It is opened again when needed."""
        with self._lock:
            fd, self._root_fd = self._root_fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        with suppress(Exception):  # half-made objects, and a module table emptied at exit
            self.close()

    # ---- reading

    def read(self, name: bytes, limit: int) -> bytes | None:
        path = self._prefix + name
        fd = self._open(path)
        if fd is None:
            return None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return None
            if status.st_size > limit:
                raise FileDamaged(
                    name,
                    self.name,
                    f"its file has {status.st_size} bytes, more than the {limit} it may have",
                )
            return read_all(fd, status.st_size)
        except OSError as e:
            raise self._error(path, "read", e) from e
        finally:
            os.close(fd)

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        path = self._prefix + name
        fd = self._open(path)
        if fd is None:
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            data = os.pread(fd, size, offset)
            while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
                data += more  # as in `read_all`
            return data
        except OSError as e:
            raise self._error(path, "read", e) from e
        finally:
            os.close(fd)

    def _open(self, path: bytes) -> int | None:
        try:
            return os.open(path, _READ_FLAGS)
        except OSError as e:
            if e.errno in _ABSENT:
                return None
            raise self._error(path, "open", e) from e

    def stat(self, name: bytes) -> FileStatus | None:
        path = self._prefix + name
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise self._error(path, f"look for a {self._what}", e) from e
        if not stat.S_ISREG(status.st_mode):
            return None
        return _status(status)

    def peek(self, name: bytes, size: int) -> tuple[FileStatus, bytes] | None:
        return self._peek(name, lambda fd, there: os.pread(fd, min(size, there), 0))

    def in_memory(self, name: bytes, size: int) -> tuple[FileStatus, bytes] | None:
        """As `peek`, of bytes that no disk is needed for. :raises FileError: EAGAIN where one is; or other errors"""
        if self._tells:
            try:
                return self._peek(name, lambda fd, there: read_in_memory(fd, min(size, there)))
            except FileError as e:
                if e.errno != errno.EOPNOTSUPP:
                    raise
                self._tells = False
        return self.peek(name, size)

    def _peek(self, name: bytes, read: Callable[[int, int], bytes]) -> tuple[FileStatus, bytes] | None:
        path = self._prefix + name
        fd = self._open(path)  # alone, and not after a `stat`: each call lets go of the interpreter's lock
        if fd is None:
            return None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return None
            return _status(status), read(fd, status.st_size)
        except OSError as e:
            raise self._error(path, "read", e) from e
        finally:
            os.close(fd)

    # ---- writing

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> Version:
        target = self._prefix + name
        temporary = target + b"." + os.urandom(8).hex().encode("ascii") + b".tmp"
        at_once = not if_absent and if_version is None
        try:
            try:
                version, placed = self._put_down(temporary, target if at_once else None, data)
                if at_once and not placed:
                    os.rename(temporary, target)
                elif not placed:
                    with alone_in(self.path):
                        found = self.stat(name)
                        if if_version != (None if found is None else found.version):
                            raise FileChanged(name, self.name)
                        place(temporary, target, new=if_absent)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
        except FileExistsError as e:
            raise FileChanged(name, self.name) from e
        except OSError as e:
            path = target if e.errno == errno.EISDIR else self.path
            raise self._error(path, f"store a {self._what}", e) from e
        self._unsynced = True  # only now: a sync() that runs meanwhile must not take this file for done
        return version

    def _put_down(
        self, temporary: bytes, target: bytes | None, data: ReadableBuffer
    ) -> tuple[tuple[int, int, int], bool]:
        """Write a file. Returns its version, and whether it has its final name, or else the temporary one.

        :param target: the final name; it gets the temporary one if this is None, or taken
        """
        fd = self._create(temporary, unnamed=True) if self._unnamed else None
        self._unnamed = fd is not None
        if fd is not None:
            try:
                return self._fill(fd, data), self._name(fd, temporary, target)
            except OSError as e:
                if e.errno not in NAMELESS:
                    raise
                # Only somebody who has just removed the emptied directory leaves hope for the next one.
                self._unnamed = e.errno == errno.ENOENT and os.path.exists(b"/proc/self/fd/%d" % fd)
            finally:
                os.close(fd)
        fd = self._create(temporary)
        assert fd is not None
        try:
            return self._fill(fd, data), False
        finally:
            os.close(fd)

    @staticmethod
    def _name(fd: int, temporary: bytes, target: bytes | None) -> bool:
        if target is not None:
            with suppress(FileExistsError):
                give_name(fd, target)
                return True
        give_name(fd, temporary)
        return False

    def _fill(self, fd: int, data: ReadableBuffer) -> tuple[int, int, int]:
        """Write a file's content; returns its version."""
        if self._root_fd is None:
            with self._lock:
                self._held_root()
        write_all(fd, memoryview(data).cast("B"))
        return _version(os.fstat(fd))

    def _create(self, temporary: bytes, *, unnamed: bool = False) -> int | None:
        """A descriptor of a new file; None if it is to have no name and the file system has no such files."""
        # Try first, make directories when they are missing: one call in the usual case, and it also recovers when
        # a remove() in another process has just taken the emptied directory away.
        directory = os.path.dirname(temporary)
        for attempt in range(_OPEN_ATTEMPTS + 1):
            try:
                if unnamed:
                    return open_unnamed(directory, os.O_WRONLY, self._mode)
                return os.open(temporary, _WRITE_FLAGS, self._mode)
            except FileNotFoundError:
                if attempt == _OPEN_ATTEMPTS:
                    raise
                self._make_directory(directory)
        return None

    def _make_directory(self, path: bytes) -> None:
        if len(path) < len(self._prefix):
            path = self.path
        with suppress(FileExistsError):
            try:
                os.mkdir(path)
            except FileNotFoundError:
                if path == self.path:
                    raise  # one level only, as casync: a mistyped path must not grow a tree
                self._make_directory(os.path.dirname(path))
                with suppress(FileNotFoundError):  # that one is gone again: who calls tries again
                    os.mkdir(path)

    def touch(self, name: bytes) -> bool:
        try:
            return renew(self._prefix + name)
        except OSError as e:
            raise self._error(self._prefix + name, "write", e) from e

    def sync(self, *, others: bool = False) -> None:
        with self._lock:  # to the end: a second caller must not return before the first one's writes are down
            if self._unsynced or others:
                self._unsynced = False
                try:
                    # Covers the files, their directories, and the store's own entry in its parent.
                    sync_file_system(self._held_root())
                except OSError as e:
                    # The kernel reports a failed write once and forgets it; trying again would succeed and be a lie.
                    self._lost = e
        if self._lost is not None:
            raise FileError(self.path, f"make the stored {self._what}s durable", self._lost) from self._lost

    def _held_root(self) -> int:
        """The descriptor of the directory, kept from before the first byte was written. Call with the lock held.

        syncfs(2) reports the write errors since its descriptor was opened, so one opened for the call would miss them.
        """
        if self._root_fd is None:
            self._root_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._root_fd

    # ---- listing and removing

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        for path, entry in self._walk(prefix.rpartition(b"/")[0], under):
            if path.startswith(prefix):
                yield self._listed(path, entry) if details else Listed(path)

    def _walk(
        self, directory: bytes, under: re.Pattern[bytes] | None
    ) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
        """The names of files beneath a directory, and their entries, in ascending order of the names."""
        wanted = under is None or under.fullmatch(directory) is not None
        for name, entry in self._entries(directory):
            if name.endswith(b"/"):
                if under is None or under.fullmatch(name, 0, len(name) - 1):
                    yield from self._walk(name[:-1], under)
            elif wanted:
                yield name, entry

    def _entries(self, directory: bytes) -> Sequence[tuple[bytes, os.DirEntry[bytes]]]:
        """What is in a directory, with its name from here on, in order; directories have a slash at the end."""
        # By name and type, without following links: scandir() never yields "." and "..", which casync's gc walks.
        path = self._prefix + directory if directory else self.path
        front = directory + b"/" if directory else b""
        found = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        found.append((front + entry.name, entry))
                    elif entry.is_dir(follow_symlinks=False):
                        found.append((front + entry.name + b"/", entry))
        except FileNotFoundError:  # removed since, or never there
            return []
        except OSError as e:
            if directory and e.errno == errno.ENOTDIR:
                return []
            raise self._error(path, "list", e) from e
        found.sort(key=itemgetter(0))
        return found

    def _listed(self, name: bytes, entry: os.DirEntry[bytes]) -> Listed:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return Listed(name)  # removed since
        except OSError as e:
            raise self._error(self._prefix + name, "list", e) from e
        return Listed(name, status.st_size, status.st_mtime_ns)

    def remove(self, name: bytes) -> int:
        path = self._prefix + name
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                return 0
            os.unlink(path)
        except FileNotFoundError:
            return 0
        except OSError as e:
            raise self._error(path, "remove", e) from e
        with suppress(OSError):  # almost always not empty; and a directory left behind harms nobody
            while name := name.rpartition(b"/")[0]:
                os.rmdir(self._prefix + name)
        return status.st_size

    def directories(self, under: re.Pattern[bytes]) -> int:
        return sum(
            name.endswith(b"/") and under.fullmatch(name, 0, len(name) - 1) is not None
            for name, _ in self._entries(b"")
        )

    def leftovers(self, under: re.Pattern[bytes]) -> Iterator[bytes]:
        """Paths of temporary files, left by a run that was killed or in use by one that is not: look at their age."""
        for name, _ in self._walk(b"", under):
            if re.fullmatch(_TEMPORARY, name.rpartition(b"/")[2]):
                yield self._prefix + name

    def clean(self, under: re.Pattern[bytes], before: int) -> int:
        removed = 0
        for path in self.leftovers(under):
            with suppress(OSError):  # somebody else may have been quicker
                if os.lstat(path).st_mtime_ns < before:
                    os.unlink(path)
                    removed += 1
        return removed

    def _error(self, path: bytes, op: str, cause: OSError) -> FileError:
        if cause.errno == errno.ENOTDIR and not os.path.isdir(self.path):
            return FileError(self.path, f"use as a {self._what} store", "it is not a directory")
        return FileError(path, op, cause)


class LocalStore(ChunkStore):
    """A ChunkStore over one directory, which the first `put` makes if it is not there.

    :ivar path: the directory
    """

    files: LocalFiles

    def __init__(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        compression: Compression = Compression.ZSTD,
        suffix: bytes = b".cacnk",
    ) -> None:
        """
        :param path: a path, not a locator
        :param suffix: what compressed chunk files end in; casync has `CASYNC_COMPRESSED_CHUNK_SUFFIX` for it
        :raises UsageError: `path` or `suffix` cannot be used
        """
        path = os.fsencode(path)
        super().__init__(LocalFiles(path, what="chunk", mode=0o444), compression=compression, suffix=suffix)
        self.path = path

    def leases(self) -> Files:
        """Where writers and collectors leave word for one another, and nothing once they are done."""
        return TidyFiles(LocalFiles(self.path, what="lease"), self.path)


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _status(status: os.stat_result) -> FileStatus:
    return FileStatus(status.st_size, status.st_mtime_ns, _version(status), status.st_ctime_ns)
