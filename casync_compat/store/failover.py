"""Stores that stand in for one another: which of several answers, and groups of which one at a time is asked.

`StoreMember` is one store of several, and remembers that it failed: it is left alone for a while, then tried by one
caller, so that not everybody waits for what is still down. `FailoverGroup` is desync's ``a|b|c``: all are expected to
have the same chunks, so what one lacks is missing. Other than there, the first is asked again once it is back, and a
damaged chunk is looked for in the others.

Stores one behind the other, each with chunks of its own, are `store.layered`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from casync_compat.errors import (
    CasyncError,
    ChunkCorrupt,
    ChunkMissing,
    FileError,
    NotFound,
    RemoteError,
    StoreError,
)
from casync_compat.ids import ChunkId, Digest
from casync_compat.progress import Warn, no_warning
from casync_compat.store.base import ChunkSource, OnDisk, far_source, prepare
from casync_compat.store.finding import Answer, Finder, Finding, Wanted, find_in

__all__ = ["FailoverGroup", "StoreMember", "all_eager", "any_far", "in_turn", "nobody_has"]

R = TypeVar("R")

_REST = 30.0
"""Seconds for which a store that failed is left alone."""


class StoreMember:
    """One store of several. May be used from several threads.

    :param warn: told the first time that it fails
    :param clock: seconds, that only grow
    """

    def __init__(
        self, source: ChunkSource, warn: Warn = no_warning, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.source = source
        self._warn = warn
        self._clock = clock
        self._lock = threading.Lock()
        self._until: float | None = None
        self._told = False

    @property
    def well(self) -> bool:
        """Whether it did not fail the last time."""
        return self._until is None

    def ready(self) -> bool:
        """Whether to ask it now: it did not fail, or that is long ago and nobody else is trying."""
        if self._until is None:
            return True
        with self._lock:
            now = self._clock()
            if self._until is None or now >= self._until:
                self._until = None if self._until is None else now + _REST
                return True
            return False

    def failed(self, error: CasyncError) -> None:
        """It did not answer, or not as it should."""
        with self._lock:
            self._until = self._clock() + _REST
            told, self._told = self._told, True
        if not told:
            self._warn(f"{error}; going on without it")

    def answered(self) -> None:
        """It works."""
        if self._until is not None:
            with self._lock:
                self._until = None


def in_turn(members: Sequence[StoreMember]) -> Iterator[StoreMember]:
    """Members to ask: first those that answered lately, in their order, then the others after all."""
    left = []
    for member in members:
        if member.ready():
            yield member
        else:
            left.append(member)
    yield from left


def any_far(sources: Sequence[ChunkSource]) -> bool:
    """Whether any of several sources is far away."""
    return any(far_source(source) is not None for source in sources)


def all_eager(sources: Sequence[ChunkSource]) -> bool:
    """Whether all of those that are far away are asked at once; a store may have to be looked at for that."""
    far = [found for found in map(far_source, sources) if found is not None]
    try:
        return bool(far) and all(source.eager for source in far)
    except RemoteError:  # which is told when it is asked for chunks
        return False


def nobody_has(id: ChunkId, where: str, errors: Sequence[CasyncError], lacking: Sequence[str]) -> CasyncError:
    """That a chunk could not be had, where some did not answer: with all reasons.

    :param errors: of those that did not; at least one
    :param lacking: names of those that do not have it
    """
    missing = [f"chunk {id} is missing from {', '.join(lacking)}"] if lacking else []
    if len(errors) == 1:
        for text in missing:
            errors[0].add_note(text)
        return errors[0]
    error = RemoteError(where, f"read chunk {id}", "; ".join([*map(str, errors), *missing]))
    error.__cause__ = errors[0]
    return error


class FailoverGroup(Finder):
    """A ChunkSource over several that have the same chunks: the first that answers is asked.

    :param warn: told of members that fail, and of damaged chunks that another member had whole
    :param clock: seconds, that only grow
    """

    def __init__(
        self, *sources: ChunkSource, warn: Warn = no_warning, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.members = tuple(StoreMember(source, warn, clock) for source in sources)
        self.name = "|".join(source.name for source in sources)
        self.far = any_far(sources)
        self._warn = warn

    @property
    def eager(self) -> bool:
        """Whether `begin` asks at once."""
        return all_eager([member.source for member in self.members])

    def prepare(self) -> None:
        prepare(*(member.source for member in self.members))

    @property
    def behind(self) -> tuple[ChunkSource, ...]:
        """The one that is asked: what it lacks is missing."""
        return tuple(member.source for member in self.members if member.well)[:1]

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        """Directories of this machine that any member lies in."""
        sources = (member.source for member in self.members)
        return tuple(path for source in sources if isinstance(source, OnDisk) for path in source.own_paths)

    def begin_finding(self, wanted: Wanted, digest: Digest) -> Callable[[], list[Answer]]:
        begun: tuple[ChunkSource, Callable[[], list[Answer]]] | None = None
        first = next((member for member in self.members if member.well), None)
        if first is not None and isinstance(first.source, Finding) and all_eager([first.source]):
            try:
                begun = first.source, first.source.begin_finding(wanted, digest)
            except RemoteError as error:
                first.failed(error)
        return lambda: self._find(wanted, digest, begun)

    def _find(
        self, wanted: Wanted, digest: Digest, begun: tuple[ChunkSource, Callable[[], list[Answer]]] | None
    ) -> list[Answer]:
        def find(source: ChunkSource) -> list[Answer]:
            asked = begun is not None and begun[0] is source
            answers = begun[1]() if asked and begun is not None else find_in(source, wanted, digest)
            if any(isinstance(answer, ChunkMissing) for answer in answers):
                _check_there(source)
            return answers

        found = self._ask(find, wanted[0][0] if wanted else None)
        for number, one in enumerate(found):
            if isinstance(one, ChunkCorrupt):
                found[number] = self._elsewhere(one, wanted[number], digest)
        return found

    def _elsewhere(
        self, damage: ChunkCorrupt, wanted: tuple[ChunkId, int], digest: Digest
    ) -> bytes | StoreError:
        """A chunk that is damaged where it was looked for, from another member."""
        for member in in_turn(self.members):
            try:
                raw = member.source.get(wanted[0], digest, wanted[1])
            except (StoreError, RemoteError, FileError):
                continue
            self._warn(f"{damage}; {member.source.name} has it whole")
            return raw
        return damage

    def has(self, id: ChunkId) -> bool:
        def has(source: ChunkSource) -> bool:
            if source.has(id):
                return True
            _check_there(source)
            return False

        return self._ask(has, id)

    def _ask(self, question: Callable[[ChunkSource], R], id: ChunkId | None) -> R:
        errors: list[CasyncError] = []
        for member in in_turn(self.members):
            try:
                answer = question(member.source)
            except (RemoteError, FileError) as error:
                member.failed(error)
                errors.append(error)
            else:
                member.answered()
                return answer
        raise nobody_has(id, self.name, errors, ()) if id is not None else errors[0]


def _check_there(source: ChunkSource) -> None:
    """A directory that is not there, of a disk that is not mounted say, does not lack chunks: it failed.

    :raises NotFound: the source is such a directory
    """
    for path in source.own_paths if isinstance(source, OnDisk) else ():
        if not os.path.isdir(path):
            raise NotFound.at(path, "read")
