"""What casync's own test scripts do over HTTP, with `pycasync serve` as the server: casync and desync are the clients.

One tree is archived in each form; its digest, listing and manifest are asked for by URL, it is extracted whole, onto
itself and with seeds, as a tree and as a blob; and all is compared with what casync says of the files.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from compare import assert_same, snapshot
from grounds import Forest
from interop.serving import serving
from interop.tools import Pair, Tool, better_than_casync
from trees import content

pytestmark = better_than_casync

NAMES = ("small", "sizes", "sort-traps", "duplicates", "fifos-sockets", "holes", "times", "xattrs-user")
FORMS = ("tree.catar", "tree.caidx")


@pytest.fixture
def at(tmp_path: Path) -> Path:
    """A directory that is served."""
    directory = tmp_path / "served"
    directory.mkdir()
    return directory


@pytest.fixture
def url(pair: Pair, at: Path) -> Iterator[str]:
    """Where it is served: indexes, archives and chunks, which may be put."""
    with serving(pair.pycasync, at / "default.castr", f"--index-dir={at}", "--writable") as it:
        yield it.url


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_suite(pair: Pair, forest: Forest, at: Path, url: str, name: str) -> None:
    """Digest, list, mtree, extract: casync has by URL what it has of the files, and of the tree."""
    source = forest.get(name)
    for form in FORMS:
        pair.casync("make", f"--store={at}/default.castr", at / form, source)
    digest = pair.casync("digest", source)
    for form in FORMS:
        assert pair.casync("digest", f"{url}/{form}") == digest
        for verb in ("list", "mtree"):
            assert pair.casync(verb, f"{url}/{form}") == pair.casync(verb, at / form)
        out = pair.base / form.replace(".", "-")
        pair.casync("extract", f"{url}/{form}", out)
        assert_same(snapshot(out), snapshot(source))
        pair.casync("extract", f"{url}/{form}", out)  # onto itself
        assert pair.casync("digest", out) == digest


def test_seeds(pair: Pair, forest: Forest, at: Path, url: str) -> None:
    """A tree that is nearly there needs no chunk of the server."""
    source = forest.get("small")
    pair.casync("make", f"--store={at}/default.castr", at / "tree.caidx", source)
    shutil.rmtree(at / "default.castr")
    pair.casync("extract", f"--seed={source}", f"{url}/tree.caidx", pair.base / "seeded")
    assert pair.casync("digest", pair.base / "seeded") == pair.casync("digest", source)


def test_blobs(pair: Pair, at: Path, url: str) -> None:
    """A blob and its successor, with the former as a seed."""
    first = content(3 << 20, 1)
    second = first[: 2 << 20] + content(1 << 20, 2)
    for name, data in (("a", first), ("b", second)):
        (pair.base / name).write_bytes(data)
        pair.casync("make", f"--store={at}/default.castr", at / f"{name}.caibx", pair.base / name)
        assert pair.casync("digest", f"{url}/{name}.caibx") == pair.casync("digest", at / f"{name}.caibx")
    pair.casync("extract", f"{url}/a.caibx", pair.base / "out-a")
    assert (pair.base / "out-a").read_bytes() == first
    pair.casync("extract", f"--seed={pair.base}/a", f"{url}/b.caibx", pair.base / "out-b")
    assert (pair.base / "out-b").read_bytes() == second


def test_desync(pair: Pair, desync: Tool, at: Path, url: str) -> None:
    """Its ways to write and to read: a blob made there, extracted, by way of a cache, too; verified."""
    first = content(3 << 20, 1)
    second = first[: 2 << 20] + content(1 << 20, 2)
    store = f"{url}/"
    for name, data in (("a", first), ("b", second)):
        (pair.base / name).write_bytes(data)
        desync("make", "-s", store, f"{url}/{name}.caibx", pair.base / name)
        assert pair.casync("digest", f"--store={at}/default.castr", at / f"{name}.caibx")
    desync("cache", "-s", store, "-c", _made(pair.base / "cache"), f"{url}/b.caibx")
    desync("extract", "-s", pair.base / "cache", f"{url}/b.caibx", pair.base / "cached")
    desync("extract", "-s", store, f"{url}/b.caibx", pair.base / "out")
    for name in ("cached", "out"):
        assert (pair.base / name).read_bytes() == second
    assert (
        desync("cat", "-s", store, "-o", "1000000", "-l", "5000", f"{url}/b.caibx") == second[10**6 :][:5000]
    )
    desync("verify-index", f"{url}/b.caibx", pair.base / "b")
    assert len(desync("list-chunks", f"{url}/b.caibx").split()) > 10


def test_trees_of_desync(pair: Pair, desync: Tool, forest: Forest, at: Path, url: str) -> None:
    """An archive that desync makes there is what it, and we, take from there."""
    source = forest.get("small")
    desync("tar", "-i", "-s", f"{url}/", f"{url}/tree.caidx", source)
    desync("untar", "-i", "-s", f"{url}/", f"{url}/tree.caidx", _made(pair.base / "theirs"))
    pair.pycasync("extract", f"{url}/tree.caidx", pair.base / "ours")
    names = [
        sorted(str(path.relative_to(top)) for path in top.rglob("*"))
        for top in (pair.base / "theirs", source)
    ]
    assert names[0] == names[1]
    assert pair.pycasync("list", f"{url}/tree.caidx") == pair.casync("list", at / "tree.caidx")


def _made(path: Path) -> Path:
    path.mkdir()
    return path
