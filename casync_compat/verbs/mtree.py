"""The mtree manifest of an archive, with the contents of its files hashed on all processors.

    >>> with Tree(Kind.ARCHIVE, b"etc.catar") as tree:
    ...     for lines in manifest(tree.stream()):
    ...         sys.stdout.buffer.write(lines)

The lines are those of `casync_compat.lines.mtree_lines`, which does the same on one processor. The archive is read
and checked on the caller's thread; small files are hashed in runs, as they stand in what was read, and a large one
while it is still being read.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator

from casync_compat.lines import MtreeForm, has_runs, mtree_lines
from casync_compat.streams.transfer import OrderedPool, default_jobs
from catar.flags import NO_REPLAY_LIMIT
from catar.records import DirectoryEnd, Node
from catar.runs import Run
from catar.walker import TreeStream, Walker

__all__ = ["manifest"]

_AT_ONCE = 2 << 20
"""Most bytes of a file that are read before they are hashed; larger files are fed to the thread that hashes them."""
_PIECES = 16


class _Feed:
    """Pieces of a file on their way to the thread that hashes them. What is put must be followed by `end`."""

    def __init__(self) -> None:
        self._queue: queue.Queue[memoryview | None] = queue.Queue(_PIECES)
        self._ended = False

    def put(self, piece: memoryview) -> None:
        self._queue.put(piece)

    def end(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[memoryview]:
        while not self._ended:
            piece = self._queue.get()
            if piece is None:
                self._ended = True
            else:
                yield piece


def manifest(
    stream: TreeStream,
    *,
    mask: int = NO_REPLAY_LIMIT,
    shifted: bool = False,
    id_range: int = 0,
    jobs: int | None = None,
) -> Iterator[bytes]:
    """The tree as an mtree(5) manifest; see `casync_compat.lines.mtree_lines` for the other parameters.

    :param jobs: threads; None for one a processor
    :returns: pieces of the text, of whole lines
    """
    if not isinstance(stream, Walker) or not has_runs():
        yield from mtree_lines(stream, mask=mask, shifted=shifted, id_range=id_range)
        return
    form: MtreeForm | None = None
    jobs = jobs or default_jobs()
    with OrderedPool[bytes](jobs, depth=jobs + 2) as pool:
        for step in stream.runs():
            if isinstance(step, DirectoryEnd):
                continue
            form = form or MtreeForm(stream.feature_flags, mask, shifted, id_range=id_range)
            left = stream.decoder.payload_left
            if left <= _AT_ONCE:
                pieces = list(stream.payload()) if left else []
                yield from pool.submit(_lines, form, step, stream.path, pieces)
            else:
                yield from _fed(pool, form, step, stream)
        yield from pool.drain()


def _fed(pool: OrderedPool[bytes], form: MtreeForm, step: Node | Run, stream: Walker) -> Iterator[bytes]:
    feed = _Feed()
    due = pool.submit(_lines, form, step, stream.path, feed)
    try:
        yield from due
        for piece in stream.payload():
            feed.put(piece)
    finally:
        feed.end()


def _lines(form: MtreeForm, step: Node | Run, path: bytes, last: list[memoryview] | _Feed) -> bytes:
    """The lines of a step. :param last: payload of its last file that was not in the run's buffer"""
    try:
        if isinstance(step, Node):
            return form.line(step, path, _hashed(form, last) if step.is_regular else None)
        view = memoryview(step.buffer)
        payloads = [view[start:end] for start, end in step.payloads()]
        digests = b"".join(form.digest.of_many(payloads))
        if step.left:
            digests += _hashed(form, last)
        return form.run_lines(step, path, digests)
    finally:
        for _ in last:  # whoever feeds must not wait for room, whatever happened here
            pass


def _hashed(form: MtreeForm, pieces: list[memoryview] | _Feed) -> bytes:
    hasher = form.digest.new()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()
