"""Packs: chunks in the order of their use, found again by range, with as few requests as make sense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from test_oci.fake_registry import FakeRegistry
from test_oci.images import blob_file, flip, layout_at, noise

from casync_compat.compression import Compression, decompress
from casync_compat.errors import ChunkCorrupt, ChunkMissing, StoreError
from casync_compat.ids import ChunkId, Digest
from casync_compat.net.http import TransportError
from casync_compat.oci.image import packwriter
from casync_compat.oci.image.chunkspool import ChunkSpool
from casync_compat.oci.image.packsource import PackSource, plan_fetches
from casync_compat.oci.image.packview import PackView
from casync_compat.oci.image.packwriter import BasePacks, Packed, pack_size, write_packs
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing
from casync_compat.oci.spec.packindex import ChunkPlace, PackIndex, PackRow, pack_table, parse_pack_table
from casync_compat.spool import Spool
from casync_compat.store.memory import MemoryStore

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

DIGEST = Digest.SHA512_256
CHUNKS = [noise(3000 + n, n) for n in range(40)]
IDS = [DIGEST.of(chunk) for chunk in CHUNKS]
BY_ID = dict(zip(IDS, CHUNKS, strict=True))


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    with layout_at(tmp_path / "layout") as found:
        yield found


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packwriter, "PACK_SIZE", 10_000)


def pack(
    layout: Layout, ids: list[ChunkId], base: BasePacks | None = None, order: int = 1, repack: bool = False
) -> Packed:
    """Put chunks into packs; they come to the spool in another order."""
    with ChunkSpool(Compression.ZSTD, lambda id_: base is not None and base.chunks.has(id_)) as spool:
        for id_ in ids[::order]:
            spool.put(id_, BY_ID[id_])
        return write_packs(ids, spool, layout, digest=DIGEST, base=base, repack=repack)


def base_of(layout: Layout, packed: Packed) -> BasePacks:
    return BasePacks(layout, packed.packs, PackSource(layout, packed.packs, packed.index))


def read_all(layout: Layout, packed: Packed) -> dict[ChunkId, bytes]:
    source = PackSource(layout, packed.packs, packed.index)
    return {id_: source.get(id_, DIGEST, 1 << 20) for id_, _ in packed.index}


@pytest.mark.usefixtures("small_packs")
def test_the_order_of_use_decides(layout: Layout, tmp_path: Path) -> None:
    """Packs are the same in whatever order chunks arrived, and hold them in the order of their use, each once."""
    packed = pack(layout, [*IDS, *IDS[:5]])
    with layout_at(tmp_path / "other") as other:
        again = pack(other, [*IDS, *IDS[:5]], order=-1)
    assert (again.packs, again.index.raw) == (packed.packs, packed.index.raw)
    assert len(packed.packs) > 8
    assert packed.new == packed.packs
    rows = []
    for one in packed.packs:
        data = layout.read(one)
        found = parse_pack_table(data, len(data), "x")
        rows += [row.id for row in found]
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            assert reader.read() == b"".join(BY_ID[row.id] for row in found)
    assert rows == IDS
    assert read_all(layout, packed) == BY_ID


def test_pack_sizes() -> None:
    """Packs have 16 MiB, and more in powers of two where there would be too many."""
    assert pack_size(1) == 16 << 20
    assert pack_size(64 << 24) == 16 << 20
    assert pack_size((64 << 24) + 1) == 32 << 20
    assert pack_size(1 << 40) == 16 << 30
    assert pack_size(1 << 40, 8) == 128 << 30


@pytest.mark.usefixtures("small_packs")
def test_thin_packs(layout: Layout) -> None:
    """With a base only new chunks are written; packs of the base that are used are listed again."""
    old = pack(layout, IDS[:30])
    new = pack(layout, [*IDS[:30], *IDS[30:33]], base_of(layout, old))
    assert new.kept == old.packs
    assert len(new.new) == 1
    assert new.packs == (*old.packs, *new.new), "in the order of their first use"
    assert read_all(layout, new) == {id_: BY_ID[id_] for id_ in IDS[:33]}
    ahead = pack(layout, [*IDS[30:33], *IDS[:30]], base_of(layout, old))
    assert ahead.packs == (*ahead.new, *old.packs)
    same = pack(layout, IDS[:30], base_of(layout, old))
    assert (same.packs, same.index.raw, same.new) == (old.packs, old.index.raw, ())


@pytest.mark.usefixtures("small_packs")
def test_dead_packs_are_dropped(layout: Layout) -> None:
    """A pack of which less than half is still in use is not kept: what lives in it moves, without compressing anew."""
    old = pack(layout, IDS[:8])
    assert [len(parse_pack_table(layout.read(one), one.size, "x")) for one in old.packs] == [4, 4]
    new = pack(layout, [IDS[0], *IDS[4:8]], base_of(layout, old))
    assert new.kept == old.packs[1:]
    assert read_all(layout, new) == {id_: BY_ID[id_] for id_ in (IDS[0], *IDS[4:8])}
    kept = pack(layout, [*IDS[:3], *IDS[4:8]], base_of(layout, old))
    assert kept.packs == old.packs


@pytest.mark.usefixtures("small_packs")
def test_too_many_packs(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """When an image would have too many packs, all are written anew."""
    old = pack(layout, IDS)
    monkeypatch.setattr(packwriter, "MOST_PACKS", 5)
    monkeypatch.setattr(packwriter, "PACK_SIZE", 100_000)
    new = pack(layout, IDS, base_of(layout, old))
    assert len(new.packs) == 2
    assert not new.kept
    assert read_all(layout, new) == BY_ID


def test_repacking_checks(layout: Layout) -> None:
    """A damaged chunk does not move to a new pack."""
    old = pack(layout, IDS)
    flip(blob_file(layout, old.packs[0]), 5000)
    with pytest.raises(StoreError):
        pack(layout, IDS, base_of(layout, old), repack=True)


def test_other_compressions(layout: Layout) -> None:
    """Chunks may be xz or gzip as well; each says itself what it is."""
    for kind in (Compression.XZ, Compression.GZIP):
        with ChunkSpool(kind, lambda _: False) as spool:
            spool.put(IDS[0], CHUNKS[0])
            assert decompress(spool.frame(IDS[0]), 5000) == CHUNKS[0]
            packed = write_packs(IDS[:1], spool, layout, digest=DIGEST, media_type=media.PACK)
        assert packed.packs[0].media_type == media.PACK
        assert read_all(layout, packed) == {IDS[0]: CHUNKS[0]}


def test_spool_fills_another_store() -> None:
    """A store beside the spool gets every chunk, those of the base too."""
    store = MemoryStore()
    with ChunkSpool(Compression.ZSTD, lambda id_: id_ == IDS[0], store) as spool:
        assert not spool.put(IDS[0], CHUNKS[0]).new
        assert spool.put(IDS[1], CHUNKS[1]).new
        assert not spool.put(IDS[1], CHUNKS[1]).new
        spool.sync()
        assert spool.sizes(IDS[0]) is None, "the base has it"
        assert spool.sizes(IDS[1]) is not None
        for id_ in IDS[:2]:
            assert spool.get(id_, DIGEST, 5000) == BY_ID[id_]
            assert store.get(id_, DIGEST, 5000) == BY_ID[id_]
        with pytest.raises(ChunkMissing):
            spool.get(IDS[2], DIGEST, 5000)


# ---- fetching


wanted = st.lists(
    st.builds(ChunkPlace, st.integers(0, 3), st.integers(0, 40_000_000), st.integers(1, 100_000), st.just(1)),
    max_size=60,
)


@given(wanted)
def test_fetches(places: list[ChunkPlace]) -> None:
    """Every chunk lies within exactly one request; no request is larger than it may be, or mostly a gap."""
    sizes = [50_000_000] * 4
    ids = [(ChunkId(bytes([n]) * 32), at) for n, at in enumerate(places)]
    fetches = plan_fetches(ids, sizes)
    assert sorted(id_ for fetch in fetches for id_, _ in fetch.places) == sorted(id_ for id_, _ in ids)
    for fetch in fetches:
        for _, at in fetch.places:
            assert fetch.pack == at.pack
            assert fetch.start <= at.offset
            assert at.offset + at.stored <= fetch.end
        if fetch.end - fetch.start < sizes[fetch.pack]:
            assert fetch.end - fetch.start <= 8 << 20
            gaps = sum(at.stored for _, at in fetch.places) + 65536 * len(fetch.places)
            assert fetch.end - fetch.start <= gaps


def far(layout: Layout, packed: Packed, **faults: object) -> tuple[FakeRegistry, PackSource]:
    """The same packs in a registry."""
    fake = FakeRegistry(**faults)  # type: ignore[arg-type]
    for one in packed.packs:
        fake.store().blobs[str(one.digest)] = layout.read(one)
    return fake, PackSource(fake.open(), packed.packs, packed.index)


def blob_requests(fake: FakeRegistry) -> int:
    return len([text for text in fake.asked() if text.startswith("GET") and "/blobs/" in text])


def test_one_request_for_most_of_a_pack(layout: Layout) -> None:
    """When most of a pack is wanted it comes whole, in one request."""
    fake, source = far(layout, pack(layout, IDS))
    with source:
        source.prefetch(IDS[:30])
        for id_ in IDS[:30]:
            assert source.get(id_, DIGEST, 5000) == BY_ID[id_]
    assert blob_requests(fake) == 1


def test_ranges_for_few_chunks(layout: Layout) -> None:
    """Few chunks come by ranges; what lies near together comes in one."""
    fake, source = far(layout, pack(layout, IDS))
    with source:
        source.prefetch([IDS[1], IDS[3], IDS[38]])
        for id_ in (IDS[1], IDS[3], IDS[38]):
            assert source.get(id_, DIGEST, 5000) == BY_ID[id_]
    assert blob_requests(fake) <= 2
    assert source._cached == {}


def test_all_at_once(layout: Layout) -> None:
    """Chunks are handed out request by request, each checked, and none twice."""
    fake, source = far(layout, pack(layout, IDS))
    got: dict[ChunkId, bytes] = {}
    size = source.get_all([*IDS, *IDS], DIGEST, lambda id_, data: got.setdefault(id_, data) and None)
    assert got == BY_ID
    assert size == sum(one.size for one in source._packs)
    assert blob_requests(fake) == 1
    few: dict[ChunkId, bytes] = {}
    source.get_all(IDS[10:12], DIGEST, lambda id_, data: few.setdefault(id_, data) and None)
    assert few == {id_: BY_ID[id_] for id_ in IDS[10:12]}


def test_without_ranges(layout: Layout) -> None:
    """A registry that knows no ranges gives whole packs, once."""
    fake, source = far(layout, pack(layout, IDS), ranges=False)
    for id_ in IDS[:3]:
        assert source.get(id_, DIGEST, 5000) == BY_ID[id_]
    assert blob_requests(fake) <= 2


@pytest.mark.parametrize("how", ["get", "prefetch", "all"])
def test_a_flipped_bit(layout: Layout, how: str) -> None:
    """A damaged chunk is never handed out, however it is fetched."""
    packed = pack(layout, IDS)
    place = packed.index.find(IDS[7])
    assert place is not None
    flip(blob_file(layout, packed.packs[0]), place.offset + place.stored // 2)
    source = PackSource(layout, packed.packs, packed.index)
    with pytest.raises((ChunkCorrupt, BlobCorrupt)):
        if how == "get":
            source.get(IDS[7], DIGEST, 5000)
        elif how == "all":
            source.get_all([IDS[7]], DIGEST, lambda *_: None)
        else:
            source.prefetch(IDS)
            source.get(IDS[7], DIGEST, 5000)
    assert source.get(IDS[8], DIGEST, 5000) == CHUNKS[8]


@pytest.mark.parametrize(
    "change",
    [
        lambda at: ChunkPlace(at.pack, at.offset + 1, at.stored, at.raw),
        lambda at: ChunkPlace(at.pack, at.offset, at.stored - 1, at.raw),
        lambda at: ChunkPlace(at.pack, at.offset, at.stored + 1, at.raw),
        lambda at: ChunkPlace(at.pack, at.offset, at.stored, at.raw + 1),
        lambda at: ChunkPlace(at.pack, at.offset, at.stored, at.raw - 1),
        lambda at: ChunkPlace(at.pack, 0, at.stored, at.raw),
    ],
)
def test_a_lying_index(layout: Layout, change: object) -> None:
    """A pack index that says a wrong place or size gives an error, never other bytes."""
    packed = pack(layout, IDS)
    chunks = dict(packed.index)
    chunks[IDS[7]] = change(chunks[IDS[7]])  # type: ignore[operator]
    index = PackIndex.build(packed.index.packs, chunks.items())
    with pytest.raises(ChunkCorrupt):
        PackSource(layout, packed.packs, index).get(IDS[7], DIGEST, 5000)


def test_missing(layout: Layout) -> None:
    """A chunk that no pack has is missing, and a limit is a limit."""
    packed = pack(layout, IDS[:5])
    source = PackSource(layout, packed.packs, packed.index)
    assert source.has(IDS[0])
    assert not source.has(IDS[9])
    with pytest.raises(ChunkMissing):
        source.get(IDS[9], DIGEST, 5000)
    with pytest.raises(ChunkCorrupt, match="the limit is 100"):
        source.get(IDS[0], DIGEST, 100)


# ---- towards a registry


class Written:
    """Counts bytes that go to temporary files, by what they are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: dict[str, int] = {}
        real = Spool.write_at

        def write_at(spool: Spool, offset: int, data: ReadableBuffer) -> None:
            self.sizes[spool._what] = self.sizes.get(spool._what, 0) + memoryview(data).nbytes
            real(spool, offset, data)

        monkeypatch.setattr(Spool, "write_at", write_at)


