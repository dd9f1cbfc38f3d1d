"""Several chunk sources behind one name: the first that has a chunk gives it.

This is the ``--store`` and ``--extra-store`` of the command line. It does not copy chunks between its layers (that is a
cache), and its layers need not have the same chunks (that is a failover group).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from casync_compat.errors import CasyncError, ChunkCorrupt, ChunkMissing, RemoteError
from casync_compat.ids import ChunkId, Digest
from casync_compat.progress import Warn, no_warning
from casync_compat.store.base import ChunkSource, Measured, OnDisk, far_source, prepare
from casync_compat.store.failover import StoreMember, all_eager, any_far, in_turn, nobody_has
from casync_compat.store.finding import Answer, Finder, Finding, Wanted, find_in

__all__ = ["Layered"]


class _Begun(NamedTuple):
    """What a layer was asked for already.

    :ivar numbers: of the chunks, in ascending order
    """

    member: StoreMember
    numbers: list[int]
    answers: Callable[[], list[Answer]]

    def answers_for(self, numbers: list[int], wanted: Wanted, digest: Digest) -> list[Answer]:
        """Those for some of all chunks; what was not asked for is asked for now."""
        known = dict(zip(self.numbers, self.answers(), strict=True))
        more = [number for number in numbers if number not in known]
        if more:
            found = find_in(self.member.source, [wanted[number] for number in more], digest)
            known.update(zip(more, found, strict=True))
        return [known[number] for number in numbers]


class Layered(Finder):
    """A ChunkSource that asks its layers in order.

    A layer with a damaged chunk is passed over as long as a later one has it whole; that is told, and is the error only
    when nobody has. So is a server that does not answer; but then a chunk that no other layer has does not count as
    missing: it may be there. Any other error of a layer is the caller's at once.

    Layers that have layers are taken apart.

    :param warn: told of servers that do not answer, and of damaged chunks
    :param clock: seconds, that only grow
    """

    _members: tuple[StoreMember, ...]
    _warn: Warn

    def __init__(
        self,
        first: ChunkSource,
        *others: ChunkSource,
        warn: Warn = no_warning,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        members: list[StoreMember] = []
        for layer in (first, *others):
            if isinstance(layer, Layered):  # with what it knows, and whom it tells
                members += layer._members
                warn = layer._warn if warn is no_warning else warn
            else:
                members.append(StoreMember(layer, warn, clock))
        self._members = tuple(members)
        self._warn = warn
        self.layers: tuple[ChunkSource, ...] = tuple(member.source for member in members)
        self.name = ", ".join(layer.name for layer in self.layers)
        self.far = any_far(self.layers)

    @property
    def eager(self) -> bool:
        """Whether `begin` asks at once."""
        return all_eager(self.layers)

    def begin_finding(self, wanted: Wanted, digest: Digest) -> Callable[[], list[Answer]]:
        """As `Finding` has it; the first layer that is far away is asked at once for what no nearer one has."""
        begun = self._ahead(wanted, digest) if self.eager else None
        return lambda: self._find(wanted, digest, begun)

    def _ahead(self, wanted: Wanted, digest: Digest) -> _Begun | None:
        left = list(range(len(wanted)))
        for member in self._members:
            source = member.source
            try:
                if far_source(source) is None:
                    left = [number for number in left if not source.has(wanted[number][0])]
                elif left and member.well and isinstance(source, Finding):
                    asked = [wanted[number] for number in left]
                    return _Begun(member, left, source.begin_finding(asked, digest))
                else:
                    return None
            except RemoteError:  # which is told when it is asked in its turn
                return None
        return None

    def _find(self, wanted: Wanted, digest: Digest, begun: _Begun | None) -> list[Answer]:
        found: dict[int, bytes] = {}
        damaged: dict[int, ChunkCorrupt] = {}
        errors: list[CasyncError] = []
        lacking: list[str] = []
        left = list(range(len(wanted)))
        for member in in_turn(self._members):
            if not left:
                break
            try:
                if begun is not None and begun.member is member:
                    answers = begun.answers_for(left, wanted, digest)
                else:
                    answers = find_in(member.source, [wanted[number] for number in left], digest)
            except RemoteError as error:
                member.failed(error)
                errors.append(error)
                continue
            member.answered()
            lacking.append(member.source.name)
            for number, answer in zip(left, answers, strict=True):
                if isinstance(answer, bytes):
                    found[number] = answer
                    if number in damaged:
                        self._warn(f"{damaged[number]}; {member.source.name} has it whole")
                elif isinstance(answer, ChunkCorrupt):
                    damaged.setdefault(number, answer)
            left = [number for number in left if number not in found]
        if left and errors:
            raise nobody_has(wanted[left[0]][0], self.name, errors, lacking)
        return [
            found.get(number) or damaged.get(number) or ChunkMissing(id, self.name)
            for number, (id, _) in enumerate(wanted)
        ]

    def prepare(self) -> None:
        prepare(*self.layers)

    @property
    def behind(self) -> tuple[ChunkSource, ...]:
        return self.layers

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        """Directories of this machine that any layer lies in."""
        return tuple(path for layer in self.layers if isinstance(layer, OnDisk) for path in layer.own_paths)

    def has(self, id: ChunkId) -> bool:
        errors: list[CasyncError] = []
        for member in in_turn(self._members):
            try:
                if member.source.has(id):
                    return True
            except RemoteError as error:
                member.failed(error)
                errors.append(error)
        if errors:
            raise nobody_has(id, self.name, errors, ())
        return False

    def stored_size(self, id: ChunkId) -> int | None:
        """What the chunk takes in the first layer that can tell."""
        for layer in self.layers:
            size = layer.stored_size(id) if isinstance(layer, Measured) else None
            if size is not None:
                return size
        return None
