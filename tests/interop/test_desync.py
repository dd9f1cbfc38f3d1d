"""desync reads what pycasync writes and the other way round, as far as desync's releases allow.

Where desync differs, the tests keep to what both can do and say why:

* desync (1.1.0) never cuts exactly at the minimum (folbricht/desync#393), so indexes are compared over inputs where
  casync does not either; the tests check that this is so instead of trusting it.
* desync leaves the exclude bit out of the flags of a blob index; everything else in the file is the same.
* desync adds a NUL to attributes and takes one away again, and mistakes fifos and sockets for directories: trees for
  it have neither.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from compare import assert_same, snapshot
from grounds import Forest, Grounds
from interop.formats import read_index
from interop.tools import Pair, Tool, better_than_casync
from trees import content

DESYNC_FLAGS = (
    "--with=unix", "--with=xattrs", "--with=nsec-time", "--with=32bit-uids", "--without=16bit-uids",
)  # fmt: skip
"""What a desync archive holds, in casync's options."""

EXCLUDE_FILE = 1 << 60
READABLE = ("small", "sort-traps", "sizes", "duplicates", "fat-directory", "deep")
"""Trees without fifos, sockets and attributes."""


@pytest.fixture
def blob(pair: Pair) -> Path:
    """A blob of which no chunk has exactly the smallest size; see the module's docstring."""
    path = pair.base / "blob"
    path.write_bytes(content(1_000_000, seed=393) + bytes(400_000) + content(300_000, seed=394) * 2)
    return path


def make(pair: Pair, blob: Path, *options: str) -> Path:
    """Our index of the blob, checked to have no chunk on which desync's defect would show."""
    pair.pycasync("make", "x.caibx", "--store=s.castr", blob, *options, cwd=pair.ours)
    index = read_index(pair.ours / "x.caibx")
    assert index.sizes[0] not in index.lengths[:-1], (
        "choose another blob: this one has a cut exactly at the minimum"
    )
    return pair.ours / "x.caibx"


@pytest.mark.parametrize("digest", ["sha512-256", "sha256"])
@pytest.mark.parametrize("sizes", ["16:64:256", "4:16:64", "1:2:8"])
def test_same_blob_index(pair: Pair, desync: Tool, blob: Path, sizes: str, digest: str) -> None:
    """desync cuts the blob where we do; its index differs in the one flag that it leaves out."""
    chunk_size = ":".join(f"{size}K" for size in sizes.split(":"))
    if sizes == "1:2:8":
        os.truncate(blob, 60_000)
    ours = make(pair, blob, f"--chunk-size={chunk_size}", f"--digest={digest}").read_bytes()
    theirs = pair.base / "desync.caibx"
    desync("--digest", digest, "make", "-m", sizes, theirs, blob)
    assert ours[:16] + ours[24:] == theirs.read_bytes()[:16] + theirs.read_bytes()[24:]
    assert read_index(pair.ours / "x.caibx").flags == read_index(theirs).flags | EXCLUDE_FILE
    listed = desync("--digest", digest, "list-chunks", pair.ours / "x.caibx").decode().split()
    assert listed == read_index(pair.ours / "x.caibx").ids


def test_desync_extracts_our_blob(pair: Pair, desync: Tool, blob: Path) -> None:
    """desync verifies our store and index and gets the blob back."""
    index, store = make(pair, blob), pair.ours / "s.castr"
    desync("extract", "-s", store, index, pair.base / "back")
    assert (pair.base / "back").read_bytes() == blob.read_bytes()
    complaints = desync.run("verify", "-s", store)
    assert complaints.status == 0
    assert not complaints.err, "desync verify found bad chunks"
    desync("verify-index", index, blob)
    info = json.loads(desync("info", "-s", store, index))
    assert info["total"] == len(read_index(index).ids)
    assert info["in-store"] == info["unique"] == len(set(read_index(index).ids))


def test_we_extract_desyncs_blob(pair: Pair, desync: Tool, blob: Path) -> None:
    """Index and store made by desync are read by us as by casync."""
    store = pair.base / "d.castr"
    store.mkdir()
    desync("make", "-s", store, pair.base / "d.caibx", blob)
    pair.pycasync("extract", f"--store={store}", pair.base / "d.caibx", pair.base / "back")
    assert (pair.base / "back").read_bytes() == blob.read_bytes()
    pair.same_output("digest", f"--store={store}", pair.base / "d.caibx")


def test_uncompressed_and_mixed_store(pair: Pair, desync: Tool, blob: Path) -> None:
    """Uncompressed chunks, which only desync writes, are read, also beside compressed ones."""
    store = pair.base / "plain.castr"
    store.mkdir()
    config = pair.base / "config.json"
    config.write_text(json.dumps({"store-options": {str(store): {"uncompressed": True}}}))
    desync("--config", config, "make", "-s", store, pair.base / "d.caibx", blob)
    plain = [path for path in store.rglob("*") if path.is_file()]
    assert plain
    assert not any(path.suffix for path in plain)
    pair.pycasync("extract", f"--store={store}", pair.base / "d.caibx", pair.base / "back")
    assert (pair.base / "back").read_bytes() == blob.read_bytes()
    for path in plain[::2]:
        path.unlink()
    pair.pycasync("make", "y.caibx", f"--store={store}", "--compression=xz", blob, cwd=pair.ours)
    assert {path.suffix for path in store.rglob("*") if path.is_file()} == {"", ".cacnk"}
    pair.pycasync("extract", f"--store={store}", pair.base / "d.caibx", pair.base / "again")
    assert (pair.base / "again").read_bytes() == blob.read_bytes()


