"""Stores, indexes and archives where another casync is: a scripted one, started in place of ssh."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from casync_compat.chunker import ChunkSizes
from casync_compat.compression import Compression, compress
from casync_compat.errors import CasyncError, ChunkCorrupt, ChunkMissing, RemoteError, UsageError
from casync_compat.ids import ChunkId
from casync_compat.index import IndexBuilder
from casync_compat.locations.peers import SshWay
from casync_compat.store.files import FileDamaged
from casync_compat.store.peer import Peer, PeerFiles, PeerStore

from .contract import LIMIT, D, Rig, SourceContract, text

SCRIPT = Path(__file__).parents[1] / "scriptedpeer.py"


Children = Callable[[], list[str]]


@pytest.fixture
def children() -> Children:
    """Processes of this test's that run, or wait to be looked at."""

    def all_of_us() -> list[str]:
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()

    before = all_of_us()
    return lambda: [one for one in all_of_us() if one not in before]


@pytest.fixture
def ssh(tmp_path: Path) -> str:
    """What is started in place of ssh."""
    path = tmp_path / "ssh"
    root = Path(__file__).parents[2]
    path.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} {SCRIPT} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def begin(ssh: str) -> Iterator[Callable[..., Peer]]:
    """Begins with a casync that has a fault."""
    peers = []

    def begin(fault: str = "well", **options: object) -> Peer:
        peers.append(Peer(SshWay(fault, ssh=ssh), **options))  # type: ignore[arg-type]
        return peers[-1]

    yield begin
    for peer in peers:
        peer.close()


def filled(directory: Path, count: int = 5) -> list[ChunkId]:
    """A store of the scripted kind."""
    directory.mkdir(exist_ok=True)
    ids = []
    for number in range(count):
        raw = text(1000, number)
        ids.append(D.of(raw))
        stored = raw if number % 2 else compress(Compression.ZSTD, raw)
        (directory / str(ids[-1])).write_bytes(stored)
    return ids


def index_of(count: int) -> bytes:
    """The index of such a store."""
    builder = IndexBuilder(0xB000000000000000, ChunkSizes(256, 1024, 4096))
    for number in range(count):
        builder.append(D.of(text(1000, number)), 1000)
    return builder.build().to_bytes()


class TestPeerStore(SourceContract):
    """The contract for reading."""

    @pytest.fixture
    def rig(self, begin: Callable[..., Peer], tmp_path: Path) -> Rig:
        directory = tmp_path / "chunks"
        directory.mkdir()

        def fill(raw: bytes) -> ChunkId:
            (directory / str(D.of(raw))).write_bytes(compress(Compression.ZSTD, raw))
            return D.of(raw)

        def damage(id: ChunkId, raw: bytes) -> None:
            (directory / str(id)).write_bytes(compress(Compression.ZSTD, raw))

        return Rig(PeerStore(begin(), str(directory), "well:chunks"), fill, damage)


def test_many_chunks_at_once(begin: Callable[..., Peer], tmp_path: Path) -> None:
    """Several chunks come with one request, in their order, a repeated one too; a missing one is named."""
    ids = filled(tmp_path / "c", 40)
    store = PeerStore(begin(), str(tmp_path / "c"), "well:c")
    wanted = [(id, LIMIT) for id in (*reversed(ids), ids[0])]
    assert store.get_many(wanted, D) == [text(1000, n) for n in (*reversed(range(40)), 0)]
    with pytest.raises(ChunkMissing, match="is missing from well:c"):
        store.get_many([(ids[0], LIMIT), (D.of(b"none"), LIMIT)], D)
    assert store.get(ids[1], D, LIMIT) == text(1000, 1)


def test_chunks_that_come_again(begin: Callable[..., Peer], tmp_path: Path, children: Children) -> None:
    """casync sends a chunk once in a conversation; whoever needs it again gets it all the same, with one more."""
    ids = filled(tmp_path / "c", 6)
    store = PeerStore(begin(), str(tmp_path / "c"), "well:c")
    for _ in range(4):
        assert store.get_many([(id, LIMIT) for id in ids], D) == [text(1000, n) for n in range(6)]
        assert not store.has(D.of(b"none"))
    assert len(children()) == 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("banner", r"this is no message of casync's protocol: Welcome to example.org\\r\\n"),
        ("unreachable", "Connection refused"),
        ("no-casync", "the program to speak with was not found there"),
        ("other-terms", "it does not offer what is wanted"),
        ("abort", "the disk is on fire"),
        ("die", "the program there ended before all was done"),
        ("kill", "the program there"),
        ("half", "it ends within a message"),
        ("unasked", "which nobody asked for"),
        ("mute", "nothing was heard from there for 1 seconds"),
        ("stall", "nothing was heard from there for 1 seconds"),
    ],
)
def test_faults(
    begin: Callable[..., Peer], tmp_path: Path, children: Children, fault: str, says: str
) -> None:
    """Whatever the other end does wrong is one line that names it, and nothing hangs or is left running."""
    ids = filled(tmp_path / "c")
    peer = begin(fault, silence=1 if fault in ("mute", "stall") else None)
    store = PeerStore(peer, str(tmp_path / "c"), "x:c")
    with pytest.raises(RemoteError, match=says) as caught:
        store.get_many([(id, LIMIT) for id in ids], D)
    assert str(caught.value).startswith(f"{fault}: cannot ")
    assert "\n" not in str(caught.value)
    peer.close()
    del store, peer
    gc.collect()
    assert not children()


def test_chunk_that_is_too_large(begin: Callable[..., Peer], tmp_path: Path) -> None:
    """More than a chunk may have is not kept, and is damage."""
    store = PeerStore(begin("huge"), str(tmp_path), "huge:c")
    with pytest.raises(ChunkCorrupt):
        store.get(D.of(b"x"), D, LIMIT)


