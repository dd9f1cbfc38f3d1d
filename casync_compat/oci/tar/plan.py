"""A layer's tar as a catar and a recipe, and back.

    >>> plan = plan_layer(FileView(fd))              # reads headers only
    >>> plan.write(sink)                             # the catar, in casync's order
    >>> recipe = plan.recipe(diff_id)                # what makes the tar again from it
    >>> verify(recipe, catar)

The catar is an ordinary one: casync lists and extracts it. Whiteouts are files like any other in it, hard links are
copies, times are the epoch by default so that a change of times changes no chunk. Everything that it cannot hold is in
the recipe, which keeps the tar's headers verbatim. Nothing is unpacked and memory is bounded by the number of members,
some 400 bytes each. Layers that do not fit are refused with `Unrepresentable` before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from casync_compat.errors import UsageError
from casync_compat.fs.readers import FillingAccess
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.reader import TarLimits, TarReader
from casync_compat.oci.tar.recipe import Recipe, rebuild_checked
from casync_compat.oci.tar.recipebuilder import RecipeBuilder
from casync_compat.oci.tar.recipeformat import LITERALS_MAX
from casync_compat.oci.tar.tree import LOST, PLANNED, LayerEntry, LayerLimits, LayerTree, Unrepresentable
from casync_compat.streams.sinks import Sink
from catar.archive import RandomAccess
from catar.encoder import Encoder
from catar.flags import FeatureFlags, select
from catar.records import Node

__all__ = ["LayerLimits", "LayerPlan", "Unrepresentable", "layer_flags", "plan_layer", "verify"]

F = FeatureFlags

_SECOND = 1_000_000_000
_PIECE = 1 << 20
_SMALL = 64 << 10
"""Files up to this size are read as one piece and copied; larger ones are read into the sink's own buffer."""
_HOLE = 1 << 30
_ZERO_RUN = 1024
"""Fewer zeros than this are literals: zstd keeps them in fewer bytes than a splice takes."""

_RECORDED = int(
    F.UIDS_32BIT
    | F.PERMISSIONS
    | F.SYMLINKS
    | F.DEVICE_NODES
    | F.FIFOS
    | F.SOCKETS
    | F.XATTRS
    | F.ACL
    | F.SELINUX
    | F.FCAPS
)
"""The same whatever a layer has: the flags are in every entry, so other ones would change every chunk of headers."""


def layer_flags(*, nanoseconds: bool = False, digest_bits: int = int(F.SHA512_256)) -> int:
    """The feature flags of a layer's catar and index, as `casync make --with=…` would have them.

    :param nanoseconds: record times to the nanosecond, not to the second
    :param digest_bits: see `casync_compat.index.digest_bits`
    """
    time = F.NSEC_TIME if nanoseconds else F.SEC_TIME
    return select([_RECORDED, int(time)], digest_bits=digest_bits)


def plan_layer(
    tar: RandomAccess,
    *,
    where: str = "layer",
    mtime: Literal["epoch", "keep"] = "epoch",
    epoch: int = 0,
    digest_bits: int = int(F.SHA512_256),
    limits: LayerLimits | None = None,
    tar_limits: TarLimits | None = None,
) -> LayerPlan:
    """Read the headers of a tar and plan its catar.

    :param tar: uncompressed; it must stay as it is until the plan is done with
    :param where: what messages call it
    :param mtime: `epoch` caps all times at `epoch`, `keep` keeps them
    :param epoch: in seconds; 0 gives all entries the same time, `SOURCE_DATE_EPOCH` keeps those before it
    :param digest_bits: for the feature flags, see `casync_compat.index.digest_bits`
    :raises Unrepresentable: make an index of the raw tar (`.caibx`) instead
    """
    if epoch < 0:
        raise UsageError(f"the epoch {epoch} is before 1970")
    limits = limits or LayerLimits()
    tree = LayerTree(where, limits, epoch * _SECOND if mtime == "epoch" else None)
    reader = TarReader(tar, where, limits=tar_limits)
    try:
        for member in reader:
            tree.add(member)
    except Unrepresentable:
        raise
    except ImageError as error:
        raise Unrepresentable(error.where, error.why) from error
    counts = _count(tree.root)
    _check_sizes(tar, reader.end, tree, counts, where, limits)
    # With a cap, seconds do: what is finer than that would change the flags, hence every entry, for nothing.
    nanoseconds = mtime == "keep" and counts.fractional
    return LayerPlan(tar, where, tree, counts, layer_flags(nanoseconds=nanoseconds, digest_bits=digest_bits))


