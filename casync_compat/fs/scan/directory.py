"""A directory under scan: what is known of it while its children are visited.

    >>> directory = ScannedDirectory(fd, b"etc/ssl", fs, rules)

Which child comes next, and what becomes of it, is the business of `casync_compat.fs.scan.scanner`.
"""

from __future__ import annotations

from dataclasses import dataclass

from casync_compat.fs.exclude import Rule
from casync_compat.fs.scan.inspect import FileSystem
from casync_compat.fs.system import mount_by_proc

try:
    from casync_compat.fs._system import mount_of
except ImportError:  # built without a C compiler
    from casync_compat.fs.system import mount_of

__all__ = ["KeptOut", "ScannedDirectory", "has_name", "mount_id"]


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


@dataclass(slots=True)
class KeptOut:
    """How many entries were kept out of an archive on purpose, each with all that is below it.

    :ivar nodump: by the nodump flag
    :ivar exclude_file: by `.caexclude`
    :ivar submounts: since something else is mounted there
    """

    nodump: int = 0
    exclude_file: int = 0
    submounts: int = 0


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
