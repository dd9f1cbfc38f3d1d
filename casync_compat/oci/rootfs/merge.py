"""Layers upon layers become one tree: additions, replacements, whiteouts and hard links, from headers alone.

    >>> merger = Merger("oci:dir:tag")
    >>> for view in views: merger.apply(members(view))       # from the base upwards
    >>> tree = merger.finish()
    >>> tree.find(b"/bin/sh").parts                           # where its contents are, in which layer

The rules are those of the OCI image specification (`layer.md`, "Whiteouts") and, where it says nothing, those that
umoci (`oci/layer/tar_extract.go`), docker and containerd share: entries take effect in the order of the tar; one
replaces what stands in its place, unless both are directories, which merge; a whiteout removes what lower layers put
there and nothing that its own layer did, wherever in the tar it stands; parents that no layer has are made. A symlink
among the parents is followed within the root, as if in a chroot: where `bin` is a link to `usr/bin`, `bin/sh` in a
later layer is `usr/bin/sh`. A hard link adds a name to whatever file has the target's name at that moment, in whichever
layer, or had it before this layer's whiteouts; its other header fields count for nothing.

What differs: a name with `..` in it is an error rather than cut off at the root, a hard link to itself does nothing,
and a directory that was whited out and only implied by the same layer is not left with its former owner and mode.

Payload is never read, nothing is written; `casync_compat.oci.rootfs.writer` does that.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from casync_compat.errors import show_path
from casync_compat.oci.rootfs.mergedtree import Inode, MergedTree
from casync_compat.oci.spec.errors import ImageError, ImageTooLarge
from casync_compat.oci.tar.reader import HARD_LINK, UNKNOWN, Member, clean_path, path_in_root
from casync_compat.paths import MAX_LINKS

__all__ = ["MergeLimits", "Merger"]

_DIR, _LNK, _REG = stat.S_IFDIR, stat.S_IFLNK, stat.S_IFREG
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."
_MOST_WALKS = 10_000
"""Paths of directories that are remembered at a time."""


@dataclass(frozen=True, slots=True)
class MergeLimits:
    """What a tree may have at most, so that a hostile image can fill neither memory nor disk.

    :ivar entries: members of all layers together
    :ivar depth: directories within each other; every one open at a time takes a file descriptor
    :ivar size: bytes of payload in the files of the merged tree, holes not counted
    :ivar steps: names in the targets of symlinks that are followed
    :ivar memory: bytes that names, targets, attributes and the like may take, roughly
    """

    entries: int = 4_000_000
    depth: int = 256
    size: int = 1 << 40
    memory: int = 2 << 30
    steps: int = 20_000_000


@dataclass(frozen=True, slots=True)
class _Place:
    """A directory, and how it was come to.

    :ivar links: symlinks on the way to it
    """

    inode: Inode
    up: _Place | None
    depth: int
    links: int = 0


_Walks: TypeAlias = "dict[tuple[bytes, ...], _Place]"

_NO_CHILDREN: dict[bytes, Inode] = {}


def _implied() -> Inode:
    return Inode(_DIR)


class Merger:
    """Takes layers from the base upwards.

    :param where: the image, for messages
    :param warn: takes one line about what is left out

    :raises ImageError: from `apply`, when a layer is no valid layer, or over a limit
    """

    def __init__(
        self,
        where: str,
        limits: MergeLimits | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._where = where
        self._limits = limits or MergeLimits()
        self._warn = warn
        self._root = _implied()
        self._layer = -1
        self._count = 0
        self._held = 0
        # Of the layer being applied: names it linked to files of lower layers, and what its whiteouts removed.
        self._linked: set[tuple[Inode, bytes]] = set()
        self._removed: dict[tuple[Inode, bytes], Inode] = {}
        self._aside: dict[tuple[bytes, ...], Inode] = {}  # aufs' own files, which others may be links to
        self._steps = 0
        # Where paths led, so that many members behind many symlinks cost one walk; apart for paths that may go through
        # what whiteouts removed.
        self._walks: _Walks = {}
        self._ghost_walks: _Walks = {}

    def apply(self, members: Iterable[Member]) -> None:
        """Take the next layer."""
        self._layer += 1
        self._linked.clear()
        self._removed.clear()
        self._aside.clear()
        self._forget()
        for member in members:
            self._count += 1
            if self._count > self._limits.entries:
                raise self._error(f"it has more than {self._limits.entries} entries")
            self._held += _weight(member)
            if self._held > self._limits.memory:
                raise self._error(f"its names and attributes take more than {self._limits.memory} bytes")
            self._member(member)

    def finish(self) -> MergedTree:
        """The tree of all layers.

        :raises ImageTooLarge: its files are
        """
        tree = MergedTree(self._root, self._where)
        if tree.size > self._limits.size:
            why = f"its files take {tree.size} bytes, more than the limit of {self._limits.size}"
            raise ImageTooLarge(self._where_now(), why)
        return tree

    def _error(self, why: str) -> ImageError:
        return ImageError(self._where_now(), why)

    def _where_now(self) -> str:
        return f"{self._where}, layer {self._layer}" if self._layer >= 0 else self._where

    # Members

    def _member(self, member: Member) -> None:
        parts = self._clean(member.path, "an entry")
        if not parts:
            self._set_root(member)
            return
        name = parts[-1]
        if any(part.startswith(_AUFS) for part in parts[:-1]):
            self._set_aside(parts, member)
            return
        if name.startswith(_WHITEOUT):
            self._whiteout(parts, name, member.path)
            return
        if member.kind == UNKNOWN:
            self._warn(
                f"{show_path(member.path)} is left out: members of type {member.typeflag!r} are not known"
            )
            return
        # Before the parents are made, which may replace what it is linked to.
        inode = self._link_target(member) if member.kind == HARD_LINK else self._inode(member)
        parent = self._make_parent(parts[:-1])
        there = parent.children.get(name)
        if there is not None:
            if inode.kind == _DIR and there.kind == _DIR:
                _take_metadata(there, inode)
                there.touched = self._layer
                return
            if there.kind in (_DIR, _LNK):
                self._forget()
        elif (parent, name) in self._removed:
            self._ghost_walks.clear()
        if inode.layer != self._layer:
            self._linked.add((parent, name))
        parent.children[name] = inode

    def _clean(self, path: bytes, what: str) -> tuple[bytes, ...]:
        parts = clean_path(path)
        if parts is None:
            parts = path_in_root(path)
        if parts is None:
            raise self._error(f"the name of {what} leads out of the root by '..': {show_path(path)}")
        if b"\0" in path:
            raise self._error(f"the name of {what} has a NUL in it: {show_path(path)}")
        return parts

    def _set_root(self, member: Member) -> None:
        if member.kind != _DIR:
            raise self._error(f"{show_path(member.path)} would make the root something else than a directory")
        _take_metadata(self._root, self._inode(member))

    def _inode(self, member: Member) -> Inode:
        is_file = member.kind == _REG
        return Inode(
            member.kind,
            member.mode,
            member.uid,
            member.gid,
            member.mtime,
            member.xattrs,
            member.linkname if member.kind == _LNK else b"",
            member.device,
            member.size if is_file else 0,
            self._layer,
            tuple(part for part in member.ranges() if part[2]) if is_file else (),
            {} if member.kind == _DIR else _NO_CHILDREN,
            self._layer,
            acls=member.acls,
        )

    def _link_target(self, member: Member) -> Inode:
        parts = self._clean(member.linkname, "a hard link's target")
        target = self._aside.get(parts)
        parent = self._walk(parts[:-1], ghosts=True) if target is None else None
        if parent is not None and parts:
            target = self._child(parent, parts[-1], ghosts=True)
        if target is None:
            raise self._error(
                f"{show_path(member.path)} is a hard link to {show_path(member.linkname)}, "
                "which neither this layer nor one below has"
            )
        if target.kind == _DIR:
            raise self._error(
                f"{show_path(member.path)} is a hard link to a directory, {show_path(member.linkname)}"
            )
        return target

    def _set_aside(self, parts: tuple[bytes, ...], member: Member) -> None:
        """Something within aufs' own directories: left out, but what its files are linked to elsewhere is there."""
        if member.kind not in (_DIR, UNKNOWN):
            self._aside[parts] = (
                self._link_target(member) if member.kind == HARD_LINK else self._inode(member)
            )

    # Directories

    def _forget(self) -> None:
        """A directory or symlink is no longer where it was."""
        self._walks.clear()
        self._ghost_walks.clear()

    def _child(self, directory: Inode, name: bytes, ghosts: bool) -> Inode | None:
        child = directory.children.get(name)
        return self._removed.get((directory, name)) if child is None and ghosts else child

    def _make_parent(self, parts: tuple[bytes, ...]) -> Inode:
        """The directory for a new entry, with all above it noted as touched by this layer."""
        found = self._walk(parts, make=True)
        if found is None:
            raise self._error(f"too many symbolic links lead to {show_path(b'/'.join(parts))}")
        return found

    def _walk(self, parts: tuple[bytes, ...], *, make: bool = False, ghosts: bool = False) -> Inode | None:
        """The directory of this path within the root; None where there is none.

        :param make: make what is missing, in place of what is no directory
        :param ghosts: find what this layer's whiteouts removed, too
        """
        walks = self._ghost_walks if ghosts else self._walks
        known = len(parts)
        while known and parts[:known] not in walks:
            known -= 1
        at = walks[parts[:known]] if known else _Place(self._root, None, 1)
        for number in range(known, len(parts)):
            found = self._step(at, parts[number], make, ghosts)
            if found is None:
                return None
            at = found
            if len(walks) >= _MOST_WALKS:
                walks.clear()
            walks[parts[: number + 1]] = at
        if make:
            above: _Place | None = at
            while above is not None and above.inode.touched != self._layer:
                above.inode.touched = self._layer
                above = above.up
        return at.inode

    def _step(self, at: _Place, name: bytes, make: bool, ghosts: bool) -> _Place | None:
        """Where a name leads from a directory, through however many symlinks; see `_walk`."""
        pending = [name]
        links = at.links
        while pending:
            name = pending.pop()
            if name in (b"", b".", b".."):  # of a symlink's target: names of members have none of them
                if name == b".." and at.up is not None:
                    at = at.up
                continue
            child = self._child(at.inode, name, ghosts)
            if child is not None and child.kind == _LNK:
                links += 1
                if links > MAX_LINKS:
                    return None
                if child.target.startswith(b"/"):
                    at = _Place(self._root, None, 1)
                names = child.target.split(b"/")
                self._steps += len(names)
                if self._steps > self._limits.steps:
                    raise self._error("far too many of its paths lead through symbolic links")
                pending += names[::-1]
                continue
            if child is None or child.kind != _DIR:
                if not make:
                    return None
                if (at.inode, name) in self._removed:
                    self._ghost_walks.clear()
                child = at.inode.children[name] = _implied()
            at = _Place(child, at, at.depth + 1)
            if at.depth > self._limits.depth:
                raise self._error(f"directories nest deeper than {self._limits.depth} levels")
        return replace(at, links=links)

    # Whiteouts

    def _whiteout(self, parts: tuple[bytes, ...], name: bytes, path: bytes) -> None:
        if name == _WHITEOUT:
            raise self._error(f"{show_path(path)} is a whiteout of nothing")
        if name.startswith(_AUFS) and name != _OPAQUE:
            return  # aufs' own bookkeeping (.wh..wh.plnk and its like), which names no file
        parent = self._walk(parts[:-1])
        if parent is None:
            return
        if name == _OPAQUE:
            names = list(parent.children)
        else:
            names = [name[len(_WHITEOUT) :]]
        pending = [(parent, one) for one in names]
        while pending:
            directory, one = pending.pop()
            child = directory.children.get(one)
            if child is None:
                continue
            if child.kind == _DIR and child.touched == self._layer:
                # This layer put something into it, or made it anew: what is from below goes, wherever in it.
                if child.layer != self._layer:
                    _take_metadata(child, _implied())
                    child.layer = self._layer
                pending += [(child, inner) for inner in child.children]
            elif child.layer != self._layer and (directory, one) not in self._linked:
                self._removed[directory, one] = directory.children.pop(one)
                if child.kind in (_DIR, _LNK):
                    self._walks.clear()  # paths through what was removed still lead there for hard links


def _weight(member: Member) -> int:
    """What is kept of a member, in bytes, roughly."""
    size = 400 + len(member.path) + len(member.linkname)
    if member.sparse is not None:
        size += 100 * len(member.sparse)
    for name, value in (*member.xattrs, *member.acls):
        size += len(name) + len(value)
    return size


def _take_metadata(directory: Inode, other: Inode) -> None:
    directory.mode = other.mode
    directory.uid = other.uid
    directory.gid = other.gid
    directory.mtime = other.mtime
    directory.xattrs = other.xattrs
    directory.acls = other.acls
    directory.layer = other.layer
