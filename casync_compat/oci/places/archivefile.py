"""Archives of images: tars that are read in place, at any offset. What the members mean is their users' business.

Nothing is unpacked: members are read where they lie. What cannot be read at an offset, a pipe (standard input, named
`-`, among them) and a compressed archive, is set aside first, in a temporary file without a name.
"""

from __future__ import annotations

import os
import posixpath
import stat
from contextlib import suppress

from casync_compat.errors import FileError, show_path
from casync_compat.fs.readers import FileView, NotRegular, StreamSource, open_regular
from casync_compat.fs.waiting import readable
from casync_compat.oci.places.blobranges import BlobRanges, Range
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.decompress import decompressed
from casync_compat.oci.tar.reader import HARD_LINK, members
from casync_compat.spool import Spool

__all__ = ["GZIP_MAGIC", "ZSTD_MAGIC", "ArchiveFile"]

_PIECE = 1 << 20
_LINKS = 8
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
STANDARD_INPUT = b"-"
_PATIENCE = 5
"""Seconds for somebody to begin to write to a pipe that is named."""
_LARGEST = 64 << 30
"""What may be set aside of an archive: a few kilobytes can be compressed zeros without end."""


class ArchiveFile(BlobRanges):
    """A BlobSource over a tar, as far as `_blobs` says what is where.

    :param transport: how names of such images begin, say `docker-archive`

    :ivar name: as skopeo writes it, for messages
    :raises FileError: the file cannot be read
    :raises ImageError: it is no archive of this kind
    """

    def __init__(self, path: bytes, transport: str) -> None:
        super().__init__(path, transport)
        self._fd = self._opened()
        self._members: dict[str, Range] = {}
        self._links: dict[str, str] = {}
        try:
            self._scan()
            self._read_names()
        except BaseException:
            self.close()
            raise

    def _opened(self) -> int:
        """A descriptor that can be read at any offset."""
        if self.path == STANDARD_INPUT and os.isatty(0):
            raise ImageError(self.name, "standard input is a terminal; pipe an archive into it")
        try:
            fd = os.dup(0) if self.path == STANDARD_INPUT else self._file_or_pipe()
        except OSError as error:
            raise error if isinstance(error, FileError) else FileError(self.path, "open", error) from error
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                magic = os.pread(fd, 4, 0)
                if not magic.startswith(GZIP_MAGIC) and magic != ZSTD_MAGIC:
                    return os.dup(fd)
                os.lseek(fd, 0, os.SEEK_SET)
            return self._set_aside(fd)
        except OSError as error:
            raise error if isinstance(error, FileError) else FileError(self.path, "read", error) from error
        finally:
            os.close(fd)

    def _file_or_pipe(self) -> int:
        kind = os.stat(self.path).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):  # opened once: whoever writes gets only one reader
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            return open_regular(self.path, "open")
        except NotRegular:
            why = "an archive of images is a file or a pipe"
            if stat.S_ISDIR(kind):
                why = f"this is a directory; name a layout oci:{show_path(self.path)}"
            raise ImageError(self.name, why) from None

    def _set_aside(self, fd: int) -> int:
        with Spool("an archive of images") as spool:
            for piece in decompressed(_Stream(fd, self.path), self.name):
                if spool.size + len(piece) > _LARGEST:
                    raise ImageError(
                        self.name, f"it is larger than {_LARGEST} bytes, which are set aside at most"
                    )
                spool.append(piece)
            if not spool.size:
                raise ImageError(self.name, "nothing came: the archive is empty")
            return spool.descriptor()

    # ---- what is in it

    def _scan(self) -> None:
        for member in members(FileView(self._fd, name=self.path), self.name):
            name = posixpath.normpath(os.fsdecode(member.path)).lstrip("/")
            target = os.fsdecode(member.linkname)
            if member.kind == stat.S_IFREG and member.sparse is None:
                self._members[name] = Range(member.data, member.size)
            elif member.kind == stat.S_IFLNK:
                self._links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            elif member.kind == HARD_LINK:
                self._links[name] = posixpath.normpath(target).lstrip("/")

    def _member(self, name: str) -> Range:
        name = posixpath.normpath(name)
        for _ in range(_LINKS):
            found = self._members.get(name)
            if found is not None:
                return found
            if name not in self._links:
                break
            name = self._links[name]
        raise ImageError(self.name, f"{name[:200]} is missing from the archive")

    def _read_small(self, name: str) -> bytes:
        at = self._member(name)
        if at.size > MANIFEST_LIMIT:
            raise ImageError(self.name, f"{name[:200]} is larger than {MANIFEST_LIMIT} bytes")
        return self._pread(at.offset, at.size, name)

    def _read_names(self) -> None:
        """Find out which images there are, and fill `_blobs`."""
        raise NotImplementedError


class _Stream:
    """A descriptor read front to back, as decompressors read."""

    def __init__(self, fd: int, name: bytes) -> None:
        self._source = StreamSource(fd, name)
        self._first = b""
        if not os.get_blocking(fd):  # named, so that it may be a pipe to which nobody writes
            with suppress(BlockingIOError):
                self._first = os.read(fd, _PIECE)
                if not self._first and stat.S_ISFIFO(os.fstat(fd).st_mode):
                    self._wait_for_writer(fd, name)
            os.set_blocking(fd, True)

    def _wait_for_writer(self, fd: int, name: bytes) -> None:
        if not readable([fd], _PATIENCE) and not os.read(
            fd, _PIECE
        ):  # one that writes nothing yet: BlockingIOError
            raise FileError(name, "read", f"nobody has written to this pipe for {_PATIENCE} seconds")

    def read(self, _: int, /) -> bytes:
        first, self._first = self._first, b""
        return first or self._source.read()
