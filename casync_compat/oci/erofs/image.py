"""Writes EROFS images of metadata, byte for byte those that composefs makes of the same tree.

    >>> data = write_image(root)                     # a `casync_compat.oci.erofs.node.Node`

    0 header | 1024 superblock | 1152 inodes, each with its attributes and the end of its data |
    attributes that inodes share | zeros up to a block | blocks of data

The image is a function of the tree: no clock, no number of another file system, no order of a hash table is in it, so
that its digest names the tree. Inodes stand breadth first, those of a directory by the bytes of their names; a hard
link where the first of its names is, depth first. All is placed first and then written, since directories have the
numbers of inodes, which are their places. Rules of placing are composefs' (its published digests are tested):

* data whose end does not fill half a block ends behind its inode, within one block; else all of it is in blocks;
* the inode moves on by slots so that this end lies within a block; where that does not help, to the next block, and
  the end gets a block of its own;
* a symlink's target is in the same block as its inode and attributes, or in a block of its own;
* an attribute that occurs twice, name and value, is shared, at most 128 in an inode.

What overlayfs makes of attributes, and which files have contents here, is the business of `oci.erofs.overlay`.
"""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import dataclass
from itertools import chain

from casync_compat import _layouts as layouts
from casync_compat.errors import show_path
from casync_compat.oci.erofs.node import Node, fault_of
from casync_compat.oci.erofs.xattrs import SharedAttributes
from catar.structs import Fields

__all__ = ["write_image"]

_BLOCK, _SLOT, _HOLE = layouts.EROFS_BLOCK, layouts.EROFS_SLOT, layouts.EROFS_HOLE
_PLAIN, _INLINE, _CHUNKS = layouts.EROFS_PLAIN, layouts.EROFS_INLINE, layouts.EROFS_CHUNKS
_HEADER = Fields(*layouts.COMPOSEFS_HEADER)
_SUPERBLOCK = Fields(*layouts.EROFS_SUPERBLOCK)
_COMPACT = Fields(*layouts.EROFS_COMPACT)
_EXTENDED = Fields(*layouts.EROFS_EXTENDED)
_DIRENT = Fields(*layouts.EROFS_DIRENT)
_write_header = _HEADER.writer("flags", "composefs_version")
_write_superblock = _SUPERBLOCK.writer(
    "root", "inodes", "epoch", "epoch_nanoseconds", "blocks", "xattr_block"
)
_write_compact = _COMPACT.writer(
    *("format", "xattr_count", "mode", "links", "size", "zero1", "place", "number", "uid", "gid", "zero2")
)
_write_extended = _EXTENDED.writer(
    *("format", "xattr_count", "mode", "zero1", "size", "place", "number", "uid", "gid"),
    *("seconds", "nanoseconds", "links", "zero2"),
)
_write_dirent = _DIRENT.writer("inode", "name_at", "type", "zero")
_WORD = 4
_BLOCK_BITS = _BLOCK.bit_length() - 1
_MAX_CHUNK_BITS = 31
_START = layouts.EROFS_SUPERBLOCK_AT + _SUPERBLOCK.size
_HALF = _BLOCK // 2
_MAX_SHORT = 0xFFFF
_SECOND = 1_000_000_000
_DIR, _REG, _LNK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)
_TYPES = {
    _REG: 1,
    _DIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    _LNK: 7,
}
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")


@dataclass(slots=True)
class _Placed:
    """An inode and where it goes.

    :ivar parent: of a directory; the root is its own
    :ivar at: where the inode begins, in bytes
    :ivar head: bytes of inode and attributes
    :ivar blocks: that its data has
    :ivar tail: bytes of data behind the inode
    :ivar entries: of a directory, as they go into blocks, and the end behind the inode
    """

    node: Node
    parent: Node
    at: int = 0
    compact: bool = False
    head: int = 0
    blocks: int = 0
    tail: int = 0
    entries: tuple[tuple[bytes, ...], ...] = ()