@dataclass(slots=True)
class _Counts:
    entries: int = 0
    whiteouts: int = 0
    payload: int = 0
    groups: int = 0
    fractional: bool = False


def _walk(root: LayerEntry) -> Iterator[tuple[bytes, LayerEntry | None]]:
    """Every entry that goes into the catar, in its order; None stands for the end of a directory."""
    yield b"", root
    assert root.children is not None
    stack = [iter(sorted(root.children.items()))]
    while stack:
        for name, entry in stack[-1]:
            if not entry.mode:
                continue
            yield name, entry
            if entry.children is not None:
                stack.append(iter(sorted(entry.children.items())))
                break
        else:
            stack.pop()
            yield b"", None


def _count(root: LayerEntry) -> _Counts:
    """Count what goes into the catar, and mark whose payload does."""
    counts = _Counts()
    linked: dict[int, tuple[LayerEntry, int]] = {}
    for name, entry in _walk(root):
        if entry is None:
            continue
        counts.entries += 1
        counts.whiteouts += name.startswith(b".wh.")
        counts.payload += entry.size
        counts.fractional = counts.fractional or bool(entry.mtime % _SECOND)
        content = entry.content
        if content is None:
            entry.at = PLANNED
        else:
            linked[id(content)] = (content, linked.get(id(content), (content, 0))[1] + 1)
    for content, names in linked.values():
        # Of a file that was replaced under its first name only the other ones are left.
        counts.groups += names + (content.at == PLANNED) > 1
        content.at = PLANNED
    return counts


def _check_sizes(
    tar: RandomAccess, end: int, tree: LayerTree, counts: _Counts, where: str, limits: LayerLimits
) -> None:
    """:raises Unrepresentable: the catar or the recipe would become too large"""
    kept = sum(entry.stored for entry in tree.files if entry.at != LOST)
    lost = sum(entry.stored for entry in tree.files if entry.at == LOST)
    if counts.payload - kept > limits.growth:
        raise Unrepresentable(
            where, f"holes and hard links would add {counts.payload - kept} bytes to its tree"
        )
    lost += _trailing(tar, end, limits.lost)
    if lost > limits.lost:
        raise Unrepresentable(
            where, f"it has more than {limits.lost} bytes that belong to no file of its tree"
        )
    if end - kept > LITERALS_MAX:
        raise Unrepresentable(where, f"its headers have {end - kept} bytes, more than a recipe holds")


def _trailing(tar: RandomAccess, at: int, limit: int) -> int:
    """How many bytes after the last member are not zeros, about; counting stops beyond the limit."""
    found = 0
    while at < tar.size and found <= limit:
        piece = tar.read_at(at, _PIECE)
        if not piece:
            break
        found += len(piece.rstrip(b"\0"))
        at += len(piece)
    return found


