"""Files, stores, indexes and archives on SFTP servers: OpenSSH, with and without extensions, through sshd or not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from compare import assert_same, snapshot
from filesystems import lacking
from grounds import Forest
from interop.sshservers import Sshd, sshd  # noqa: F401 - a fixture
from interop.tools import Pair, Tool, better_than_casync
from test_store.contract_files import FilesContract
from trees import content

from casync_compat.errors import RemoteError
from casync_compat.protocol.sftp import Packet
from casync_compat.store.channel import Server
from casync_compat.store.files import FileDamaged
from casync_compat.store.program import end_all
from casync_compat.store.sftp import SftpFiles

pytestmark = better_than_casync

_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/libexec/openssh/sftp-server")


@pytest.fixture(params=["extended", "plain", "sshd"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that is there."""
    if request.param == "sshd":
        end: Sshd = request.getfixturevalue("sshd")
        argv: tuple[str, ...] = (end.ssh, "-s", end.host, "sftp")
    else:
        program = next((path for path in _SERVERS if os.path.exists(path)), None)
        if program is None:
            lacking("openssh's sftp-server is not installed; .ci/setup installs it")
        denied = ("-P", "posix-rename,fsync,limits") if request.param == "plain" else ()
        argv = (program, "-e", *denied)
    with Server(argv, "there") as found:
        yield found


@pytest.fixture
def files(server: Server, tmp_path: Path) -> SftpFiles:
    return SftpFiles(server, os.fsencode(tmp_path / "place"), "sftp://there/place")


