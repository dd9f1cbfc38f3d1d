"""What the kernel is told of an archive: each message as it sends it, without any mount."""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from archives import END, archive
from fusekernel import Kernel

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import ChunkMissing
from casync_compat.fs import ioctls
from casync_compat.ids import Digest
from casync_compat.index import IndexBuilder
from casync_compat.mount import abi
from casync_compat.mount.abi import Code
from casync_compat.mount.archive import MountedArchive
from casync_compat.mount.nodes import MountedBlob
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.assemble import ChunkFetcher
from casync_compat.streams.lookahead import SharedReader
from catar import Node, flags
from catar.flags import FeatureFlags
from catar.records import XAttr

CONTENT = bytes(range(256)) * 40
_XATTRS = (XAttr(b"user.x", b"\0y"),)
TREE = (
    Node(b"", stat.S_IFDIR | 0o755, mtime=5),
    (Node(b"a", stat.S_IFREG | 0o640, uid=7, gid=8, mtime=2**64 - 1_500_000_001, xattrs=_XATTRS), CONTENT),
    Node(b"dev", stat.S_IFCHR | 0o600, device=(259, 70000)),
    Node(b"dir", stat.S_IFDIR | 0o711),
    (Node(b"inside", stat.S_IFREG | 0o444), b"x"),
    END,
    Node(b"link", stat.S_IFLNK | 0o777, target=b"a/b"),
    END,
)  # fmt: skip


def _kernel() -> Kernel:
    return Kernel(MountedArchive(archive(TREE)))


def test_attributes_are_those_of_the_archive() -> None:
    """Times before 1970 to the nanosecond, owners, device numbers, sizes and blocks come as they are recorded."""
    kernel = _kernel()
    inode = kernel.find(b"a")
    number, size, blocks, atime, mtime, ctime, *nanoseconds, mode, links, uid, gid, _, block, _ = (
        kernel.attributes(inode)
    )
    assert (number, size, blocks, block) == (inode, len(CONTENT), 20, 4096)
    assert (atime, mtime, ctime, *nanoseconds) == (-2, -2, -2, *[499_999_999] * 3)
    assert (mode, links, uid, gid) == (stat.S_IFREG | 0o640, 1, 7, 8)
    device = kernel.attributes(kernel.find(b"dev"))[-3]
    assert device == os.makedev(259, 70000) & 0xFFFFFFFF
    assert kernel.attributes(kernel.find(b"link"))[1] == 3
    assert kernel.attributes(1)[0] == 1


def test_inode_numbers_stay_the_same() -> None:
    """The same archive has the same inode numbers each time, and no two nodes share one."""
    first, second = _kernel(), _kernel()
    paths = [(b"a",), (b"dev",), (b"dir",), (b"dir", b"inside"), (b"link",)]
    numbers = [first.find(*path) for path in paths]
    assert numbers == [second.find(*path) for path in reversed(paths)][::-1]
    assert len({1, *numbers}) == 6


@pytest.mark.parametrize("size", [200, 400, 4096, 1 << 20])
@pytest.mark.parametrize("code", [Code.READDIR, Code.READDIRPLUS])
def test_directories_in_any_number_of_answers(code: Code, size: int) -> None:
    """Every name comes once, with the inode that it leads to, however little room there is."""
    kernel = _kernel()
    names = kernel.names(1, size, code)
    assert [name for name, _ in names] == [b".", b"..", b"a", b"dev", b"dir", b"link"]
    assert all(kernel.find(name) == inode for name, inode in names[2:])


def test_what_is_not_there() -> None:
    """A name that is not there is said to be so for long; what cannot be asked for is refused with the right error."""
    kernel = _kernel()
    error, body = kernel.ask(Code.LOOKUP, 1, b"nothing\0")
    assert (error, struct.unpack_from("=QQQ", body)) == (0, (0, 0, abi.FOREVER))
    assert kernel.ask(Code.READLINK, kernel.find(b"a"))[0] == errno.EINVAL
    assert kernel.ask(Code.GETXATTR, 1, abi.GETXATTR_IN.pack(9, 0) + b"user.x\0")[0] == errno.ENODATA
    assert kernel.ask(Code.OPEN, kernel.find(b"a"), bytes(8))[0] == errno.ENOSYS
    assert kernel.ask(9, 1, bytes(8) + b"new\0")[0] == errno.ENOSYS
    assert kernel.said == []


