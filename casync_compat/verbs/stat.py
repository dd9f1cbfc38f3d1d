"""One node in full: as `casync stat` prints it, and as JSON.

    >>> with Tree(Kind.ARCHIVE, b"etc.catar") as tree:
    ...     for line in stat_lines(read_stat(tree.stream(b"hostname"))):
    ...         sys.stdout.buffer.write(line)

Nothing is opened or written here: the node comes from a `TreeStream`, lines go to the caller. The text is casync 2's
byte for byte; what casync leaves out of it (ACLs, capabilities, SELinux labels) stands in the JSON.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from casync_compat.ids import ChunkId
from casync_compat.index import digest_of_flags
from casync_compat.textform import (
    KIND_WORDS,
    chattr_letters,
    escape,
    fat_letters,
    ls_mode,
    owner_name,
    shown_path,
)
from catar.encoder import Encoder
from catar.flags import FAT_ATTRS, NO_REPLAY_LIMIT, FeatureFlags, flag_names, replayed, time_granularity
from catar.grammar import BLK, REG
from catar.layouts import UINT64_MAX
from catar.records import AclEntry, Node, signed_time
from catar.walker import TreeStream

__all__ = ["NodeStat", "NodeView", "read_stat", "stat_json", "stat_lines"]

F = FeatureFlags

_SECOND = 1_000_000_000
_EPOCH = datetime(1970, 1, 1)
_UID_BITS = int(F.UIDS_16BIT | F.UIDS_32BIT)


@dataclass(frozen=True, slots=True)
class NodeStat:
    """A node and what can only be known by reading its payload.

    :ivar path: from the archive's root, empty for the root
    :ivar feature_flags: of the archive
    :ivar digest: of a regular file's payload; of nothing for a block device, as casync has it; None for others
    :ivar hl_digest: the "hard link" digest, over the node's bytes in the archive from ENTRY to the end of its payload,
        so the same for all names of one inode; None for a directory
    """

    path: bytes
    node: Node
    feature_flags: int
    digest: ChunkId | None
    hl_digest: ChunkId | None


def read_stat(stream: TreeStream) -> NodeStat:
    """The first node of a stream, with its payload read and hashed by the archive's digest."""
    # Kept until the payload is read: a scanner closes its file when its iterator goes away.
    steps = iter(stream)
    node = next(steps)
    assert isinstance(node, Node)
    features = stream.feature_flags
    if node.is_dir:
        return NodeStat(stream.path, node, features, None, None)
    algorithm = digest_of_flags(features)
    payload, whole = algorithm.new(), algorithm.new()
    # Encoding again gives the bytes that were decoded; without a name, since FILENAME is not part of an inode.
    whole.update(Encoder(features, any_top=True).begin(replace(node, name=b"")))
    if node.kind == REG:
        for piece in stream.payload():
            payload.update(piece)
            whole.update(piece)
    has_digest = node.kind in (REG, BLK)
    return NodeStat(
        stream.path,
        node,
        features,
        ChunkId(payload.digest()) if has_digest else None,
        ChunkId(whole.digest()),
    )


# Text