class TestSftpFiles(FilesContract):
    """The contract."""

    date_step = 1.1

    def test_many_at_once(self, files: SftpFiles) -> None:
        """Hundreds of files come in one call, those that are missing or too large as None."""
        contents = {b"%04x/%d" % (n % 7, n): content(1 + 700 * n, n) for n in range(150)}
        for name, data in contents.items():
            files.write(name, data)
        wanted = [(name, len(data)) for name, data in contents.items()]
        found = files.read_many([*wanted, (b"none", 10), (b"0001/1", 700)])
        assert found == [*contents.values(), None, None]

    @pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, (4 << 20) - 1, 4 << 20, 9_000_001])
    def test_sizes(self, files: SftpFiles, size: int) -> None:
        """Files of any size are written and read whole, in part and in pieces."""
        data = content(size)
        files.write(b"x", data)
        files.sync()
        assert files.read(b"x", size) == data
        assert b"".join(files.pieces(b"x") or ()) == data
        assert files.read_range(b"x", size // 2, 1000) == data[size // 2 :][:1000]
        if size:
            with pytest.raises(FileDamaged):
                files.read(b"x", size - 1)

    def test_directories_are_counted_and_go(self, files: SftpFiles, tmp_path: Path) -> None:
        """A directory goes with its last file; names in other directories are not looked at."""
        for name in (b"0a0a/x", b"0a0a/y", b"0b0b/z", b"other/w"):
            files.write(name, b"1")
        under = re.compile(rb"[0-9a-f]{4}")
        assert files.directories(under) == 2
        assert files.remove(b"0b0b/z") == 1
        assert files.remove(b"0a0a/x") == 1
        assert [listed.name for listed in files.list(under=under)] == [b"0a0a/y"]
        assert files.directories(under) == 1

    def test_what_a_killed_writer_left(self, files: SftpFiles, tmp_path: Path) -> None:
        """Temporary files are removed once they are old."""
        files.write(b"0a0a/x", b"1")
        left = tmp_path / "place" / "0a0a" / "x.0123456789abcdef.tmp"
        left.write_bytes(b"half")
        under = re.compile(rb"[0-9a-f]{4}")
        assert files.clean(under, 0) == 0
        assert files.clean(under, 1 << 62) == 1
        assert [listed.name for listed in files.list()] == [b"0a0a/x"]

    def test_connections_that_break(self, files: SftpFiles, server: Server, tmp_path: Path) -> None:
        """What was under way is done from the beginning over another connection; nothing half-written looks whole."""
        contents = {b"%02x/%d" % (n % 5, n): content(300_000, n) for n in range(40)}
        for name, data in contents.items():
            files.write(name, data)
        channel, broken = server.channel(), []

        def breaking(received: Callable[[Packet], None], packet: Packet) -> None:
            broken.append(packet)
            if len(broken) == 30:
                channel._program._process.kill()  # type: ignore[union-attr]
            received(packet)

        channel._take = partial(breaking, channel._take)  # type: ignore[method-assign]
        wanted = [(name, len(data)) for name, data in contents.items()]
        assert files.read_many(wanted) == list(contents.values())
        assert server.channel() is not channel
        for call in (
            lambda: files.stat(b"00/0"),
            lambda: files.read_range(b"00/0", 5, 9),
            lambda: [*files.list()],
            lambda: files.write(b"00/0", b"new"),
        ):
            server.channel()._program._process.kill()  # type: ignore[union-attr]
            assert call() is not None or files.read(b"00/0", 3) == b"new"
        assert not [*(tmp_path / "place").rglob("*.tmp")]

    def test_a_connection_that_is_ended(self, files: SftpFiles, server: Server) -> None:
        """None is made anew where the run itself told the programs to end."""
        files.write(b"x", b"1")
        end_all()
        with pytest.raises(RemoteError, match=r"ended before all was done|killed by signal 15"):
            files.read(b"x", 9)

    def test_what_the_server_refuses(self, files: SftpFiles, tmp_path: Path) -> None:
        """A file that cannot be written is one error, and leaves nothing behind."""
        (tmp_path / "place" / "x").mkdir(parents=True)
        (tmp_path / "place" / "x" / "y").write_bytes(b"")
        with pytest.raises(RemoteError, match="cannot write x"):
            files.write(b"x", b"1")
        assert os.listdir(tmp_path / "place") == ["x"]


@pytest.fixture
def ours(pair: Pair, sshd: Sshd) -> Tool:  # noqa: F811
    return pair.pycasync.given(CASYNC_SSH_PATH=sshd.ssh)


def test_both_ways(ours: Tool, pair: Pair, forest: Forest, sshd: Sshd, tmp_path: Path) -> None:  # noqa: F811
    """What is written there is what casync makes; what casync made there is read; a second run writes nothing."""
    source, at = forest.get("small"), f"sftp://{sshd.host}{tmp_path}"
    for name in ("x.caidx", "x.catar"):
        assert ours("make", f"{at}/{name}", source) == pair.casync("digest", tmp_path / name)
        pair.casync("make", pair.base / name, source)
        assert (tmp_path / name).read_bytes() == (pair.base / name).read_bytes()
        for verb in ("list", "mtree", "digest"):
            assert ours(verb, f"{at}/{name}") == pair.casync(verb, tmp_path / name)
        ours("extract", f"{at}/{name}", pair.base / f"out-{name}")
        assert_same(snapshot(pair.base / f"out-{name}"), snapshot(source))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.cacnk")}
    ours("make", f"{at}/y.caidx", source)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.cacnk")}


def test_collecting(ours: Tool, pair: Pair, sshd: Sshd, tmp_path: Path) -> None:  # noqa: F811
    """What no index needs is removed there, and the rest stays whole."""
    at = f"sftp://{sshd.host}{tmp_path}"
    for name in ("a", "b"):
        (pair.base / name).write_bytes(content(2 << 20, ord(name)))
        ours("make", f"{at}/{name}.caibx", pair.base / name)
    ours("gc", "--yes", f"{at}/a.caibx")
    ours("extract", f"{at}/a.caibx", pair.base / "out")
    assert (pair.base / "out").read_bytes() == (pair.base / "a").read_bytes()
    assert pair.pycasync.run("verify", tmp_path / "b.caibx").status != 0


def test_desync_reads_and_writes_the_same(
    ours: Tool,
    pair: Pair,
    desync: Tool,
    sshd: Sshd,  # noqa: F811
    tmp_path: Path,
) -> None:
    """desync and we use one store through SFTP."""
    peer, store = desync.given(CASYNC_SSH_PATH=sshd.ssh), f"sftp://{sshd.host}{tmp_path}/s.castr"
    (tmp_path / "s.castr").mkdir()
    (pair.base / "blob").write_bytes(content(2 << 20, 3))
    peer("make", "-s", store, pair.base / "a.caibx", pair.base / "blob")
    ours("extract", f"--store={store}", pair.base / "a.caibx", pair.base / "ours")
    (pair.base / "blob2").write_bytes(content(2 << 20, 4))
    ours("make", f"--store={store}", pair.base / "b.caibx", pair.base / "blob2")
    peer("extract", "-s", store, pair.base / "b.caibx", pair.base / "theirs")
    assert (pair.base / "ours").read_bytes() == (pair.base / "blob").read_bytes()
    assert (pair.base / "theirs").read_bytes() == (pair.base / "blob2").read_bytes()


def test_who_cannot_be_reached(ours: Tool, sshd: Sshd) -> None:  # noqa: F811
    """No key is one line that says so."""
    outcome = ours.run("list", f"sftp://nobody-here@{sshd.host}/x.caidx")
    assert outcome.status == 1
    assert b"Permission denied" in outcome.err
    assert len(outcome.err.splitlines()) == 1
