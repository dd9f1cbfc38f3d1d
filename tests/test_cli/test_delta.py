"""Update files: made of two indexes, carried, and used where the first one's chunks are."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from casync_compat.index import Index
from casync_compat.packtable import parse_pack_table
from casync_compat.store.local import LocalStore

from .conftest import Run

Fails = Callable[..., str]

SIZES = "--chunk-size=256:1024:4096"


def chunk_files(store: Path) -> set[Path]:
    """The files of all chunks in a store."""
    return {path.relative_to(store) for path in store.rglob("*.cacnk")}


def everything(at: Path) -> dict[str, bytes | None]:
    """All files below a directory, and what is in them."""
    return {
        str(path.relative_to(at)): path.read_bytes() if path.is_file() else None for path in at.rglob("*")
    }


class Two:
    """Two versions of a thing, indexed in one store, and a place that has the first only."""

    def __init__(self, ok: Run, at: Path, suffix: str, digest: str) -> None:
        random = Random(1)
        self.old, self.new = random.randbytes(60_000), b""
        self.new = self.old[:30_000] + random.randbytes(5_000) + self.old[30_000:]
        how = (SIZES, f"--digest={digest}")
        for name, content in (("v1", self.old), ("v2", self.new)):
            source = at / name
            if suffix == "caidx":
                source.mkdir()
                (source / "file").write_bytes(content)
            else:
                source.write_bytes(content)
            ok("make", "--store=all.castr", *how, f"{name}.{suffix}", source)
        self.v1, self.v2 = at / f"v1.{suffix}", at / f"v2.{suffix}"
        self.store = at / "there" / "default.castr"
        ok("make", *how, f"--store={self.store}", at / "there" / self.v1.name, at / "v1")
        self.there = at / "there"
        self.target = self.there / self.v2.name


@pytest.fixture(params=["caidx sha512-256", "caidx sha256", "caibx sha512-256", "caibx sha256"])
def two(request: pytest.FixtureRequest, ok: Run, tmp_path: Path) -> Two:
    """Archives and blobs, with both digests of casync's."""
    (tmp_path / "there").mkdir()
    return Two(ok, tmp_path, *request.param.split())


@pytest.fixture
def blobs(ok: Run, tmp_path: Path) -> Two:
    """Blobs, of one kind."""
    (tmp_path / "there").mkdir()
    return Two(ok, tmp_path, "caibx", "sha512-256")


def test_what_is_carried_is_all_that_is_needed(two: Two, ok: Run, tmp_path: Path) -> None:
    """Applied on top of the base, the store has what the index needs; what it gives is the new version."""
    before = chunk_files(two.store)
    ok("delta", "--store=all.castr", two.v1, two.v2, "-o", "v2.patch")
    ok("apply", "v2.patch", two.target)
    assert two.target.read_bytes() == two.v2.read_bytes()
    assert chunk_files(two.store) - before == chunk_files(tmp_path / "all.castr") - before
    ok("extract", two.target, "out")
    out = tmp_path / "out"
    assert (out / "file" if out.is_dir() else out).read_bytes() == two.new


