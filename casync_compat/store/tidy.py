"""Files that come and go in a directory, and leave it as it was: without directories of their own, and with its date.

What lies there beside them is not its business, nor how files are written: that is for the place that it is put around.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from casync_compat.errors import FileError
from casync_compat.store.files import Files, FileStatus, Listed, Version

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["TidyFiles"]


class TidyFiles(Files):
    """Another place of files. When the last one has gone of those that it was given, so has every trace of them.

    :param files: the place, a directory of this machine
    :param path: its path
    """

    name: str = ""

    def __init__(self, files: Files, path: bytes) -> None:
        self.can = files.can
        self.near = files.near
        self.name = files.name
        self._files = files
        self._path = path
        self._made = False
        self._dates: tuple[int, int] | None = None
        """Of the directory, before and after the first directory in it was made."""

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        return self._files.own_paths

    @property
    def one_kernel(self) -> bool:
        return self._files.one_kernel

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> Version | None:
        self._check(name)
        top = os.path.join(self._path, name.partition(b"/")[0])
        before = None if os.path.lexists(top) else self._date()
        there = before is not None or os.path.lexists(self._path)
        try:
            return self._files.write(name, data, if_absent=if_absent, if_version=if_version)
        finally:
            self._made = self._made or not there
            after = self._date()
            if before is not None and after is not None:
                self._dates = before, after

    def _check(self, name: bytes) -> None:
        """See that names lead to where they say. :raises FileError: a symbolic link leads elsewhere"""
        while name := name.rpartition(b"/")[0]:
            path = os.path.join(self._path, name)
            if os.path.islink(path):
                raise FileError(path, "use", "it is a symbolic link")

    def _date(self) -> int | None:
        try:
            return os.stat(self._path).st_mtime_ns
        except OSError:
            return None

    def remove(self, name: bytes) -> int:
        self._check(name)
        unchanged = self._dates is not None and self._date() == self._dates[1]
        size = self._files.remove(name)
        with suppress(OSError):  # not empty: somebody else is at work, and tidies up later
            while name := name.rpartition(b"/")[0]:
                with suppress(FileNotFoundError):
                    os.rmdir(os.path.join(self._path, name))
            if self._made:
                os.rmdir(self._path)
            elif unchanged and self._dates is not None:
                os.utime(self._path, ns=(os.stat(self._path).st_atime_ns, self._dates[0]))
        return size

    def read(self, name: bytes, limit: int) -> bytes | None:
        return self._files.read(name, limit)

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        return self._files.read_range(name, offset, size)

    def stat(self, name: bytes) -> FileStatus | None:
        return self._files.stat(name)

    def touch(self, name: bytes) -> bool:
        return self._files.touch(name)

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        self._check(prefix)
        return self._files.list(prefix, under=under, details=details)

    def sync(self, *, others: bool = False) -> None:
        self._files.sync(others=others)

    def close(self) -> None:
        self._files.close()
