"""The one thread that moves all transfers: libcurl's multi interface, driven by epoll.

    >>> loop = Loop()
    >>> loop.start(transfer)  # from any thread; its callbacks, and `finished`, run on the loop's

pycurl has no wake-up and no poll of its own, so sockets are watched here and libcurl is told of events
(`curl_multi_socket_action(3)`); whoever has something to do on the loop's thread leaves it in a queue and writes to an
eventfd. There are two multi handles: HTTP/2 shares few connections among many requests, HTTP/1.1 has one connection a
request, and libcurl's limit of connections belongs to the handle. After a fork the child begins anew.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import pycurl

from casync_compat.closing import weakly
from casync_compat.net import patience
from casync_compat.net.http import TransportError
from casync_compat.net.limiter import Limiter

__all__ = ["Loop", "Transfer"]

_H2_CONNECTIONS = 4
"""One is not enough where a round trip takes long; with 64 streams on each, four fill a gigabit at 200 ms."""

_H1_CONNECTIONS = 256
_IDLE_SECONDS = 60.0
_LONGEST_REST = 0.05
"""Seconds for which what others ask for may wait when bytes are limited."""


_EVENTS = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}


_SELECTED = {select.EPOLLIN: pycurl.CSELECT_IN, select.EPOLLOUT: pycurl.CSELECT_OUT}
"""What is told of most sockets, as libcurl has it."""


class Transfer(Protocol):
    """One request under way. `finished` is called on the loop's thread, once."""

    handle: pycurl.Curl
    shared: bool
    """Whether it may share a connection with others (HTTP/2)."""

    def finished(self, code: int, text: str) -> None:
        """It has ended: libcurl's error code, 0 for none, and its text."""


class _Multi:
    """A multi handle whose sockets are watched by the loop's epoll."""

    def __init__(self, poll: select.epoll, owner: dict[int, _Multi], connections: int) -> None:
        self._poll = poll
        self._owner = owner
        self.deadline: float | None = None
        self.running: dict[pycurl.Curl, Transfer] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, connections)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)

    def _watch(self, event: int, fd: int, multi: object, data: object) -> None:
        if event == pycurl.POLL_REMOVE:  # most are back for the next file at once: see `_Thread._turn`
            self._owner.pop(fd, None)
            return
        mask = _EVENTS.get(event, 0)
        try:
            self._poll.modify(fd, mask)
        except FileNotFoundError:  # new, or closed since
            self._poll.register(fd, mask)
        self._owner[fd] = self

    def _set_timer(self, milliseconds: int) -> None:
        self.deadline = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def add(self, transfer: Transfer) -> None:
        self.running[transfer.handle] = transfer
        self._multi.add_handle(transfer.handle)

    def remove(self, handle: pycurl.Curl) -> Transfer | None:
        transfer = self.running.pop(handle, None)
        if transfer is not None:
            self._multi.remove_handle(handle)
        return transfer

    def act(self, fd: int, events: int) -> None:
        _, left = self._multi.socket_action(fd, events)
        if left < len(self.running):  # else nothing has ended
            self._collect()

    def expire(self, now: float) -> None:
        if self.deadline is not None and self.deadline <= now:
            self.deadline = None
            self.act(pycurl.SOCKET_TIMEOUT, 0)

    def _collect(self) -> None:
        while True:
            left, good, bad = self._multi.info_read()
            for handle, code, text in [*((handle, 0, "") for handle in good), *bad]:
                transfer = self.remove(handle)
                if transfer is not None:
                    transfer.finished(code, text)
            if not left:
                return

    def close(self) -> None:
        for handle in list(self.running):
            transfer = self.remove(handle)
            if transfer is not None:
                transfer.finished(pycurl.E_ABORTED_BY_CALLBACK, "closed")
        self._multi.close()


