"""Reads composefs' description of a tree (composefs-dump(5)), so that its images and ours can be compared."""

from __future__ import annotations

import re
import stat

from casync_compat.oci.erofs.node import Node

_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)")
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\"}
_OVERLAY = b"trusted.overlay."
_ESCAPED = _OVERLAY + b"overlay."


def _plain(text: bytes) -> bytes:
    def one(match: re.Match[bytes]) -> bytes:
        found = match[1]
        return bytes([int(found[1:], 16)]) if found[:1] == b"x" else _LETTERS[found]

    return _ESCAPE.sub(one, text)


def _attributes(fields: list[bytes]) -> dict[bytes, bytes]:
    pairs = (field.split(b"=", 1) for field in fields)
    found = {_plain(name): _plain(value) for name, value in pairs}
    return {
        _ESCAPED + name[len(_OVERLAY) :] if name.startswith(_OVERLAY) else name: value
        for name, value in found.items()
    }


def read_dump(data: bytes) -> tuple[Node, int]:
    """The tree, as composefs would write it, and the version of its rules."""
    nodes: dict[bytes, Node] = {}
    version = 0
    for line in data.split(b"\n"):
        if not line:
            continue
        fields = line.split(b" ")
        path = _plain(fields[0])
        directory, _, name = path.rpartition(b"/")
        parent = nodes[directory or b"/"] if path != b"/" else None
        if fields[2].startswith(b"@"):
            assert parent is not None
            nodes[path] = parent.children[name] = nodes[_plain(fields[8])]
            continue
        node = _node(fields)
        nodes[path] = node
        if parent is None:
            continue
        parent.children[name] = node
        if b"user.overlay.whiteout" in dict(node.xattrs):
            version = 1
            marks = {_ESCAPED + b"whiteouts": b"", b"user.overlay.whiteouts": b""}
            marks |= {_ESCAPED + b"opaque": b"x", b"user.overlay.opaque": b"x"}
            parent.xattrs = tuple(sorted((dict(parent.xattrs) | marks).items()))
    for node in {id(node): node for node in nodes.values() if node.kind == stat.S_IFDIR}.values():
        node.links = 2 + sum(child.kind == stat.S_IFDIR for child in node.children.values())
    root = nodes[b"/"]
    label = tuple(pair for pair in root.xattrs if pair[0] == b"security.selinux")
    root.xattrs = tuple(sorted((*root.xattrs, (_OVERLAY + b"opaque", b"y"))))
    for number in range(256):
        whiteout = Node(stat.S_IFCHR | 0o644, root.uid, root.gid, root.mtime, label)
        root.children.setdefault(b"%02x" % number, whiteout)
    return root, version


def _node(fields: list[bytes]) -> Node:
    mode, device = int(fields[2], 8), int(fields[6])
    xattrs = _attributes(fields[11:])
    size, payload, content, digest = int(fields[1]), fields[8], fields[9], fields[10]
    inline: bytes | None = _plain(content) if content != b"-" else b""
    if stat.S_ISREG(mode) and size and content == b"-":
        inline = None
        words = b"\0\x24\0\1" + bytes.fromhex(digest.decode()) if digest != b"-" else b""
        xattrs[_OVERLAY + b"metacopy"] = words
        if payload != b"-":
            xattrs[_OVERLAY + b"redirect"] = b"/" + _plain(payload).lstrip(b"/")
    if stat.S_ISCHR(mode) and device == 0:
        mode, size = stat.S_IFREG | stat.S_IMODE(mode), 0
        xattrs[_ESCAPED + b"whiteout"] = xattrs[b"user.overlay.whiteout"] = b""
    seconds, _, nanoseconds = fields[7].partition(b".")
    return Node(
        mode,
        int(fields[4]),
        int(fields[5]),
        int(seconds) * 10**9 + int(nanoseconds),
        tuple(sorted(xattrs.items())),
        _plain(payload) if stat.S_ISLNK(mode) else b"",
        (device >> 8, device & 0xFF),
        size if stat.S_ISREG(mode) else 0,
        inline,
        links=int(fields[3]),
    )
