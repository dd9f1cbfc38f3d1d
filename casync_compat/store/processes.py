"""Whether the process that left word has ended: told at once where it ran under this very kernel, and never guessed.

    >>> line = this_process()                     # goes into the file
    >>> has_ended(line)                           # asked by whoever finds it
    False

A line has the kernel's boot id, the machine's id, the PID and time namespaces, the process's number and when it began,
in clock ticks since the boot. Only where the first four are those of the process that asks do the last two mean
something: a number of another namespace is another process, and another time namespace has another clock. Then the
process has ended if the kernel knows no process of that number, or one that began at another time, or one of which all
threads have gone. Everything else is "not known", as is what another program wrote.

Who writes such lines and what follows is the business of `casync_compat.store.leases`.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from casync_compat.store.pace import boot_time

__all__ = ["began", "has_ended", "this_process"]

_PROC = b"/proc"
_BOOT = b"/proc/sys/kernel/random/boot_id"
_MACHINE = b"/etc/machine-id"
_MOST = 4096
_NONE = b"-"
_LINE = re.compile(
    rb"linux boot=(\S{8,64}) machine=(\S{1,64}) pidns=(\S{1,64}) timens=(\S{1,64}) pid=([0-9]{1,10}) "
    rb"start=([0-9]{1,20})"
)
_STATE, _THREADS, _START = 0, 17, 19
"""Places in /proc/PID/stat (proc_pid_stat(5)), counted from what follows the name."""
_GONE = (b"Z", b"X", b"x")


def _read(path: bytes) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(fd, _MOST).strip()
    except OSError:
        return b""
    finally:
        os.close(fd)


def _namespace(kind: bytes) -> bytes:
    try:
        return os.readlink(b"%b/self/ns/%b" % (_PROC, kind))
    except OSError:
        return b""


def _stat(pid: int) -> list[bytes]:
    """The fields of a process after its name, which may have anything in it; empty when that cannot be read."""
    return _read(b"%b/%d/stat" % (_PROC, pid)).rpartition(b")")[2].split()


def _here() -> tuple[bytes, bytes, bytes, bytes] | None:
    """Boot, machine and namespaces; None where numbers of processes cannot be looked up."""
    try:
        if os.readlink(_PROC + b"/self") != b"%d" % os.getpid():
            return None  # a /proc of another namespace: its numbers are of other processes
    except OSError:
        return None
    boot, machine = _read(_BOOT), _read(_MACHINE) or _NONE
    pids, times = _namespace(b"pid"), _namespace(b"time") or _NONE
    return (boot, machine, pids, times) if boot and pids else None


def this_process() -> bytes:
    """What tells others which process this is; empty where that cannot be said."""
    here, stat = _here(), _stat(os.getpid())
    if here is None or len(stat) <= _START:
        return b""
    line = b"linux boot=%b machine=%b pidns=%b timens=%b " % here
    line += b"pid=%d start=%b" % (os.getpid(), stat[_START])
    return line if _LINE.fullmatch(line) else b""


def began() -> float | None:
    """When this process was started, by `pace.boot_time` and never later than now; None where that cannot be said."""
    stat = _stat(os.getpid())
    if len(stat) <= _START or not stat[_START].isdigit():
        return None
    return min(int(stat[_START]) / os.sysconf("SC_CLK_TCK"), boot_time())


def has_ended(line: bytes) -> bool:
    """Whether the process of a line has ended; False also where nobody here can know."""
    found = _LINE.fullmatch(line)
    if found is None or found.groups()[:4] != _here():
        return False
    pid, start = int(found[5]), found[6]
    if not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)  # says for sure whether there is one, whatever /proc shows of others
    except ProcessLookupError:
        return True
    except OSError:
        pass
    stat = _stat(pid)
    if len(stat) <= _START:
        return False
    if stat[_START] != start:
        return True
    if stat[_STATE] not in _GONE:
        return False
    with suppress(OSError):
        return os.listdir(b"%b/%d/task" % (_PROC, pid)) == [b"%d" % pid]  # nobody has waited for it yet
    return False
