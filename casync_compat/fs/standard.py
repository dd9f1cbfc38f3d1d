"""Standard output as a place for a file. It cannot be taken back, so nothing here is atomic."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Self

from casync_compat.errors import FileError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["StandardOutput"]


class StandardOutput:
    """Has the methods of `AtomicFile` that writers use."""

    path = b"standard output"
    fd = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def write(self, data: ReadableBuffer) -> None:
        """Write all of `data`. :raises FileError: when it could not be written"""
        view = memoryview(data).cast("B")
        try:
            while view:
                view = view[os.write(self.fd, view) :]
        except OSError as error:
            raise FileError(self.path, "write", error) from error
