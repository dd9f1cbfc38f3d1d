"""Stores with packs, with chunk files, and with both: whatever has a chunk gives it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from casync_compat.compression import Compression
from casync_compat.errors import ChunkCorrupt, ChunkMissing, UsageError
from casync_compat.ids import ChunkId
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import Can, Files
from casync_compat.store.local import LocalStore
from casync_compat.store.memory import MemoryFiles
from casync_compat.store.packs.layout import StoreLayout
from casync_compat.store.packs.mixed import MixedLocalStore, MixedStore, Mixing
from casync_compat.store.packs.packed import PackedStore
from casync_compat.store.packs.place import BUCKET, LOCAL, PackPlace
from casync_compat.verbs.layout import explode_store, pack_store, rebuild_store

from .contract import LIMIT, D, PrunableContract, StoreRig
from .test_packed import Far, chunk, rig_of

PACKS, OBJECTS = StoreLayout.PACKS, StoreLayout.OBJECTS


def local(path: Path, wanted: StoreLayout | None = None) -> MixedLocalStore:
    return MixedLocalStore.at(os.fsencode(path), Mixing(wanted), Compression.ZSTD, b".cacnk")


def bucket(files: Files, wanted: StoreLayout | None = None, usual: StoreLayout = PACKS) -> MixedStore:
    return MixedStore(files).mixed(Mixing(wanted, usual, BUCKET))


class TestPacksInDirectory(PrunableContract):
    """The contract, for a directory that gets packs."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> StoreRig:
        store = local(tmp_path / "x.castr", PACKS)
        damage = rig_of(LocalStore(tmp_path / "x.castr").files, LOCAL).damage

        def fill(raw: bytes) -> ChunkId:
            store.put(D.of(raw), raw)
            return D.of(raw)

        def damaged(id: ChunkId, raw: bytes) -> None:
            store.sync()
            damage(id, raw)

        return StoreRig(store, fill, damaged, store)


class TestObjectsInBucket(PrunableContract):
    """The contract, for a bucket that gets an object a chunk, as it has them already."""

    @pytest.fixture
    def rig(self) -> StoreRig:
        files = Far()
        store = bucket(files, OBJECTS)

        def fill(raw: bytes) -> ChunkId:
            store.put(D.of(raw), raw)
            return D.of(raw)

        def damage(id: ChunkId, raw: bytes) -> None:
            plain, packed = store.forms(id)
            files.remove(packed.name)
            files.write(plain.name, raw)

        return StoreRig(store, fill, damage, store)


