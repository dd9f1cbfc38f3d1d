"""Blobs: `.caibx` for any contents and any chunk size, and back to files and devices."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filesystems import lacking
from interop.formats import read_index
from interop.tools import Pair, better_than_casync
from trees import content


def text(size: int) -> bytes:
    """Text of numbered lines: compressible, and not periodic."""
    return b"".join(b"line %d of the text\n" % i for i in range(size // 20))[:size]


BLOBS: dict[str, bytes] = {
    "empty": b"",
    "one-byte": b"x",
    "47": content(47),
    "48": content(48),
    "49": content(49),
    "16384": content(16384),
    "262144": content(262144),
    "random": content(1_500_000),
    "text": text(800_000),
    "zeros": bytes(900_000),
    "zeros-inside": content(200_000) + bytes(700_000) + content(100_000),
    "repeated": content(70_000) * 9,
}


def put(at: Path, name: str) -> Path:
    """Write the blob `name` into a directory; runs of zeros become holes."""
    path, data = at / "blob", BLOBS[name]
    with open(path, "wb") as file:
        for start in range(0, len(data), 4096):
            piece = data[start : start + 4096]
            if piece.strip(b"\0"):
                os.pwrite(file.fileno(), piece, start)
        file.truncate(len(data))
    return path


@pytest.mark.parametrize(
    "options", [(), ("--digest=sha256", "--chunk-size=8K")], ids=["default", "sha256-8K"]
)
@pytest.mark.parametrize("name", BLOBS)
def test_contents(pair: Pair, name: str, options: tuple[str, ...]) -> None:
    """Index, digest and chunk names are casync's, and both programs get the blob back from the other's store."""
    blob = put(pair.base, name)
    assert pair.same_make("x.caibx", blob, *options)
    pair.casync("extract", pair.ours / "x.caibx", pair.theirs / "back")
    pair.pycasync("extract", pair.theirs / "x.caibx", pair.ours / "back")
    assert (pair.theirs / "back").read_bytes() == BLOBS[name]
    assert (pair.ours / "back").read_bytes() == BLOBS[name]
    assert (pair.ours / "back").stat().st_mode == (pair.theirs / "back").stat().st_mode


CHUNK_SIZES = (
    "auto", "1024", "1K", "1K512", "1K 512B", "1.5K", "256", "4096:4096:4096", "1000:1000:1000", "47:47:47", "1:1:100",
    "1:40:48", "1:64:256", "10:1000:5000", "48:64:96", "47:64:96", "49:64:96", "64:65536:70000", "100:100:200",
    "16K:64K:256K", "16384:65536:262144", "1:1:128M", "3M", "1M", "8M", "9M", "10M:10M:11M", "16M", "128M", "0.5M",
    "2:3:4000", "1000:48000:48001",
)  # fmt: skip
BAD_CHUNK_SIZES = (
    "4", "1:4:16", "1:2:3", "10:20:47", "0", "0:1:2", "64k", "64KB", "0x400", "-1", "1:2", "3:2:1", "1:3:2", "129M",
    "1T", "", ":", "::", "1:2:3:4", "x", "1K1M", "1..5K", "auto:auto:auto",
)  # fmt: skip


@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
def test_chunk_size(pair: Pair, chunk_size: str) -> None:
    """Cuts are casync's for every way to write a size and for sizes at the edge of sense."""
    blob = put(pair.base, "text" if len(chunk_size) > 4 else "random")
    with open(blob, "r+b") as file:
        file.truncate(300_000)  # tiny chunks make many files
    if chunk_size.startswith("1:") or chunk_size in (
        "48:64:96",
        "47:64:96",
        "49:64:96",
        "2:3:4000",
        "100:100:200",
    ):
        os.truncate(blob, 20_000)
    assert pair.same_make("x.caibx", blob, f"--chunk-size={chunk_size}")


@pytest.mark.parametrize("chunk_size", BAD_CHUNK_SIZES)
def test_bad_chunk_size(pair: Pair, chunk_size: str) -> None:
    """What casync refuses, or dies of, is refused; nothing is written."""
    assert not pair.same_make("x.caibx", put(pair.base, "16384"), f"--chunk-size={chunk_size}")


