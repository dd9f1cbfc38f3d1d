"""Listing trees: one line a node, as `casync list` and `casync mtree` print them, or as JSON.

    >>> with Tree(Kind.ARCHIVE, b"etc.catar") as tree:
    ...     for lines in list_lines(tree.stream()):
    ...         sys.stdout.buffer.write(lines)

Nothing is opened or written here: nodes come from a `TreeStream`, lines go to the caller, several at a time where
`_lines.c` was built and the archive's nodes come in runs. Lines are casync 2's byte for
byte, with one exception: the digest keyword of mtree names the algorithm that made the digest. (casync takes the
keyword from its own `--digest` option, and mislabels when the archive was made with another.)
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator

from casync_compat.ids import Digest
from casync_compat.index import digest_of_flags
from casync_compat.textform import KIND_WORDS, escape, ls_mode, owner_name, shown_path
from catar.flags import NO_REPLAY_LIMIT, FeatureFlags, replayed, time_granularity
from catar.layouts import UINT64_MAX
from catar.records import Node
from catar.runs import Run
from catar.walker import TreeStream, Walker

try:
    from casync_compat._lines import list_text, mtree_text
except ImportError:  # built without a C compiler
    list_text = mtree_text = None  # type: ignore[assignment]

__all__ = ["MtreeForm", "has_runs", "json_lines", "list_lines", "mtree_lines"]

F = FeatureFlags

_REG, _DIR, _LNK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
_SECOND = 1_000_000_000

_MTREE_FLAGS: tuple[tuple[int, bytes], ...] = (
    (int(F.FLAG_HIDDEN), b"hidden"),
    (int(F.FLAG_SYSTEM), b"system"),
    (int(F.FLAG_ARCHIVE), b"archive"),
    (int(F.FLAG_APPEND), b"sappend"),
    (int(F.FLAG_NODUMP), b"nodump"),
    (int(F.FLAG_IMMUTABLE), b"simmutable"),
)
_MTREE_FLAG_BITS = sum(bit for bit, _ in _MTREE_FLAGS)

_DIGEST_KEYWORDS = {
    Digest.SHA512_256: b"sha512256digest",
    Digest.SHA256: b"sha256digest",
    Digest.BLAKE3: b"blake3digest",
}


def has_runs() -> bool:
    """Whether `MtreeForm.run_lines` can be used."""
    return mtree_text is not None


def _nodes(stream: TreeStream, recursive: bool) -> Iterator[Node]:
    """The nodes of a stream; when not `recursive`, the top node and its direct children."""
    depth = 0
    for step in stream:
        if type(step) is not Node:
            depth -= 1
            continue
        if recursive or depth <= 1:
            yield step
        if step.mode & 0o170000 == _DIR:
            depth += 1


def list_lines(stream: TreeStream, *, recursive: bool = True) -> Iterator[bytes]:
    """`MODE PATH`, one line a node, with its newline. Payloads are not read.

    :param recursive: False for the top node and its direct children only (what lies deeper is passed over)
    :returns: pieces of the text, of whole lines
    """
    if recursive and list_text is not None and isinstance(stream, Walker):
        for step in stream.runs():
            if type(step) is Run:
                yield list_text(step.buffer, step.rows, stream.path)
            elif type(step) is Node:
                yield b"%b %b\n" % (ls_mode(step.mode), shown_path(stream.path))
        return
    for node in _nodes(stream, recursive):
        yield b"%b %b\n" % (ls_mode(node.mode), shown_path(stream.path))


def json_lines(stream: TreeStream, *, recursive: bool = True, mask: int = NO_REPLAY_LIMIT) -> Iterator[bytes]:
    """One JSON object a node and line, see `casync_compat.nodeview.NodeView`. Payloads are not read.

    :param mask: feature flags that limit what is shown, as `replayed` takes them
    """
    from casync_compat.nodeview import NodeView  # lazily: it imports json, which other listings do not need

    view: NodeView | None = None
    for node in _nodes(stream, recursive):
        view = view or NodeView(stream.feature_flags, mask)
        yield view.json_line(node, stream.path)


def mtree_lines(
    stream: TreeStream,
    *,
    mask: int = NO_REPLAY_LIMIT,
    shifted: bool = False,
    digest_label: Digest | None = None,
    id_range: int = 0,
) -> Iterator[bytes]:
    """The tree as an mtree(5) manifest without `/set` lines: full paths, one line a node, with its newline.

    Every payload is read and hashed with the archive's digest.

    :param mask: feature flags that limit what is shown, as `replayed` takes them; bits not normalised
    :param shifted: whether an id shift other than 0 is in force: owner 0 then has no name
    :param digest_label: names another digest than the one that is made, as casync may do; None for the right one
    :param id_range: see `textform.owner_name`
    """
    form: MtreeForm | None = None
    for step in stream:
        if type(step) is Node:
            # A walker knows the archive's flags once the first node was read.
            form = form or MtreeForm(stream.feature_flags, mask, shifted, digest_label, id_range)
            digest = _digest(form.digest, stream.payload()) if step.is_regular else None
            yield form.line(step, stream.path, digest)


def _digest(digest: Digest, pieces: Iterable[memoryview]) -> bytes:
    hasher = digest.new()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()


class MtreeForm:
    """Writes mtree lines for the nodes of one archive, whose payloads somebody else hashes; see `mtree_lines`.

    :ivar digest: what payloads are to be hashed with
    """

    def __init__(
        self,
        feature_flags: int,
        mask: int = NO_REPLAY_LIMIT,
        shifted: bool = False,
        digest_label: Digest | None = None,
        id_range: int = 0,
    ) -> None:
        shown = replayed(feature_flags, mask)
        self._ids = bool(shown & (F.UIDS_16BIT | F.UIDS_32BIT))
        self._names = bool(shown & F.USER_NAMES)
        self._shifted = shifted
        self._range = id_range
        self._time = bool(time_granularity(shown))
        self.digest = digest_of_flags(feature_flags)
        self._keyword = _DIGEST_KEYWORDS[digest_label or self.digest]
        # The archive says which flags are listed, the mask only which of them count as set. (casync 2)
        self._listed = tuple((bit, name) for bit, name in _MTREE_FLAGS if feature_flags & bit)
        self._settable = shown & _MTREE_FLAG_BITS
        self._flag_words: dict[int, bytes] = {}
        # Ordinary nodes have no flags, and those of a symlink are told apart.
        words = (self._flags(0), self._flags(None)) if self._listed else (b"", b"")
        self._native = (self._ids, self._names, shifted, id_range, self._time, *words, self._keyword)

    def run_lines(self, run: Run, path: bytes, digests: bytes) -> bytes:
        """The lines of a run; only where `_lines.c` was built.

        :param path: of the directory in which it begins
        :param digests: of its regular files, one after another
        """
        return mtree_text(run.buffer, run.rows, path, self._native, digests)

    def line(self, node: Node, path: bytes, digest: bytes | None) -> bytes:
        """The line of one node.

        :param digest: of a regular file's payload
        """
        kind = node.mode & 0o170000
        out = [
            b"%b type=%b mode=%04o" % (shown_path(path), KIND_WORDS[kind], node.mode & 0o7777),
        ]
        if kind == _REG:
            out.append(b"size=%d" % node.size)
        elif node.target is not None:
            out.append(b"link=" + escape(node.target))
        elif node.device is not None:
            out.append(b"device=linux,%d,%d" % node.device)
        if self._ids:
            out.append(b"uid=%d gid=%d" % (node.uid, node.gid))
        if self._names:
            self._add_names(node, out)
        if self._listed:
            out.append(self._flags(node.flags if kind in (_REG, _DIR) else None))
        if self._time and node.mtime != UINT64_MAX:  # casync takes -1 ns for no time
            out.append(b"time=%d.%09d" % divmod(node.mtime, _SECOND))
        if digest is not None:
            out.append(b"%b=%b" % (self._keyword, digest.hex().encode()))
        return b" ".join(out) + b"\n"

    def _add_names(self, node: Node, out: list[bytes]) -> None:
        # Escaped, since our decoder lets more names pass than casync's, a line feed among them.
        user = owner_name(node.uid, node.user, shifted=self._shifted, id_range=self._range)
        group = owner_name(node.gid, node.group, shifted=self._shifted, id_range=self._range)
        if user is not None:
            out.append(b"uname=" + escape(user))
        if group is not None:
            out.append(b"gname=" + escape(group))

    def _flags(self, flags: int | None) -> bytes:
        """:param flags: None for a node that cannot have any: casync shows all of them as set"""
        key = -1 if flags is None else flags & self._settable
        words = self._flag_words.get(key)
        if words is None:
            words = b"flags=" + b",".join(name if key & bit else b"no" + name for bit, name in self._listed)
            self._flag_words[key] = words
        return words
