"""A program that is spoken to over its standard input and output: ssh above all. Bytes both ways; no protocol.

Several threads may speak with it at once. There is no thread of its own: whoever waits for something reads for all, and
hands on what came; the others sleep until theirs is there. Nothing blocks: while there is much to write, what comes is
read all the same, or both sides would wait for each other.

Standard error is passed on by lines. The last one is held back until there is another, since where the program fails it
says why.

    >>> program = Program(("ssh", "host", "cat"), "host", on_bytes=parts.append)
    >>> program.send(b"x")
    >>> program.wait(lambda: bool(parts), "read")
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from casync_compat.closing import Closing
from casync_compat.errors import RemoteError, show_path
from casync_compat.fs.waiting import readable
from casync_compat.logs import Log

__all__ = ["SILENCE", "Program", "end_all"]

SILENCE = 60.0
"""Seconds without a byte either way after which nobody waits on, unless somebody says otherwise."""
START = 300.0
"""The same before the first byte has come: people type passwords slowly."""
_LOG = Log(__name__)
_PIECE = 1 << 18
_PIPE = 1 << 20
_LINE = 2000
_GRACE = 5.0
"""Seconds that a program is given to end, once its input has ended or it was told to go."""
_NOT_STARTED = 255
"""What ssh exits with when the error is its own (ssh(1))."""
_NOT_FOUND = 127
"""What a shell exits with when it does not find the program."""


_running: set[int] = set()
"""Process ids of programs that were not seen to end."""
_told: set[int] = set()
"""Those that were told to end."""


def end_all() -> None:
    """Tell every program to end, so that nobody waits for one any more. May be called by a signal handler."""
    for pid in list(_running):
        _told.add(pid)
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)


class _Waiter:
    __slots__ = ("condition", "done")

    def __init__(self, done: Callable[[], bool], lock: threading.Lock) -> None:
        self.done = done
        self.condition = threading.Condition(lock)


class Program(Closing):
    """A program under way.

    :param argv: what to start
    :param where: what messages call the other end
    :param on_bytes: gets what comes, and `b""` at its end, with `lock` held; what it raises ends everything
    :param on_line: gets each line of standard error, with control characters escaped
    :param silence: seconds without a byte after which a wait is given up; None for 60, 0 for never
    :raises RemoteError: it cannot be started

    :ivar lock: to be held while what `on_bytes` works on is looked at
    """

    def __init__(
        self,
        argv: Sequence[str],
        where: str,
        on_bytes: Callable[[bytes], None],
        *,
        on_line: Callable[[str], None] = lambda line: None,
        silence: float | None = None,
    ) -> None:
        self.where = where
        self.lock = threading.Lock()
        self._on_bytes = on_bytes
        self._on_line = on_line
        self._silence = silence
        self._waiters: list[_Waiter] = []
        self._reading = False
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self._failure: Exception | None = None
        self._heard = False
        self.broke = False
        """Whether it ended, after something had come from it, though nobody wanted that."""
        self._last_line = ""
        self._errors = b""
        self._process: subprocess.Popen[bytes] | None = None
        _LOG.info("starts %s", " ".join(map(show_path, argv)))
        try:
            self._process = subprocess.Popen(
                argv, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            why = f"{show_path(argv[0])}: {os.strerror(error.errno or 0)}"
            raise RemoteError(where, "start the program that leads there", why) from error
        process = self._process
        _running.add(process.pid)
        self._in, self._out, self._err = (
            file.fileno() for file in (process.stdin, process.stdout, process.stderr) if file is not None
        )
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._open = {self._out, self._err, self._wake}
        for fd in (self._in, self._out, self._err):
            os.set_blocking(fd, False)
        _widen(self._in, self._out)

    # ---- speaking

    @property
    def queued(self) -> int:
        """Bytes that were sent and are not on their way yet."""
        return self._queued

    def send(self, data: bytes) -> None:
        """Have bytes written behind all others. Does not wait; `wait` writes."""
        with self.lock:
            self.queue(data)
            self.flush()

    def queue(self, data: bytes) -> None:
        """The same with `lock` held; `flush`, or the end of `on_bytes`, begins with it."""
        self._queue.append(memoryview(data))
        self._queued += len(data)

    def flush(self) -> None:
        """Begin to write what is queued. Called with `lock`."""
        if not self._reading:
            self._write()
        else:
            os.eventfd_write(self._wake, 1)

    def finish(self) -> None:
        """End its standard input, once all is written."""
        self.wait(lambda: not self._queued, "write")
        with self.lock:
            self._end_input()

    def _end_input(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._queue.clear()
        self._queued = 0

    def wait(self, done: Callable[[], bool], op: str) -> None:
        """Write and read until something is so.

        :param done: asked with `lock` held
        :param op: what is being done, for messages
        :raises RemoteError: it never will be, or nothing was heard for too long
        """
        with self.lock:
            waiter = _Waiter(done, self.lock)
            self._waiters.append(waiter)
            try:
                while not done():
                    if self._failure is not None:
                        raise self._failure
                    if self._reading:
                        waiter.condition.wait()
                    else:
                        self._read_for_all(op)
            finally:
                self._waiters.remove(waiter)
                if self._waiters and not self._reading:
                    self._waiters[0].condition.notify()

    def _read_for_all(self, op: str) -> None:
        """Hand on what comes next. Called with the lock, which is free meanwhile."""
        self._reading = True
        try:
            try:
                self.lock.release()
                try:
                    ready = self._poll(op)
                finally:
                    self.lock.acquire()
                self._step(ready)
            except Exception as error:
                self._failure = error
                raise
        finally:
            self._reading = False
            for waiter in self._waiters:
                if self._failure is not None or waiter.done():
                    waiter.condition.notify()

    def _poll(self, op: str) -> set[int]:
        """The descriptors that something can be done with."""
        limit = self._silence
        if limit is None:
            limit = SILENCE if self._heard else START
        if self._process is None:
            raise self._closed()
        poll = select.poll()
        for fd in self._open:
            poll.register(fd, select.POLLIN)
        if self._queued:
            poll.register(self._in, select.POLLOUT)
        if self._out not in self._open:
            raise self._ended(op)
        found = poll.poll(limit * 1000 if limit else None)
        if not found:
            raise RemoteError(self.where, op, f"nothing was heard from there for {limit:g} seconds")
        return {fd for fd, _ in found}

    def _step(self, ready: set[int]) -> None:
        if self._wake in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
        if self._queued:
            self._write()
        if self._err in ready:
            self._read_errors()
        if self._out in ready:
            data = _read(self._out)
            if data is not None:
                self._heard = True
                if not data:
                    self._open.discard(self._out)
                self._on_bytes(data)
                if self._queued:
                    self._write()

    def _write(self) -> None:
        while self._queue:
            try:
                written = os.writev(self._in, [*_first(self._queue)])
            except BlockingIOError:
                return
            except OSError:  # it has gone, or wants no more; its last words say why
                self._queue.clear()
                self._queued = 0
                return
            self._queued -= written
            while written:
                first = self._queue.popleft()
                if len(first) > written:
                    self._queue.appendleft(first[written:])
                    break
                written -= len(first)

    def _read_errors(self) -> None:
        data = _read(self._err)
        if data is None:
            return
        if not data:
            self._open.discard(self._err)
        self._errors += data
        *lines, self._errors = self._errors.split(b"\n")
        if self._errors and (not data or len(self._errors) > _LINE):
            lines.append(self._errors)
            self._errors = b""
        for line in lines:
            if text := show_path(line.rstrip(b"\r")[:_LINE]).strip():
                self._tell_last()
                self._last_line = text

    def _tell_last(self) -> None:
        if self._last_line:
            self._on_line(self._last_line)
        self._last_line = ""

    # ---- its end

    def _ended(self, op: str) -> RemoteError:
        """What to say of a program that ended, or closed its output, too early."""
        told = self._process is None or self._process.pid in _told
        status = self._reap(_GRACE)
        self.broke = self._heard and not told and status != _NOT_FOUND
        deadline = time.monotonic() + _GRACE
        while self._err in self._open and time.monotonic() < deadline:
            if not readable([self._err], 0.5):
                break
            self._read_errors()
        said, self._last_line = self._last_line, ""
        if status == _NOT_FOUND:
            why = f"the program to speak with was not found there ({said or 'status 127'})"
        elif said:
            why = said
        elif status == _NOT_STARTED and not self._heard:
            why = "ssh could not connect"
        else:
            how = "ended" if status is None or status >= 0 else f"was killed by signal {-status}"
            why = f"the program there {how} before all was done"
        return RemoteError(self.where, op, why)

    def fail(self, op: str, why: str) -> RemoteError:
        """What to say of an other end that does what it may not, with its last words."""
        said, self._last_line = self._last_line, ""
        return RemoteError(self.where, op, f"{why} ({said})" if said else why)

    def status(self) -> int | None:
        """Wait for the end of a program that has been told all; its exit status, None if it does not end."""
        deadline = time.monotonic() + (SILENCE if self._silence is None else self._silence or SILENCE)
        while time.monotonic() < deadline and {self._out, self._err} & self._open:
            ready = readable({self._out, self._err} & self._open, 1.0)
            if self._err in ready:
                self._read_errors()
            if self._out in ready and _read(self._out) == b"":
                self._open.discard(self._out)
        return self._reap(max(0.0, deadline - time.monotonic()))

    def _reap(self, seconds: float) -> int | None:
        if self._process is None:
            return None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        _running.discard(self._process.pid)
        return status

    def close(self) -> None:
        """End it, and wait until it has ended: by itself if it is well, since it may have things to put away."""
        process, self._process = self._process, None
        if process is None:
            return
        with self.lock:
            well = self._failure is None
            self._failure = self._failure or self._closed()
        try:
            self._let_go(process)
            for signal_ in (signal.SIGTERM, signal.SIGKILL):
                if signal_ is signal.SIGKILL or well:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_GRACE)
                if process.poll() is not None:
                    break
                process.send_signal(signal_)
        finally:
            process.wait()
            _running.discard(process.pid)

    def _let_go(self, process: subprocess.Popen[bytes]) -> None:
        """Close its pipes, once no other thread reads them."""
        os.eventfd_write(self._wake, 1)
        while self._reading:
            time.sleep(0.01)
        for file in (process.stdin, process.stdout, process.stderr):
            if file is not None:
                with suppress(OSError):
                    file.close()
        os.close(self._wake)

    def _closed(self) -> RemoteError:
        return RemoteError(self.where, "go on", "the connection was closed")

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()


def _first(queue: deque[memoryview]) -> list[memoryview]:
    """As many as one call writes."""
    return [queue[number] for number in range(min(len(queue), 64))]


def _read(fd: int) -> bytes | None:
    try:
        return os.read(fd, _PIECE)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _widen(*pipes: int) -> None:
    """Let pipes hold more, so that fewer switches move as much."""
    import fcntl

    for fd in pipes:
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE)
