"""Following a path inside a tree, symlinks included, as a process that has its root there would. No IO of its own.

    >>> follow(root, b"/bin/sh", child=lambda inode, name: inode.children.get(name), link=..., is_dir=...)
    (b'usr/bin/dash', <inode>)

Nothing outside the tree is ever reached: `..` stops at the root, and absolute links begin there.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import ELOOP, ENOENT, ENOTDIR
from typing import TypeVar

__all__ = ["MAX_LINKS", "clean", "follow"]

MAX_LINKS = 40
"""Symlinks followed on one path (Linux MAXSYMLINKS)."""

T = TypeVar("T")


def clean(path: bytes) -> bytes:
    """A path without what does not count: leading, repeated and trailing slashes, and `.`."""
    return b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))


def follow(
    root: T,
    path: bytes,
    *,
    child: Callable[[T, bytes, bytes], T | None],
    link: Callable[[T], bytes | None],
    is_dir: Callable[[T], bool],
    last: bool = True,
) -> tuple[bytes, T]:
    """What a path means, and the path under which it is found without symlinks.

    :param child: what a directory has under a name, given the directory, the name, and the path of both; None for
        nothing
    :param link: a symlink's target; None for everything else
    :param last: whether a symlink as the last component is followed, too; a slash behind it says so as well
    :raises OSError: ENOENT, ENOTDIR or ELOOP, without a file name
    """
    stack: list[tuple[bytes, T]] = [(b"", root)]
    pending = path.split(b"/")[::-1]
    must_be_dir = path.endswith(b"/")
    links = 0
    while pending:
        name = pending.pop()
        if name in (b"", b"."):
            continue
        where, here = stack[-1]
        if not is_dir(here):
            raise OSError(ENOTDIR, "not a directory")
        if name == b"..":
            if len(stack) > 1:
                stack.pop()
            continue
        there = where + b"/" + name if where else name
        found = child(here, name, there)
        if found is None:
            raise OSError(ENOENT, "no such file or directory")
        target = link(found)
        if target is not None and (last or must_be_dir or any(pending)):
            links += 1
            if links > MAX_LINKS:
                raise OSError(ELOOP, "too many levels of symbolic links")
            if target.startswith(b"/"):
                del stack[1:]
            pending += target.split(b"/")[::-1]
            continue
        stack.append((there, found))
    if must_be_dir and not is_dir(stack[-1][1]):
        raise OSError(ENOTDIR, "not a directory")
    return stack[-1]