def write_image(root: Node, version: int = 0) -> bytearray:
    """The image of a tree.

    :param version: of composefs' rules, 0 or 1; it is only noted in the header
    :raises ValueError: a node cannot be in an image; the text names it
    """
    placed = _order(root)
    epoch = min(one.node.mtime for one in placed)
    shared = SharedAttributes(Counter(chain.from_iterable(one.node.xattrs for one in placed)))
    end = _place(placed, epoch, shared)
    first = _up(end + shared.size, _BLOCK) // _BLOCK
    blocks = first + sum(one.blocks for one in placed)
    out = bytearray(blocks * _BLOCK)
    acls = any(name in _ACLS for one in placed for name, _ in one.node.xattrs)
    out[: _HEADER.size] = _write_header(int(acls), version)
    numbers = {one.node: one.at // _SLOT for one in placed}
    out[layouts.EROFS_SUPERBLOCK_AT : _START] = _write_superblock(
        numbers[root], len(placed), *divmod(epoch, _SECOND), blocks, end // _BLOCK
    )
    shared.base = end % _BLOCK
    out[end : end + shared.size] = shared.area
    _write(out, placed, first, numbers, shared)
    return out


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _order(root: Node) -> list[_Placed]:
    """All inodes, in the order of the image."""
    home = _first_names(root)
    path = {root: b""}
    placed = [_Placed(root, root)]
    for one in placed:
        node = one.node
        if node.kind != _DIR:
            continue
        here = path.pop(node)
        for name in sorted(node.children):
            child = node.children[name]
            if not name or (fault := fault_of(child, name)) is not None:
                raise ValueError(f"{show_path(here + b'/' + name)}: {fault if name else 'it has no name'}")
            if child.kind == _DIR:
                path[child] = here + b"/" + name
            if child in home and home[child] != (node, name):
                continue
            placed.append(_Placed(child, node))
    if (fault := fault_of(root, b"")) is not None or root.kind != _DIR:
        raise ValueError(f"/: {fault or 'it is no directory'}")
    return placed


def _first_names(root: Node) -> dict[Node, tuple[Node, bytes]]:
    """Of files with several names the directory and name that come first."""
    found: dict[Node, tuple[Node, bytes]] = {}
    stack = [(root, iter(sorted(root.children)))]
    while stack:
        directory, names = stack[-1]
        for name in names:
            child = directory.children[name]
            if child.kind == _DIR:
                stack.append((child, iter(sorted(child.children))))
                break
            if child.links > 1:
                found.setdefault(child, (directory, name))
        else:
            stack.pop()
    return found


def _fits_compact(node: Node, size: int, epoch: int) -> bool:
    return (
        node.mtime == epoch
        and node.links <= _MAX_SHORT
        and node.uid <= _MAX_SHORT
        and node.gid <= _MAX_SHORT
        and size <= _HOLE
    )


def _place(placed: list[_Placed], epoch: int, shared: SharedAttributes) -> int:
    """Give every inode its place. :returns: where the last one ends"""
    at = _START
    for one in placed:
        node = one.node
        kind = node.kind
        size = node.size if kind == _REG else 0
        if kind == _DIR:
            _lay_out(one)
            size = one.blocks * _BLOCK + one.tail
        elif kind == _LNK:
            size = one.tail = len(node.target)
        elif kind == _REG and size:
            if node.content is None:
                one.tail = _WORD * _chunks(size)[1]
            else:
                one.blocks, one.tail = divmod(size, _BLOCK)
                if one.tail > _HALF:
                    one.blocks, one.tail = one.blocks + 1, 0
        one.compact = _fits_compact(node, size, epoch)
        one.head = (_COMPACT if one.compact else _EXTENDED).size + shared.size_of(node.xattrs)
        at = _up(at, _SLOT)
        at = _make_room_for_link(one, at) if kind == _LNK else _make_room(one, at)
        one.at = at
        at += one.head + one.tail
    return _up(at, _SLOT)


def _chunks(size: int) -> tuple[int, int]:
    """Of a file whose contents are elsewhere: the bits of a chunk's size beyond a block's, and how many there are."""
    bits = min(max((size - 1).bit_length() - _BLOCK_BITS, 0), _MAX_CHUNK_BITS)
    return bits, -(-size >> (bits + _BLOCK_BITS))


def _lay_out(one: _Placed) -> None:
    """Spread a directory's entries over blocks."""
    names = sorted((b".", b"..", *one.node.children))
    parts: list[tuple[bytes, ...]] = []
    first = used = 0
    for number, name in enumerate(names):
        size = _DIRENT.size + len(name)
        if used + size > _BLOCK:
            parts.append(tuple(names[first:number]))
            first, used = number, 0
        used += size
    parts.append(tuple(names[first:]))
    one.entries = tuple(parts)
    one.blocks, one.tail = (len(parts), 0) if used > _HALF else (len(parts) - 1, used)


def _make_room(one: _Placed, at: int) -> int:
    """Where an inode begins so that the end of its data lies in one block."""
    room = _BLOCK - (at + one.head) % _BLOCK
    if room >= one.tail:
        return at
    moved = at + _up(room, _SLOT)
    if one.tail <= _BLOCK - (moved + one.head) % _BLOCK:
        return moved
    if one.node.kind == _REG and one.node.content is None:
        return at  # not data but numbers of blocks, which may cross one: composefs makes a block of them, in vain
    one.blocks, one.tail = one.blocks + 1, 0
    return _up(at, _BLOCK)


def _make_room_for_link(one: _Placed, at: int) -> int:
    whole = one.head + one.tail
    if whole >= _BLOCK:
        one.blocks, one.tail = 1, 0
    return at if at // _BLOCK == (at + whole - 1) // _BLOCK else _up(at, _BLOCK)


def _write(
    out: bytearray, placed: list[_Placed], block: int, numbers: dict[Node, int], shared: SharedAttributes
) -> None:
    for number, one in enumerate(placed):
        node = one.node
        kind = node.kind
        data = b""
        layout, place, size = _INLINE if one.tail else _PLAIN, block if one.blocks else 0, 0
        if kind == _DIR:
            parts = [_directory_block(one, names, numbers) for names in one.entries]
            size = one.blocks * _BLOCK + one.tail
            data = b"".join(part.ljust(_BLOCK, b"\0") for part in parts[: one.blocks])
            data += b"".join(parts[one.blocks :])
        elif kind == _LNK:
            data, size = node.target, len(node.target)
        elif kind == _REG:
            size = node.size
            if node.content is not None:
                data = node.content
            elif size:
                layout = _CHUNKS
                place, chunks = _chunks(size)
                data = _HOLE.to_bytes(_WORD, "little") * chunks
        elif kind in _DEVICES:
            major, minor = node.device
            place = minor & 0xFF | major << 8 | minor >> 8 << 20
        body = shared.body(node.xattrs)
        words = len(body) // _WORD - 2 if body else 0
        if one.compact:
            inode = _write_compact(
                layout << 1, words, node.mode, node.links, size, 0, place, number, node.uid, node.gid, 0
            )
        else:
            inode = _write_extended(
                *(layout << 1 | 1, words, node.mode, 0, size, place, number, node.uid, node.gid),
                *divmod(node.mtime, _SECOND),
                *(node.links, b""),
            )
        split = len(data) - one.tail
        whole = inode + body + data[split:]
        out[one.at : one.at + len(whole)] = whole
        if one.blocks:
            out[block * _BLOCK : block * _BLOCK + split] = data[:split]
            block += one.blocks


def _directory_block(one: _Placed, names: tuple[bytes, ...], numbers: dict[Node, int]) -> bytes:
    children = one.node.children
    name_at = len(names) * _DIRENT.size
    rows = []
    for name in names:
        child = children.get(name)
        if child is None:
            child = one.node if name == b"." else one.parent
        rows.append(_write_dirent(numbers[child], name_at, _TYPES[stat.S_IFMT(child.mode)], 0))
        name_at += len(name)
    return b"".join((*rows, *names))
