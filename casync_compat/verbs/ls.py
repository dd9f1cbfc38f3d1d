"""Names in any tree that can be looked into, one line each: bare, as `ls -l` has them, or as JSON.

    >>> for entry in ls(tree, b"/etc"): print(long_line(entry))

casync's own listing, of whole archives in their order, is `lines`; this one is for single directories.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from casync_compat import paths
from casync_compat.nodeview import put_bytes
from casync_compat.streams.filetree import FileStat, FileTree, walk
from casync_compat.textform import KIND_WORDS, escape, ls_mode, shown_path

__all__ = ["json_line", "long_line", "ls", "name_line"]


def ls(tree: FileTree, path: bytes = b"", *, recursive: bool = False) -> Iterator[FileStat]:
    """A file itself, or what is in a directory.

    As `ls` does it, a link to a directory is listed as the link, unless a slash at its end says otherwise.

    :param recursive: with what is below it
    :raises NotFound: there is nothing of this name
    """
    found = tree.stat(path, follow=path.endswith(b"/"))
    if not found.is_dir:
        yield replace(found, path=paths.clean(path))
        return
    # Names are shown below the path that was asked for, though links may have led elsewhere.
    asked, real = paths.clean(path), found.path
    for entry in walk(tree, real) if recursive else tree.children(real):
        inner = entry.path[len(real) :].lstrip(b"/")
        yield entry if asked == real else replace(entry, path=asked + b"/" + inner if asked else inner)


def name_line(entry: FileStat) -> bytes:
    """The path, escaped as in `casync list`."""
    return shown_path(entry.path) + b"\n"


def long_line(entry: FileStat) -> bytes:
    """Mode, number of names, owner, size or device, time and path, as `ls -l` has them, with numbers for names."""
    is_device = entry.kind in (stat.S_IFCHR, stat.S_IFBLK)
    size = b"%d,%d" % entry.device if is_device else b"%d" % entry.size
    line = b"%b %3d %5d %5d %10b %b %b" % (
        ls_mode(entry.kind | entry.mode),
        entry.links,
        entry.uid,
        entry.gid,
        size,
        _moment(entry.mtime),
        shown_path(entry.path),
    )
    if entry.kind == stat.S_IFLNK:
        line += b" -> " + escape(entry.target)
    return line + b"\n"


def _moment(ns: int) -> bytes:
    from datetime import UTC, datetime, timedelta  # lazily: only long listings show times

    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // 1_000_000_000)
    except OverflowError:
        return b"@%d" % (ns // 1_000_000_000)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def json_line(tree: FileTree, entry: FileStat) -> bytes:
    """Everything about an entry of `tree` as one JSON object."""
    out: dict[str, Any] = {}
    put_bytes(out, "name", entry.path or b".")
    out["type"] = KIND_WORDS[entry.kind].decode()
    out["mode"] = f"{entry.mode:04o}"
    if entry.kind == stat.S_IFREG:
        out["size"] = entry.size
        out["links"] = entry.links
    out["uid"] = entry.uid
    out["gid"] = entry.gid
    out["mtime_ns"] = entry.mtime
    if entry.kind == stat.S_IFLNK:
        put_bytes(out, "target", entry.target)
    if entry.kind in (stat.S_IFCHR, stat.S_IFBLK):
        out["device"] = {"major": entry.device[0], "minor": entry.device[1]}
    if xattrs := tree.xattrs(entry.path):
        out["xattrs"] = attributes = []
        for name, value in xattrs:
            attributes.append(fields := dict[str, Any]())
            put_bytes(fields, "name", name)
            put_bytes(fields, "value", value)
    if entry.layer >= 0:
        out["layer"] = entry.layer
    return json.dumps(out, ensure_ascii=False).encode() + b"\n"
