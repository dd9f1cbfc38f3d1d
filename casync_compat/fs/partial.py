"""A file that is kept when the run that writes it is cut off, so that the next run takes it up again.

    >>> with PartialFile(b"disk.img", identity) as out:
    ...     out.taken_up            # whether an earlier run left something
    ...     fill(out.fd)

Until it is complete it is hidden beside its place, as `.#NAME~IDENTITY.part`, and nobody takes it for the whole. What
it holds is not believed: whoever takes it up checks each part. One of another identity, for the same place, is removed;
so there is never more than one. It is not kept where going on would end in the same error.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from casync_compat.fs.atomic import AtomicFile, open_named, remove_unlocked, try_lock

__all__ = ["PartialFile", "open_partial", "partial_name"]

_NAME_MAX = 255


def _name(path: bytes, identity: bytes) -> tuple[bytes, bytes]:
    suffix = b"~" + identity + b".part"
    return b".#" + os.path.basename(path)[: _NAME_MAX - 2 - len(suffix)], suffix


def partial_name(name: bytes, identity: str) -> bytes:
    """What a file of this name is called while it is not complete, and nobody writes it."""
    return b"".join(_name(name, identity.encode("ascii")))


def open_partial(path: bytes, identity: str) -> int | None:
    """What an earlier run left for a `PartialFile`, open for reading; None where there is nothing."""
    final = os.path.realpath(path)
    name = partial_name(final, identity)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(os.path.join(os.path.dirname(final), name), flags)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


class PartialFile(AtomicFile):
    """An `AtomicFile` that may be taken up again. Its bytes are written through `fd`.

    :param identity: 16 hex digits for what is being written
    :param worth_keeping: asked when the block is left by an exception; one that is no `Exception` always is
    :ivar taken_up: whether there may be something in it from an earlier run
    :ivar size: bytes that are in it from then
    :ivar kept: whether something was kept for the next one
    """

    def __init__(
        self, path: bytes, identity: str, worth_keeping: Callable[[Exception], bool], mode: int = 0o666
    ) -> None:
        super().__init__(path, mode)
        self.taken_up = self.kept = False
        self.size = 0
        self._identity = identity.encode("ascii")
        self._worth_keeping = worth_keeping

    def _open_temporary(self, directory: bytes) -> None:
        stem, suffix = _name(self._final, self._identity)
        self._remove_others(directory, stem, stem + suffix)
        path = os.path.join(directory, stem + suffix)
        try:
            fd = open_named(path, self._mode)
        except OSError:
            super()._open_temporary(directory)
            return
        st = os.fstat(fd)
        owners = {os.geteuid()}
        with suppress(OSError):
            owners.add(os.stat(self._final).st_uid)  # to whom it was given, as it replaces theirs
        ours = stat.S_ISREG(st.st_mode) and st.st_uid in owners and st.st_nlink == 1
        if not ours or not try_lock(fd) or not os.path.samestat(st, os.lstat(path)):
            os.close(fd)  # somebody else's, or another run is at work
            super()._open_temporary(directory)
            return
        self.fd, self._temporary = fd, path
        self.size = st.st_size
        self.taken_up = st.st_size > 0

    def _remove_others(self, directory: bytes, stem: bytes, mine: bytes) -> None:
        pattern = re.compile(re.escape(stem) + rb"~[0-9a-f]{16}\.part", re.DOTALL)
        with suppress(OSError):
            for name in os.listdir(directory or b"."):
                if name != mine and pattern.fullmatch(name):
                    with suppress(OSError):
                        remove_unlocked(os.path.join(directory, name))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        named = self._temporary is not None and self._temporary.endswith(b".part")
        kept = error is not None and (not isinstance(error, Exception) or self._worth_keeping(error))
        if named and kept and error is not None and os.fstat(self.fd).st_blocks:
            self.kept = True
            self._temporary = None
            error.add_note("what was fetched is kept, and the same command again continues")
        super().__exit__(kind, error, trace)
