"""Packed stores keep the contract of stores, and what packs are for: few files, few requests, nothing lost."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from casync_compat.compression import Compression, compress
from casync_compat.errors import ChunkCorrupt, ChunkMissing, FileError
from casync_compat.ids import ChunkId
from casync_compat.store.files import Can, Files, Version
from casync_compat.store.local import LocalFiles
from casync_compat.store.memory import MemoryFiles
from casync_compat.store.packs import filling, repacking
from casync_compat.store.packs.packed import PackedStore
from casync_compat.store.packs.place import BUCKET, LOCAL, PackPlace
from casync_compat.store.packs.ranges import plan
from casync_compat.store.packs.segment import PackedPlace

from .contract import LIMIT, D, PrunableContract, StoreRig

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def chunk(n: int, size: int = 20_000) -> bytes:
    """Bytes that do not compress, the same each time."""
    return random.Random(n).randbytes(size)


def store_in(files: Files, prefix: bytes = BUCKET) -> PackedStore:
    return PackedStore(PackPlace(files, prefix))


class Far(MemoryFiles):
    """Files that are far away, with every request counted.

    :ivar requests: by method
    :ivar ranges: offset and size of each range that was read
    """

    near = False

    def __init__(self, contents: dict[bytes, bytes] | None = None, delay: float = 0.0) -> None:
        super().__init__("far")
        if contents is not None:
            self.contents = contents
        self.delay = delay
        self.requests: Counter[str] = Counter()
        self.ranges: list[tuple[bytes, int, int]] = []

    def read(self, name: bytes, limit: int) -> bytes | None:
        self.requests["read"] += 1
        return super().read(name, limit)

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        self.requests["range"] += 1
        self.ranges.append((name, offset, size))
        time.sleep(self.delay)
        return super().read_range(name, offset, size)

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> Version:
        self.requests["write"] += 1
        return super().write(name, data, if_absent=if_absent, if_version=if_version)


def rig_of(files: Files, prefix: bytes) -> StoreRig:
    store = store_in(files, prefix)

    def fill(raw: bytes) -> ChunkId:
        store.put(D.of(raw), raw)
        return D.of(raw)

    def damage(id: ChunkId, raw: bytes) -> None:
        store.sync()
        place = store.view().find(id)
        assert place is not None
        name = store.place.pack_name(place.pack)
        content = bytearray(files.read(name, 1 << 30) or b"")
        stored = compress(Compression.ZSTD, raw)
        assert len(stored) == place.stored
        content[place.offset : place.offset + place.stored] = stored
        files.write(name, content)

    return StoreRig(store, fill, damage, store)


class TestInMemory(PrunableContract):
    """The contract, in a bucket."""

    @pytest.fixture
    def rig(self) -> StoreRig:
        return rig_of(MemoryFiles(), BUCKET)


class TestInDirectory(PrunableContract):
    """The contract, in a directory."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> StoreRig:
        return rig_of(LocalFiles(os.fsencode(tmp_path / "x.castr"), mode=0o444), LOCAL)


class TestFarAway(PrunableContract):
    """The contract, where reading costs requests."""

    @pytest.fixture
    def rig(self) -> StoreRig:
        return rig_of(Far(), BUCKET)


def put_all(store: PackedStore, raws: Sequence[bytes]) -> list[ChunkId]:
    for raw in raws:
        store.put(D.of(raw), raw)
    store.sync()
    return [D.of(raw) for raw in raws]


def assert_whole(files: Files, raws: Sequence[bytes], prefix: bytes = BUCKET) -> None:
    """Somebody who comes anew finds all these chunks, whichever way he reads."""
    store = store_in(files, prefix)
    assert store.get_many([(D.of(raw), LIMIT) for raw in raws], D) == list(raws)
    assert all(store.has(D.of(raw)) for raw in raws)


# ---- what is written


def test_layout(tmp_path: Path) -> None:
    """Few files with the names that are documented; every file is what its name says, and packs end in a table."""
    directory = tmp_path / "x.castr"
    put_all(store_in(LocalFiles(os.fsencode(directory)), LOCAL), [chunk(n) for n in range(20)])
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    head, segment, pack = files
    assert head == directory / ".pycasync/head"
    assert segment.parent == directory / ".pycasync/index"
    assert pack.parent == directory / ".pycasync/packs" / pack.name[:2]
    for path in (segment, pack):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert sorted(os.listdir(directory)) == [".pycasync"]