LARGE = [noise(700_000 + n, n) for n in range(6)]
LARGE_IDS = [DIGEST.of(chunk) for chunk in LARGE]


def fill(spool: ChunkSpool) -> None:
    for id_, chunk in zip(LARGE_IDS, LARGE, strict=True):
        spool.put(id_, chunk)


def test_new_chunks_are_set_aside_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pack goes to a registry out of the chunk spool: no second temporary file holds it, and it is the same pack."""
    fake = FakeRegistry()
    with ChunkSpool(Compression.ZSTD, lambda _: False) as spool:
        written = Written(monkeypatch)
        fill(spool)
        chunks = sum((spool.sizes(id_) or (0, 0))[0] for id_ in LARGE_IDS)
        packed = write_packs(LARGE_IDS, spool, fake.open(), digest=DIGEST)
        with layout_at(tmp_path / "near") as layout:
            assert write_packs(LARGE_IDS, spool, layout, digest=DIGEST).packs == packed.packs
    assert written.sizes == {"chunks": chunks}
    assert chunks > 4_000_000
    (pack,) = packed.packs
    data = fake.store().blobs[str(pack.digest)]
    assert len(data) == pack.size
    assert [row.id for row in parse_pack_table(data, pack.size, "a pack")] == LARGE_IDS


@pytest.mark.parametrize("parts", [False, True])
def test_a_pack_goes_on_where_its_upload_broke_off(parts: bool) -> None:
    """Interrupted in the middle, the rest is read out of the spool again."""
    fake = FakeRegistry(upload_faults=[500, TransportError("connection reset"), 503])
    repository = fake.open()
    if parts:
        repository._uploads._whole_limit = 0
        repository._uploads._chunk = 1_000_003
    with ChunkSpool(Compression.ZSTD, lambda _: False) as spool:
        fill(spool)
        packed = write_packs(LARGE_IDS, spool, repository, digest=DIGEST)
    source = PackSource(repository, packed.packs, packed.index)
    assert [source.get(id_, DIGEST, 1 << 20) for id_ in LARGE_IDS] == LARGE
    assert fake.sessions == {}


@given(st.lists(st.binary(max_size=9), max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_a_view_is_the_pack(chunks: list[bytes], offset: int, size: int) -> None:
    """Read at any offset or as a stream, a view gives what writing the chunks and their table one by one would."""
    rows = [PackRow(DIGEST.of(b"%d" % number), len(chunk), 1) for number, chunk in enumerate(chunks)]
    by_id = {row.id: chunk for row, chunk in zip(rows, chunks, strict=True)}
    view = PackView(rows, lambda row: by_id[row.id], "a test")
    whole = b"".join(chunks) + pack_table(rows)
    assert view.size == len(whole)
    assert view.read_at(offset, size) == whole[offset : offset + size]
    descriptor = view.descriptor(media.PACK_ZSTD)
    assert (descriptor.digest, descriptor.size) == (BlobDigest.of(whole), len(whole))
    with view.open(descriptor) as stream:
        assert b"".join(iter(lambda: stream.read(7), b"")) == whole
    with pytest.raises(BlobMissing):
        view.open(Descriptor.of(media.PACK_ZSTD, whole + b"!"))