@pytest.mark.parametrize(
    ("chunk_size", "length", "works"),
    [("4", 16, True), ("4", 17, False), ("1:4:16", 16, True), ("1:40:47", 47, True), ("1:40:47", 48, False)],
)
def test_maximum_below_the_window(pair: Pair, chunk_size: str, length: int, works: bool) -> None:
    """Before 48 bytes nothing is cut, so that a smaller maximum works only for a blob that is no longer than it."""
    blob = pair.base / "blob"
    blob.write_bytes(content(length))
    assert pair.same_make("x.caibx", blob, f"--chunk-size={chunk_size}") == works


def test_large_average(pair: Pair) -> None:
    """Averages beyond the reach of the formula cut at the maximum, as casync does."""
    blob = pair.base / "blob"
    blob.write_bytes(content(24_000_000))
    for chunk_size in ("9M", "10M", "1M:9500000:10M"):
        assert pair.same_make("x.caibx", blob, f"--chunk-size={chunk_size}")


@pytest.mark.parametrize("verb", ["digest", "list", "mtree", "stat"])
def test_reading_verbs(pair: Pair, verb: str) -> None:
    """`digest` of a blob and of its index; the verbs for trees refuse both."""
    blob = put(pair.base, "repeated")
    for digest in ("sha256", "sha512-256"):
        index = pair.base / f"{digest}.caibx"
        pair.casync("make", index, blob, f"--digest={digest}")
        pair.same_output(verb, index)
        pair.same_output(verb, blob, f"--digest={digest}")
        pair.same_output(verb, "--what=blob", blob, f"--digest={digest}")


def test_input_and_output_kinds(pair: Pair, tmp_path: Path) -> None:
    """Standard input that is a file, --what, and targets that cannot be."""
    blob = put(pair.base, "text")
    assert pair.same_make("x.caibx", stdin=blob)
    assert pair.same_make("y.caibx", "-", stdin=blob)
    assert pair.same_make("z.bin", "--what=blob-index", blob)
    assert not pair.same_make("d.caibx", tmp_path)
    assert not pair.same_make("n.caibx", tmp_path / "missing")
    pair.run("extract", "x.caibx", tmp_path / "no" / "such" / "place")


@pytest.mark.parametrize("old", [0, 100, 800_000])
def test_over_a_file_that_is_not_longer(pair: Pair, old: int) -> None:
    """A blob extracted over an existing file has its contents, and the mode that the file had.

    casync writes into the file, which is lost when the run fails; here it is replaced once the new one is whole.
    """
    blob = put(pair.base, "text")
    pair.archive("x.caibx", blob)
    for at, tool in ((pair.theirs, pair.casync), (pair.ours, pair.pycasync)):
        (at / "out").write_bytes(content(old))
        (at / "out").chmod(0o640)
        tool("extract", "x.caibx", "out", cwd=at)
        assert (at / "out").read_bytes() == BLOBS["text"]
    assert (pair.ours / "out").stat().st_mode == (pair.theirs / "out").stat().st_mode


@better_than_casync
def test_over_a_longer_file(pair: Pair) -> None:
    """A shorter blob ends where it ends; casync leaves the tail of the old file."""
    pair.archive("x.caibx", put(pair.base, "16384"))
    (pair.ours / "out").write_bytes(content(50_000))
    pair.pycasync("extract", "x.caibx", "out", cwd=pair.ours)
    assert (pair.ours / "out").read_bytes() == BLOBS["16384"]


@pytest.mark.parametrize("with_store", [True, False], ids=["store", "no-store"])
def test_seed(pair: Pair, with_store: bool) -> None:
    """A file given as seed serves chunks, with or without a store."""
    blob = put(pair.base, "random")
    pair.archive("x.caibx", blob)
    for at, tool in ((pair.theirs, pair.casync), (pair.ours, pair.pycasync)):
        if not with_store:
            (at / "default.castr").rename(at / "away")
        tool("extract", "x.caibx", f"--seed={blob}", "out", cwd=at)
        assert (at / "out").read_bytes() == BLOBS["random"]
    if not with_store:
        theirs, ours = pair.run("extract", "x.caibx", "new")
        assert theirs.status == ours.status == 1
        assert not (pair.ours / "new").exists()