def stat_lines(
    about: NodeStat, *, mask: int = NO_REPLAY_LIMIT, scanned: bool = False, shifted: bool = False
) -> list[bytes]:
    """The lines of `casync stat`, with their newlines.

    The time is shown in the local time zone. It is unsigned, so that moments before 1970 come out in the 26th century.

    :param mask: feature flags that limit which owners, times and attributes are shown, as `replayed` takes them
    :param scanned: whether the node comes from a directory and not from an archive: then FAT attributes and project id
        are shown when the feature flags ask for them; else the former always, and the latter when there is one
    :param shifted: whether an id shift other than 0 is in force: owner 0 then has no name
    """
    node, features = about.node, about.feature_flags
    shown = replayed(features, mask)
    out: list[tuple[str, bytes]] = [("File", shown_path(about.path)), ("Mode", ls_mode(node.mode))]
    if node.is_dir or node.is_regular:
        out.append(("FileAttr", chattr_letters(node.flags & shown)))
        if not scanned or features & FAT_ATTRS:
            out.append(("FATAttr", fat_letters(node.flags & shown)))
    out.append(("Offset", b"%d" % node.offset))
    if time_granularity(shown) and node.mtime != UINT64_MAX:  # casync takes -1 ns for no time
        out.append(("Time", _local_time(node.mtime)))
    if node.is_regular:
        out.append(("Size", b"%d" % node.size))
    out += _owner("User", node.uid, owner_name(node.uid, node.user, shifted=shifted), shown)
    out += _owner("Group", node.gid, owner_name(node.gid, node.group, shifted=shifted), shown)
    if node.projid or (scanned and features & F.QUOTA_PROJID):
        out.append(("ProjID", b"%d" % node.projid))
    if node.target is not None:
        out.append(("Target", escape(node.target)))
    if node.device is not None:
        out.append(("Device", b"%d:%d" % node.device))
    out += [("XAttr", escape(a.name) + " → ".encode() + escape(a.value)) for a in node.xattrs]
    if about.digest is not None:
        out.append(("Digest", about.digest.hex().encode()))
    if about.hl_digest is not None:
        out.append(("HLDigest", about.hl_digest.hex().encode()))
    return [b"%8b: %b\n" % (label.encode(), value) for label, value in out]


def _local_time(raw: int) -> bytes:
    seconds, ns = divmod(raw, _SECOND)
    return b"%b.%09d" % (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)).encode(), ns)


def _owner(label: str, id_: int, name: bytes | None, shown: int) -> list[tuple[str, bytes]]:
    """The line of a user or group; none when neither number nor name is to be shown, or known."""
    if not shown & F.USER_NAMES or name is None:
        return [(label, b"%d" % id_)] if shown & _UID_BITS else []
    # Escaped, since our decoder lets more names pass than casync's, a line feed among them.
    text = escape(name)
    return [(label, b"%b (%d)" % (text, id_) if shown & _UID_BITS else text)]


# JSON


def stat_json(about: NodeStat, *, mask: int = NO_REPLAY_LIMIT) -> bytes:
    """A node as one line of JSON: what `NodeView` gives, and `digest`, `hldigest` (hexadecimal) where there is one.

    `digest_algorithm` is the name that `--digest` takes.
    """
    view = NodeView(about.feature_flags, mask)
    fields = view.fields(about.node, about.path)
    if about.hl_digest is not None:
        fields["digest_algorithm"] = digest_of_flags(about.feature_flags).value
        if about.digest is not None:
            fields["digest"] = about.digest.hex()
        fields["hldigest"] = about.hl_digest.hex()
    return _line(fields)


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
        return _line(self.fields(node, path))

    def fields(self, node: Node, path: bytes) -> dict[str, Any]:
        """The node as a dictionary that `json` can write.

        :param path: from the archive's root, empty for the root
        """
        out: dict[str, Any] = {}
        _put(out, "name", path or b".")
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
            _put(out, "target", node.target)
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
                _put(out, "user", user)
            if group is not None:
                _put(out, "group", group)


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode("ascii") + b"\n"


def _put(out: dict[str, Any], key: str, value: bytes) -> None:
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
            _put(fields, "name", attribute.name)
            _put(fields, "value", attribute.value)
    if node.has_acl_records:
        out["acl"] = _acl(node)
    if node.selinux is not None:
        _put(out, "selinux", node.selinux)
    if node.fcaps is not None:
        out["fcaps"] = node.fcaps.hex()


def _permissions(bits: int) -> str:
    return "".join(letter if bits & bit else "-" for bit, letter in ((4, "r"), (2, "w"), (1, "x")))


def _acl_entries(entries: Iterable[AclEntry]) -> list[dict[str, Any]]:
    out = []
    for entry in entries:
        fields: dict[str, Any] = {"id": entry.id}
        if entry.name is not None:
            _put(fields, "name", entry.name)
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
        for key in ("user_obj", "group_obj", "other", "mask"):
            value = getattr(default, key)
            if value is not None:
                inherited[key] = _permissions(value)
        inherited["users"] = _acl_entries(node.acl_default_users)
        inherited["groups"] = _acl_entries(node.acl_default_groups)
    return out