def test_packs_are_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks lie in their order in packs of the size said, each once, and a second store reads them."""
    monkeypatch.setattr(filling, "PACK_SIZE", 100_000)
    files = MemoryFiles()
    raws = [chunk(n) for n in range(23)]
    store = store_in(files)
    ids = put_all(store, raws)
    packs = [name for name in files.contents if name.startswith(b"packs/")]
    assert len(packs) == 5
    rows = [row for pack in store.place.pack_files() for row in store.place.table(pack[0])]
    assert sorted(row.id for row in rows) == sorted(ids)
    assert_whole(files, raws)


def test_nothing_is_written_for_what_is_there() -> None:
    """Who puts what another has stored writes nothing at all."""
    files = MemoryFiles()
    raws = [chunk(n) for n in range(10)]
    put_all(store_in(files), raws)
    before = dict(files.contents)
    again = store_in(files)
    assert not any(again.put(D.of(raw), raw).new for raw in raws)
    again.sync()
    assert files.contents == before


def test_segments_are_merged() -> None:
    """A hundred runs leave a handful of segments, and no more files of them than the head names."""
    files = MemoryFiles()
    raws = [chunk(n, 100) for n in range(100)]
    for raw in raws:
        put_all(store_in(files), [raw])
    names = [name for name in files.contents if name.startswith(b"index/")]
    assert len(names) <= 8
    assert len(names) == len(store_in(files).view().segments)
    assert_whole(files, raws)


def test_segments_keep_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No segment gets more packs than it may have; there are more segments then."""
    monkeypatch.setattr(filling, "PACK_SIZE", 1)
    monkeypatch.setattr(filling, "MAX_PACKS", 7)
    files = MemoryFiles()
    raws = [chunk(n, 50) for n in range(40)]
    put_all(store_in(files), raws)
    view = store_in(files).view()
    assert [len(segment.packs) for segment in view.segments.values()] == [7, 7, 7, 7, 7, 5]
    assert_whole(files, raws)


def test_a_long_run_is_in_the_index_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was flushed is there for others, although the run was killed before it synced."""
    monkeypatch.setattr(filling, "PACK_SIZE", 1)
    files = MemoryFiles()
    store = store_in(files)
    raws = [chunk(n, 50) for n in range(70)]
    for raw in raws:
        store.put(D.of(raw), raw)
    store.flush()
    assert_whole(files, raws)


def test_a_pack_that_cannot_be_written_is_told_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails, and no head names what is not there."""
    files = MemoryFiles()
    store = store_in(files)
    monkeypatch.setattr(
        store.place, "write_pack", lambda content: (_ for _ in ()).throw(FileError(b"x", "write", "full"))
    )
    store.put(D.of(b"x"), b"x")
    for _ in range(2):
        with pytest.raises(FileError):
            store.sync()
    assert files.contents == {}


# ---- what is read


def test_a_run_of_chunks_is_read_in_few_ranges() -> None:
    """A thousand chunks that follow one another cost a few requests, asked for in batches as extraction does."""
    files = Far()
    raws = [chunk(n) for n in range(1000)]
    ids = put_all(store_in(files), raws)
    fresh = Far(files.contents)
    store = store_in(fresh)
    for at in range(0, 1000, 10):
        assert store.get_many([(id, LIMIT) for id in ids[at : at + 10]], D) == raws[at : at + 10]
    stored = sum(len(content) for name, content in files.contents.items() if name.startswith(b"packs/"))
    assert sum(fresh.requests.values()) <= 20
    assert sum(size for name, _, size in fresh.ranges if name.startswith(b"packs/")) < 1.05 * stored


def test_scattered_chunks_are_read_alone() -> None:
    """Of chunks that lie far from one another, little more is read than they are."""
    files = Far()
    raws = [chunk(n) for n in range(1000)]
    ids = put_all(store_in(files), raws)
    fresh = Far(files.contents)
    store = store_in(fresh)
    for id in ids[::50]:
        store.get(id, D, LIMIT)
    assert sum(size for name, _, size in fresh.ranges if name.startswith(b"packs/")) < 2 * 20 * 20_000


def test_what_is_asked_for_ahead_is_asked_for_at_once() -> None:
    """Of a place that is eager, ranges are asked for when that is said, and nothing but them."""
    files = Far()
    raws = [chunk(n) for n in range(100)]
    ids = put_all(store_in(files), raws)
    fresh = Far(files.contents)
    fresh.eager = True
    asked: list[tuple[bytes, int, int]] = []
    begin_ranges = fresh.begin_ranges

    def begin(wanted: Sequence[tuple[bytes, int, int]]) -> Callable[[], list[bytes | None]]:
        asked.extend(wanted)
        return begin_ranges(wanted)

    fresh.begin_ranges = begin  # type: ignore[method-assign]
    store = store_in(fresh)
    assert store.eager
    batches = [range(at, at + 10) for at in range(0, 100, 10)]
    waiting = [store.begin([(ids[n], LIMIT) for n in batch], D) for batch in batches]
    packs = sum(name.startswith(b"packs/") for name in files.contents)
    assert len(asked) <= len(batches) + packs
    assert [raw for answers in waiting for raw in answers()] == raws
    stored = sum(len(content) for name, content in files.contents.items() if name.startswith(b"packs/"))
    assert sum(size for _, _, size in asked) <= stored


