"""One node in full: as `casync stat` prints it, and as JSON.

    >>> with Tree(Kind.ARCHIVE, b"etc.catar") as tree:
    ...     for line in stat_lines(read_stat(tree.stream(b"hostname"))):
    ...         sys.stdout.buffer.write(line)

Nothing is opened or written here: the node comes from a `TreeStream`, lines go to the caller. The text is casync 2's
byte for byte; what casync leaves out of it (ACLs, capabilities, SELinux labels) stands in the JSON.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from casync_compat.ids import ChunkId
from casync_compat.index import digest_of_flags
from casync_compat.nodeview import NodeView, json_pieces
from casync_compat.textform import (
    chattr_letters,
    escape,
    fat_letters,
    ls_mode,
    owner_name,
    shown_path,
)
from catar.encoder import Encoder
from catar.flags import FAT_ATTRS, NO_REPLAY_LIMIT, FeatureFlags, replayed, time_granularity
from catar.grammar import BLK, REG
from catar.layouts import UINT64_MAX
from catar.records import Node
from catar.walker import TreeStream

__all__ = ["NodeStat", "read_stat", "stat_json", "stat_lines"]

F = FeatureFlags

_SECOND = 1_000_000_000
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
    inode = replace(node, name=b"", user=node.user or None, group=node.group or None)
    whole.update(Encoder(features, any_top=True).begin(inode))
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
    about: NodeStat,
    *,
    mask: int = NO_REPLAY_LIMIT,
    scanned: bool = False,
    shifted: bool = False,
    id_range: int = 0,
) -> Iterator[bytes]:
    """The lines of `casync stat`, with their newlines.

    The time is shown in the local time zone. It is unsigned, so that moments before 1970 come out in the 26th century.

    :param mask: feature flags that limit which owners, times and attributes are shown, as `replayed` takes them
    :param scanned: whether the node comes from a directory and not from an archive: then FAT attributes and project id
        are shown when the feature flags ask for them; else the former always, and the latter when there is one
    :param shifted: whether an id shift other than 0 is in force: owner 0 then has no name
    :param id_range: see `textform.owner_name`
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
    for label, id_, name in (("User", node.uid, node.user), ("Group", node.gid, node.group)):
        out += _owner(label, id_, owner_name(id_, name, shifted=shifted, id_range=id_range), shown)
    if node.projid or (scanned and features & F.QUOTA_PROJID):
        out.append(("ProjID", b"%d" % node.projid))
    if node.target is not None:
        out.append(("Target", escape(node.target)))
    if node.device is not None:
        out.append(("Device", b"%d:%d" % node.device))
    yield from map(_line, out)
    for a in node.xattrs:  # one by one: a node may have 62 MiB of them, which become four times as many
        yield _line(("XAttr", escape(a.name) + " → ".encode() + escape(a.value)))
    if about.digest is not None:
        yield _line(("Digest", about.digest.hex().encode()))
    if about.hl_digest is not None:
        yield _line(("HLDigest", about.hl_digest.hex().encode()))


def _line(field: tuple[str, bytes]) -> bytes:
    label, value = field
    return b"%8b: %b\n" % (label.encode(), value)


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


def stat_json(about: NodeStat, *, mask: int = NO_REPLAY_LIMIT) -> Iterator[bytes]:
    """A node as one line of JSON, in pieces: what `NodeView` gives, and, where there is one, `digest` and `hldigest` in
    hexadecimal.

    `digest_algorithm` is the name that `--digest` takes.
    """
    view = NodeView(about.feature_flags, mask)
    fields = view.fields(about.node, about.path)
    if about.hl_digest is not None:
        fields["digest_algorithm"] = digest_of_flags(about.feature_flags).value
        if about.digest is not None:
            fields["digest"] = about.digest.hex()
        fields["hldigest"] = about.hl_digest.hex()
    return json_pieces(fields)