@pytest.mark.parametrize(
    ("there", "wanted", "usual", "written"),
    [
        (None, None, PACKS, PACKS),
        (None, None, OBJECTS, OBJECTS),
        (None, OBJECTS, PACKS, OBJECTS),
        (None, PACKS, OBJECTS, PACKS),
        (OBJECTS, None, PACKS, OBJECTS),
        (OBJECTS, OBJECTS, PACKS, OBJECTS),
        (PACKS, None, OBJECTS, PACKS),
        (PACKS, PACKS, OBJECTS, PACKS),
        (OBJECTS, PACKS, OBJECTS, "store pack"),
        (PACKS, OBJECTS, PACKS, "store explode"),
    ],
)
def test_new_chunks_are_written_as_those_that_are_there(
    there: StoreLayout | None, wanted: StoreLayout | None, usual: StoreLayout, written: StoreLayout | str
) -> None:
    """An empty store gets what is said, or usual; what is said against what is there names the way to change it."""
    files = MemoryFiles()
    if there is not None:
        before = bucket(files, there)
        before.put(D.of(b"before"), b"before")
        before.sync()
    store = bucket(files, wanted, usual)
    if isinstance(written, str):
        with pytest.raises(UsageError, match=written):
            store.put(D.of(b"new"), b"new")
        return
    store.put(D.of(b"new"), b"new")
    store.sync()
    assert store.layout() is written
    assert any(name.endswith(b".cacnk") for name in files.contents) is (written is OBJECTS)
    assert (b"head" in files.contents) is (written is PACKS)


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A store with chunks 0 to 9 in packs and 5 to 14 in files."""
    path = tmp_path / "x.castr"
    packed = local(path, PACKS)
    for n in range(10):
        packed.put(D.of(chunk(n)), chunk(n))
    packed.sync()
    plain = LocalStore(path)
    for n in range(5, 15):
        plain.put(D.of(chunk(n)), chunk(n))
    return path


def test_both_are_read(both: Path) -> None:
    """Each chunk is found once, whichever way it is asked for."""
    store = local(both)
    ids = [D.of(chunk(n)) for n in range(15)]
    assert list(store.ids()) == sorted(ids)
    assert [store.get(id, D, LIMIT) for id in ids] == [chunk(n) for n in range(15)]
    assert store.get_many([(id, LIMIT) for id in ids], D) == [chunk(n) for n in range(15)]
    assert all(store.has(id) and store.keep(id) for id in ids)
    assert not any(store.put(D.of(chunk(n)), chunk(n)).new for n in range(15))
    missing = D.of(b"never")
    with pytest.raises(ChunkMissing):
        store.get_many([(ids[0], LIMIT), (missing, LIMIT)], D)
    found = store.find_many([(ids[14], LIMIT), (missing, LIMIT)], D)
    assert found[0] == chunk(14)
    assert isinstance(found[1], ChunkMissing)


def test_the_other_form_stands_in(both: Path) -> None:
    """A chunk that is damaged in its pack is taken from its file; the damage is told when there is none."""
    for path in (both / ".pycasync/packs").rglob("*/*"):
        content = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(bytes(len(content)))
    store = local(both)
    assert [store.get(D.of(chunk(n)), D, LIMIT) for n in range(5, 15)] == [chunk(n) for n in range(5, 15)]
    with pytest.raises(ChunkCorrupt, match="packs/"):
        store.get(D.of(chunk(0)), D, LIMIT)


def test_removed_from_both(both: Path) -> None:
    """A chunk that is removed is in neither."""
    store = local(both)
    for n in range(14):
        store.remove(D.of(chunk(n)))
    store.repack()
    assert list(local(both).ids()) == [D.of(chunk(14))]
    assert list((both / ".pycasync/packs").rglob("*/*")) == []


def test_packed_and_exploded(both: Path) -> None:
    """All chunks go into packs, and come out again as files that any program reads; nothing else is left."""
    ids = sorted(D.of(chunk(n)) for n in range(15))
    assert pack_store(local(both)).moved == 10
    assert list(LocalStore(both).ids()) == []
    assert list(local(both).ids()) == ids
    assert explode_store(local(both)).moved == 15
    assert list(LocalStore(both).ids()) == ids
    assert not (both / ".pycasync").exists()
    for n in range(15):
        assert LocalStore(both).get(D.of(chunk(n)), D, LIMIT) == chunk(n)


def test_order_in_packs_is_that_of_the_files(tmp_path: Path) -> None:
    """Chunks lie in packs in the order in which their files were written, which is that of their index."""
    path = tmp_path / "x.castr"
    store = LocalStore(path)
    for n in range(20):
        store.put(D.of(chunk(n)), chunk(n))
        file = path / D.of(chunk(n)).hex()[:4] / f"{D.of(chunk(n)).hex()}.cacnk"
        os.utime(file, ns=(n * 10**9, n * 10**9))
    pack_store(local(path))
    packs = local(path).packs()
    assert packs is not None
    assert [id for ids in packs.in_packs(7) for id in ids] == [D.of(chunk(n)) for n in range(20)]


def test_damaged_chunks_stay_where_they_are(both: Path) -> None:
    """Neither verb moves what is damaged, nor loses it; it is told, and all else is moved."""
    told: list[str] = []
    id = D.of(chunk(12))
    file = both / id.hex()[:4] / f"{id.hex()}.cacnk"
    file.chmod(0o644)
    file.write_bytes(b"damaged")
    done = pack_store(local(both), tell=told.append)
    assert (done.moved, done.left) == (9, 1)
    assert id.hex() in told[0]
    assert file.exists()
    (pack,) = (path for path in (both / ".pycasync/packs").rglob("*/*") if path.stat().st_size > 190_000)
    content = bytearray(pack.read_bytes())
    content[50] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(content)
    done = explode_store(local(both), tell=told.append)
    assert (done.moved, done.left) == (13, 1)
    assert (both / ".pycasync/head").exists()
    assert list(LocalStore(both).ids()) == sorted(D.of(chunk(n)) for n in range(1, 15))


def test_a_damaged_file_beside_a_good_pack(both: Path) -> None:
    """A chunk that is in both is taken out of its pack only when its file is whole, or made whole."""
    for n in range(5):
        assert local(both).has(D.of(chunk(n)))
    packs = local(both).packs()
    assert packs is not None
    packed = [n for n in range(15) if packs.has(D.of(chunk(n)))]
    for n, content in zip(packed, (b"", b"damaged"), strict=False):
        path = both / D.of(chunk(n)).hex()[:4] / f"{D.of(chunk(n)).hex()}.cacnk"
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    assert explode_store(local(both)).left == 0
    for n in range(15):
        assert LocalStore(both).get(D.of(chunk(n)), D, LIMIT) == chunk(n)


def test_a_good_file_beside_a_damaged_pack(tmp_path: Path) -> None:
    """The file goes only when a pack has the chunk whole."""
    path = tmp_path / "x.castr"
    store = local(path, PACKS)
    for n in range(6):
        store.put(D.of(chunk(n)), chunk(n))
    store.sync()
    (pack,) = (each for each in (path / ".pycasync/packs").rglob("*/*") if each.is_file())
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(content)
    for n in range(6):
        LocalStore(path).put(D.of(chunk(n)), chunk(n))
    assert pack_store(local(path)).moved == 6
    assert list(LocalStore(path).ids()) == []
    for n in range(6):
        assert local(path).get(D.of(chunk(n)), D, LIMIT) == chunk(n)


class Killed(BaseException):
    """The end of a run."""


class Dying(MemoryFiles):
    """Files whose user dies at a certain change."""

    def __init__(self, contents: dict[bytes, bytes], changes: int) -> None:
        super().__init__()
        self.contents = contents
        self.left = changes

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    def write(self, name: bytes, data: object, **how: object):  # type: ignore[no-untyped-def, override]
        self._step()
        return super().write(name, data, **how)  # type: ignore[arg-type]

    def remove(self, name: bytes) -> int:
        self._step()
        return super().remove(name)


@pytest.mark.parametrize("verb", [pack_store, explode_store])
def test_killed_at_any_change(verb: Callable[[MixedStore], object]) -> None:
    """Wherever a run dies, every chunk is there; and the next run brings it to its end."""
    raws = [chunk(n, 300) for n in range(8)]
    start = MemoryFiles()
    first = bucket(start, OBJECTS if verb is pack_store else PACKS)
    for raw in raws:
        first.put(D.of(raw), raw)
    first.sync()
    deaths = 0
    for changes in range(1, 100):
        dying = Dying(dict(start.contents), changes)
        try:
            verb(bucket(dying))
        except Killed:
            deaths += 1
        dying.left = 0
        for raw in raws:
            assert bucket(dying).get(D.of(raw), D, LIMIT) == raw
        for name in [name for name in dying.contents if name.startswith(b".pycasync/")]:
            dying.remove(name)  # the lock of a dead run, which the next would wait for
        verb(bucket(dying))
        chunks, packs = list(ChunkStore(dying).ids()), list(PackedStore(PackPlace(dying)).ids())
        ids = sorted(D.of(raw) for raw in raws)
        assert (chunks, packs) == (([], ids) if verb is pack_store else (ids, []))
        if dying.left < 0 and deaths < changes:
            break
    assert deaths > 10


def test_index_made_anew(both: Path) -> None:
    """Without its head, or with a damaged one, a store has all its chunks again after a rebuild, and goes on."""
    head = both / ".pycasync/head"
    for damage in (head.unlink, lambda: head.write_bytes(b"damaged")):
        if head.exists():
            head.chmod(0o644)
        damage()
        assert rebuild_store(local(both)) == 10
        store = local(both)
        assert store.get(D.of(chunk(0)), D, LIMIT) == chunk(0)
        store.put(D.of(b"another"), b"another")
        store.sync()
        store.remove(D.of(b"another"))
        store.repack()


def test_a_web_server_is_asked_once() -> None:
    """Where nothing can be listed or written, packs are found by their head, and one look is enough."""
    files = Far()
    store = bucket(files)
    for n in range(20):
        store.put(D.of(chunk(n)), chunk(n))
    store.sync()
    web = Far(files.contents)
    web.can = Can.RANGE
    reader = bucket(web, usual=OBJECTS)
    assert not reader.eager
    assert [reader.get(D.of(chunk(n)), D, LIMIT) for n in range(20)] == [chunk(n) for n in range(20)]
    assert web.requests["read"] == 3  # both heads, and the segment
