"""Runs of ordinary nodes compared with what is there, by `_updates.c`, so that what is as recorded costs little.

    >>> reader = UpdateReader(placer, owners)
    >>> if reader.takes(directory):
    ...     at = reader.pass_over(run, at, end, directory, write_row)

A row that differs, or that is not known to be the same, is left to `FileWriter` and its like, which compare it again,
and say what is wrong: they are the twin of `_updates.c`. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable

from casync_compat import _layouts
from casync_compat.fs import inode_flags
from casync_compat.fs.apply.placing import Placer
from casync_compat.fs.apply.runs import Owners
from casync_compat.fs.apply.target import Directory
from catar.flags import FeatureFlags
from catar.layouts import NODE_ROW
from catar.runs import Run

try:
    from casync_compat.fs.apply import _updates
except ImportError:  # built without a C compiler
    _updates = None  # type: ignore[assignment]

__all__ = ["UpdateReader"]

F = FeatureFlags
_NAMED = int(F.XATTRS | F.ACL | F.FCAPS | F.SELINUX)
_SYMLINKS, _SELINUX, _PROJID = int(F.SYMLINKS), int(F.SELINUX), int(F.QUOTA_PROJID)

_COLUMNS = len(NODE_ROW.names)
_NAME, _NAME_LEN = NODE_ROW.column("name"), NODE_ROW.column("name_len")


class UpdateReader:
    """Compares runs for one `TreeWriter`."""

    def __init__(self, placer: Placer, owners: Owners) -> None:
        self._placer = placer
        self._owners = owners
        restorer = placer.restorer
        features = restorer.features
        self._usual = restorer.is_exact and bool(features & _SYMLINKS)
        self._odd_flags = inode_flags.to_disk(restorer.chattr_mask)
        self._wanted = (
            (_layouts.WANT_LIST if features & _NAMED else 0)
            | (_layouts.WANT_LABELS if features & _SELINUX else 0)
            | (_layouts.WANT_FLAGS if self._odd_flags else 0)
            | (_layouts.WANT_PROJID if features & _PROJID else 0)
        )
        self._contents = placer.options.compare == "content" or not restorer.knows_basics

    def takes(self, directory: Directory) -> bool:
        """Whether ordinary nodes can be compared here with what a directory has."""
        return (
            _updates is not None
            and self._usual
            and directory.stood
            and directory.merged is None
            and not self._placer.has_fat(directory)
        )

    def pass_over(
        self,
        run: Run,
        begin: int,
        end: int,
        directory: Directory,
        write_row: Callable[[Run, int, bool], None],
    ) -> int:
        """Leave files and symlinks alone that a directory has as recorded, up to where a directory begins or ends.

        :param write_row: sees to a row that is not as recorded
        :returns: the first row that was not looked at
        """
        stop, inodes = self._compare(run, begin, end, directory)
        device, names, written = directory.stat.st_dev, directory.names, directory.written
        tally, numbers, buffer = self._placer.tally, memoryview(run.rows).cast("Q"), memoryview(run.buffer)
        for number, inode in enumerate(inodes, begin):
            place = number * _COLUMNS
            at = numbers[place + _NAME]
            name = bytes(buffer[at : at + numbers[place + _NAME_LEN]])
            if not inode or (written is not None and not written.add_alone((device, inode), name)):
                write_row(run, number, True)
                continue
            if names is not None:
                names.add(name)
            tally.unchanged += 1
        return stop

    def _compare(self, run: Run, begin: int, end: int, directory: Directory) -> tuple[int, list[int]]:
        """:returns: the first row that was not looked at, and for each before it the inode that is as recorded, or 0"""
        times = self._placer.restorer.wants_times
        while True:
            stop, unknown, found = _updates.compare_files(
                directory.fd,
                run.buffer,
                run.rows,
                begin,
                end,
                self._owners.rows,
                self._wanted,
                self._odd_flags,
                times,
                self._contents,
            )
            if not unknown or stop > begin or not self._owners.learn(run, stop):
                return stop, memoryview(found).cast("Q").tolist()
