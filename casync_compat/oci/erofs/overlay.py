"""A merged tree as overlayfs wants it: metadata in an EROFS image, contents of files in a directory of files beside it.

    >>> root, version = compose(tree, contents, attributes, leave_out)
    >>> write_image(root, version)

The rules are composefs': files with something in them are stubs of their size that `trusted.overlay.redirect` leads to
the file of the store, by an absolute path that is made here and by nobody else; `trusted.overlay.metacopy` has the
fs-verity digest of that file where it is known. Small files are in the image.

What an image says itself about overlays is kept from meaning anything to this one: names that begin with
`trusted.overlay.` get `trusted.overlay.overlay.`, which the kernel takes off again, and whiteouts, which overlayfs
would hide, become empty files that an overlay within the tree takes for whiteouts.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from dataclasses import dataclass

from casync_compat.oci.erofs.node import MAX_ID, Node, split
from casync_compat.oci.rootfs.mergedtree import Inode, MergedTree

__all__ = ["INLINE_MAX", "Backing", "compose"]

INLINE_MAX = 64
"""Bytes of a file that is in the image rather than in the store (as of mkcomposefs)."""
_OVERLAY = b"trusted.overlay."
_ESCAPED = b"trusted.overlay.overlay."
_USER = b"user.overlay."
_METACOPY = bytes((0, 36, 0, 1))
"""Before a digest: version, size of the whole, flags, SHA-256 (Linux fs/overlayfs/overlayfs.h, `ovl_metacopy`)."""
_NAME = re.compile(rb"[0-9a-f]{2}/[0-9a-f]{62}")
_MAX_TIME = (1 << 63) // 1_000_000_000 * 1_000_000_000
_DIR, _REG, _LNK, _CHR, _BLK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK


@dataclass(frozen=True, slots=True)
class Backing:
    """Where the contents of a file are.

    :ivar name: in the store: two digits, a slash, 62 digits
    :ivar digest: fs-verity's SHA-256 of them; empty where it is not to be checked
    """

    name: bytes
    digest: bytes = b""

    def attributes(self) -> dict[bytes, bytes]:
        """What a stub has of it.

        :raises ValueError: it is not such a name, or no such digest
        """
        if not _NAME.fullmatch(self.name) or len(self.digest) not in (0, 32):
            raise ValueError(f"{self.name!r} is no file of a store")
        metacopy = _METACOPY + self.digest if self.digest else b""
        return {_OVERLAY + b"metacopy": metacopy, _OVERLAY + b"redirect": b"/" + self.name}


Contents = Callable[[Inode], "Backing | bytes | None"]
"""Of a file that is not empty: where they are, or what they are; None for zeros."""
LeaveOut = Callable[[bytes, str, str], None]
"""Takes the path of what an image cannot hold, the sort of thing, and why."""


def compose(
    tree: MergedTree,
    contents: Contents,
    attributes: Callable[[Inode], tuple[tuple[bytes, bytes], ...]],
    leave_out: LeaveOut,
) -> tuple[Node, int]:
    """The tree to write an image of, and the version of composefs' rules that it needs.

    :param attributes: the extended attributes of an inode that are to be there
    """
    return _Composing(contents, attributes, leave_out).run(tree)


class _Composing:
    def __init__(
        self,
        contents: Contents,
        attributes: Callable[[Inode], tuple[tuple[bytes, bytes], ...]],
        leave_out: LeaveOut,
    ) -> None:
        self._contents = contents
        self._attributes = attributes
        self._leave_out = leave_out
        self._made: dict[Inode, Node] = {}
        self._version = 0

    def run(self, tree: MergedTree) -> tuple[Node, int]:
        root = self._node(tree.root, b"")
        stack = [root]
        for path, inode in tree.walk():
            if inode is None:
                stack.pop()
                continue
            node = self._made.get(inode)
            if node is None:
                if not self._can_be(path, inode):
                    continue
                node = self._node(inode, path)
                if inode.links > 1:
                    self._made[inode] = node
            parent = stack[-1]
            parent.children[path.rpartition(b"/")[2]] = node
            if inode.kind == _CHR and inode.device == (0, 0):
                self._note_whiteout(parent)
            if inode.kind == _DIR:
                parent.links += 1
                stack.append(node)
        self._hide_store(root)
        return root, self._version

    def _can_be(self, path: bytes, inode: Inode) -> bool:
        if inode.kind not in (_CHR, _BLK):
            return True
        major, minor = inode.device
        if 0 <= major < 1 << 12 and 0 <= minor < 1 << 20:
            return True
        self._leave_out(path, "device nodes", f"there is no device {major}:{minor} on Linux")
        return False

    def _node(self, inode: Inode, path: bytes) -> Node:
        xattrs = {}
        for name, value in self._attributes(inode):
            if name.startswith(_OVERLAY):
                name = _ESCAPED + name[len(_OVERLAY) :]
            if split(name) is None or len(name) > 255 or len(value) > 65535 or b"\0" in name:
                self._leave_out(path, "extended attributes", f"EROFS has none like {name!r}")
                continue
            xattrs[name] = value
        uid, gid = inode.uid, inode.gid
        if not (0 <= uid <= MAX_ID and 0 <= gid <= MAX_ID):
            self._leave_out(path, "owners", f"there is no owner {uid}:{gid} on Linux")
            uid = uid if 0 <= uid <= MAX_ID else 0
            gid = gid if 0 <= gid <= MAX_ID else 0
        kind, size = inode.kind, 0
        content: bytes | None = b""
        if kind == _REG and inode.size:
            found = self._contents(inode)
            size = inode.size
            content = found if isinstance(found, bytes) else None
            if isinstance(found, Backing):
                xattrs.update(found.attributes())
        if kind == _CHR and inode.device == (0, 0):
            kind = _REG
            xattrs[_ESCAPED + b"whiteout"] = b""
            xattrs[_USER + b"whiteout"] = b""
        mtime = max(-_MAX_TIME, min(inode.mtime, _MAX_TIME))
        return Node(
            kind | inode.mode,
            uid,
            gid,
            mtime,
            tuple(sorted(xattrs.items())),
            inode.target if kind == _LNK else b"",
            inode.device if kind in (_CHR, _BLK) else (0, 0),
            size,
            content,
            links=2 if kind == _DIR else inode.links,
        )

    def _note_whiteout(self, parent: Node) -> None:
        """Mark a directory as one with whiteouts in it, as overlayfs does since Linux 6.7 and as it did before."""
        self._version = 1
        marks = {_ESCAPED + b"whiteouts": b"", _USER + b"whiteouts": b""}
        marks |= {_ESCAPED + b"opaque": b"x", _USER + b"opaque": b"x"}
        parent.xattrs = tuple(sorted((dict(parent.xattrs) | marks).items()))

    def _hide_store(self, root: Node) -> None:
        """Hide the store's directories where the kernel cannot have it as a layer of data alone (before Linux 6.5)."""
        root.xattrs = tuple(sorted((*root.xattrs, (_OVERLAY + b"opaque", b"y"))))
        label = tuple(pair for pair in root.xattrs if pair[0] == b"security.selinux")
        for number in range(256):
            name = b"%02x" % number
            if name not in root.children:
                whiteout = Node(_CHR | 0o644, root.uid, root.gid, root.mtime, label)
                root.children[name] = whiteout
