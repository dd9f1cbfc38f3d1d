"""Whether the process that wrote a lease has ended: known of processes of this kernel, of all others never said."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filesystems import lacking
from test_store.test_leases import index_of, put, set_back

from casync_compat.store import processes
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.leases import StoreBusy
from casync_compat.store.local import LocalFiles, LocalStore
from casync_compat.store.processes import has_ended, this_process
from casync_compat.streams.leasing import busy, collecting, writing
from casync_compat.verbs.gc import collect_garbage

LEASE = b".pycasync/leases/0123"
LOCK = b".pycasync/gc"
SAYS = "import time; from casync_compat.store.processes import this_process as f; print(f().decode(), flush=True)"
WAITS = "; time.sleep(600)"


@contextmanager
def other(*before: str) -> Iterator[tuple[bytes, subprocess.Popen[bytes]]]:
    """A process that lives, and what it says of itself; the process ends with the block."""
    command = [*before, sys.executable, "-c", SAYS + WAITS]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def ended() -> bytes:
    """What a process said of itself that has ended."""
    return subprocess.run([sys.executable, "-c", SAYS], check=True, capture_output=True).stdout.strip()


def test_alive_and_dead() -> None:
    """This process and another live; one that was killed is dead, also before anybody asked how it ended."""
    assert not has_ended(this_process())
    with other() as (line, process):
        assert not has_ended(line)
        os.kill(process.pid, signal.SIGSTOP)
        assert not has_ended(line)
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(line)  # nobody has waited for it
    assert has_ended(line)


def test_a_number_that_was_given_again() -> None:
    """A process of the same number that began at another time is another one."""
    line = this_process()
    assert has_ended(re.sub(rb"start=\d+", b"start=1", line))


@pytest.mark.parametrize("what", ["boot", "machine", "pidns", "timens"])
def test_elsewhere_is_not_known(what: str) -> None:
    """Of another boot, machine or namespace nothing is said, although no such process is here."""
    line = ended()
    assert has_ended(line)
    assert not has_ended(re.sub(rb"%b=\S+" % what.encode(), b"%b=elsewhere-12345678" % what.encode(), line))


@pytest.mark.parametrize(
    "line", [b"", b"linux", b"\xff" * 100, b"linux boot=x pid=1", b"0123456789abcdef", b"pid=99999999"]
)
def test_words_of_others(line: bytes) -> None:
    """What another program wrote says nothing."""
    assert not has_ended(line)
    good = ended()
    assert not has_ended(good + b" more")
    assert not has_ended(good.replace(b"pid=", b"pid=9999999999"))


@pytest.mark.root
def test_another_namespace() -> None:
    """A process in a PID namespace of its own is not taken for dead from outside, nor the other way round."""
    unshare = ["unshare", "--kill-child", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        lacking("unshare cannot make PID namespaces")
    with other(*unshare) as (line, _):
        assert b" pid=1 " in line
        assert not has_ended(line)
    assert not has_ended(line)  # nobody can know
    asks = (
        "import sys; from casync_compat.store.processes import has_ended as f; print(f(sys.argv[1].encode()))"
    )
    command = [*unshare, sys.executable, "-c", asks, ended().decode()]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"False\n"


@pytest.mark.root
def test_proc_of_another_namespace() -> None:
    """Where /proc shows processes of others, nobody says anything."""
    unshare = ["unshare", "--kill-child", "--pid", "--fork"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        lacking("unshare cannot make PID namespaces")
    with other(*unshare) as (line, _):
        assert line == b""


def test_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc nobody is dead before the time."""
    line = ended()
    monkeypatch.setattr(processes, "_PROC", os.fsencode(tmp_path))
    assert this_process() == b""
    assert not has_ended(line)


# What follows for stores


@pytest.fixture
def store(tmp_path: Path) -> ChunkStore:
    made = LocalStore(tmp_path / "x.castr")
    put(made, *range(6))
    return made


def left(store: ChunkStore, name: bytes, line: bytes) -> None:
    """Leave a lease or lock of another process."""
    store.files.write(name, b"make on here, process 1\n0123456789abcdef\n" + line + b"\n")


def test_killed_writers_are_not_waited_for(store: ChunkStore) -> None:
    """A collection goes on at once, and takes away what the dead left; the living are waited for."""
    with other() as (line, process):
        left(store, LEASE, line)
        with pytest.raises(StoreBusy):
            collect_garbage(store, [index_of(0)], wait=0)
        assert busy(store) == ["make on here, process 1"]
        process.kill()
        process.wait()
        assert busy(store) == []
        assert collect_garbage(store, [index_of(0)], wait=0).removed == 5
    assert store.files.stat(LEASE) is None


@pytest.mark.parametrize("who", ["make", "gc"])
def test_killed_collections_are_not_waited_for(store: ChunkStore, who: str) -> None:
    """The lock of a gc that was killed is taken over by a make or a gc; that of one that lives is respected."""
    run = writing(store, "make", wait=0) if who == "make" else collecting(store, wait=0)
    with other() as (line, _):
        left(store, LOCK, line)
        with pytest.raises(StoreBusy), run:
            pass
    run = writing(store, "make", wait=0) if who == "make" else collecting(store, wait=0)
    with run:
        pass
    assert store.files.stat(LOCK) is None


def test_words_of_the_dead_stay(store: ChunkStore) -> None:
    """Ids of chunks that a run needs which is done are no lease, whoever wrote them."""
    store.files.write(LEASE + b".ids", ended()[:64].ljust(64))
    with writing(store, "make"):
        pass
    assert store.files.stat(LEASE + b".ids") is not None


def test_stores_that_others_reach(store: ChunkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system two renewals must be missing as well, since machines may be copies of each other."""
    monkeypatch.setattr(LocalFiles, "one_kernel", False)
    left(store, LEASE, ended())
    set_back(store, LEASE, 110)
    with pytest.raises(StoreBusy):
        collect_garbage(store, [index_of(0)], wait=0)
    set_back(store, LEASE, 20)
    assert collect_garbage(store, [index_of(0)], wait=0).removed == 5


def test_a_gc_after_a_make_that_was_killed(tmp_path: Path) -> None:
    """The command line, from end to end: `kill -9` of a make, and the next gc collects what it put, at once."""
    command = [sys.executable, "-m", "casync_compat"]
    store, index = tmp_path / "x.castr", tmp_path / "x.caibx"
    make = [*command, "make", "--what=blob-index", f"--store={store}", str(index), "-"]
    with subprocess.Popen(make, stdin=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write(os.urandom(2 << 20))
        process.stdin.flush()
        while not list(store.glob(".pycasync/leases/*")) or not list(store.glob("????/*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert list(store.glob(".pycasync/leases/*"))
    (tmp_path / "small").write_bytes(b"x")
    keep = tmp_path / "small.caibx"
    subprocess.run([*command, "make", f"--store={store}", str(keep), "small"], check=True, cwd=tmp_path)
    assert not (store / ".pycasync").exists()
    subprocess.run([*command, "gc", "--wait=0", f"--store={store}", str(keep)], check=True, cwd=tmp_path)
    assert len(list(store.glob("????/*"))) == 1