def test_links_and_attributes() -> None:
    """Targets of links and extended attributes come whole; a buffer that is too small is told."""
    kernel = _kernel()
    assert kernel.ask(Code.READLINK, kernel.find(b"link")) == (0, b"a/b")
    inode = kernel.find(b"a")
    assert kernel.ask(Code.LISTXATTR, inode, abi.GETXATTR_IN.pack(100, 0)) == (0, b"user.x\0")
    wanted = b"user.x\0"
    assert kernel.ask(Code.GETXATTR, inode, abi.GETXATTR_IN.pack(100, 0) + wanted) == (0, b"\0y")
    assert kernel.ask(Code.GETXATTR, inode, abi.GETXATTR_IN.pack(0, 0) + wanted) == (
        0,
        struct.pack("=II", 2, 0),
    )
    assert kernel.ask(Code.GETXATTR, inode, abi.GETXATTR_IN.pack(1, 0) + wanted)[0] == errno.ERANGE


def test_labels_of_a_tree_without_any() -> None:
    """Where the root has no label of SELinux, nobody need ask each name for one; a label that is there comes."""
    ask = abi.GETXATTR_IN.pack(100, 0) + b"security.selinux\0"
    kernel = _kernel()
    assert kernel.ask(Code.GETXATTR, kernel.find(b"a"), ask)[0] == errno.EOPNOTSUPP
    labelled = Node(b"", stat.S_IFDIR | 0o755, selinux=b"u:r:t")
    kernel = Kernel(MountedArchive(archive((labelled, Node(b"fifo", stat.S_IFIFO | 0o600), END))))
    assert kernel.ask(Code.GETXATTR, 1, ask) == (0, b"u:r:t\0")
    assert kernel.ask(Code.GETXATTR, kernel.find(b"fifo"), ask)[0] == errno.ENODATA


def _seek(kernel: Kernel, inode: int, offset: int, whence: int) -> int | None:
    error, body = kernel.ask(Code.LSEEK, inode, abi.LSEEK_IN.pack(0, offset, whence, 0))
    assert error in (0, errno.ENXIO)
    return abi.LSEEK_OUT.unpack(body)[0] if not error else None


def test_holes_of_what_has_no_index() -> None:
    """A file of an archive that lies there whole is all data, and its end counts as a hole."""
    kernel = _kernel()
    inode = kernel.find(b"a")
    size = len(CONTENT)
    assert [_seek(kernel, inode, at, os.SEEK_DATA) for at in (0, 9, size)] == [0, 9, None]
    assert [_seek(kernel, inode, at, os.SEEK_HOLE) for at in (0, 9, size + 5)] == [size, size, None]
    assert kernel.ask(Code.LSEEK, inode, abi.LSEEK_IN.pack(0, 0, os.SEEK_SET, 0))[0] == errno.EINVAL


def test_holes_of_an_index() -> None:
    """Where the index has nothing but zeros is a hole, whatever the store holds; it ends at the end of the file."""
    sizes = ChunkSizes(64, 128, 256)
    builder = IndexBuilder(flags.DEFAULT, sizes)
    for data in (b"x" * 100, bytes(256), bytes(256), b"y" * 70, bytes(256)):
        builder.append(Digest.SHA512_256.of(data), len(data))
    with SharedReader(ChunkFetcher(builder.build(), MemoryStore())) as reader:
        kernel = Kernel(MountedBlob(reader, b"disk"))
        inode = kernel.find(b"disk")
        assert [_seek(kernel, inode, at, os.SEEK_HOLE) for at in (0, 100, 300, 650)] == [100, 100, 300, 682]
        assert [_seek(kernel, inode, at, os.SEEK_DATA) for at in (0, 150, 612, 700)] == [0, 612, 612, None]


