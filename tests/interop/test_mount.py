"""Mounted archives and blobs, through the kernel: what is seen is what was archived, whether stores come or go."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from compare import assert_same, snapshot
from filesystems import lacking
from grounds import Forest
from interop.tools import Pair, Tool, better_than_casync, tree_cases
from trees import TREES, Tree, content
from webserver import Reply, WebServer, web_server

pytestmark = [better_than_casync, pytest.mark.timeout(90)]

NOT_SHOWN = ("flags", "project", "subvolume")
"""What a file system in user space has no such thing for."""
FILTERED = {name for name, tree in TREES.items() if tree.filtered or tree.refused}


def unmount(at: Path) -> None:
    """Take a mount away, whatever hangs in it."""
    subprocess.run(["fusermount3", "-u", "-z", "-q", at], timeout=20, check=False)


@contextlib.contextmanager
def mounted(tool: Tool, *words: str | Path, at: Path) -> Iterator[Path]:
    """A mount by a process of its own, which has ended at the end."""
    if not os.path.exists("/dev/fuse"):
        lacking("the kernel does not know fuse")
    if shutil.which("fusermount3") is None:
        lacking("fusermount3 is not installed")
    try:
        tool("mount", "--background", *words, at)
        yield at
    finally:
        unmount(at)


@pytest.mark.parametrize(("tree", "on"), tree_cases(without=tuple(FILTERED), large=False))
def test_a_mount_shows_the_tree(pair: Pair, forest: Forest, tree: Tree, on: str, tmp_path: Path) -> None:
    """Every tree that casync archived is there in all that a file system in user space can show."""
    source = forest.get(tree.name, on)
    pair.casync("make", *tree.faithful, f"--store={tmp_path}/s.castr", tmp_path / "x.caidx", source)
    with mounted(pair.pycasync, f"--store={tmp_path}/s.castr", tmp_path / "x.caidx", at=tmp_path / "m") as at:
        shown = snapshot(at)
        wanted = snapshot(source)
    for node in wanted.values():
        xattrs = node["xattrs"]
        assert isinstance(xattrs, dict)
        xattrs.pop("btrfs.compression", None)  # a flag of files, by another name
    assert_same(wanted, shown, ignore=(*NOT_SHOWN, *tree.lost))


def test_the_digest_of_a_mount(pair: Pair, tmp_path: Path) -> None:
    """casync gets from a mounted tree, flags of files among what it reads, the digest that it gave the archive."""
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    for name in ("a", "d/b"):
        (source / name).write_bytes(content(100_000))
    os.setxattr(source / "a", "user.x", b"y")
    os.symlink("a", source / "link")
    subprocess.run(["chattr", "+dA", source / "d/b"], check=False, capture_output=True)
    words = ("--with=fuse", "--exclude-nodump=no")
    made = pair.casync("make", *words, tmp_path / "x.caidx", source)
    with mounted(pair.pycasync, tmp_path / "x.caidx", at=tmp_path / "m") as at:
        assert pair.casync("digest", *words, at) == made


def test_holes_stay_holes(pair: Pair, tmp_path: Path) -> None:
    """A copy of a mounted disk that looks for holes finds them: it reads no zeros and writes none."""
    with open(tmp_path / "disk", "wb") as file:
        file.write(content(1 << 20))
        file.seek(8 << 20)
        file.write(content(1 << 20, seed=2))
    pair.pycasync("make", tmp_path / "disk.caibx", tmp_path / "disk")
    with (
        mounted(pair.pycasync, tmp_path / "disk.caibx", at=tmp_path / "m") as at,
        open(at / "disk", "rb", buffering=0) as file,
    ):
        hole = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
        assert 1 << 20 <= hole < 2 << 20
        assert 7 << 20 < os.lseek(file.fileno(), hole, os.SEEK_DATA) <= 8 << 20


@pytest.fixture
def blob(pair: Pair, tmp_path: Path) -> Path:
    """A blob of 8 MiB, with its index and store beside it."""
    data = content(6 << 20) + bytes(1 << 20) + content(1 << 20, seed=2)
    (tmp_path / "disk").write_bytes(data)
    pair.pycasync("make", tmp_path / "disk.caibx", tmp_path / "disk")
    return tmp_path / "disk"


def test_random_reads_of_eight_at_once(pair: Pair, blob: Path, tmp_path: Path) -> None:
    """Whatever eight readers read, at any offsets and sizes, is what the file has there."""
    data = blob.read_bytes()
    with mounted(pair.pycasync, tmp_path / "disk.caibx", at=tmp_path / "m") as at:
        assert os.listdir(at) == ["disk"]

        def read(seed: int) -> int:
            rng = random.Random(seed)
            with open(at / "disk", "rb", buffering=0) as file:
                for _ in range(100):
                    offset, size = rng.randrange(len(data)), rng.randrange(1 << rng.randrange(18))
                    assert os.pread(file.fileno(), size, offset) == data[offset : offset + size]
            return seed

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, range(8))) == list(range(8))
        assert (at / "disk").read_bytes() == data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(pair: Pair, blob: Path, tmp_path: Path, number: int) -> None:
    """Ctrl-C and SIGTERM unmount, also while a file is open, and the exit status is 0."""
    at = tmp_path / "m"
    argv = [*pair.pycasync.command, "mount", str(tmp_path / "disk.caibx"), str(at)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONSAFEPATH": "1"}) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"Mounted: %b\n" % os.fsencode(at)
            opened = os.open(at / "disk", os.O_RDONLY)
            process.send_signal(number)
            assert process.wait(30) == 0
            with contextlib.suppress(OSError):  # of a file system that is gone
                os.close(opened)
            assert not os.path.ismount(at)
        finally:
            process.kill()
            unmount(at)


@pytest.fixture
def served(blob: Path, tmp_path: Path) -> Iterator[WebServer]:
    """A web server with index and chunks."""
    with web_server() as server:
        serve(server, tmp_path)
        yield server


def serve(server: WebServer, work: Path) -> None:
    """Let it have the chunks and indexes of a directory."""
    for path in work.glob("default.castr/*/*"):
        server.files[f"/{path.relative_to(work)}"] = path.read_bytes()
    for path in work.glob("*.ca?*x"):
        server.files[f"/{path.name}"] = path.read_bytes()


def test_only_what_is_read_is_fetched(pair: Pair, served: WebServer, blob: Path, tmp_path: Path) -> None:
    """Over HTTP, a look at one place of a blob asks for few chunks; reading it all gives it all."""
    with mounted(pair.pycasync, f"{served.url}/disk.caibx", at=tmp_path / "m") as at:
        before = len(served.asked)
        with open(at / "disk", "rb", buffering=0) as file:
            assert os.pread(file.fileno(), 4096, 3 << 20) == blob.read_bytes()[3 << 20 : (3 << 20) + 4096]
        assert len(served.asked) - before <= 6
        assert (at / "disk").read_bytes() == blob.read_bytes()


def test_everything_is_fetched_meanwhile(pair: Pair, served: WebServer, blob: Path, tmp_path: Path) -> None:
    """With --fetch all chunks come into the cache unread, and the server may go; the next mount wants none of it."""
    cache = tmp_path / "cache"
    words = ("--verify", "--fetch", f"--chunk-cache={cache}", f"{served.url}/disk.caibx")
    wanted = len(list(tmp_path.glob("default.castr/*/*")))
    with mounted(pair.pycasync, *words, at=tmp_path / "m") as at:
        until = time.monotonic() + 30
        while len(list(cache.glob("*/*.cacnk"))) < wanted:
            assert time.monotonic() < until
            time.sleep(0.02)
        served.special = lambda method, path, fields, body: Reply(404) if path.endswith(".cacnk") else None
        assert (at / "disk").read_bytes() == blob.read_bytes()
    with mounted(pair.pycasync, *words, at=tmp_path / "m") as at:
        assert (at / "disk").read_bytes() == blob.read_bytes()


def test_a_server_that_is_away_and_comes_back(
    pair: Pair, served: WebServer, blob: Path, tmp_path: Path
) -> None:
    """A server that refuses gives EIO to whoever reads, and no hang; once it is back, reading works again."""
    with mounted(pair.pycasync, f"{served.url}/disk.caibx", at=tmp_path / "m") as at:
        served.special = lambda method, path, fields, body: Reply(404)
        with open(at / "disk", "rb", buffering=0) as file:
            with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is looked at
                os.pread(file.fileno(), 100, 5 << 20)
            assert caught.value.errno == errno.EIO
            served.special = lambda method, path, fields, body: None
            assert os.pread(file.fileno(), 100, 5 << 20) == blob.read_bytes()[5 << 20 : (5 << 20) + 100]


class Hanging:
    """A server that can take requests for chunks and say nothing. :ivar asked: set once it was asked for one, then"""

    def __init__(self, server: WebServer) -> None:
        self.server = server
        self.index = f"{server.url}/x.caidx"
        self.asked, self.go_on = threading.Event(), threading.Event()

    def begin(self) -> None:
        """Say no more."""

        def hang(method: str, path: str, fields: dict[str, str], body: bytes) -> None:
            if path.endswith(".cacnk"):
                self.asked.set()
                self.go_on.wait(60)

        self.server.special = hang


@pytest.fixture
def hanging(pair: Pair, served: WebServer, tmp_path: Path) -> Iterator[Hanging]:
    """The server with an archive of several directories, MiBs apart."""
    for number in range(3):
        (tmp_path / f"tree/{number}").mkdir(parents=True)
        (tmp_path / f"tree/{number}/file").write_bytes(content(1 << 20, seed=number))
    pair.pycasync("make", tmp_path / "x.caidx", tmp_path / "tree")
    serve(served, tmp_path)
    server = Hanging(served)
    yield server
    server.go_on.set()


def test_who_waits_can_be_killed(pair: Pair, hanging: Hanging, tmp_path: Path) -> None:
    """A signal to a command that waits for a server that says nothing ends it, and not only when the time is over."""
    with mounted(pair.pycasync, hanging.index, at=tmp_path / "m") as at:
        hanging.begin()
        with subprocess.Popen(["ls", at / "1"], stdout=subprocess.DEVNULL) as reader:
            assert hanging.asked.wait(30)
            reader.terminate()
            try:
                assert reader.wait(20) == -signal.SIGTERM
            finally:
                hanging.go_on.set()


def test_a_server_that_hangs(
    pair: Pair, hanging: Hanging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads from a server that says nothing has EIO in the time that is set; the mount can be ended meanwhile."""
    settings = tmp_path / "settings/pycasync/config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'[stores."{hanging.server.url}/*"]\ntimeout = 1\nretries = 0\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    at = tmp_path / "m"
    argv = [*pair.pycasync.command, "mount", hanging.index, str(at)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONSAFEPATH": "1"}) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            hanging.begin()
            with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is looked at
                os.listdir(at / "1")
            assert caught.value.errno == errno.EIO
            hanging.asked.clear()
            with subprocess.Popen(["ls", at / "0", at / "1"], stderr=subprocess.DEVNULL):
                assert hanging.asked.wait(30)
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == 0
            assert not os.path.ismount(at)
        finally:
            hanging.go_on.set()
            process.kill()
            unmount(at)


def test_a_block_device(pair: Pair, blob: Path, tmp_path: Path) -> None:
    """libnbd's own clients see a device that is only read, and copy the blob out of it."""
    if shutil.which("nbdcopy") is None:
        lacking("nbdcopy is not installed")
    at = tmp_path / "socket"
    uri = f"nbd+unix:///?socket={at}"
    argv = [*pair.pycasync.command, "mkdev", str(tmp_path / "disk.caibx"), f"--socket={at}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONSAFEPATH": "1"}) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"Serving: {uri}\n".encode()
            shown = subprocess.run(["nbdinfo", uri], capture_output=True, check=True, timeout=30).stdout
            assert b"is_read_only: true" in shown
            subprocess.run(["nbdcopy", uri, tmp_path / "copy"], check=True, timeout=30)
            assert (tmp_path / "copy").read_bytes() == blob.read_bytes()
            process.terminate()
            assert process.wait(30) == 0
            assert not at.exists()
        finally:
            process.kill()
    outcome = pair.pycasync.run("mkdev", tmp_path / "disk.caibx")
    assert outcome.status == 1
    assert b"--socket" in outcome.err
    assert b"pycasync mount" in outcome.err


def test_a_directory_of_archives(pair: Pair, blob: Path, tmp_path: Path) -> None:
    """All that is in it is there under its name, casync's archives too; what is broken is an error of its own."""
    (tmp_path / "source/d").mkdir(parents=True)
    (tmp_path / "source/d/file").write_bytes(content(100_000))
    backups = tmp_path / "backups"
    (backups / "host").mkdir(parents=True)
    store = f"--store={tmp_path}/default.castr"
    pair.casync("make", store, backups / "host/monday.caidx", tmp_path / "source")
    pair.casync("make", backups / "tuesday.catar", tmp_path / "source")
    shutil.copy(tmp_path / "disk.caibx", backups)
    (backups / "broken.caidx").write_bytes(b"broken")
    with mounted(pair.pycasync, store, backups, at=tmp_path / "m") as at:
        assert sorted(os.listdir(at)) == ["broken", "disk", "host", "tuesday"]
        for name in ("host/monday", "tuesday"):
            assert_same(snapshot(tmp_path / "source"), snapshot(at / name), ignore=NOT_SHOWN)
        assert (at / "disk").read_bytes() == blob.read_bytes()
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.stat(at / "broken")
    (tmp_path / "none").mkdir()
    outcome = pair.pycasync.run("mount", tmp_path / "none", tmp_path / "m")
    assert outcome.status == 1
    assert b"neither archives nor indexes" in outcome.err


def test_a_mount_whose_process_was_killed(pair: Pair, blob: Path, tmp_path: Path) -> None:
    """Who finds it has an error, and who mounts there again is told how to take it away; then all is well."""
    at = tmp_path / "m"
    argv = [*pair.pycasync.command, "mount", str(tmp_path / "disk.caibx"), str(at)]
    environ = {**os.environ, "PYTHONSAFEPATH": "1"}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
        finally:
            process.kill()
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.listdir(at)
        for words in ((), ("--mkdir=no",)):
            outcome = pair.pycasync.run("mount", "--background", *words, tmp_path / "disk.caibx", at)
            assert outcome.status == 1
            assert b"fusermount3 -u" in outcome.err
    finally:
        unmount(at)
    with mounted(pair.pycasync, tmp_path / "disk.caibx", at=at):
        assert os.listdir(at) == ["disk"]


def test_nothing_is_mounted_over_what_it_reads(pair: Pair, blob: Path, tmp_path: Path) -> None:
    """A mount that hid its store or its archives from itself would wait for itself; below them it may be."""
    (tmp_path / "cache").mkdir()
    for at, *words in ((tmp_path, "disk.caibx"), (tmp_path, "."), (tmp_path / "cache", "disk.caibx")):
        cache = f"--chunk-cache={tmp_path / 'cache'}"
        outcome = pair.pycasync.run("mount", "--background", cache, tmp_path / words[0], at)
        assert outcome.status == 1
        assert b"would be hidden" in outcome.err
    with mounted(pair.pycasync, tmp_path, at=tmp_path / "m") as at:
        assert (at / "disk").read_bytes() == blob.read_bytes()
    pair.pycasync("make", tmp_path / "x.catar", tmp_path / "default.castr")  # it stays open
    with mounted(pair.pycasync, tmp_path / "x.catar", at=tmp_path):
        assert not (tmp_path / "x.catar").exists()


def test_what_cannot_be_mounted(pair: Pair, blob: Path, tmp_path: Path) -> None:
    """A mount point that is no directory, or not to be made, and a missing index are told; nothing is left behind."""
    for words in ((tmp_path / "disk.caibx", blob), (tmp_path / "none.caibx", tmp_path / "m")):
        outcome = pair.pycasync.run("mount", "--background", *words)
        assert outcome.status == 1, outcome
        assert b"internal error" not in outcome.err
    (tmp_path / "x.catar").write_bytes(b"")
    for words in (("--verify", tmp_path / "x.catar"), ("--fetch", tmp_path / "disk.caibx")):
        outcome = pair.pycasync.run("mount", *words, tmp_path / "m")
        assert outcome.status == 1, outcome
        assert b"internal error" not in outcome.err
    next((tmp_path / "default.castr").glob("*/*")).unlink()
    outcome = pair.pycasync.run("mount", "--background", "--verify", tmp_path / "disk.caibx", tmp_path / "m")
    assert (outcome.status, (tmp_path / "m").exists()) == (1, False)
    outcome = pair.pycasync.run("mount", "--mkdir=no", tmp_path / "disk.caibx", tmp_path / "m")
    assert (outcome.status, (tmp_path / "m").exists()) == (1, False)
