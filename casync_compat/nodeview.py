"""Nodes as JSON objects: what `list --json` and `stat --json` show of one. Pure: nodes in, lines out.

>>> NodeView(features).json_line(node, b"etc/hostname")
b'{"name": "etc/hostname", "type": "file", ...}\\n'
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from casync_compat import acltext
from casync_compat.textform import KIND_WORDS, owner_name
from catar.flags import NO_REPLAY_LIMIT, FeatureFlags, flag_names, replayed, time_granularity
from catar.records import AclEntry, Node, signed_time

__all__ = ["NodeView", "json_line", "json_pieces", "put_bytes"]

F = FeatureFlags

_SECOND = 1_000_000_000
_EPOCH = datetime(1970, 1, 1)
_UID_BITS = int(F.UIDS_16BIT | F.UIDS_32BIT)


class NodeView:
    """Gives the nodes of one archive as JSON objects, in pure ASCII.

    :param feature_flags: of the archive
    :param mask: feature flags that limit which owners, times and flags are shown, as `replayed` takes them

    A key is there when the archive records the thing for this node; a reader may rely on these:

    ===================  =============================================================================================
    name                 path from the archive's root, `.` for the root; not escaped
    type                 file, dir, link, block, char, fifo or socket
    mode                 permissions, four octal digits as text
    size                 of a file, in bytes
    uid, gid             numbers
    user, group          names; `root` for id 0
    mtime, mtime_ns      the moment, in ISO 8601 (UTC, nine decimals) and in nanoseconds since 1970, may be negative
    target               of a symlink
    device               `{"major", "minor"}`
    flags                names, as `--with` takes them
    projid               number
    xattrs               list of `{"name", "value"}`
    acl                  `users`, `groups`, `group_obj`, `default`; permissions like `r-x`
    acl_text             the access ACL as `getfacl --numeric` has it, entries separated by commas
    acl_default_text     the default ACL of a directory, likewise
    selinux              label
    fcaps                contents of `security.capability`, hexadecimal
    offset               of the node's ENTRY in the archive, in bytes
    ===================  =============================================================================================

    Names, targets, labels and values are bytes. One that is not valid UTF-8 has another key instead, with `_base64`
    at its end (`name_base64`), whose value is the bytes in base64: nothing is lost, and nobody mistakes one for the
    other.
    """

    def __init__(self, feature_flags: int, mask: int = NO_REPLAY_LIMIT) -> None:
        self._shown = shown = replayed(feature_flags, mask)
        self._granularity = time_granularity(feature_flags)
        self._ids = bool(shown & _UID_BITS)
        self._names = bool(shown & F.USER_NAMES)
        self._time = bool(time_granularity(shown))

    def json_line(self, node: Node, path: bytes) -> bytes:
        """The node as one line, with its newline."""
        return json_line(self.fields(node, path))

    def fields(self, node: Node, path: bytes) -> dict[str, Any]:
        """The node as a dictionary that `json` can write.

        :param path: from the archive's root, empty for the root
        """
        out: dict[str, Any] = {}
        put_bytes(out, "name", path or b".")
        out["type"] = KIND_WORDS[node.mode & 0o170000].decode()
        out["mode"] = f"{node.mode & 0o7777:04o}"
        if node.is_regular:
            out["size"] = node.size
        self._put_owner(out, node)
        if self._time:
            moment = signed_time(node.mtime, self._granularity)
            out["mtime"] = _iso(moment)
            out["mtime_ns"] = moment
        if node.target is not None:
            put_bytes(out, "target", node.target)
        if node.device is not None:
            out["device"] = {"major": node.device[0], "minor": node.device[1]}
        flags = node.flags & self._shown
        if flags:
            out["flags"] = flag_names(flags)
        _put_rare(out, node)
        out["offset"] = node.offset
        return out

    def _put_owner(self, out: dict[str, Any], node: Node) -> None:
        if self._ids:
            out["uid"] = node.uid
            out["gid"] = node.gid
        if self._names:
            user, group = owner_name(node.uid, node.user), owner_name(node.gid, node.group)
            if user is not None:
                put_bytes(out, "user", user)
            if group is not None:
                put_bytes(out, "group", group)


def json_line(fields: dict[str, Any]) -> bytes:
    """An object as one line of pure ASCII, with its newline."""
    return json.dumps(fields).encode("ascii") + b"\n"


def json_pieces(fields: dict[str, Any]) -> Iterator[bytes]:
    """The same in pieces, one for each member and each item of a list: for nodes with a great many attributes."""
    front = "{"
    for key, value in fields.items():
        yield f"{front}{json.dumps(key)}: ".encode("ascii")
        front = ", "
        if not isinstance(value, list):
            yield json.dumps(value).encode("ascii")
            continue
        yield b"["
        for number, item in enumerate(value):
            yield (", " * bool(number) + json.dumps(item)).encode("ascii")
        yield b"]"
    yield b"}\n" if fields else b"{}\n"


def put_bytes(out: dict[str, Any], key: str, value: bytes) -> None:
    """Set a key to text where the bytes are UTF-8; else `KEY_base64` to base64."""
    try:
        out[key] = value.decode()
    except UnicodeDecodeError:
        out[key + "_base64"] = base64.b64encode(value).decode()


def _iso(ns: int) -> str:
    seconds, rest = divmod(ns, _SECOND)
    return f"{(_EPOCH + timedelta(seconds=seconds)).isoformat()}.{rest:09d}Z"


def _put_rare(out: dict[str, Any], node: Node) -> None:
    if node.projid:
        out["projid"] = node.projid
    if node.xattrs:
        out["xattrs"] = attributes = []
        for attribute in node.xattrs:
            attributes.append(fields := dict[str, Any]())
            put_bytes(fields, "name", attribute.name)
            put_bytes(fields, "value", attribute.value)
    if node.has_acl_records:
        out["acl"] = _acl(node)
        for key, entries in (
            ("acl_text", _access_entries(node)),
            ("acl_default_text", _default_entries(node)),
        ):
            text = acltext.to_text(entries) if entries else None
            if text is not None:
                out[key] = text
    if node.selinux is not None:
        put_bytes(out, "selinux", node.selinux)
    if node.fcaps is not None:
        out["fcaps"] = node.fcaps.hex()


def _permissions(bits: int) -> str:
    return "".join(letter if bits & bit else "-" for bit, letter in ((4, "r"), (2, "w"), (1, "x")))


def _acl_entries(entries: Iterable[AclEntry]) -> list[dict[str, Any]]:
    out = []
    for entry in entries:
        fields: dict[str, Any] = {"id": entry.id}
        if entry.name is not None:
            put_bytes(fields, "name", entry.name)
        fields["permissions"] = _permissions(entry.permissions)
        out.append(fields)
    return out


def _acl(node: Node) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if node.acl_group_obj is not None:
        out["users"] = _acl_entries(node.acl_users)
        out["groups"] = _acl_entries(node.acl_groups)
        out["group_obj"] = _permissions(node.acl_group_obj)
    default = node.acl_default
    if default is not None:
        out["default"] = inherited = dict[str, Any]()
        for key, value in (
            ("user_obj", default.user_obj),
            ("group_obj", default.group_obj),
            ("other", default.other),
            ("mask", default.mask),
        ):
            if value is not None:
                inherited[key] = _permissions(value)
        inherited["users"] = _acl_entries(node.acl_default_users)
        inherited["groups"] = _acl_entries(node.acl_default_groups)
    return out


def _named(tag: int, entries: Iterable[AclEntry]) -> list[acltext.Entry]:
    return [(tag, entry.permissions, entry.id) for entry in entries]


def _access_entries(node: Node) -> list[acltext.Entry]:
    """The access ACL, of which the mode has owner, mask and others."""
    if node.acl_group_obj is None:
        return []
    return [
        (acltext.USER_OBJ, node.mode >> 6 & 7, None),
        *_named(acltext.USER, node.acl_users),
        (acltext.GROUP_OBJ, node.acl_group_obj, None),
        *_named(acltext.GROUP, node.acl_groups),
        (acltext.MASK, node.mode >> 3 & 7, None),
        (acltext.OTHER, node.mode & 7, None),
    ]


def _default_entries(node: Node) -> list[acltext.Entry]:
    default = node.acl_default
    if default is None:
        return []
    single = (
        (acltext.USER_OBJ, default.user_obj),
        (acltext.GROUP_OBJ, default.group_obj),
        (acltext.MASK, default.mask),
        (acltext.OTHER, default.other),
    )
    return [
        *((tag, permissions, None) for tag, permissions in single if permissions is not None),
        *_named(acltext.USER, node.acl_default_users),
        *_named(acltext.GROUP, node.acl_default_groups),
    ]