@pytest.mark.root
@pytest.mark.parametrize("name", READABLE)
def test_same_archive(pair: Pair, desync: Tool, forest: Forest, name: str) -> None:
    """With the flags that desync always uses the archive is the one that desync writes."""
    source = forest.get(name)
    pair.pycasync("make", "x.catar", source, *DESYNC_FLAGS, cwd=pair.ours)
    desync("tar", pair.base / "d.catar", source)
    assert (pair.ours / "x.catar").read_bytes() == (pair.base / "d.catar").read_bytes()


@pytest.mark.root
@pytest.mark.parametrize("name", [name for name in READABLE if name != "sort-traps"])
def test_desync_unpacks_ours(pair: Pair, desync: Tool, forest: Forest, ground: Grounds, name: str) -> None:
    """desync unpacks our archive and our index; only the times of links, which it never restores, differ.

    It refuses names with a backslash, which `sort-traps` has.
    """
    source = forest.get(name)
    pair.archive("x.catar", source)
    pair.archive("x.caidx", source)
    one, two = ground("one"), ground("two")
    desync("untar", pair.ours / "x.catar", one)
    desync("untar", "-i", "-s", pair.ours / "default.castr", pair.ours / "x.caidx", two)
    wanted = snapshot(source)
    links = [f"{os.fsdecode(name)}:mtime" for name, node in wanted.items() if node["type"] == "l"]
    assert_same(wanted, snapshot(one), links)
    assert_same(wanted, snapshot(two), links)


@pytest.mark.root
@pytest.mark.parametrize("name", READABLE)
def test_we_unpack_desyncs(pair: Pair, desync: Tool, forest: Forest, ground: Grounds, name: str) -> None:
    """We unpack desync's archive and index, and list them as casync does."""
    source, store = forest.get(name), pair.base / "d.castr"
    store.mkdir()
    desync("tar", pair.base / "d.catar", source)
    desync("tar", "-i", "-s", store, pair.base / "d.caidx", source)
    one, two = ground("one"), ground("two")
    pair.pycasync("extract", pair.base / "d.catar", one)
    pair.pycasync("extract", f"--store={store}", pair.base / "d.caidx", two)
    assert_same(snapshot(source), snapshot(one))
    assert_same(snapshot(source), snapshot(two))
    for verb in ("list", "mtree", "stat", "digest"):
        pair.same_output(verb, pair.base / "d.catar")
        pair.same_output(verb, f"--store={store}", pair.base / "d.caidx")


MEMBERS = ("z/last", "z/first", "m", "b/2", "b/1", "b/sub/x", "a", "B", "zz")


@pytest.fixture
def unordered(pair: Pair, desync: Tool) -> Path:
    """An archive that desync made of a tar file whose members are not in order."""
    tar = pair.base / "t.tar"
    seen: set[str] = set()
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as file:
        for name in MEMBERS:
            for parent in reversed(
                [str(p) for p in Path(name).parents if str(p) != "." and str(p) not in seen]
            ):
                seen.add(parent)
                directory = tarfile.TarInfo(parent)
                directory.type, directory.mode, directory.mtime = tarfile.DIRTYPE, 0o755, 1_600_000_000
                file.addfile(directory)
            member = tarfile.TarInfo(name)
            data = name.encode() * 100
            member.size, member.mode, member.mtime = len(data), 0o644, 1_500_000_000
            file.addfile(member, io.BytesIO(data))
    archive = pair.base / "t.catar"
    desync("tar", "--input-format", "tar", "--tar-add-root", archive, tar)
    return archive


def test_names_out_of_order_are_read(pair: Pair, unordered: Path) -> None:
    """Names out of order are listed in their order and found by path."""
    for verb in ("list", "mtree", "digest"):
        assert pair.same_output(verb, unordered)
    for name in (*MEMBERS, "z", "b/sub"):
        assert pair.same_output("digest", unordered, name)


@better_than_casync
def test_names_out_of_order_are_extracted(pair: Pair, unordered: Path, ground: Grounds) -> None:
    """All that is in the archive is extracted and only the rest is deleted; casync deletes what it just extracted."""
    target = ground("target")
    (target / "z").mkdir()
    for extra in ("extra", "z/extra"):
        (target / extra).write_bytes(b"")
    pair.pycasync("extract", unordered, target)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert files == sorted(MEMBERS)
    for name in MEMBERS:
        assert (target / name).read_bytes() == name.encode() * 100
