"""A store of whole files that trees share: as blocks (reflinks), or as inodes with their page cache (hard links).

    files/<2 digits>/<62 digits>    contents alone, by their blake3: for reflinks and copies
    inodes/<2 digits>/<62 digits>   contents with mode, owner, time and attributes, by the blake3 of all that: for
                                    hard links, which share these too
    cache.sqlite                    what is known of the files there; may be deleted, which costs time and nothing else
    roots/                          images of metadata (`casync_compat.oci.rootfs.keptroots`); may be deleted, too

    >>> with FileStore(b"/srv/files", metadata, warn=print) as store:
    ...     kept = store.find(content, None) or store.add(content_of(inode), None)
    ...     store.copy_to(kept, fd)

A file appears under its name whole or not at all. Before it is given out it is checked: by its fs-verity digest where
the file system has that, so that reading it again is never necessary, else by size, inode number, modification and
change time as they were when it was last found right, and by hashing it again when one of them differs. A file that is
not what its name says is removed, and the caller brings it anew. Where hard links are made in good faith but written to
afterwards, the change shows in all trees that were made before; it ends at the store.

Two processes may fill one store at a time. Nothing is fsynced: what a loss of power damages is found by the check.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from casync_compat.closing import Closing
from casync_compat.errors import FileError
from casync_compat.fs.reflink import write_at
from casync_compat.ids import Digest
from casync_compat.oci.rootfs import shared
from casync_compat.oci.rootfs.filecache import FileCache, Row
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.oci.rootfs.metadata import HOST_ATTRIBUTES, Metadata
from casync_compat.oci.rootfs.shared import FILES, INODES, Kept, stamp_of, status_of
from casync_compat.oci.rootfs.verity import measure, seal

__all__ = ["FileStore"]

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20
_ZEROS = bytes(_PIECE)
_TEMPORARY = b"tmp"
_STALE = 24 * 3600
_MANY, _MUCH = 1000, 8
"""Files of an image for which all that is known is read, and how many times as many the store may have then."""
_NAME = re.compile(rb"(files|inodes)/[0-9a-f]{2}/[0-9a-f]{62}")

Pieces = Iterable[tuple[int, bytes]]
"""Contents in pieces, each with its offset, in order; what is not given is zeros."""


class FileStore(Closing):
    """A store of files in a directory, which is made when it is missing.

    :param path: of the directory
    :param metadata: gives files for hard links their metadata
    :param verify: hash every file again before it is given out
    :param now: the time, in seconds since the epoch

    :ivar replaced: files that were not what their names say and were removed
    :ivar added: files that are new
    :raises FileError: from all methods
    """

    def __init__(
        self,
        path: bytes,
        metadata: Metadata,
        *,
        verify: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.replaced = 0
        self.added = 0
        self._metadata = metadata
        self._verify = verify
        self._learned: dict[bytes, bytes] = {}
        self._seals = True
        self.fd = -1
        """The directory, open."""
        with self._naming(path, "use as a file store"):
            for directory in (path, *(os.path.join(path, one) for one in (FILES, INODES, _TEMPORARY))):
                with suppress(FileExistsError):
                    os.mkdir(directory, 0o700)
            self.fd = os.open(path, _OPEN_DIR)
            self._tidy(now() - _STALE)
        self._cache = FileCache(os.path.join(path, b"cache.sqlite"))

    def close(self) -> None:
        """Write down what is known of the files, and let go."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
            self._cache.close()

    @contextmanager
    def _naming(self, path: bytes, op: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise FileError(path, op, error if isinstance(error, OSError) else str(error)) from error

    def _tidy(self, before: float) -> None:
        """Remove what runs that were killed long ago left."""
        fd = os.open(_TEMPORARY, _OPEN_DIR, dir_fd=self.fd)
        try:
            for name in os.listdir(fd):
                with suppress(OSError):
                    # Not st_mtime: files that are just being stored may have that of an image.
                    if os.lstat(name, dir_fd=fd).st_ctime < before:
                        os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)

    # Names

    def _name(self, content: bytes, inode: Inode | None) -> bytes:
        """The name of a file, relative to the store."""
        if inode is None:
            digits = content.hex().encode()
            return b"%b/%b/%b" % (FILES, digits[:2], digits[2:])
        uid, gid = self._metadata.effective(inode)
        parts = [content, b"%d %d %d %d\n" % (self._metadata.mode(inode), uid, gid, inode.mtime)]
        for name, value in self._metadata.attributes(inode):
            parts.append(b"%d %d\n%b%b" % (len(name), len(value), name, value))
        digits = Digest.BLAKE3.of(b"".join(parts)).hex().encode()
        return b"%b/%b/%b" % (INODES, digits[:2], digits[2:])

    def expect(self, count: int) -> None:
        """Say that so many files will be looked for: what is known of them is read at once where that pays."""
        if count >= _MANY:
            self._cache.read_all(_MUCH * count)

    def known(self, origin: bytes) -> bytes | None:
        """The digest of contents that were once added with this origin: a hint. With `verify` only in this run."""
        return self._learned.get(origin) if self._verify else self._cache.known(origin)

    # Finding

    def find(self, content: bytes, inode: Inode | None) -> Kept | None:
        """A file with these contents, checked.

        :param inode: the metadata that it must have; None for any
        :returns: None when there is none, or one that was not right and is removed
        """
        name = self._name(content, inode)
        known = self._unchanged(name, content)
        if known is not None:
            return known
        with self._naming(os.path.join(self.path, name), "check"):
            return self._check(name, content, inode)

    def _unchanged(self, name: bytes, content: bytes) -> Kept | None:
        """A file that is as it was when it was last found right; nothing raises."""
        row = None if self._verify else self._cache.row(name)
        if row is None or row.content != content:
            return None
        try:
            st = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except (OSError, ValueError):
            return None
        if row.stamp != (st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns) or not stat.S_ISREG(
            st.st_mode
        ):
            return None
        return Kept(name, content, row.stamp, status_of(st), row.seal)

    def find_content(self, content: bytes) -> Kept | None:
        """Any file with these contents, to copy from."""
        found = self.find(content, None)
        if found is not None:
            return found
        for name in self._cache.names_of(content):
            if not _NAME.fullmatch(name) or name.startswith(FILES):
                continue  # what is named after its contents was looked for above
            # Its metadata may be anything: only the contents count.
            with self._naming(os.path.join(self.path, name), "check"):
                found = self._check(name, content, None)
            if found is not None:
                return found
        return None

    def _check(self, name: bytes, content: bytes, inode: Inode | None) -> Kept | None:
        if (known := self._unchanged(name, content)) is not None:
            return known
        try:
            fd = os.open(name, _OPEN, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            self._remove(name)
            return None
        try:
            st = os.fstat(fd)
            stamp = stamp_of(st)
            row = self._cache.row(name)
            right = stat.S_ISREG(st.st_mode)
            if inode is not None:
                right = right and self._has_metadata(fd, st, inode, row)
            if right:
                trusted = row.seal if row is not None and row.content == content and not self._verify else b""
                right = (bool(trusted) and measure(fd) == trusted) or _hash(fd) == content
            if not right and inode is None and name.startswith(INODES):
                self._cache.forget(
                    name
                )  # it may be right as what its name says, and was only remembered wrongly
                return None
            if not right:
                self._remove(name)
                return None
            sealed = measure(fd)
            if inode is not None or name.startswith(FILES):  # else its metadata was not looked at
                self._cache.remember(name, content, stamp, sealed)
            return Kept(name, content, stamp, status_of(st), sealed)
        finally:
            os.close(fd)

    def _has_metadata(self, fd: int, st: os.stat_result, inode: Inode, row: Row | None) -> bool:
        if status_of(st) != (self._metadata.mode(inode), *self._metadata.effective(inode)):
            return False
        # A file system may have rounded it.
        if st.st_mtime_ns != inode.mtime and (row is None or st.st_mtime_ns != row.stamp.mtime):
            return False
        wanted = dict(self._metadata.attributes(inode))
        found = {}
        with suppress(OSError):  # a file system without any
            names = [os.fsencode(name) for name in os.listxattr(fd)]
            found = {name: os.getxattr(fd, name) for name in names if name not in HOST_ATTRIBUTES}
        if self._metadata.privileged:
            return wanted == found
        return wanted.items() >= found.items()

    def _remove(self, name: bytes) -> None:
        self.replaced += 1
        self._cache.forget(name)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    # Adding

    def add(self, pieces: Pieces, size: int, inode: Inode | None, origin: bytes | None = None) -> Kept:
        """Store a file.

        :param size: of its contents, in bytes
        :param inode: the metadata that it gets; None to store contents alone, which is also what becomes of a file
            whose metadata the file system cannot hold
        :param origin: what `known` is to know the contents by
        """
        temporary = b"%b/%b" % (_TEMPORARY, os.urandom(12).hex().encode())
        try:  # from before there is a file: a signal may come at any moment
            with self._naming(os.path.join(self.path, temporary), "write"):
                fd = os.open(temporary, _CREATE, 0o600, dir_fd=self.fd)
            try:
                content = self._write(fd, temporary, pieces, size)
                with self._naming(os.path.join(self.path, temporary), "write"):
                    inode = self._finish(fd, inode)
            finally:
                os.close(fd)
            with self._naming(os.path.join(self.path, temporary), "store"):
                kept = self._publish(temporary, self._name(content, inode), content, inode)
        finally:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self.fd)
        if origin is not None:
            self._cache.learn(origin, content)
            if self._verify:
                self._learned[origin] = content
        return kept

    def _write(self, fd: int, temporary: bytes, pieces: Pieces, size: int) -> bytes:
        hasher = Digest.BLAKE3.new()
        at = 0
        for offset, data in pieces:
            for zeros in _zeros(offset - at):
                hasher.update(zeros)
            hasher.update(data)
            at = offset + len(data)
            with self._naming(os.path.join(self.path, temporary), "write"):
                write_at(fd, data, offset)
        for zeros in _zeros(size - at):
            hasher.update(zeros)
        with self._naming(os.path.join(self.path, temporary), "write"):
            os.ftruncate(fd, size)
        return hasher.digest()

    def _finish(self, fd: int, inode: Inode | None) -> Inode | None:
        """:returns: whose metadata the file has; None when it has contents alone"""
        if inode is not None and self._metadata.apply_whole(fd, inode):
            return inode
        if inode is not None:  # what it has of them is in nobody's way: nobody is to have this inode
            os.fchown(fd, *self._metadata.owner)
        os.fchmod(fd, 0o400)
        return None

    def _publish(self, temporary: bytes, name: bytes, content: bytes, inode: Inode | None) -> Kept:
        fd = os.open(temporary, _OPEN, dir_fd=self.fd)
        try:
            if self._seals:
                self._seals = seal(fd)
            sealed = measure(fd) if self._seals else b""
            with suppress(FileExistsError):
                os.mkdir(os.path.dirname(name), 0o700, dir_fd=self.fd)
            try:
                os.link(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)
            except FileExistsError:
                # Somebody else was faster, or it is one that was not looked for.
                there = self._check(name, content, inode)
                if there is not None:
                    return there
                os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            else:
                os.unlink(temporary, dir_fd=self.fd)
            st = os.fstat(fd)
        finally:
            os.close(fd)
        stamp = stamp_of(st)
        self.added += 1
        self._cache.remember(name, content, stamp, sealed)
        return Kept(name, content, stamp, status_of(st), sealed)

    # Giving out

    def can_share(self, directory: bytes, *, reflink: bool) -> bool:
        """Whether files in a directory can share blocks with the store's, or else be links to them; it is tried."""
        name = b".pycasync-" + os.urandom(8).hex().encode()
        inside = b"%b/%b" % (_TEMPORARY, name)
        try:
            with self._naming(os.path.join(self.path, inside), "write"):
                fd = os.open(inside, _CREATE, 0o600, dir_fd=self.fd)
            try:
                with self._naming(directory, "write"):
                    target = os.open(directory, _OPEN_DIR)
                    try:
                        write_at(fd, _ZEROS[:4096], 0)
                        if reflink:
                            return shared.can_clone(fd, target, name)
                        return shared.can_link(self.fd, inside, target, name)
                    finally:
                        os.close(target)
            finally:
                os.close(fd)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(inside, dir_fd=self.fd)

    def pieces(self, kept: Kept) -> Iterator[tuple[int, bytes]]:
        """The contents of a file of the store, for `add`."""
        with self._naming(os.path.join(self.path, kept.name), "read"):
            yield from shared.read(self.fd, kept)

    def copy_to(self, kept: Kept, target: int, *, share: bool) -> None:
        """Copy a file's contents into an empty file.

        :param share: share its blocks, which must be possible
        """
        with self._naming(os.path.join(self.path, kept.name), "copy"):
            shared.copy(self.fd, kept, target, share=share)

    def link_to(self, kept: Kept, directory: int, name: bytes) -> bool:
        """Make a hard link to a file. Returns False where there are as many as the file system allows."""
        with self._naming(os.path.join(self.path, kept.name), "link"):
            if not shared.link(self.fd, kept, directory, name):
                return False
        self._cache.remember(kept.name, kept.content, kept.stamp, kept.seal)
        return True


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield _ZEROS[: min(count, _PIECE)]
        count -= _PIECE


def _hash(fd: int) -> bytes:
    hasher = Digest.BLAKE3.new()
    at = 0
    while data := os.pread(fd, _PIECE, at):
        hasher.update(data)
        at += len(data)
    return hasher.digest()
