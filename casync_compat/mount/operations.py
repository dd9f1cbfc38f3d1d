"""What is done about each request of the kernel: bytes of a request in, bytes of its answer out.

    >>> operations = Operations(MountedArchive(archive), tell)
    >>> answer = operations.answer(request)

Nothing can be written. Files and directories are not even opened: the kernel is told that there is no need to. An
answer that cannot be given is EIO, said once to whoever mounted it, and the next request is tried anew.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from casync_compat.errors import CasyncError
from casync_compat.fs import inode_flags, ioctls
from casync_compat.mount import abi
from casync_compat.mount.abi import Code, Init, Listing
from casync_compat.mount.nodes import MountedTree
from catar.errors import CatarError

__all__ = ["Answer", "Operations"]

Answer = list[bytes | memoryview]
"""A header, and a body in pieces."""

_Body = Sequence[bytes | memoryview]

_FLAGS_SHOWN: dict[int, Callable[[int], int]] = {
    ioctls.FS_GETFLAGS: inode_flags.to_disk,
    ioctls.FAT_GET: inode_flags.fat_to_disk,
}
"""Ioctls that give flags of a file or directory, and how, of feature flag bits."""
_SELINUX = b"security.selinux"


class Operations:
    """Answers requests about one tree. May be used from several threads.

    :param tell: told in a line of what could not be read
    :param background: most reads ahead that the kernel has under way
    """

    def __init__(self, nodes: MountedTree, tell: Callable[[str], None], *, background: int = 12) -> None:
        self._nodes = nodes
        self._tell = tell
        self._background = background
        self._asking: dict[int, int] = {}  # by number of a request, the process that waits
        self._answers: dict[int, Callable[[int, memoryview], _Body]] = {
            Code.LOOKUP: self._lookup,
            Code.GETATTR: self._getattr,
            Code.READLINK: self._readlink,
            Code.READ: self._read,
            Code.STATFS: self._statfs,
            Code.GETXATTR: self._getxattr,
            Code.LISTXATTR: self._listxattr,
            Code.INIT: self._init,
            Code.READDIR: self._readdir,
            Code.READDIRPLUS: self._readdirplus,
            Code.IOCTL: self._ioctl,
            Code.LSEEK: self._lseek,
            Code.DESTROY: self._nothing,
        }
        if not nodes.with_xattrs:
            del self._answers[Code.GETXATTR], self._answers[Code.LISTXATTR]

    def answer(self, request: bytes) -> Answer | None:
        """The answer to a request; None for one that has none."""
        _, code, unique, inode, _, _, process, *_ = abi.IN_HEADER.unpack_from(request)
        if code in (Code.FORGET, Code.BATCH_FORGET):
            for number, count in abi.forgotten(code, inode, request[abi.IN_HEADER.size :]):
                self._nodes.forget(number, count)
            return None
        if code == Code.INTERRUPT:
            return self._interrupt(*abi.INTERRUPT_IN.unpack_from(request, abi.IN_HEADER.size))
        parts: _Body = ()
        error = 0
        answer = self._answers.get(code)
        if answer is None:
            error = errno.ENOSYS
        else:
            self._asking[unique] = process
            try:
                parts = answer(inode, memoryview(request)[abi.IN_HEADER.size :])
            except (CasyncError, CatarError) as failure:
                self._tell(str(failure))
                error = errno.EIO
            except OSError as failure:
                error = failure.errno or errno.EIO
            except KeyError:
                error = errno.ESTALE
            except Exception as failure:
                self._tell(f"internal error: {type(failure).__name__}: {failure}")
                error = errno.EIO
            finally:
                self._asking.pop(unique, None)
        size = abi.OUT_HEADER.size + sum(map(len, parts))
        return [abi.OUT_HEADER.pack(size, -error, unique), *parts]

    def _interrupt(self, unique: int) -> Answer | None:
        """Somebody got a signal while he waits. Who dies of it need not wait; others get what they asked for."""
        process = self._asking.get(unique)
        if process is None or not _is_dying(process):
            return None
        return [abi.OUT_HEADER.pack(abi.OUT_HEADER.size, -errno.EINTR, unique)]  # a later answer finds nobody

    def _init(self, inode: int, body: memoryview) -> _Body:
        asked = Init.parse(body)
        if not asked.is_known:
            self._tell(f"the kernel speaks FUSE {asked.major}.{asked.minor}, which is too old")
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        return [abi.init_out(asked, acls=self._nodes.with_acls, background=self._background)]

    def _nothing(self, inode: int, body: memoryview) -> _Body:
        return ()

    def _lookup(self, inode: int, body: memoryview) -> _Body:
        found = self._nodes.lookup(inode, _name(body))
        if found is None:
            return [abi.no_entry()]
        self._nodes.told(found)
        return [abi.entry_out(found.number, found.attributes)]

    def _getattr(self, inode: int, body: memoryview) -> _Body:
        return [abi.attr_out(self._nodes.inode(inode).attributes)]

    def _readlink(self, inode: int, body: memoryview) -> _Body:
        if not self._nodes.inode(inode).is_symlink:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return [self._nodes.readlink(inode)]

    def _read(self, inode: int, body: memoryview) -> _Body:
        _, offset, size, *_ = abi.READ_IN.unpack_from(body)
        return self._nodes.read(inode, offset, size)

    def _statfs(self, inode: int, body: memoryview) -> _Body:
        return [abi.statfs_out(self._nodes.size, 0)]

    def _getxattr(self, inode: int, body: memoryview) -> _Body:
        size, _ = abi.GETXATTR_IN.unpack_from(body)
        name = _name(body[abi.GETXATTR_IN.size :])
        value = self._nodes.xattrs(inode).get(name)
        if value is None:
            if name == _SELINUX and not self._nodes.with_labels:  # ls then asks no more, for any name
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return _sized(value, size)

    def _listxattr(self, inode: int, body: memoryview) -> _Body:
        size, _ = abi.GETXATTR_IN.unpack_from(body)
        return _sized(b"".join(name + b"\0" for name in sorted(self._nodes.xattrs(inode))), size)

    def _ioctl(self, inode: int, body: memoryview) -> _Body:
        _, _, command, _, _, room = abi.IOCTL_IN.unpack_from(body)
        shown = _FLAGS_SHOWN.get(command)
        if shown is None or room < 4:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return [abi.ioctl_out(shown(self._nodes.flags(inode)), room)]

    def _lseek(self, inode: int, body: memoryview) -> _Body:
        _, offset, whence, _ = abi.LSEEK_IN.unpack_from(body)
        size = self._nodes.inode(inode).size
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        found = self._nodes.seek(inode, offset, hole=whence == os.SEEK_HOLE) if offset < size else size
        if offset >= size or (found >= size and whence == os.SEEK_DATA):
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return [abi.LSEEK_OUT.pack(min(found, size))]

    def _readdir(self, inode: int, body: memoryview) -> _Body:
        return self._list(inode, body, plus=False)

    def _readdirplus(self, inode: int, body: memoryview) -> _Body:
        return self._list(inode, body, plus=True)

    def _list(self, inode: int, body: memoryview, *, plus: bool) -> _Body:
        _, start, size, *_ = abi.READ_IN.unpack_from(body)
        listing = Listing(size, plus=plus)
        for at in range(start, 2):  # the kernel knows its own way up
            mode = self._nodes.inode(inode).mode
            if not listing.add(b"." * (at + 1), inode, mode, at + 1):
                return listing.parts
        at = max(start, 2)
        while entries := self._nodes.entries(inode, at - 2, listing.room()):
            for name, found in entries:
                at += 1
                if not listing.add(name, found.number, found.mode, at, found.attributes):
                    return listing.parts
                if plus and found.attributes:
                    self._nodes.told(found)
        return listing.parts


def _is_dying(process: int) -> bool:
    """Whether a signal has been sent to a thread that kills it: the kernel then adds SIGKILL to what it has pending."""
    with suppress(OSError), open(f"/proc/{process}/status", "rb") as file:
        for line in file:
            if line.startswith(b"SigPnd:"):
                return bool(int(line[7:], 16) >> signal.SIGKILL - 1 & 1)
    return False


def _name(body: memoryview) -> bytes:
    return bytes(body).partition(b"\0")[0]


def _sized(value: bytes, size: int) -> _Body:
    """A value for which there is so much room; 0 asks for its size."""
    if not size:
        return [abi.GETXATTR_OUT.pack(len(value), 0)]
    if len(value) > size:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    return [value]
