"""What tells whether a file changed since it was looked at last, without reading it.

    >>> row = identity(os.fstat(fd))
    >>> row == identities(directory_fd, b"hosts\\0")

A row holds device, inode, size, both times in nanoseconds (modulo 2^64), type, mode and owner. The kernel sets the
change time (ctime) on every change of content, attributes, owner or flags, to the time that it is; so an equal row
means the same file with the same content, with two exceptions that `SETTLED` and `KEEPS_CHANGE_TIMES` are for. A third
remains: a process that goes on changing a page it has mapped sets no time again until the page is written back. (git
and rsync live with the same.) `WRITTEN_BACK` and `WRITES_BACK` are for those who cannot: a page that was changed long
enough ago has been written back, and the next change of it sets the time.

It decides nothing: `fs.reusing` and `casync_compat.cache` do.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from casync_compat import _layouts
from casync_compat.fs import inode_flags
from catar.structs import Fields

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "IDENTITY_SIZE",
    "KEEPS_CHANGE_TIMES",
    "SETTLED",
    "WRITES_BACK",
    "WRITTEN_BACK",
    "identities",
    "identity",
    "is_settled",
    "mode_of",
]

_ROW = Fields(*_layouts.CACHE_IDENTITY, order="=")
_MODE = struct.Struct("=I")
_MODE_AT = _ROW.at("mode")
_read_change = _ROW.reader("ctime")
_U64 = (1 << 64) - 1

IDENTITY_SIZE = _ROW.size
"""Bytes of a row."""

SETTLED = 2_000_000_000
"""Nanoseconds for which a file must not have changed when it is looked at. Change times advance by a tick of the
kernel's clock, at most 10 ms, or by a whole second where inodes have no room for more (ext4 with 128 bytes): a change
within the same tick would leave no trace."""

WRITTEN_BACK = 120_000_000_000
"""Nanoseconds after which a changed page is on the disk, and what maps it has to ask again: Linux writes back what is
30 s old, every 5 s, unless it was told otherwise (`vm.dirty_expire_centisecs`) or the disk cannot keep up."""

KEEPS_CHANGE_TIMES = frozenset(
    {
        inode_flags.EXT4_MAGIC,
        inode_flags.XFS_MAGIC,
        inode_flags.BTRFS_MAGIC,
        inode_flags.TMPFS_MAGIC,
        0x794C7630,  # overlayfs
    }
)
"""File systems whose change times are the kernel's own: not a server's, nor missing as on FAT."""

WRITES_BACK = KEEPS_CHANGE_TIMES - {inode_flags.TMPFS_MAGIC}
"""Those of them where changes through a mapping set the times at all, once pages are written back."""


def identity(st: os.stat_result) -> bytes:
    """The row of what a stat call gave."""
    return _ROW.pack(
        st.st_dev,
        st.st_ino,
        st.st_rdev,
        st.st_size,
        st.st_mtime_ns & _U64,
        st.st_ctime_ns & _U64,
        st.st_mode,
        st.st_uid,
        st.st_gid,
        0,
    )


def is_settled(row: bytes, before: int) -> bool:
    """Whether a file had not changed for long enough at a time.

    :param row: its identity
    :param before: that time less `SETTLED`, in nanoseconds since 1970
    """
    changed: int
    (changed,) = _read_change(row, 0)
    return changed < before


def mode_of(rows: bytes, at: int) -> int:
    """Type and mode of the row at an offset."""
    mode: int = _MODE.unpack_from(rows, at + _MODE_AT)[0]
    return mode


def _identities_python(directory_fd: int, names: ReadableBuffer, /) -> bytes:
    """Rows of several files, relative to a directory; symlinks are not followed.

    :param names: each with a NUL behind it
    :returns: the rows, one behind the other; zeros for what is not there or cannot be asked about
    """
    data = bytes(names)
    if data and not data.endswith(b"\0"):
        raise ValueError("every name must end in a NUL")
    rows = []
    for name in data.split(b"\0")[:-1]:
        try:
            rows.append(identity(os.stat(name, dir_fd=directory_fd, follow_symlinks=False)))
        except OSError:
            rows.append(bytes(IDENTITY_SIZE))
    return b"".join(rows)


try:
    from casync_compat.fs._identity import identities
except ImportError:  # built without a C compiler
    identities = _identities_python