class _Thread:
    """The loop of one process."""

    def __init__(self, limiter: Limiter | None) -> None:
        self.pid = os.getpid()
        self._limiter = limiter
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake, select.EPOLLIN)
        self._calls: deque[Callable[[], None]] = deque()
        self._owner: dict[int, _Multi] = {}
        self._multis = (
            _Multi(self._poll, self._owner, _H1_CONNECTIONS),
            _Multi(self._poll, self._owner, _H2_CONNECTIONS),
        )
        self._ending = False
        self._gone = False  # the thread does nothing any more
        # A daemon: one that is not would be waited for at exit, with whatever a server that says nothing keeps open.
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    @property
    def lives(self) -> bool:
        """Whether it moves anything: not in another process, say a child."""
        return self.pid == os.getpid() and self._thread.is_alive()

    def call(self, what: Callable[[], None]) -> None:
        self._calls.append(what)
        with contextlib.suppress(OSError):  # closed meanwhile
            os.eventfd_write(self._wake, 1)
        if self._gone:
            self._do_calls()  # nobody else does, and all that is left is to say that it has ended

    def add(self, transfer: Transfer) -> None:
        if self._ending:
            raise TransportError("connections were closed", final=True)
        self._multis[transfer.shared].add(transfer)

    def start(self, transfer: Transfer) -> None:
        self.call(lambda: self._begin(transfer))

    def _begin(self, transfer: Transfer) -> None:
        try:
            self.add(transfer)
        except TransportError:
            transfer.finished(pycurl.E_ABORTED_BY_CALLBACK, "closed")

    def stop(self, transfer: Transfer) -> None:
        self.call(lambda: self._drop(transfer))

    def _drop(self, transfer: Transfer) -> None:
        if self._multis[transfer.shared].remove(transfer.handle) is not None:
            transfer.finished(pycurl.E_ABORTED_BY_CALLBACK, "stopped")

    def _run(self) -> None:
        try:
            while not self._ending:
                self._turn()
        finally:
            self._ending = True
            for multi in self._multis:
                multi.close()
            self._gone = True
            self._do_calls()
            self._poll.close()
            os.close(self._wake)

    def _turn(self) -> None:
        limiter = self._limiter
        if limiter is not None and (owed := limiter.owed()):
            time.sleep(min(owed, _LONGEST_REST))  # sockets are left alone: what comes waits at its sender
            self._do_calls()
            return
        now = time.monotonic()
        deadlines = [multi.deadline for multi in self._multis if multi.deadline is not None]
        wait = max(0.0, min(deadlines) - now) if deadlines else _IDLE_SECONDS
        # One event at a time where bytes are limited, in turn, so that each has its share.
        for fd, mask in self._poll.poll(wait, -1 if limiter is None else 1):
            if fd == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
                continue
            owner = self._owner.get(fd)
            if owner is not None:
                owner.act(fd, _SELECTED.get(mask) or _selected(mask))
            else:  # of nobody now: a server that closes what lies idle, say
                with contextlib.suppress(OSError):
                    self._poll.unregister(fd)
        self._do_calls()
        now = time.monotonic()
        for multi in self._multis:
            multi.expire(now)

    def _do_calls(self) -> None:
        with contextlib.suppress(IndexError):  # another thread was faster
            while self._calls:
                self._calls.popleft()()

    def _end(self) -> None:
        self._ending = True

    def abandon(self) -> None:
        """End all transfers, soon. Takes no lock."""
        self.call(self._end)

    def close(self) -> None:
        """End all transfers, and the thread."""
        if self.lives:
            self.abandon()
            if threading.current_thread() is not self._thread:
                self._thread.join(timeout=5)


def _selected(mask: int) -> int:
    events = 0
    if mask & select.EPOLLIN:
        events |= pycurl.CSELECT_IN
    if mask & select.EPOLLOUT:
        events |= pycurl.CSELECT_OUT
    if mask & (select.EPOLLERR | select.EPOLLHUP):
        events |= pycurl.CSELECT_ERR
    return events


class Loop:
    """Moves transfers, from its first one on. May be used from several threads at once.

    :ivar limiter: whom transfers tell of the bytes that they move; None for no limit
    """

    def __init__(self, limiter: Limiter | None = None) -> None:
        self.limiter = limiter
        self._lock = threading.Lock()
        self._current: _Thread | None = None
        patience.tell(weakly(self._abandon))

    def _abandon(self) -> None:
        current = self._current
        if current is not None and current.lives:
            current.abandon()

    def _running(self) -> _Thread:
        if patience.has_ended():
            raise TransportError("the run is to end", final=True)
        with self._lock:
            if self._current is None or not self._current.lives:
                self._current = _Thread(self.limiter)
                atexit.register(self._current.close)
            return self._current

    def start(self, transfer: Transfer) -> None:
        """Start a transfer. :raises TransportError: the process is to end, here and below"""
        self._running().start(transfer)

    def run(self, transfer: Transfer) -> None:
        """`start`, from the loop's own thread. :raises TransportError: it is being closed"""
        current = self._current
        if current is None:
            raise TransportError("connections were closed", final=True)
        current.add(transfer)

    def stop(self, transfer: Transfer) -> None:
        """End a transfer that is under way; nothing if it has ended."""
        current = self._current
        if current is not None:
            current.stop(transfer)

    def call(self, what: Callable[[], None]) -> None:
        """Have something done on the loop's thread, where alone handles may be touched while they are under way."""
        self._running().call(what)

    def close(self) -> None:
        """End all transfers."""
        with self._lock:
            current, self._current = self._current, None
        if current is not None:
            atexit.unregister(current.close)
            current.close()
