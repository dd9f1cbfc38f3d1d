"""Look into an image without unpacking it: listings of its merged tree, and the contents of single files.

    >>> with ImageTree.open(place, "debian", where=name) as image:
    ...     for entry in list_path(image, b"/etc"): print(entry.path)
    ...     for data in read_file(image, b"/etc/os-release"): out.write(data)

A listing fetches no chunk, and a file only those that it lies in: one or two requests for a small one. Symlinks are
followed within the image, as a shell in its container would.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from casync_compat.errors import show_path
from casync_compat.nodeview import put_bytes
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.oci.spec.errors import ImageError
from casync_compat.textform import KIND_WORDS, escape, ls_mode, shown_path

__all__ = ["Entry", "json_line", "list_path", "long_line", "name_line", "read_file"]

_ZEROS = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in an image.

    :ivar path: from the root, without a leading slash; empty for the root
    """

    path: bytes
    inode: Inode


def list_path(image: ImageTree, path: bytes = b"", *, recursive: bool = False) -> Iterator[Entry]:
    """A file itself, or what is in a directory.

    :param recursive: with what is below it
    :raises ImageError: there is nothing of this name
    """
    clean = b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))
    # As `ls` does: a link to a directory is listed as the link, unless a slash or the lack of a name says otherwise.
    found = image.tree.find(path, follow=path.endswith(b"/"))
    if not found.is_dir:
        yield Entry(clean, found)
    elif recursive:
        for inner, inode in image.tree.walk(found, clean):
            if inode is not None:
                yield Entry(inner, inode)
    else:
        for name, inode in sorted(found.children.items()):
            yield Entry(clean + b"/" + name if clean else name, inode)


def read_file(image: ImageTree, path: bytes) -> Iterator[bytes]:
    """The contents of a regular file, in pieces, holes as zeros.

    :raises ImageError: there is none of this name
    :raises CasyncError: they cannot be had
    """
    inode = image.tree.find(path)
    if inode.kind != stat.S_IFREG:
        what = KIND_WORDS[inode.kind].decode()
        raise ImageError(image.where, f"{show_path(path)} is no regular file (it is of type {what})")
    image.plan([inode])
    at = 0
    for offset, data in image.read(inode):
        yield from _zeros(offset - at)
        yield data
        at = offset + len(data)
    yield from _zeros(inode.size - at)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield _ZEROS[: min(count, len(_ZEROS))]
        count -= len(_ZEROS)


# Lines


def name_line(entry: Entry) -> bytes:
    """The path, escaped as in `casync list`."""
    return shown_path(entry.path) + b"\n"


def long_line(entry: Entry) -> bytes:
    """Mode, number of names, owner, size or device, time and path, as `ls -l` has them, with numbers for names."""
    inode = entry.inode
    is_device = inode.kind in (stat.S_IFCHR, stat.S_IFBLK)
    size = b"%d,%d" % inode.device if is_device else b"%d" % inode.size
    line = b"%b %3d %5d %5d %10b %b %b" % (
        ls_mode(inode.kind | inode.mode),
        inode.links,
        inode.uid,
        inode.gid,
        size,
        _moment(inode.mtime),
        shown_path(entry.path),
    )
    if inode.kind == stat.S_IFLNK:
        line += b" -> " + escape(inode.target)
    return line + b"\n"


def _moment(ns: int) -> bytes:
    from datetime import UTC, datetime, timedelta  # lazily: only long listings show times

    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // 1_000_000_000)
    except OverflowError:
        return b"@%d" % (ns // 1_000_000_000)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def json_line(entry: Entry) -> bytes:
    """Everything about an entry as one JSON object."""
    inode = entry.inode
    out: dict[str, Any] = {}
    put_bytes(out, "name", entry.path or b".")
    out["type"] = KIND_WORDS[inode.kind].decode()
    out["mode"] = f"{inode.mode:04o}"
    if inode.kind == stat.S_IFREG:
        out["size"] = inode.size
        out["links"] = inode.links
    out["uid"] = inode.uid
    out["gid"] = inode.gid
    out["mtime_ns"] = inode.mtime
    if inode.kind == stat.S_IFLNK:
        put_bytes(out, "target", inode.target)
    if inode.kind in (stat.S_IFCHR, stat.S_IFBLK):
        out["device"] = {"major": inode.device[0], "minor": inode.device[1]}
    if inode.xattrs:
        out["xattrs"] = attributes = []
        for name, value in inode.xattrs:
            attributes.append(fields := dict[str, Any]())
            put_bytes(fields, "name", name)
            put_bytes(fields, "value", value)
    if inode.layer >= 0:
        out["layer"] = inode.layer
    return json.dumps(out, ensure_ascii=False).encode() + b"\n"