def test_packs_that_vanish_after_they_were_asked_for() -> None:
    """What was asked for ahead, and is not there any more when it comes, is looked for by the head of then."""
    files = MemoryFiles()
    raws = [chunk(n) for n in range(10)]
    ids = put_all(store_in(files), raws)
    far = Far(files.contents)
    far.eager = True
    reader = store_in(far)
    answers = reader.begin([(id, LIMIT) for id in ids], D)
    collector = store_in(far)
    collector.remove(ids[0])
    collector.repack(force=[pack.sha256 for pack, _ in collector.place.pack_files()])
    for name in [name for name in files.contents if name.startswith(b"packs/")]:
        if name not in [collector.place.pack_name(sha256) for sha256 in collector.view().packs()]:
            far.remove(name)
    with pytest.raises(ChunkMissing):
        answers()
    assert reader.get_many([(id, LIMIT) for id in ids[1:]], D) == raws[1:]


def test_many_threads_read_each_block_once() -> None:
    """Threads that read on together share what is read, and read ahead of one another."""
    files = Far()
    raws = [chunk(n) for n in range(1000)]
    ids = put_all(store_in(files), raws)
    fresh = Far(files.contents, delay=0.01)
    store = store_in(fresh)
    at = iter(range(0, 1000, 10))
    lock, errors = threading.Lock(), []

    def work() -> None:
        try:
            while True:
                with lock:
                    begin = next(at, None)
                if begin is None:
                    return
                wanted = [(id, LIMIT) for id in ids[begin : begin + 10]]
                assert store.get_many(wanted, D) == raws[begin : begin + 10]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert fresh.requests["range"] <= 30


def test_without_ranges_packs_are_read_whole() -> None:
    """A place without ranges can be read all the same, each pack once."""
    files = MemoryFiles()
    raws = [chunk(n) for n in range(100)]
    ids = put_all(store_in(files), raws)
    fresh = Far(files.contents)
    fresh.can = Can.NOTHING
    store = store_in(fresh)
    assert [store.get(id, D, LIMIT) for id in ids] == raws
    assert fresh.requests == {"read": 3}


def test_plan() -> None:
    """Gaps up to 64 KiB are read along, ranges have at most 8 MiB."""
    a, b = b"a" * 32, b"b" * 32
    assert plan([PackedPlace(a, 0, 10, 1), PackedPlace(a, 65546, 10, 1), PackedPlace(b, 0, 5, 1)]) == [
        (a, 0, 65556),
        (b, 0, 5),
    ]
    assert plan([PackedPlace(a, 0, 10, 1), PackedPlace(a, 65547, 10, 1)]) == [(a, 0, 10), (a, 65547, 65557)]
    large = [PackedPlace(a, n << 20, 1 << 20, 1) for n in range(20)]
    assert [end - begin for _, begin, end in plan(large)] == [8 << 20, 8 << 20, 4 << 20]


def test_what_others_store_meanwhile_is_found() -> None:
    """A reader that has the index looks at it again before it says that a chunk is missing."""
    files = MemoryFiles()
    put_all(store_in(files), [chunk(0)])
    reader = store_in(files)
    assert reader.get(D.of(chunk(0)), D, LIMIT) == chunk(0)
    put_all(store_in(files), [chunk(1)])
    reader._looked -= 10
    assert reader.get(D.of(chunk(1)), D, LIMIT) == chunk(1)