def test_flags_of_files() -> None:
    """Chattr and FAT flags come by the ioctls that lsattr and casync use; other ioctls are refused as usual."""
    flagged = Node(b"a", stat.S_IFREG | 0o644, flags=FeatureFlags.FLAG_NOATIME | FeatureFlags.FLAG_HIDDEN)
    kernel = Kernel(MountedArchive(archive((TREE[0], (flagged, b""), END))))
    inode = kernel.find(b"a")

    def ask(command: int, room: int) -> tuple[int, int]:
        error, body = kernel.ask(Code.IOCTL, inode, abi.IOCTL_IN.pack(0, 0, command, 0, 0, room))
        return error, int.from_bytes(body[16:], sys.byteorder)

    assert ask(ioctls.FS_GETFLAGS, 4) == ask(ioctls.FS_GETFLAGS, 8) == (0, 0x80)
    assert ask(ioctls.FAT_GET, 4) == (0, 2)
    assert ask(0x5401, 4)[0] == errno.ENOTTY


def test_contents_at_any_offset() -> None:
    """A read gives what a file has there, and nothing behind its end."""
    kernel = _kernel()
    inode = kernel.find(b"a")
    for offset, size in ((0, 10), (255, 4096), (len(CONTENT) - 3, 4096), (len(CONTENT), 10), (1 << 40, 1)):
        assert kernel.read(inode, offset, size) == CONTENT[offset : offset + size]


def test_forgotten_inodes_are_let_go() -> None:
    """What the kernel forgot as often as it was told of it takes no more memory; the root stays."""
    kernel = _kernel()
    inode = kernel.find(b"a")
    kernel.find(b"a")
    kernel.tree.forget(inode, 1)
    assert kernel.read(inode, 0, 2) == CONTENT[:2]
    kernel.tree.forget(inode, 1)
    kernel.tree.forget(1, 100)
    assert kernel.ask(Code.READ, inode, abi.READ_IN.pack(0, 0, 2, 0, 0, 0, 0))[0] == errno.ESTALE
    assert kernel.find(b"a") == inode


class _Broken:
    """A blob whose chunks are away at first."""

    size = 3
    away = True

    def read_at(self, offset: int, size: int) -> bytes:
        if self.away:
            raise ChunkMissing(bytes(32), "the store")
        return b"abc"[offset : offset + size]


def test_signals_of_who_waits() -> None:
    """A signal that does not kill who waits changes nothing, nor one of somebody who does not wait any more."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(_Broken):
        def read_at(self, offset: int, size: int) -> bytes:
            begun.set()
            assert go_on.wait(20)
            return b"abc"

    kernel = Kernel(MountedBlob(Slow(), b"disk"))
    inode = kernel.find(b"disk")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(kernel.ask, Code.READ, inode, abi.READ_IN.pack(0, 0, 3, 0, 0, 0, 0))
        assert begun.wait(20)
        assert kernel.interrupt(99) is None
        go_on.set()
        assert waiting.result(20) == (0, b"abc")
    assert kernel.interrupt(99) is None


def test_a_store_that_is_away_and_comes_back() -> None:
    """What cannot be had is an input or output error, said to whoever mounted it, and is tried anew the next time."""
    reader = _Broken()
    kernel = Kernel(MountedBlob(reader, b"disk"))
    inode = kernel.find(b"disk")
    ask = abi.READ_IN.pack(0, 0, 3, 0, 0, 0, 0)
    assert kernel.ask(Code.READ, inode, ask) == (errno.EIO, b"")
    assert kernel.said == [f"chunk {'00' * 32} is missing from the store"]
    reader.away = False
    assert kernel.ask(Code.READ, inode, ask) == (0, b"abc")
    assert [name for name, _ in kernel.names(1, 4096)] == [b".", b"..", b"disk"]
    assert kernel.ask(Code.LISTXATTR, inode, abi.GETXATTR_IN.pack(9, 0))[0] == errno.ENOSYS
