"""Many small files opened, inspected and read, in one call: the Python twin of `_system.c`.

Both have the same signatures and give the same results; the native ones take a fraction of the time, and no GIL.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import cast

from casync_compat._layouts import WANT_FLAGS, WANT_LABELS, WANT_LINKS, WANT_LIST, WANT_PROJID
from casync_compat.errors import FileError
from casync_compat.fs import inode_flags
from catar import layouts
from catar.layouts import FILE_ROW, GAP_ROW

__all__ = [
    "mount_by_proc",
    "mount_of",
    "open_directory",
    "read_files",
    "read_run",
    "start_writing",
]

_OPEN_DIR = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_LIST = (errno.EOPNOTSUPP, errno.ENODATA, errno.ENOSYS)

_LINK_ROOM = layouts.SYMLINK.room
_pack_row = FILE_ROW.writer("mode", "uid", "gid", "mtime", "size", "place")
_gaps = GAP_ROW.row_reader("uid", "gid", "length")

Result = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int, int]


def _inspect(fd: int, wanted: int) -> tuple[int, int, int]:
    flags = inode_flags.get_raw_flags(fd) if wanted & WANT_FLAGS else 0
    projid = inode_flags.get_projid(fd) if wanted & WANT_PROJID else 0
    listed = 0
    if wanted & WANT_LIST:
        try:
            listed = sum(len(os.fsencode(name)) + 1 for name in os.listxattr(fd))
        except OSError as error:
            if error.errno not in _NO_LIST:
                raise
    return flags, projid, listed


def _read_whole(fd: int, room: memoryview, st: os.stat_result) -> tuple[int, int]:
    count = 0
    while count < st.st_size and (done := os.readv(fd, [room[count : st.st_size]])):
        count += done
    after = os.fstat(fd)
    return count, int(after.st_size == st.st_size and after.st_mtime_ns == st.st_mtime_ns)


def read_files(
    directory_fd: int, names: list[bytes], wanted: int, room: bytearray | memoryview, /
) -> list[Result]:
    """Open regular files one after another, and read each whole while `room` lasts.

    :param directory_fd: of the directory that the names are in
    :param names: file names; symlinks are not followed
    :param wanted: `WANT_*` bits of `casync_compat.schema`
    :param room: where contents go, one file behind the other
    :returns: a row a file, `(fd, error, mode, uid, gid, size, mtime_ns, dev, ino, flags, projid, listed, offset, count,
        stable)`: `error` an errno or 0; `flags` as FS_IOC_GETFLAGS gives them; `listed` bytes of attribute names;
        `offset` and `count` where the contents lie; `stable` whether size and time were the same afterwards. `fd` is
        open, and the caller's, when something remains to be done: there are attributes to read, or the contents did not
        fit; else -1. The row in which something is wrong or does not fit is the last one.
    """
    view = memoryview(room)
    out: list[Result] = []
    used = 0
    for name in names:
        fd = -1
        try:
            fd = os.open(name, _OPEN, dir_fd=directory_fd)
            st = os.fstat(fd)
        except OSError as error:
            out.append((fd, error.errno or 0, *(0,) * 10, used, 0, 0))
            break
        head = (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_dev, st.st_ino)
        if not stat.S_ISREG(st.st_mode):
            out.append((fd, 0, *head, 0, 0, 0, used, 0, 0))
            break
        try:
            about = _inspect(fd, wanted)
            if st.st_size > len(view) - used:
                out.append((fd, 0, *head, *about, used, 0, 0))
                break
            count, stable = _read_whole(fd, view[used:], st)
        except OSError as error:
            out.append((fd, error.errno or 0, *head, 0, 0, 0, used, 0, 0))
            break
        if not about[2]:
            os.close(fd)
            fd = -1
        out.append((fd, 0, *head, *about, used, count, stable))
        used += count
    return out


def start_writing(fd: int, offset: int, size: int, /) -> None:
    """Have the kernel begin to write out part of a file (sync_file_range), where that can be asked for.

    Python cannot; nothing is lost by that but time, when the file is synced.
    """


def mount_of(directory_fd: int, name: bytes, /) -> int:
    """Which mount something lies on, which is not opened.

    :param name: in the directory; empty for that itself; a symlink is not followed
    :returns: the kernel's number; -1 when it has to be asked by `mount_by_proc`, as it always has from Python
    :raises OSError: it is not there
    """
    return -1


def mount_by_proc(directory_fd: int, name: bytes) -> int:
    """`mount_of`, from /proc.

    :raises FileError: there is no /proc
    """
    fd = os.dup(directory_fd)
    if name:
        os.close(fd)
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as info:
            for line in info:
                if line.startswith(b"mnt_id:"):
                    return int(line[7:])
    except FileNotFoundError:
        why = "it is missing, and without it mount points cannot be told; mount it"
        raise FileError(b"/proc", "read", why) from None
    finally:
        os.close(fd)
    return -1


def open_directory(parent_fd: int, name: bytes, wanted: int, /) -> Result:
    """Open a directory and ask about it.

    :returns: a row as of `read_files`, without contents; its descriptor is the caller's, -1 when it cannot be opened
    """
    fd = -1
    head: tuple[int, ...] = (0,) * 7
    try:
        fd = os.open(name, _OPEN_DIR, dir_fd=parent_fd)
        st = os.fstat(fd)
        head = (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_dev, st.st_ino)
        about = _inspect(fd, wanted)
    except OSError as error:
        return cast("Result", (fd, error.errno or 0, *head, *(0,) * 6))
    return (fd, 0, *head, *about, 0, 0, 0)


class _Odd(Exception):
    """A file that the caller has to look at: the row about it, None where nothing was opened."""

    def __init__(self, row: Result | None) -> None:
        self.row = row


class _Run:
    """What is the same for all files of a run; see `read_run`."""

    def __init__(
        self,
        directory_fd: int,
        wanted: int,
        device: int,
        odd_flags: int,
        inodes: bytes,
        room: memoryview,
        owners: bytes,
    ) -> None:
        self.directory_fd = directory_fd
        self.wanted = wanted
        self.device = device
        self.odd_flags = odd_flags
        self.inodes = memoryview(inodes).cast("Q")
        self.room = room
        self.gaps = {row[:2]: row[2] for row in _gaps(owners)}

    def link(self, name: bytes, at: int) -> tuple[bytes, int]:
        try:
            st = os.stat(name, dir_fd=self.directory_fd, follow_symlinks=False)
            target = os.readlink(name, dir_fd=self.directory_fd) + b"\0"
        except OSError:
            raise _Odd(None) from None
        gap = self.gaps.get((st.st_uid, st.st_gid))
        if gap is None or st.st_dev != self.device or len(self.room) - at < gap + _LINK_ROOM:
            raise _Odd(None)
        at += gap
        if len(target) > _LINK_ROOM or (self.wanted & WANT_LABELS and self._is_labelled(name)):
            raise _Odd(None)
        self.room[at : at + len(target)] = target
        return self._row(st, stat.S_IFLNK | 0o777, len(target), at)

    def _is_labelled(self, name: bytes) -> bool:
        path = b"/proc/self/fd/%d/%s" % (self.directory_fd, name)
        try:
            os.getxattr(path, "security.selinux", follow_symlinks=False)
        except OSError as error:
            return error.errno not in _NO_LIST
        return True

    def file(self, name: bytes, at: int) -> tuple[bytes, int]:
        fd = -1
        try:
            fd = os.open(name, _OPEN, dir_fd=self.directory_fd)
            st = os.fstat(fd)
        except OSError as error:
            raise _Odd((fd, error.errno or 0, *(0,) * 11, -1, 0)) from None
        head = (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_dev, st.st_ino)
        if not stat.S_ISREG(st.st_mode):
            raise _Odd((fd, 0, *head, 0, 0, 0, 0, -1, 0))
        about = (0, 0, 0)
        try:
            about = _inspect(fd, self.wanted)
            gap = self.gaps.get((st.st_uid, st.st_gid))
            odd = about[0] & self.odd_flags or about[1] or about[2] or gap is None
            if odd or st.st_dev != self.device or st.st_ino in self.inodes:
                raise _Odd((fd, 0, *head, *about, 0, -1, 0))
            at += gap or 0
            if st.st_size > len(self.room) - at:
                raise _Odd((fd, 0, *head, *about, 0, -1, 0))
            count, stable = _read_whole(fd, self.room[at:], st)
        except OSError as error:
            raise _Odd((fd, error.errno or 0, *head, *about, 0, -1, 0)) from None
        if count < st.st_size or not stable:
            raise _Odd((fd, 0, *head, *about, 0, count, stable))
        os.close(fd)
        return self._row(st, st.st_mode, st.st_size, at)

    def _row(self, st: os.stat_result, mode: int, size: int, at: int) -> tuple[bytes, int]:
        return _pack_row(mode, st.st_uid, st.st_gid, st.st_mtime_ns % (1 << 64), size, at), at + size


def read_run(
    directory_fd: int,
    listing: bytes,
    at: int,
    most: int,
    wanted: int,
    device: int,
    odd_flags: int,
    inodes: bytes,
    room: bytearray | memoryview,
    gap: int,
    owners: bytes,
    /,
) -> tuple[bytes, bytes, int, Result | None]:
    """Read regular files, and symlinks if wanted, until something else comes or the room is used up.

    :param directory_fd: of the directory that was listed
    :param listing: of `list_names`
    :param at: offset in it to begin at
    :param most: most files to read
    :param wanted: `WANT_*` bits of `casync_compat.schema`
    :param device: that files must be on
    :param odd_flags: files with any of these chattr flags are left to the caller
    :param inodes: of files that are left to the caller, as 64-bit numbers
    :param room: where contents go, each behind free room for the file's records
    :param gap: bytes of that room for each, beside the length of its name and what `owners` says
    :param owners: for each known owner uid, gid and bytes of room, as 64-bit numbers
    :returns: names of the files that were read, each with a NUL; a row for each as `catar.filling` describes;
        offset in the listing behind what was looked at; and about one more file there that is left to the caller, which
        may have been opened, a row as of `read_files`, its count -1 when nothing was read of it, or else None
    """
    if (
        not 0 <= at <= len(listing)
        or not 0 < most < 1 << 63
        or not 0 <= gap < 1 << 63
        or not 0 <= device < 1 << 64
    ):
        raise ValueError("an argument is out of bounds")
    run = _Run(directory_fd, wanted, device, odd_flags, inodes, memoryview(room), owners)
    names, rows = b"", b""
    used = count = 0
    last = None
    while count < most and at < len(listing):
        end = listing.index(b"\0", at)
        mark, name = listing[at : at + 1], listing[at + 1 : end]
        begin = used + gap + len(name)
        if begin > len(room) or (mark != b"f" and (mark != b"l" or not wanted & WANT_LINKS)):
            break
        try:
            row, used = run.link(name, begin) if mark == b"l" else run.file(name, begin)
        except _Odd as odd:
            if mark == b"f":
                last, at = odd.row, end + 1
            break
        rows += row
        names += name + b"\0"
        count += 1
        at = end + 1
    return names, rows, at, last
