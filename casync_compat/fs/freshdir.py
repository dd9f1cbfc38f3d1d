"""A directory that appears whole or not at all: made beside its place under a hidden name, and renamed when complete.

>>> with FreshDirectory(b"bundle") as temporary:
...     fill(temporary)
"""

from __future__ import annotations

import os
from contextlib import suppress
from types import TracebackType

from casync_compat.errors import CasyncError, FileError
from casync_compat.fs.atomic import temporary_name
from casync_compat.fs.remove import remove

__all__ = ["FreshDirectory"]


class FreshDirectory:
    """Context manager that gives the temporary path of a directory, owner-only, and renames it at the end.

    Leaving the block by an exception removes it with everything in it; two descriptors are kept for that, since what
    went wrong may be that there are no more.

    :param path: nothing may be there, or an empty directory
    :raises FileError: something is there, or it cannot be made
    """

    def __init__(self, path: bytes) -> None:
        self.path = path
        self._final = os.path.abspath(path)
        self._parent, name = os.path.split(self._final)
        self._name = temporary_name(name)
        self._fd = -1
        self._spare: list[int] = []

    def __enter__(self) -> bytes:
        temporary = os.path.join(self._parent, self._name)
        try:
            if os.path.lexists(self._final) and (os.path.islink(self._final) or os.listdir(self._final)):
                raise FileError(self.path, "write", "something is there already; name a new directory")
            self._fd = os.open(self._parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._spare += [os.dup(self._fd), os.dup(self._fd)]
            os.mkdir(self._name, 0o700, dir_fd=self._fd)
        except OSError as error:
            self._close()
            raise FileError(self.path, "write", error) from error
        except BaseException:  # a signal, after it was made
            if self._fd >= 0:
                with suppress(OSError):
                    os.rmdir(self._name, dir_fd=self._fd)
            self._close()
            raise
        return temporary

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                # The kernel replaces an empty directory, and nothing else.
                os.rename(self._name, self._final, src_dir_fd=self._fd)
        except OSError as problem:
            raise FileError(self.path, "write", problem) from problem
        finally:
            self._let_go_of_spares()
            with suppress(CasyncError, OSError):  # nothing is there when all went well
                remove(self._fd, self._name, os.path.join(self._parent, self._name))
            self._close()

    def _let_go_of_spares(self) -> None:
        spare, self._spare = self._spare, []
        for fd in spare:
            os.close(fd)

    def _close(self) -> None:
        self._let_go_of_spares()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