def test_a_pack_that_moved_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader with an old index finds what a collection has moved, one by one and many together."""
    files = MemoryFiles()
    raws = [chunk(n) for n in range(30)]
    ids = put_all(store_in(files), raws)
    one, many = store_in(files), store_in(files)
    for reader in (one, many):
        assert reader.has(ids[0])
    gc = store_in(files)
    for id in ids[:25]:
        gc.remove(id)
    gc.repack()
    assert one.get(ids[29], D, LIMIT) == raws[29]
    assert many.get_many([(id, LIMIT) for id in ids[25:]], D) == raws[25:]
    with pytest.raises(ChunkMissing):
        one.get(ids[0], D, LIMIT)


# ---- collecting


def test_packs_of_little_use_go() -> None:
    """A pack of which a tenth lives is written anew; what it took is free, and all that lives is there."""
    files = MemoryFiles()
    raws = [chunk(n) for n in range(50)]
    store = store_in(files)
    ids = put_all(store, raws)
    before = sum(map(len, files.contents.values()))
    told = sum(store.remove(id) for id in ids[5:])
    freed = told + store.repack()
    after = sum(map(len, files.contents.values()))
    assert after < 0.15 * before
    assert abs(before - after - freed) < 5000
    assert_whole(files, raws[:5])
    assert list(store_in(files).ids()) == sorted(ids[:5])


def test_packs_that_mostly_live_stay() -> None:
    """Little garbage costs no rewriting: its rows go, the pack stays."""
    files = MemoryFiles()
    raws = [chunk(n) for n in range(50)]
    store = store_in(files)
    ids = put_all(store, raws)
    packs = {name for name in files.contents if name.startswith(b"packs/")}
    for id in ids[:5]:
        store.remove(id)
    store.repack()
    assert {name for name in files.contents if name.startswith(b"packs/")} == packs
    assert list(store_in(files).ids()) == sorted(ids[5:])


def test_small_packs_are_put_together() -> None:
    """Many runs that stored little leave one pack after a collection, though nothing was garbage."""
    files = MemoryFiles()
    raws = [chunk(n, 1000) for n in range(30)]
    for raw in raws:
        put_all(store_in(files), [raw])
    store_in(files).repack()
    assert sum(name.startswith(b"packs/") for name in files.contents) == 1
    assert_whole(files, raws)


def test_a_damaged_chunk_keeps_its_pack() -> None:
    """What cannot be moved as it should be stays where it is, for whoever can mend it; the rest is there, too."""
    files = MemoryFiles()
    raws = [chunk(n) for n in range(50)]
    store = store_in(files)
    ids = put_all(store, raws)
    place = store.view().find(ids[1])
    assert place is not None
    name = store.place.pack_name(place.pack)
    content = bytearray(files.contents[name])
    content[place.offset + 100] ^= 1
    files.contents[name] = bytes(content)
    for id in ids[5:]:
        store.remove(id)
    store.repack()
    assert name in files.contents
    assert_whole(files, [raws[0], *raws[2:5]])
    with pytest.raises(ChunkCorrupt):
        store_in(files).get(ids[1], D, LIMIT)


def test_far_away_packs_go_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that readers may still look for stay ten minutes, are listed meanwhile, and go with the next collection."""
    files = Far()
    store = store_in(files)
    ids = put_all(store, [chunk(n) for n in range(10)])
    for id in ids:
        store.remove(id)
    store.repack()
    assert len(store.view().head.removed) == 1
    assert any(name.startswith(b"packs/") for name in files.contents)
    store_in(files).repack()
    assert any(name.startswith(b"packs/") for name in files.contents)
    monkeypatch.setattr(repacking, "_GRACE", -1)
    store_in(files).repack()
    assert sorted(files.contents) == [b"head"]
    assert store_in(files).view().head.removed == ()


def test_a_pack_that_is_written_again_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The very pack that was removed, stored once more before its file went, is not removed after all."""
    files = Far()
    raws = [chunk(n) for n in range(10)]
    store = store_in(files)
    for id in put_all(store, raws):
        store.remove(id)
    store.repack()
    put_all(store_in(files), raws)
    monkeypatch.setattr(repacking, "_GRACE", -1)
    store_in(files).repack()
    assert_whole(files, raws)


def test_leftovers_go_after_a_day() -> None:
    """What killed runs wrote, and no head names, is removed when it is old enough, and not before."""
    files = MemoryFiles()
    raws = [chunk(n) for n in range(3)]
    put_all(store_in(files), raws)
    place = store_in(files).place
    place.write_pack(b"nobody's")
    files.write(place.segment_name(bytes(32)), b"nobody's")
    store = store_in(files)
    assert store.clean(time.time_ns() - 10**12) == 0
    assert store.clean(time.time_ns() + 1) == 2
    assert_whole(files, raws)


def test_a_writer_finds_out_that_what_it_relied_on_went() -> None:
    """A chunk that was there, and was collected before the run was done, is an error and no silent loss."""
    files = MemoryFiles()
    raws = [chunk(n) for n in range(10)]
    ids = put_all(store_in(files), raws)
    writer = store_in(files)
    assert not writer.put(ids[0], raws[0]).new
    gc = store_in(files)
    gc.remove(ids[0])
    gc.repack()
    with pytest.raises(ChunkMissing):
        writer.sync()