@better_than_casync
def test_target_as_its_own_seed(pair: Pair) -> None:
    """What the target holds already need not be in a store; casync fails ("Stale file handle") in either case."""
    pair.archive("x.caibx", put(pair.base, "random"))
    for at in (pair.theirs, pair.ours):
        (at / "out").write_bytes(BLOBS["random"])
    assert pair.casync.run("extract", "x.caibx", "out", cwd=pair.theirs).status == 1
    (pair.ours / "default.castr").rename(pair.ours / "away")
    pair.pycasync("extract", "x.caibx", "out", cwd=pair.ours)
    assert (pair.ours / "out").read_bytes() == BLOBS["random"]
    assert pair.pycasync.run("extract", "x.caibx", "--seed-output=no", "out", cwd=pair.ours).status == 1
    assert (pair.ours / "out").read_bytes() == BLOBS["random"], "a failed run loses nothing"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A loop device of 2 MiB over a file; it frees itself when nobody has it open."""
    image = tmp_path / "image"
    image.write_bytes(bytes(2 << 20))
    done = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=False)
    if done.returncode:
        lacking(f"no loop device: {done.stderr.strip()}")
    path = Path(done.stdout.strip())
    try:
        yield path
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


@pytest.mark.root
@pytest.mark.parametrize("kind", ["random", "ext4", "small-ext4"])
def test_block_device(pair: Pair, device: Path, kind: str) -> None:
    """A device is read to its end, or to the end of the file system that it says it holds; and written in place."""
    if kind == "random":
        device.write_bytes(content(2 << 20))
    else:
        blocks = "1024" if kind == "small-ext4" else "2048"
        subprocess.run(
            ["mkfs.ext4", "-q", "-F", "-b", "1024", device, blocks], check=True, capture_output=True
        )
    assert pair.same_make("x.caibx", device)
    pair.same_output("digest", device)
    size = (1 if kind == "small-ext4" else 2) << 20
    assert read_index(pair.ours / "x.caibx").chunks[-1][0] == size
    before = device.read_bytes()
    device.write_bytes(bytes(2 << 20))
    pair.pycasync("extract", pair.theirs / "x.caibx", device)
    assert device.read_bytes()[:size] == before[:size]


@pytest.mark.root
@better_than_casync
def test_only_what_differs_is_written_to_a_device(pair: Pair, device: Path) -> None:
    """What is in its place on a device is neither fetched nor written, whether a run was cut off or data is old."""
    data = content(2 << 20, seed=5)
    device.write_bytes(data)
    pair.pycasync("make", pair.base / "x.caibx", "--store=s.castr", device, cwd=pair.base)
    with device.open("r+b") as file:
        file.seek(1 << 20)
        file.write(bytes(4096))
    os.rename(pair.base / "s.castr", pair.base / "away")
    before = _written(device)
    said = pair.pycasync.run("extract", "--store=nowhere", pair.base / "x.caibx", device)
    assert said.status == 1, "one chunk has to be had"
    done = pair.pycasync("extract", "--json", f"--store={pair.base / 'away'}", pair.base / "x.caibx", device)
    assert device.read_bytes() == data
    found = json.loads(done)
    assert 1 <= found["fetched"] <= 2
    assert found["in_place"] == found["chunks"] - found["fetched"]
    assert _written(device) - before <= 600 << 10
    before = _written(device)
    pair.pycasync("extract", "--store=nowhere", pair.base / "x.caibx", device)
    assert _written(device) == before


def _written(device: Path) -> int:
    """Bytes that were written to a device since it is there."""
    os.sync()
    return 512 * int(Path("/sys/block", device.name, "stat").read_text().split()[6])
