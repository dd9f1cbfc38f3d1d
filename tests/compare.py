"""Strict comparison of two trees: everything that an archive may hold, and nothing else.

    >>> assert_same(snapshot(source), snapshot(extracted))

Link counts, inode numbers, access and change times and the sizes of directories are not compared: no archive holds
them. Extended attributes are compared in every namespace, so that one too many is seen as well as one too few.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

import inodes

Node = Mapping[str, object]
Snapshot = dict[bytes, Node]


def holes(path: bytes | Path) -> list[tuple[int, int]]:
    """The (start, end) ranges of a regular file that hold no data, as the file system reports them."""
    found = []
    with open(path, "rb") as file:
        size, at = file.seek(0, os.SEEK_END), 0
        while at < size:
            start = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            if start >= size:
                break
            try:
                at = os.lseek(file.fileno(), start, os.SEEK_DATA)
            except OSError:  # ENXIO: the hole reaches the end
                at = size
            found.append((start, at))
    return found


def describe(path: bytes) -> Node:
    """Everything worth comparing about one node, itself and never what it points to."""
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    node: dict[str, object] = {
        "type": stat.filemode(status.st_mode)[0],
        "mode": oct(stat.S_IMODE(status.st_mode)),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "mtime": status.st_mtime_ns,
        "xattrs": _xattrs(path),
    }
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        node["device"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    elif kind == stat.S_IFLNK:
        node["target"] = os.readlink(path)
    elif kind == stat.S_IFREG:
        node["size"] = status.st_size
        with open(path, "rb") as file:
            node["content"] = hashlib.file_digest(file, "sha256").hexdigest()
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        node["flags"] = hex(inodes.flags(path) & inodes.ARCHIVED)
        node["project"] = inodes.project(path)
        node["subvolume"] = inodes.subvolume(path)
    return node


def _xattrs(path: bytes) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:  # the file system has none
        return {}
    return {name: os.getxattr(path, os.fsencode(name), follow_symlinks=False) for name in sorted(names)}


def snapshot(root: Path) -> Snapshot:
    """Describe `root` (under the name `.`) and every node beneath it, by relative path."""
    top = os.fsencode(root)
    found: Snapshot = {b".": describe(top)}
    pending = [b""]
    while pending:
        prefix = pending.pop()
        for entry in os.scandir(os.path.join(top, prefix)):
            name = os.path.join(prefix, entry.name)
            found[name] = describe(os.path.join(top, name))
            if entry.is_dir(follow_symlinks=False):
                pending.append(name)
    return found


def differences(a: Snapshot, b: Snapshot, ignore: Collection[str] = ()) -> list[str]:
    """One line per difference; `ignore` names fields (`mtime`) or fields of one node (`some/path:mtime`)."""
    lines = []
    for path in sorted(a.keys() | b.keys()):
        shown = path.decode("utf-8", "backslashreplace")
        if path not in b or path not in a:
            lines.append(f"{shown}: only in the {'first' if path in a else 'second'} tree")
            continue
        for field in sorted(a[path].keys() | b[path].keys()):
            one, two = a[path].get(field), b[path].get(field)
            if one != two and field not in ignore and f"{shown}:{field}" not in ignore:
                lines.append(f"{shown}: {field}: {one!r} != {two!r}")
    return lines


def assert_same(a: Snapshot | Path, b: Snapshot | Path, ignore: Collection[str] = ()) -> None:
    """Fail with a list of differences unless both trees are the same.

    :param ignore: field names, or `path:field` for one node; each use says why where it stands
    """
    first = snapshot(a) if isinstance(a, Path) else a
    second = snapshot(b) if isinstance(b, Path) else b
    lines = differences(first, second, ignore)
    shown = lines[:40] + ([f"... and {len(lines) - 40} more"] if len(lines) > 40 else [])
    assert not lines, "trees differ:\n  " + "\n  ".join(shown)
