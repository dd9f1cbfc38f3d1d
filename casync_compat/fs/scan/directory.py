"""A directory under scan: what is known of it while its children are visited, and its exclude file.

    >>> directory = ScannedDirectory(fd, b"etc/ssl", fs, rules)
    >>> directory.rules += read_rules(fd, EXCLUDE_NAME, b"/etc/ssl/.caexclude")

Which child comes next, and what becomes of it, is the business of `casync_compat.fs.scan.scanner`.
"""

from __future__ import annotations

import os
import stat

from casync_compat.errors import FileError
from casync_compat.fs.readers import read_whole
from casync_compat.fs.scan.exclude import MAX_FILE_SIZE, Rule, parse_rules
from casync_compat.fs.scan.inspect import FileSystem
from casync_compat.fs.system import mount_by_proc

try:
    from casync_compat.fs._system import mount_of
except ImportError:  # built without a C compiler
    from casync_compat.fs.system import mount_of

__all__ = ["EXCLUDE_NAME", "ScannedDirectory", "has_name", "mount_id", "read_rules"]

EXCLUDE_NAME = b".caexclude"
"""The file that says what is left out of an archive."""


def has_name(listing: bytes, name: bytes) -> bool:
    """Whether a listing has a name, whatever it is the name of."""
    whole = name + b"\0"
    if whole not in listing:
        return False
    return any(
        listing.startswith(mark + whole) or b"\0" + mark + whole in listing
        for mark in (b"f", b"l", b"d", b"o")
    )


def mount_id(directory_fd: int, name: bytes = b"") -> int:
    """Which mount an entry of a directory lies on, or the directory itself; nothing is opened, so that it may be one
    that this process must not enter.

    :raises OSError: it is not there
    """
    found = mount_of(directory_fd, name)
    return found if found >= 0 else mount_by_proc(directory_fd, name)


class ScannedDirectory:
    """An open directory and what is still to be visited in it.

    :ivar listing: of `list_names`, None before it was read
    :ivar at: offset in it of the next name
    :ivar in_runs: whether its regular files may be read in runs
    :ivar opens_raw: whether its directories are opened by the native reader
    :ivar run_wanted: `Inspector.run_wanted` when runs are read to their place in the archive, else 0
    """

    __slots__ = ("at", "fd", "fs", "in_runs", "listing", "mount", "opens_raw", "path", "rules", "run_wanted")

    def __init__(self, fd: int, path: bytes, fs: FileSystem, rules: list[Rule]) -> None:
        self.fd = fd
        self.path = path
        self.fs = fs
        self.rules = rules
        self.mount = -1
        self.listing: bytes | None = None
        self.at = 0
        self.in_runs = False
        self.opens_raw = False
        self.run_wanted = 0

    def path_of(self, name: bytes) -> bytes:
        """A child's path in the archive."""
        return self.path + b"/" + name if self.path else name


def read_rules(directory_fd: int, name: bytes, path: bytes) -> list[Rule]:
    """Read a directory's exclude file.

    :param path: for messages
    :raises FileError: when it cannot be read; `FormatError` when it is too large, or wrong
    """
    try:
        # A symlink is followed, as casync does; a fifo must not block.
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory_fd)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise FileError(path, "read exclude rules", "it is not a regular file")
            data = read_whole(fd, MAX_FILE_SIZE, path)
        finally:
            os.close(fd)
    except OSError as error:
        raise FileError(path, "read exclude rules", error) from error
    return parse_rules(data, path)
