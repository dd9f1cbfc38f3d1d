"""The tree that the members of a layer make, in memory: what is there after extracting the tar from front to back.

What docker and containerd do is the rule: a later member replaces an earlier one of the same path (a directory that
something else replaces is gone with all that is in it; a directory over a directory changes only its metadata), missing
parents are made, a hard link is another name for what its target was at that moment. Where their answer is unclear, or
where a catar cannot hold it, `Unrepresentable` says so: such a layer is kept as the tar that it is.

A link to something that is not in the layer has no place in the tree, since what it links to is in a lower layer.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Any

from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.attributes import stored_attributes, stored_mode, stored_mtime, stored_owner
from casync_compat.oci.tar.fields import SparseMap
from casync_compat.oci.tar.member import stored_ranges
from casync_compat.oci.tar.reader import HARD_LINK, UNKNOWN, Member, clean_path
from catar import layouts
from catar.grammar import MAX_DEPTH, check_device

__all__ = ["LOST", "PLANNED", "LayerEntry", "LayerLimits", "LayerTree", "Unrepresentable"]

_DIR, _REG, _LNK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK
_NAME_MAX = 255
LOST = -1
PLANNED = 0


class Unrepresentable(ImageError):
    """A layer cannot be kept as a tree and a recipe; an index over its raw tar (`.caibx`) can always keep it."""


@dataclass(frozen=True, slots=True)
class LayerLimits:
    """Beyond these a layer is kept as its raw tar.

    :ivar entries: names in the tree, parents that no member names included
    :ivar growth: bytes by which holes and copies of hard links may make the catar larger than the tar
    :ivar lost: bytes of payload that is replaced later in the tar, and of what follows its end: the recipe holds them
    :ivar ranges: stored parts of sparse files in the whole layer
    """

    entries: int = 4_000_000
    growth: int = 16 << 30
    lost: int = 64 << 20
    ranges: int = 1 << 18


class LayerEntry:
    """One name in the tree. Compact, because there are millions: what few entries have is in `more`.

    :ivar mode: file type and permissions, as the catar has them; 0 for a link to a lower layer
    :ivar children: of a directory
    :ivar content: for a further hard link, the entry that it shares its contents with
    :ivar more: further arguments for `catar.records.Node`
    :ivar data: offset of its payload in the tar
    :ivar stored: bytes of payload in the tar
    :ivar size: of the contents
    :ivar at: offset of its payload in the catar once it is written; `PLANNED` before, `LOST` if it will not be there
    """

    __slots__ = (
        *("mode", "uid", "gid", "mtime", "children", "content", "more"),
        *("data", "stored", "size", "sparse", "at"),
    )

    def __init__(self, mode: int, uid: int = 0, gid: int = 0, mtime: int = 0) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime = mtime
        self.children: dict[bytes, LayerEntry] | None = {} if mode & 0o170000 == _DIR else None
        self.content: LayerEntry | None = None
        self.more: dict[str, Any] | None = None
        self.data = 0
        self.stored = 0
        self.size = 0
        self.sparse: SparseMap | None = None
        self.at = LOST

    def linked(self) -> LayerEntry:
        """Another name for this entry."""
        link = LayerEntry(self.mode, self.uid, self.gid, self.mtime)
        link.more = self.more
        link.size = self.size
        link.content = self.content or self
        return link

    def ranges(self) -> list[tuple[int, int, int]]:
        """`(offset in the contents, offset in the tar, length)` of each stored part; see `Member.ranges`."""
        return stored_ranges(self.sparse, self.data, self.stored)


class LayerTree:
    """Takes members in the order of the tar; every method raises `Unrepresentable`.

    :param where: the layer, for messages
    :param latest: the latest time that is stored, in nanoseconds; None for any
    :ivar root: of the tree; 0755 of root when the tar does not say
    :ivar files: every regular member that has payload, in the order of the tar, replaced ones too
    """

    def __init__(self, where: str, limits: LayerLimits, latest: int | None) -> None:
        self._where = where
        self._limits = limits
        self._latest = latest
        self.root = LayerEntry(_DIR | 0o755)
        self.files: list[LayerEntry] = []
        self._ranges = 0
        self._made = 0
        self._modes: dict[int, int] = {}
        # The directory of the last member: most members come after one in the same directory.
        self._parent_path: bytes | None = None
        self._parent = self.root

    def add(self, member: Member) -> None:
        """Let a member happen to the tree."""
        kind = member.kind
        if kind == UNKNOWN:
            raise self._refuse(member, f"it has the unknown type {member.typeflag!r}")
        parent, name = self._place(member)
        if parent is None:
            if kind != _DIR:
                raise self._refuse(member, "it would replace the root directory")
            self._describe(self.root, member)
            return
        children = parent.children
        assert children is not None
        known = children.get(name)
        if kind == _DIR and known is not None and known.children is not None:
            self._describe(known, member)
            return
        if known is not None and known.children is not None:
            if kind == HARD_LINK:
                raise self._refuse(member, "a hard link replaces a directory")
            self._parent_path = None
        self._count(member)
        children[name] = self._link(member, known) if kind == HARD_LINK else self._entry(member)

    def _refuse(self, member: Member, why: str) -> Unrepresentable:
        name = member.path.decode("utf-8", "backslashreplace")
        return Unrepresentable(self._where, f"{name!r} (at byte {member.start}): {why}")

    def _count(self, member: Member) -> None:
        self._made += 1
        if self._made > self._limits.entries:
            raise self._refuse(member, f"the layer has more than {self._limits.entries} entries")

    # Places

    def _place(self, member: Member) -> tuple[LayerEntry | None, bytes]:
        """The directory that a member belongs in, and its name there; no directory for the root itself."""
        path = member.path.rstrip(b"/")
        parent_path, _, name = path.rpartition(b"/")
        if name in (b"", b".", b"..") or parent_path != self._parent_path:
            parts = clean_path(path)
            if parts is None:
                raise self._refuse(member, "its path has '..' in it")
            if not parts:
                return None, b""
            if len(parts) >= MAX_DEPTH:
                raise self._refuse(
                    member, f"it is deeper than {MAX_DEPTH} levels, the most that casync reads"
                )
            self._parent = self._make_parents(member, parts[:-1])
            # With a last component such as `.` the text before it is not the parent's path.
            self._parent_path = parent_path if name == parts[-1] else None
            name = parts[-1]
        if len(name) > _NAME_MAX:
            raise self._refuse(member, f"its name has more than {_NAME_MAX} bytes")
        return self._parent, name

    def _make_parents(self, member: Member, parts: tuple[bytes, ...]) -> LayerEntry:
        here = self.root
        for part in parts:
            assert here.children is not None
            child = here.children.get(part)
            if child is None:
                if len(part) > _NAME_MAX:
                    raise self._refuse(member, f"a name in its path has more than {_NAME_MAX} bytes")
                child = here.children[part] = LayerEntry(_DIR | 0o755)
                self._count(member)
            elif child.children is None:
                raise self._refuse(member, "it is beneath something that is not a directory")
            here = child
        return here

    # Entries

    def _mode(self, member: Member, kind: int) -> int:
        mode = stored_mode(kind, member.mode, member.uid, member.gid)
        return self._modes.setdefault(mode, mode)

    def _describe(self, entry: LayerEntry, member: Member) -> None:
        """Give a directory the metadata of a member."""
        entry.mode = self._mode(member, _DIR)
        entry.uid = stored_owner(member.uid)
        entry.gid = stored_owner(member.gid)
        entry.mtime = stored_mtime(member.mtime, self._latest)
        entry.more = stored_attributes(member) if member.xattrs or member.acls else None

    def _entry(self, member: Member) -> LayerEntry:
        kind = member.kind
        entry = LayerEntry(
            self._mode(member, kind),
            stored_owner(member.uid),
            stored_owner(member.gid),
            stored_mtime(member.mtime, self._latest),
        )
        more = stored_attributes(member) if member.xattrs or member.acls else None
        if kind == _REG:
            if member.path.endswith(b"/"):
                raise self._refuse(member, "it is a file whose name ends in a slash")
            self._add_payload(entry, member)
        elif kind == _LNK:
            if not 0 < len(member.linkname) < layouts.SYMLINK.room or b"\0" in member.linkname:
                raise self._refuse(member, f"its target has {len(member.linkname)} bytes")
            more = {**(more or {}), "target": member.linkname}
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            reason = check_device(*member.device)
            if reason:
                raise self._refuse(member, reason)
            more = {**(more or {}), "device": member.device}
        entry.more = more
        return entry

    def _add_payload(self, entry: LayerEntry, member: Member) -> None:
        entry.data = member.data
        entry.stored = member.stored
        entry.size = member.size
        entry.sparse = member.sparse
        if member.sparse is not None:
            self._ranges += len(member.sparse)
            if self._ranges > self._limits.ranges:
                raise self._refuse(member, f"sparse files have more than {self._limits.ranges} parts")
        if member.stored:
            self.files.append(entry)

    def _link(self, member: Member, known: LayerEntry | None) -> LayerEntry:
        parts = clean_path(member.linkname)
        if not parts:
            raise self._refuse(member, "it is a hard link to a path with '..', or to the root")
        target: LayerEntry | None = self.root
        for part in parts:
            if target is None:
                break
            if target.children is None:
                if not target.mode:
                    break  # whatever is in a lower layer here
                raise self._refuse(member, "it is a hard link to something beneath a file or symlink")
            target = target.children.get(part)
        if target is None or not target.mode:
            return LayerEntry(0)
        if target.children is not None:
            raise self._refuse(member, "it is a hard link to a directory")
        if target is known:
            raise self._refuse(member, "it is a hard link to itself")
        return target.linked()
