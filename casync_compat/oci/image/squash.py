"""Layers merged to one: a new tar of the tree that they make together, without whiteouts and what they hide.

    >>> tar, diff_id = squash([tar.view for tar in tars], "oci:dir:tag")

It is written in one form whatever the layers were like: PAX, ascending names, the root first, holes as zeros. So the
same tree always gives the same tar; but nothing leads back from it to the layers.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Sequence
from functools import partial

from casync_compat.oci.image.layertar import LAYER_LIMIT, LayerTar
from casync_compat.oci.rootfs.merge import MergeLimits, Merger
from casync_compat.oci.rootfs.mergedtree import Inode, MergedTree
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.reader import members
from casync_compat.spool import Spool
from catar.archive import RandomAccess

__all__ = ["squash"]

_PIECE = 1 << 20
_BLOCK = 512
_SECOND = 1_000_000_000
_OCTAL_7 = 0o7777777
_OCTAL_11 = 0o77777777777
_TYPES = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
_HARD_LINK = b"1"


def squash(
    layers: Sequence[RandomAccess], where: str, limit: int = LAYER_LIMIT
) -> tuple[LayerTar, BlobDigest]:
    """Merge layers, given from the base upwards.

    :param limit: the most bytes that the merged tar may have
    :returns: a tar in a temporary file, and its digest
    :raises ImageError: a layer is malformed, or the result is too large
    """
    merger = Merger(where, MergeLimits(size=limit))
    for number, layer in enumerate(layers):
        merger.apply(members(layer, f"{where}, layer {number}"))
    tree = merger.finish()
    hasher = hashlib.sha256()
    spool = Spool("the merged layers")
    try:
        for piece in _tar(tree, layers):
            if spool.size + len(piece) > limit:
                raise ImageError(where, f"the merged layers are larger than {limit} bytes")
            hasher.update(piece)
            spool.append(piece)
        return LayerTar(spool, spool), BlobDigest("sha256", hasher.hexdigest())
    except BaseException:
        spool.close()
        raise


def _tar(tree: MergedTree, layers: Sequence[RandomAccess]) -> Iterator[bytes]:
    names: dict[int, bytes] = {}
    yield _header(b"./", tree.root, _TYPES[stat.S_IFDIR])
    for path, inode in tree.walk():
        if inode is None:
            continue
        first = names.setdefault(id(inode), path) if inode.links > 1 else path
        if first != path:
            yield _header(path, inode, _HARD_LINK, first)
            continue
        name = path + b"/" if inode.is_dir else path
        yield _header(name, inode, _TYPES[inode.kind], inode.target, inode.size)
        if inode.size:
            yield from _payload(inode, layers[inode.layer])
            yield bytes(-inode.size % _BLOCK)
    yield bytes(2 * _BLOCK)


def _payload(inode: Inode, layer: RandomAccess) -> Iterator[bytes]:
    at = 0
    for offset, where, length in inode.parts:
        yield from _zeros(offset - at)
        at = offset + length
        while length:
            data = layer.read_at(where, min(length, _PIECE))
            if not data:
                raise ImageError("layer", f"its tar became shorter while it was read (at byte {where})")
            yield data
            where += len(data)
            length -= len(data)
    yield from _zeros(inode.size - at)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        part = min(count, _PIECE)
        yield bytes(part)
        count -= part


# ---- headers


def _record(key: bytes, value: bytes) -> bytes:
    """A PAX record, whose length counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _time(nanoseconds: int) -> bytes:
    seconds, fraction = divmod(abs(nanoseconds), _SECOND)
    text = f"{'-' if nanoseconds < 0 else ''}{seconds}"
    return (f"{text}.{fraction:09}".rstrip("0") if fraction else text).encode()


def _header(name: bytes, inode: Inode, kind: bytes, target: bytes = b"", size: int = 0) -> bytes:
    """A member's header, after a PAX header with whatever does not fit into it."""
    records: dict[bytes, bytes] = {}

    def number(key: bytes, value: int, most: int) -> int:
        if 0 <= value <= most:
            return value
        records[key] = b"%d" % value
        return 0

    if len(name) > 100:
        records[b"path"] = name
    if len(target) > 100:
        records[b"linkpath"] = target
    mtime = inode.mtime // _SECOND
    if inode.mtime % _SECOND or not 0 <= mtime <= _OCTAL_11:
        records[b"mtime"] = _time(inode.mtime)
        mtime = 0
    if kind != _HARD_LINK:
        for key, value in inode.xattrs:
            records[b"SCHILY.xattr." + key] = value
        for key, value in inode.acls:
            records[b"SCHILY.acl." + key.rpartition(b"_")[2]] = value
    fields = partial(_ustar, name[:100], inode.mode)
    header = fields(
        number(b"uid", inode.uid, _OCTAL_7),
        number(b"gid", inode.gid, _OCTAL_7),
        number(b"size", size, _OCTAL_11),
        mtime,
        kind,
        target[:100],
        inode.device if inode.kind in (stat.S_IFCHR, stat.S_IFBLK) else (0, 0),
    )
    if not records:
        return header
    body = b"".join(_record(key, records[key]) for key in sorted(records))
    extension = _ustar(b"PaxHeaders", 0o644, 0, 0, len(body), 0, b"x", b"", (0, 0))
    return extension + body + bytes(-len(body) % _BLOCK) + header


def _ustar(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    kind: bytes,
    target: bytes,
    device: tuple[int, int],
) -> bytes:
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    tail = b"%s%sustar\x0000%s%07o\0%07o\0" % (kind, target.ljust(100, b"\0"), bytes(64), *device)
    tail = tail.ljust(_BLOCK - len(head) - 8, b"\0")
    checksum = sum(head) + 8 * 0x20 + sum(tail)
    return head + b"%06o\0 " % checksum + tail
