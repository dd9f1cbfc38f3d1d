"""A node read at one go, where it is one of the many that have nothing but an owner besides their ENTRY.

The decoder reads every node, piece by piece; this reads most of them, in a fraction of the time, and leaves the others
to it. What is read here the decoder would have read alike.
"""

from __future__ import annotations

from catar.flags import FeatureFlags
from catar.grammar import DIR, REG, check_entry, check_node, check_payload
from catar.layouts import ENTRY, FILENAME, GOODBYE, GROUP, HEADER, PAYLOAD, USER
from catar.records import Node

__all__ = ["ordinary_node"]

_read_header = HEADER.reader("size", "type")
_read_entry = ENTRY.head.reader("size", "type", "feature_flags", "mode", "flags", "uid", "gid", "mtime")
_HEADER = HEADER.size
_ENTRY = ENTRY.head.size
_ENTRY_TYPE = ENTRY.type
_IN_DIRECTORY = frozenset({FILENAME.type, GOODBYE.type})
_PAYLOAD = PAYLOAD.type
_NAMES = int(FeatureFlags.USER_NAMES)
_OWNERS = {USER.type: USER, GROUP.type: GROUP}


def ordinary_node(data: bytes, at: int, entry: int, name: bytes, features: int) -> tuple[Node, int] | None:
    """The directory or regular file whose ENTRY is at `data[at:]`; None for one to be decoded, for whatever reason.

    With it comes the offset in the archive of what follows its metadata, as of a file's contents.

    :param entry: offset of the ENTRY in the archive
    :param features: the archive's feature flags
    """
    room = len(data) - _HEADER
    if at + _ENTRY > room:
        return None
    size, type_, flagged, mode, flags, uid, gid, mtime = _read_entry(data, at)
    kind = mode & 0o170000
    if (
        type_ != _ENTRY_TYPE
        or size != _ENTRY
        or flagged != features
        or (kind != REG and kind != DIR)
        or check_entry(mode, flags, uid, gid, mtime, features) is not None
    ):
        return None
    base = entry - at
    at += _ENTRY
    owners: list[bytes | None] = [None, None]
    last = 0
    size, type_ = _read_header(data, at)
    while (layout := _OWNERS.get(type_)) is not None:
        number = 1 if layout is USER else 2
        text, end = at + _HEADER, at + size
        if number <= last or not layout.accepts(size) or end > room or data.find(0, text, end) != end - 1:
            return None
        owners[number - 1] = data[text : end - 1]
        last = number
        at = end
        size, type_ = _read_header(data, at)
    node = Node(name, mode, flags, uid, gid, mtime, *owners)
    if last and (not features & _NAMES or check_node(node, features) is not None):
        return None
    node.start = node.offset = entry
    if kind == DIR:
        return (node, base + at) if type_ in _IN_DIRECTORY else None
    payload = size - PAYLOAD.head.size
    if type_ != _PAYLOAD or check_payload(payload) is not None:
        return None
    node.size = payload
    node.payload_offset = base + at + PAYLOAD.head.size
    return node, node.payload_offset