def test_program_that_is_not_there() -> None:
    """Where ssh is not installed, the message names what was looked for."""
    with pytest.raises(RemoteError, match="/no/such/ssh: No such file"):
        PeerStore(Peer(SshWay("h", ssh="/no/such/ssh")), "/c", "h:/c").get(D.of(b""), D, 1)


def files_of(peer: Peer, directory: Path, store: str | None = None) -> PeerFiles:
    return PeerFiles(peer, f"well:{directory}", before=f"{directory}/", store=store)


@pytest.mark.parametrize("name", [b"x.caidx", b"x.caibx", b"x.catar"])
def test_reading_files(begin: Callable[..., Peer], tmp_path: Path, name: bytes) -> None:
    """An index or an archive comes as it is, in pieces too; what is not there is None."""
    content = text(100_000)
    (tmp_path / name.decode()).write_bytes(content)
    for store in (None, str(tmp_path / "c")):
        files = files_of(begin(), tmp_path, store)
        assert files.read(name, len(content)) == content
        assert b"".join(files.pieces(name) or ()) == content
        assert files.read_range(name, 10, 20) == content[10:30]
        assert files.read(b"none-" + name, 10) is None
        assert files.pieces(b"none-" + name) is None
        with pytest.raises(FileDamaged, match="more than the 99999 bytes"):
            files.read(name, 99_999)


def test_one_conversation_for_index_and_chunks(
    begin: Callable[..., Peer], tmp_path: Path, children: Children
) -> None:
    """Chunks come through the connection that the index came through."""
    ids = filled(tmp_path / "c")
    (tmp_path / "x.caidx").write_bytes(index_of(5))
    peer = begin()
    assert files_of(peer, tmp_path, str(tmp_path / "c")).read(b"x.caidx", 1 << 20) == index_of(5)
    assert PeerStore(peer, str(tmp_path / "c"), "c").get(ids[0], D, LIMIT) == text(1000, 0)
    assert len(children()) == 1


def test_index_that_breaks_off(begin: Callable[..., Peer], tmp_path: Path) -> None:
    """Half an index is none: the last words from there say why, those before are passed on, escaped."""
    (tmp_path / "x.caidx").write_bytes(index_of(5))
    heard: list[str] = []
    with pytest.raises(RemoteError, match=r"cut: cannot read x.caidx: out of memory"):
        files_of(begin("cut", on_line=heard.append), tmp_path).read(b"x.caidx", 1 << 20)
    assert heard == ["warn\\x1bing"]


def test_endless_index(begin: Callable[..., Peer], tmp_path: Path) -> None:
    """An index without an end is given up at the limit."""
    (tmp_path / "x.caidx").write_bytes(b"x")
    with pytest.raises(FileDamaged):
        files_of(begin("endless"), tmp_path).read(b"x.caidx", 4 << 20)


def test_push(begin: Callable[..., Peer], tmp_path: Path) -> None:
    """Chunks that are put go with their index; those that are there already are not sent again."""
    for _ in range(2):
        peer = begin()
        files = files_of(peer, tmp_path)
        files.expect(b"x.caidx")
        store = PeerStore(peer, str(tmp_path / "c"), "well:c")
        for number in range(5):
            raw = text(1000, number)
            assert store.put(D.of(raw), raw).new
            assert not store.put(D.of(raw), raw).new
        store.sync()
        files.write(b"x.caidx", index_of(5))
        assert (tmp_path / "x.caidx").read_bytes() == index_of(5)
        assert len(os.listdir(tmp_path / "c")) == 5
        assert store.get(D.of(text(1000, 3)), D, LIMIT) == text(1000, 3)


@pytest.mark.parametrize("name", [b"x.catar", b"x.caidx"])
def test_push_without_chunks(begin: Callable[..., Peer], tmp_path: Path, name: bytes) -> None:
    """An archive, or an index whose chunks are elsewhere, is written as it is."""
    content = text(300_000)
    files_of(begin(), tmp_path).write(name, content)
    assert (tmp_path / name.decode()).read_bytes() == content


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("forgets-the-index", "No such file|the index there afterwards is not the one"),
        ("goodbye-at-once", "No such file|the index there afterwards is not the one"),
        ("drops", "was sent and is not there"),
        ("asks-for-more", "asks for chunk 3f3f3f3f"),
        ("fails-late", "No space left on device"),
    ],
)
def test_push_that_fails(begin: Callable[..., Peer], tmp_path: Path, fault: str, says: str) -> None:
    """What did not arrive is found out, although the other end said goodbye as if all were well."""
    peer = begin(fault)
    files = files_of(peer, tmp_path)
    files.expect(b"x.caidx")
    store = PeerStore(peer, str(tmp_path / "c"), "c")
    store.put(D.of(text(1000, 0)), text(1000, 0))
    with pytest.raises(CasyncError, match=says):
        files.write(b"x.caidx", index_of(1))


def test_chunks_without_their_index(begin: Callable[..., Peer], tmp_path: Path, children: Children) -> None:
    """casync loses chunks that are pushed without an index; here they are refused before anything is done."""
    store = PeerStore(begin(), str(tmp_path / "c"), "well:c")
    with pytest.raises(UsageError, match="only together with their index"):
        store.put(D.of(b"x"), b"x")
    assert not children()


def test_what_cannot_be_done(begin: Callable[..., Peer], tmp_path: Path) -> None:
    """Listing and removing say that they cannot be."""
    store, files = PeerStore(begin(), "/c", "well:/c"), files_of(begin(), tmp_path)
    for call in (store.ids, lambda: store.remove(D.of(b"")), files.list, lambda: files.remove(b"x")):
        with pytest.raises(UsageError, match="casync's protocol cannot"):
            call()
