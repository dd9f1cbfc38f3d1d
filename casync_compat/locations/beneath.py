"""Paths that somebody else names, and that must lie beneath a directory: what a key in `authorized_keys` may reach.

A relative path is taken from that directory; an absolute one must lead there. Symlinks are followed here, once, and
what comes out has none; so nothing helps who can name paths but make no symlinks. Locators are no paths: nobody gets to
other machines by this one.

    >>> Root("/srv/casync").path("/srv/casync/../secret")
    Traceback (most recent call last):
    ...
    casync_compat.locations.beneath.OutsideRoot: /srv/casync/../secret: cannot open: it is not beneath /srv/casync
"""

from __future__ import annotations

import errno
import os

from casync_compat.errors import FileError, show_path

__all__ = ["OutsideRoot", "Root"]


class OutsideRoot(FileError):
    """A path leads elsewhere."""

    def __init__(self, path: bytes, root: bytes) -> None:
        super().__init__(path, "open", f"it is not beneath {show_path(root)}")
        self.errno = errno.EACCES

    def __new__(cls, path: bytes, root: bytes) -> OutsideRoot:
        return FileError.__new__(cls, path, "open", f"it is not beneath {show_path(root)}")


class Root:
    """A directory that everything has to be beneath.

    :raises FileError: there is none
    """

    def __init__(self, directory: str) -> None:
        self._shown = os.fsencode(directory)
        try:
            self._real = os.path.realpath(self._shown, strict=True)
            os.listdir(self._real)
        except OSError as error:
            raise FileError(self._shown, "open", error) from error

    def path(self, name: str) -> bytes:
        """Where a path leads, beneath the directory; not the directory itself.

        :raises OutsideRoot: it leads elsewhere
        """
        given = os.fsencode(name).removeprefix(b"~/")
        if b"\0" in given:
            raise OutsideRoot(given.replace(b"\0", b"?"), self._shown)
        # With `..` after a symlink meaning what it means to the kernel.
        real = os.path.realpath(os.path.join(self._real, given))
        before = self._real if self._real.endswith(b"/") else self._real + b"/"
        if not real.startswith(before) or real == before:
            raise OutsideRoot(given, self._shown)
        return real