def test_only_what_is_new_is_in_the_file(blobs: Two, ok: Run, tmp_path: Path) -> None:
    """The file is a tar that says what it is, the target, and a pack of the chunks that the base has not."""
    ok("delta", "--store=all.castr", blobs.v1, blobs.v2, "-o", "v2.patch")
    with tarfile.open("v2.patch", "r:") as tar:
        names = tar.getnames()
        content = {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert names == ["pycasync-delta.json", "target.caibx", "chunks.pack"]
    assert content["target.caibx"] == blobs.v2.read_bytes()
    old, new = (Index.load(path) for path in (blobs.v1, blobs.v2))
    pack = content["chunks.pack"]
    rows = parse_pack_table(pack, len(pack))
    assert [row.id for row in rows] == [id_ for id_ in new.ids() if id_ not in set(old.ids())]
    head = json.loads(content["pycasync-delta.json"])
    assert (head["version"], head["kind"], head["digest"]) == (1, "blob-index", "sha512-256")
    assert [base["name"] for base in head["bases"]] == ["v1.caibx"]
    assert head["target"]["digest"].startswith("sha256:")
    assert head["chunks"] == len(rows) > 0


def test_twice_is_as_once(blobs: Two, ok: Run) -> None:
    """A second time there is nothing to do, and nothing changes; the same indexes make the same file."""
    ok("delta", "--store=all.castr", blobs.v1, blobs.v2, "-o", "v2.patch")
    ok("delta", "--store=all.castr", blobs.v1, blobs.v2, "-o", "again.patch")
    assert Path("v2.patch").read_bytes() == Path("again.patch").read_bytes()
    ok("apply", "v2.patch", blobs.target)
    chunks = chunk_files(blobs.store)
    assert ok("apply", "v2.patch", blobs.target).out.startswith(b"0 of ")
    assert chunk_files(blobs.store) == chunks


def test_several_bases_are_one(blobs: Two, ok: Run, fails: Fails, tmp_path: Path) -> None:
    """What any of the bases has is not carried; without a base the file has everything."""
    (tmp_path / "v3").write_bytes(blobs.new[:20_000] + Random(3).randbytes(3_000) + blobs.new)
    ok("make", SIZES, "--store=all.castr", "v3.caibx", "v3")
    sizes = [
        json.loads(ok("delta", "--store=all.castr", "--json", *bases, "v3.caibx", "-o", "x.patch").out)
        for bases in ((), ("v1.caibx",), ("v1.caibx", "v2.caibx"))
    ]
    assert sizes[0]["chunks"] == sizes[0]["target_chunks"]
    assert sizes[0]["chunks"] > sizes[1]["chunks"] > sizes[2]["chunks"] > 0
    assert sizes[0]["size"] > sizes[1]["size"] > sizes[2]["size"]
    assert "v1.caibx, v2.caibx" in fails("apply", "x.patch", tmp_path / "there" / "v3.caibx")
    ok("delta", "--store=all.castr", "v1.caibx", "v2.caibx", "-o", "v2.patch")
    ok("apply", "v2.patch", blobs.target)
    ok("apply", "x.patch", tmp_path / "there" / "v3.caibx")


def test_an_estimate_needs_no_store(blobs: Two, ok: Run, tmp_path: Path) -> None:
    """From indexes alone it says how much is new; what that takes only where a store can tell."""
    (tmp_path / "all.castr").rename(tmp_path / "hidden")
    estimate = json.loads(ok("delta", "--estimate", "--json", blobs.v1, blobs.v2).out)
    assert estimate["stored_bytes"] is None
    known = json.loads(ok("delta", "--estimate", "--json", "--store=hidden", blobs.v1, blobs.v2).out)
    made = json.loads(ok("delta", "--json", "--store=hidden", blobs.v1, blobs.v2, "-o", "v2.patch").out)
    assert made["size"] == os.stat("v2.patch").st_size
    assert known["stored_bytes"] == made["stored_bytes"]
    for each in (known, made):
        assert {**each, "stored_bytes": None, "size": None} == estimate
    assert sorted(os.listdir(tmp_path)) == ["hidden", "there", "v1", "v1.caibx", "v2", "v2.caibx", "v2.patch"]


def test_without_the_base_nothing_is_written(blobs: Two, ok: Run, fails: Fails, tmp_path: Path) -> None:
    """The message says how many chunks are missing, which is the first, and what the file builds upon."""
    ok("delta", "--store=all.castr", blobs.v1, blobs.v2, "-o", "v2.patch")
    shared = list(dict.fromkeys(Index.load(blobs.v2).ids()))
    shared = [id_ for id_ in shared if id_ in set(Index.load(blobs.v1).ids())]
    for id_ in (shared[1], shared[-1]):
        assert LocalStore(os.fsencode(blobs.store)).remove(id_)
    before = everything(blobs.there)
    said = fails("apply", "v2.patch", blobs.target)
    assert said == (
        f"v2.patch: 2 chunks that it needs are missing from {blobs.store}, the first is {shared[1]}; "
        "it builds upon v1.caibx"
    )
    assert everything(blobs.there) == before
    said = fails("apply", "v2.patch", "--store=nowhere.castr", tmp_path / "v3.caibx")
    assert "missing from nowhere.castr" in said
    assert not chunk_files(tmp_path / "nowhere.castr")
    assert not (tmp_path / "v3.caibx").exists()


def test_a_dry_run_only_looks(blobs: Two, ok: Run) -> None:
    """`-n` says what would be stored; of `delta`, how large the file would be."""
    ok("delta", "-n", "--store=all.castr", blobs.v1, blobs.v2, "-o", "v2.patch")
    assert not os.path.exists("v2.patch")
    made = json.loads(ok("delta", "--json", "--store=all.castr", blobs.v1, blobs.v2, "-o", "v2.patch").out)
    before = everything(blobs.there)
    count = made["chunks"]
    said = ok("apply", "-n", "v2.patch", blobs.target).out.decode()
    assert said == f"Would store {count} of {count} chunks and write {blobs.target}\n"
    assert everything(blobs.there) == before


def test_damage_anywhere_is_found_first(blobs: Two, ok: Run, fails: Fails, tmp_path: Path) -> None:
    """Whatever byte is changed, and wherever the file ends, it is refused in a line, or it was of no meaning."""
    ok("delta", "--store=all.castr", blobs.v1, blobs.v2, "-o", "v2.patch")
    good = (tmp_path / "v2.patch").read_bytes()
    before = everything(blobs.there)
    for end in [*range(0, len(good), 997), *range(512 * (len(good) // 512), len(good)), len(good) - 1]:
        (tmp_path / "bad").write_bytes(good[:end])
        fails("apply", "bad", blobs.target)
    random = Random(2)
    with tarfile.open("v2.patch", "r:") as tar:
        spans = [range(each.offset_data, each.offset_data + each.size) for each in tar.getmembers()[1:]]
    for at in [random.choice(span) for span in spans for _ in range(40)]:
        bad = bytearray(good)
        bad[at] ^= 1 << random.randrange(8)
        (tmp_path / "bad").write_bytes(bad)
        fails("apply", "bad", blobs.target)
    assert everything(blobs.there) == before


def retar(patch: bytes, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """The members of a tar, each changed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(patch)) as tar, tarfile.open(fileobj=out, mode="w:") as made:
        for info in tar.getmembers():
            reader = tar.extractfile(info)
            assert reader is not None
            info, content = change(info, reader.read())
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("case", ["name", "link", "device", "size", "version", "json", "deep", "nothing"])
def test_a_hostile_file(case: str, blobs: Two, ok: Run, fails: Fails, tmp_path: Path) -> None:
    """Other names, links, devices, sizes beyond the file, strange JSON: a line, and nothing is written."""

    def change(info: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        head = info.name.endswith(".json")
        if case == "name" and not head:
            info.name = "../" + info.name
        if case == "link" and info.name == "chunks.pack":
            info.type, info.linkname, info.size, content = tarfile.SYMTYPE, "/etc/passwd", 0, b""
        if case == "device" and info.name == "chunks.pack":
            info.type, info.size, content = tarfile.CHRTYPE, 0, b""
        if head and case in ("version", "json", "deep"):
            content = {
                "version": content.replace(b'"version": 1', b'"version": 2'),
                "json": content.replace(b'"chunks"', b'"chunk"'),
                "deep": b"[" * 100_000,
            }[case]
            info.size = len(content)
        return info, content

    ok("delta", "--store=all.castr", blobs.v1, blobs.v2, "-o", "v2.patch")
    bad = retar((tmp_path / "v2.patch").read_bytes(), change)
    if case == "size":
        huge = tarfile.TarInfo("pycasync-delta.json")
        huge.size = 1 << 50
        bad = huge.tobuf(tarfile.GNU_FORMAT) + bad[512:]
    if case == "nothing":
        bad = bytes(10240)
    (tmp_path / "bad").write_bytes(bad)
    before = everything(blobs.there)
    assert fails("apply", "bad", blobs.target).startswith("bad: ")
    assert everything(blobs.there) == before


def test_a_bomb_is_not_unpacked(blobs: Two, ok: Run, fails: Fails, tmp_path: Path) -> None:
    """A frame of more bytes than the index says of the chunk is refused before they are there."""
    import zstandard

    from casync_compat.packtable import PackRow, pack_table

    ok("delta", "--store=all.castr", blobs.v1, blobs.v2, "-o", "v2.patch")
    bomb = zstandard.ZstdCompressor().compress(bytes(256 << 20))

    def change(info: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if info.name == "chunks.pack":
            rows = parse_pack_table(content, len(content))
            rows[0] = PackRow(rows[0].id, len(bomb), rows[0].raw)
            first = parse_pack_table(content, len(content))[0].stored
            content = bomb + content[first : sum(row.stored for row in rows[1:]) + first] + pack_table(rows)
            info.size = len(content)
        return info, content

    (tmp_path / "bad").write_bytes(retar((tmp_path / "v2.patch").read_bytes(), change))
    fails("apply", "bad", blobs.target)
    assert not blobs.target.exists()


def test_what_is_meant_must_be_clear(blobs: Two, ok: Run, fails: Fails, tmp_path: Path) -> None:
    """The target of another kind, other digests, no output: refused."""
    ok("delta", "--store=all.castr", blobs.v1, blobs.v2, "-o", "v2.patch")
    assert "name one like that" in fails("apply", "v2.patch", blobs.there / "v2.caidx")
    ok("make", SIZES, "--digest=sha256", "--store=all.castr", "other.caibx", "v1")
    assert "share no chunks" in fails("delta", "--store=all.castr", "other.caibx", blobs.v2, "-o", "x.patch")
    assert "-o" in fails("delta", "--store=all.castr", blobs.v1, blobs.v2)
    os.rename("other.caibx", "other")
    assert "leads to an index" in fails("delta", "--store=all.castr", blobs.v1, "other", "-o", "x.patch")
    assert not os.path.exists("x.patch")


def test_large_chunks_and_many(ok: Run, tmp_path: Path) -> None:
    """More than a batch of chunks, on several threads, arrives in order."""
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").write_bytes(Random(4).randbytes(6 << 20))
    for name in "ab":
        ok("make", "--chunk-size=8192", f"{name}.caibx", name)
    ok("delta", "--jobs=3", "a.caibx", "b.caibx", "-o", "b.patch")
    ok("apply", "--jobs=3", "--store=other.castr", "b.patch", "c.caibx")
    ok("extract", "--store=other.castr", "c.caibx", "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "b").read_bytes()
