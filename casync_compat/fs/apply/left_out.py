"""What could not be restored: an error for root, one warning at the end for everybody else.

An unprivileged user cannot give files away or make devices, and still wants the rest of a tree; root wants to know at
once. `LeftOut` is the place that knows the difference. It also remembers which operation is under way, so that one
handler around all of them can name it.

    >>> left_out = LeftOut()
    >>> left_out.op, left_out.option = "set owner of", "--without=32bit-uids"
    >>> try: os.fchown(fd, uid, gid)
    ... except OSError as error: left_out.skip("owners", error)     # raises again unless it may be left out
"""

from __future__ import annotations

import errno
import os

from casync_compat.errors import FileError

__all__ = ["LeftOut"]

_DENIED = (errno.EPERM, errno.EACCES)
_OPTION_HELPS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EINVAL})


class LeftOut:
    """Collects what was left out, by category.

    :ivar euid: who this is
    :ivar privileged: whether this is root, for whom nothing is left out
    :ivar op: what is being done, as a verb phrase that a file name follows
    :ivar option: how to do without it, or "" when there is no way
    """

    def __init__(self) -> None:
        self.euid = os.geteuid()
        self.privileged = self.euid == 0
        self.op = ""
        self.option = ""
        self._counts: dict[str, int] = {}

    def skip(self, category: str, error: OSError) -> None:
        """Go on without something that only root may do.

        :raises OSError: `error`, when this is root or the refusal has another reason
        """
        if self.privileged or error.errno not in _DENIED:
            raise error
        self._counts[category] = self._counts.get(category, 0) + 1

    def failure(self, path: bytes, error: OSError | ValueError) -> FileError:
        """The error for the operation under way, with the option that avoids it where one does."""
        if isinstance(error, ValueError):
            return FileError(path, self.op, str(error))
        if self.option and error.errno in _OPTION_HELPS and not isinstance(error, FileError):
            why = f"{os.strerror(error.errno)}; {self.option} leaves it out"
            failure = FileError(path, self.op, why)
            failure.errno = error.errno
            return failure
        return FileError(path, self.op, error)

    def summary(self) -> str | None:
        """One line about everything that was left out; None when that is nothing."""
        if not self._counts:
            return None
        parts = [f"{category} ({count})" for category, count in self._counts.items()]
        return "not restored, which takes root: " + ", ".join(parts)
