"""Leases: word that writers of a store leave for those who collect its garbage, and these for them.

A run that puts chunks into a store, and then writes the index that needs them, would lose them to a collection that
knows only older indexes. So it leaves a lease before its first look at the store, renews it while it works, and takes
it away when the index is in place. A collection takes the one lock, waits for leases, and only then reads its indexes;
a run that meets the lock withdraws and waits in turn. Whoever comes second sees the other: each writes first, and looks
then.

What was not renewed for ten minutes is dead, by the store's own clock, since the clocks of machines differ: the date of
a file just written there. So is at once what a process left that has ended, where that can be known
(`store.processes`). A dead lease or lock is taken away before anybody goes on, so that its owner, who may only have
slept, finds out. FORMAT.md has names and rules. Not here: threads that renew (`streams.leasing`).

    >>> mark = Leases(store.leases()).lease("make")
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from casync_compat.errors import CasyncError, FileError, RemoteError, show_path
from casync_compat.ids import ChunkId
from casync_compat.store.files import FileChanged, Files
from casync_compat.store.mark import LEASES, LOCK, WHO, Mark
from casync_compat.store.pace import PACE, Pace, boot_time
from casync_compat.store.processes import has_ended

__all__ = ["PACE", "WAIT", "LeaseLost", "Leases", "Mark", "Pace", "StoreBusy", "boot_time"]

_UNDER = rb"\.pycasync(?:/leases)?"
_TEMPORARY = b".tmp"
_NAMED = b".ids"
"""What a name ends in of a file with the ids of chunks that a run needs that is done."""
_WAITS = b".gc"
"""What a name ends in of a file of a collection that waits for another one."""
_ID = 32
_MOST = 1 << 32
"""Bytes of ids that are read."""
_SHORTEST = 0.001

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNWRITABLE = _FULL | {errno.EROFS, errno.EACCES, errno.EPERM}

WAIT = 60.0
"""Seconds that a run waits for others where nobody says."""


class StoreBusy(CasyncError):
    """Others are at work in a store, and were not done in time.

    :ivar where: the store, as a user would name it
    :ivar who: the others
    :ivar waited: seconds
    """

    def __init__(self, where: str, who: str, waited: float) -> None:
        super().__init__(where, who, waited)
        self.where = where
        self.who = who
        self.waited = waited

    def __str__(self) -> str:
        return (
            f"{self.where} is in use by {self.who}, which was not done within {self.waited:g} seconds; "
            "nothing is changed"
        )


class LeaseLost(CasyncError):
    """What a run relied on is no longer so, because it slept, or had no lease, while others went on.

    :ivar where: the store, as a user would name it
    """

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where, why)
        self.where = where
        self.why = why

    def __str__(self) -> str:
        return f"{self.where}: {self.why}; run it again"


class _Patience:
    """Waits a little, again and again, and not for ever.

    :param wait: seconds in all
    :param tell: called with a line once it takes long
    """

    def __init__(self, where: str, pace: Pace, wait: float, tell: Callable[[str], None]) -> None:
        self._where = where
        self._pace = pace
        self._wait = wait
        self._tell = tell
        self._begin = pace.clock()
        self._told = False
        self._poll = pace.poll

    def pause(self, who: Callable[[], str]) -> None:
        """Wait a little. :raises StoreBusy: it is enough"""
        passed = self._pace.clock() - self._begin
        if passed >= self._wait:
            raise StoreBusy(self._where, who(), self._wait)
        if passed >= self._pace.quiet and not self._told:
            self._told = True
            self._tell(f"{self._where} is in use by {who()}; waiting for it, at most {self._wait:g} seconds")
        end = self._wait if self._told else min(self._wait, self._pace.quiet)
        self._pace.sleep(max(min(self._poll, end - passed), _SHORTEST))
        self._poll = min(2 * self._poll, 1.0)


class Leases:
    """The leases of a store, and its lock.

    :ivar named: chunks that runs need which ended while `wait` waited for them
    :param files: where they are (`Leased.leases`)
    """

    def __init__(self, files: Files, pace: Pace = PACE) -> None:
        self.where = files.name
        self.pace = pace
        self._files = files
        self._now: tuple[int, float] | None = None
        """The store's clock in nanoseconds since 1970, and ours at that moment."""
        self.named: set[ChunkId] = set()
        self._why: FileError | None = None
        """Why the lock could not be had, although nobody has it."""

    # ---- for writers

    def lease(self, what: str) -> Mark:
        """A lease that is not there yet. :param what: the run, for messages"""
        return Mark(self._files, LEASES + os.urandom(8).hex().encode(), what, self.pace)

    def take(self, mark: Mark, wait: float, tell: Callable[[str], None]) -> None:
        """Leave a lease, at a moment when no collection is at work. Where nothing can be written none is left.

        :raises StoreBusy: a collection is at work, and does not end
        """
        patience = _Patience(self.where, self.pace, wait, tell)
        while True:
            try:
                mark.place()
                self._set_clock(mark)
                if not self._locked():
                    return
            except FileError:  # read only, say, or full: who has something to write will find out, and tell
                mark.remove()
                return
            mark.remove()
            while self._locked():
                patience.pause(lambda: self._who(LOCK))

    def _locked(self) -> bool:
        """Whether a collection is at work. One that is dead is taken away."""
        self._look_anew()
        status = self._files.stat(LOCK)
        if status is None or not self._is_over(LOCK, status.modified):
            return status is not None
        taken = Mark(self._files, LOCK, "make", self.pace)
        try:
            taken.place(over=status.version)  # nobody else can do the same, nor take it for dead
        except FileChanged:
            return True
        taken.remove()
        return False

    def _look_anew(self) -> None:
        """Let a network file system ask its server whether there is a lock, and not remember that there was none."""
        if not self._files.near:
            return
        name = b".pycasync/" + os.urandom(8).hex().encode() + _TEMPORARY
        with suppress(FileError):
            self._files.write(name, b"")
            self._files.remove(name)

    def name(self, mark: Mark, named: Callable[[], Iterator[ChunkId]]) -> bool:
        """Leave word of what an index names, if a collection waits for this lease: it knows nothing of that index.

        To be called before the index is there, lest the run be killed in between, and after that.

        :returns: whether one waits
        """
        self._look_anew()
        locked = self._files.stat(LOCK) is not None
        if locked:
            self._files.write(mark.name + _NAMED, b"".join(dict.fromkeys(named())))
        return locked

    def done(self, mark: Mark, named: Callable[[], Iterator[ChunkId]]) -> None:
        """Take a lease away, now that its index is there. Parameters as for `name`."""
        try:
            locked = self.name(mark, named)
        except (FileError, RemoteError):
            return  # the lease stays, and the collection waits until it gives up
        held = mark.held
        mark.remove()
        if held and not locked:
            with suppress(FileError, RemoteError):
                self._sweep()

    def _sweep(self) -> None:
        """Take away what runs left that were killed. No collection is at work, to which it could matter."""
        for name in self._ours():
            status = self._files.stat(name)
            if name != LOCK and status is not None and self._is_over(name, status.modified):
                self._files.remove(name)

    # ---- for collections

    def close(self) -> None:
        """Let go of what is held open."""
        self._files.close()

    def lock(self) -> Mark:
        """The lock, which is not there yet."""
        return Mark(self._files, LOCK, "gc", self.pace)

    def wait(self, mark: Mark, wait: float, tell: Callable[[str], None]) -> None:
        """Take the lock, and wait until all leases are gone. What is dead is taken away.

        :raises StoreBusy: somebody is at work, and does not end
        :raises LeaseLost: what somebody left who is done is damaged
        """
        patience = _Patience(self.where, self.pace, wait, tell)
        try:
            self._take_lock(mark, patience)
        except FileError as error:
            if error.errno not in _UNWRITABLE:
                raise
            # It may be full, which is no reason not to make room: `go_on` has the rest.
            self._why = error
            self._now = time.time_ns(), self.pace.clock()
        while alive := self._alive(mark.held):
            patience.pause(lambda: " and ".join(map(self._who, alive)))
            if mark.due:
                mark.renew()
        self._read_named()

    def _take_lock(self, mark: Mark, patience: _Patience) -> None:
        waits = Mark(self._files, self.lease("").name + _WAITS, "gc", self.pace)
        try:
            while not self._taken(mark):
                if waits.due or not waits.held:
                    waits.place()
                patience.pause(lambda: self._who(LOCK))
                self._read_named()  # they are for that collection, which takes them away if nobody else waits
        finally:
            if waits.held:
                waits.remove()

    def go_on(self, mark: Mark) -> bool:
        """Be sure that nobody writes, where the lock could not be had when it was waited for.

        A full store has room for it once something is gone. Where nothing may be written nothing must go: others may.

        :returns: whether there is a lock that can be relied on
        :raises FileError: nothing may be written
        :raises LeaseLost: others came meanwhile
        """
        if self._why is None:
            return True
        if self._why.errno not in _FULL:
            raise self._why
        alone = True
        try:
            alone = self._taken(mark)
            self._why = None
        except FileError as error:
            if error.errno not in _FULL:
                raise
        if not alone or self._alive(mark.held):
            raise LeaseLost(self.where, "others came while there was no room for a lock")
        return mark.held

    def _taken(self, mark: Mark) -> bool:
        try:
            mark.place()
        except FileChanged:
            status = self._files.stat(LOCK)
            if status is None or not self._is_over(LOCK, status.modified):
                return False
            try:
                mark.place(over=status.version)
            except FileChanged:
                return False
        # Asked where leases are, so that a network file system looks at them anew and does not trust its memory.
        self._now = None
        self.now()
        return True

    def _alive(self, locked: bool) -> list[bytes]:
        """The names of leases. Those that are dead are taken away, as they must be by whoever has the lock."""
        found = []
        for file in self._ours():
            if file == LOCK or file.endswith((_NAMED, _WAITS)):
                continue
            status = self._files.stat(file)
            if status is None:
                continue
            if self._is_over(file, status.modified):
                with suppress(*() if locked else (FileError,)):
                    self._files.remove(file)
            elif not file.endswith(_TEMPORARY):
                found.append(file)
        return found

    def _ours(self) -> list[bytes]:
        """All that is word left for others; beside it may be what the store itself keeps there."""
        return [
            file.name
            for file in self._files.list(b".pycasync/", under=re.compile(_UNDER), details=False)
            if file.name == LOCK or file.name.startswith(LEASES) or file.name.endswith(_TEMPORARY)
        ]

    def alive(self) -> list[str]:
        """Who is at work here, as far as can be told by this machine's clock; nothing is changed."""
        self._now = time.time_ns(), self.pace.clock()
        found = []
        for name in self._ours():
            status = None if name.endswith((_NAMED, _TEMPORARY, _WAITS)) else self._files.stat(name)
            if status is not None and not self._is_over(name, status.modified):
                found.append(self._who(name))
        return found

    def _read_named(self) -> None:
        for name in self._ours():
            if name.endswith(_NAMED):
                ids = self._files.read(name, _MOST) or b""
                if len(ids) % _ID:
                    raise LeaseLost(
                        self.where, f"{show_path(name)} is damaged; remove it, and name all indexes"
                    )
                self.named.update(ChunkId(ids[at : at + _ID]) for at in range(0, len(ids), _ID))

    def end(self, mark: Mark) -> None:
        """The collection is over: take away the lock, and what was left for it."""
        if mark.held:
            with suppress(CasyncError):
                ours = self._ours()
                if not any(map(self._waits, ours)):
                    for name in ours:
                        if name.endswith(_NAMED):
                            self._files.remove(name)
        mark.remove()

    def _waits(self, name: bytes) -> bool:
        """Whether a file is of a collection that waits for this one, and may not know yet what was left for both."""
        status = self._files.stat(name) if name.endswith(_WAITS) else None
        return status is not None and not self._is_over(name, status.modified)

    # ---- the store's clock

    def _set_clock(self, mark: Mark) -> None:
        status = self._files.stat(mark.name)
        if status is not None and status.modified is not None:
            self._now = status.modified, self.pace.clock()

    def now(self) -> int:
        """The store's clock, in nanoseconds since 1970."""
        if self._now is None:
            probe = Mark(self._files, LEASES + os.urandom(8).hex().encode() + _TEMPORARY, "clock", self.pace)
            try:
                probe.place()
                self._set_clock(probe)
            finally:
                probe.remove()
        then, ours = self._now or (time.time_ns(), self.pace.clock())
        return then + int((self.pace.clock() - ours) * 1e9)

    def _is_dead(self, modified: int | None) -> bool:
        return modified is not None and self.now() - modified > self.pace.dead * 1e9

    def _is_over(self, name: bytes, modified: int | None) -> bool:
        """Whether the owner of a file is dead. Where other kernels reach the store, too, a copy of this machine may be
        at work on one of them, whose processes have the same names: then two renewals must be missing besides."""
        if self._is_dead(modified):
            return True
        if name.endswith((_NAMED, _TEMPORARY)):
            return False
        with suppress(CasyncError):
            lines = (self._files.read(name, WHO) or b"").split(b"\n")
            if any(map(has_ended, lines[2:3])):
                missed = modified is not None and self.now() - modified > 2 * self.pace.renew * 1e9
                return missed or self._files.one_kernel
        return False

    def _who(self, name: bytes) -> str:
        with suppress(CasyncError):
            content = self._files.read(name, WHO)
            if content:
                return show_path(content.split(b"\n")[0])
        return "another run"