class LayerPlan:
    """A layer whose catar can be written. Made by `plan_layer`; `write` it once, then ask for its `recipe`.

    :ivar feature_flags: of the catar and its index
    :ivar entries: in the catar, the root included
    :ivar payload_size: bytes of files' contents in the catar, holes and copies included
    :ivar hardlink_groups: files that have several names in the layer
    :ivar whiteouts: names that begin with `.wh.`
    :ivar catar_size: in bytes, after `write`
    """

    def __init__(
        self, tar: RandomAccess, where: str, tree: LayerTree, counts: _Counts, feature_flags: int
    ) -> None:
        self._tar = tar
        self._where = where
        self._tree = tree
        self._encoder = Encoder(feature_flags)
        self._read_into = tar.read_into if isinstance(tar, FillingAccess) else None
        self._progress: Callable[[int], None] = lambda _: None
        self.feature_flags = feature_flags
        self.entries = counts.entries
        self.whiteouts = counts.whiteouts
        self.payload_size = counts.payload
        self.hardlink_groups = counts.groups
        self.catar_size = 0

    def write(self, sink: Sink, progress: Callable[[int], None] | None = None) -> None:
        """Write the catar.

        :param progress: is told now and then how many bytes of it are written
        :raises CasyncError: the tar cannot be read any more, or the sink failed
        """
        if self._encoder.offset:
            raise UsageError("a layer is written once")
        if progress is not None:
            self._progress = progress
        encoder = self._encoder
        begin, write = encoder.begin, sink.write
        grain = 1 if self.feature_flags & F.NSEC_TIME else _SECOND
        reported = 0
        for name, entry in _walk(self._tree.root):
            if entry is None:
                write(encoder.end_directory())
                continue
            mtime = entry.mtime - entry.mtime % grain
            node = Node(name, entry.mode, 0, entry.uid, entry.gid, mtime, None, None, **(entry.more or {}))
            size = node.size = entry.size
            write(begin(node))
            if size:
                content = entry.content or entry
                if content.at == PLANNED:
                    content.at = node.payload_offset
                self._write_payload(content, sink)
                encoder.advance(size)
            if encoder.offset - reported >= _PIECE:
                reported = encoder.offset
                self._progress(reported)
        self.catar_size = encoder.offset

    def _write_payload(self, content: LayerEntry, sink: Sink) -> None:
        at = 0
        for offset, where, length in content.ranges():
            if offset > at:
                self._write_hole(at, offset, sink)
            self._copy(offset, where, length, sink)
            at = offset + length
        if content.size > at:
            self._write_hole(at, content.size, sink)

    def _write_hole(self, at: int, end: int, sink: Sink) -> None:
        while at < end:
            part = min(end - at, _HOLE)
            sink.write_zeros(part)
            at += part
            self._progress(self._encoder.offset + at)

    def _copy(self, offset: int, at: int, count: int, sink: Sink) -> None:
        """Copy payload, which stands at `offset` in its file and at `at` in the tar."""
        read_into = self._read_into
        if count <= _SMALL or read_into is None:
            while count:
                data = self._tar.read_at(at, min(count, _PIECE))
                if not data:
                    raise self._shrunk(at)
                sink.write(data)
                at += len(data)
                count -= len(data)
            return
        while count:
            done = read_into(at, sink.room()[:count])
            if not done:
                raise self._shrunk(at)
            sink.advance(done)
            at += done
            offset += done
            count -= done
            self._progress(self._encoder.offset + offset)

    def _shrunk(self, at: int) -> ImageError:
        return ImageError(self._where, f"its tar became shorter while it was read (at byte {at})")

    def recipe(self, diff_id: BlobDigest) -> bytes:
        """What makes the tar again from the catar.

        :param diff_id: sha256 of the tar
        :raises UsageError: the catar is not written yet
        """
        if not self.catar_size:
            raise UsageError("the recipe of a layer is known only after its catar is written")
        builder = RecipeBuilder(self.catar_size)
        at = 0
        for entry in self._tree.files:
            if entry.at == LOST:
                continue
            for offset, where, length in entry.ranges():
                self._literal(builder, at, where)
                builder.copy(entry.at + offset, length)
                at = where + length
        self._literal(builder, at, self._tar.size)
        return builder.build(diff_id)

    def _literal(self, builder: RecipeBuilder, at: int, end: int) -> None:
        """The bytes of the tar from `at` to `end`, with long runs of zeros at the end of a piece taken out."""
        while at < end:
            data = self._tar.read_at(at, min(_PIECE, end - at))
            if not data:
                raise self._shrunk(at)
            at += len(data)
            kept = len(data)
            if kept > _ZERO_RUN:
                kept = len(data.rstrip(b"\0"))
                if len(data) - kept < _ZERO_RUN:
                    kept = len(data)
            builder.literal(memoryview(data)[:kept])
            builder.zeros(len(data) - kept)


def verify(recipe: bytes, catar: RandomAccess, where: str = "layer") -> None:
    """Make the tar again and compare its digest with the recipe's, keeping nothing of it.

    :raises ImageError: it differs, or the recipe is corrupt
    """
    for _ in rebuild_checked(Recipe.parse(recipe, where), catar, where):
        pass
