"""What casync's own test scripts do, over HTTP: archives made here, served by nginx, and read there by both.

One tree is archived by casync in each form; then its digest, listing and manifest are asked for by URL, it is
extracted whole, in part, onto itself and with seeds, as a tree and as a blob; and all is compared with the files.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from compare import assert_same, snapshot
from grounds import Forest
from interop.tools import Pair, Tool, better_than_casync
from interop.webservers import Nginx, chunk_server, index_server, nginx  # noqa: F401 - a fixture
from trees import content
from webserver import Reply, web_server

pytestmark = better_than_casync

NAMES = ("small", "sizes", "sort-traps", "duplicates", "fifos-sockets", "holes", "times", "xattrs-user")
FORMS = ("tree.catar", "tree.caidx")


@pytest.fixture
def at(nginx: Nginx, tmp_path: Path) -> Path:  # noqa: F811
    """A directory that nginx serves."""
    directory = nginx.root / tmp_path.name
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture
def ours(pair: Pair, nginx: Nginx) -> Tool:  # noqa: F811
    """pycasync, trusting nginx."""
    return pair.pycasync.given(SSL_CERT_FILE=str(nginx.certificate))


def archived(pair: Pair, source: Path, at: Path) -> None:
    """A tree in both forms, by casync."""
    for name in FORMS:
        pair.casync("make", f"--store={at}/default.castr", at / name, source)


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_suite(
    pair: Pair,
    ours: Tool,
    forest: Forest,
    nginx: Nginx,  # noqa: F811
    at: Path,
    name: str,
) -> None:
    """Digest, list, mtree, extract: by every URL as casync has it of the file, and of the tree."""
    source = forest.get(name)
    archived(pair, source, at)
    digest = pair.casync("digest", source)
    for url in (f"{nginx.plain}/{at.name}", f"{nginx.tls}/{at.name}", f"{nginx.bare}/{at.name}"):
        for form in FORMS:
            assert ours("digest", f"{url}/{form}") == digest
            for verb in ("list", "mtree"):
                assert ours(verb, f"{url}/{form}") == pair.casync(verb, at / form)
            out = pair.base / "out"
            ours("extract", f"{url}/{form}", out)
            assert pair.casync("digest", out) == digest
            if form == "tree.caidx":  # onto itself: nothing is to be done
                assert b"Would change nothing" in ours("extract", "-n", f"{url}/{form}", out)
            shutil.rmtree(out)


def test_as_casync_by_url(pair: Pair, forest: Forest, nginx: Nginx, at: Path) -> None:  # noqa: F811
    """What casync says by the same URL, and restores from it."""
    archived(pair, forest.get("small"), at)
    url = f"{nginx.plain}/{at.name}"
    for form in FORMS:
        for verb in ("list", "mtree", "digest"):
            pair.same_output(verb, f"{url}/{form}")
        pair.run("extract", f"{url}/{form}", form)
        assert_same(snapshot(pair.ours / form), snapshot(pair.theirs / form))


def test_parts_and_seeds(pair: Pair, ours: Tool, forest: Forest, nginx: Nginx, at: Path) -> None:  # noqa: F811
    """A part of a tree; a tree with a seed that has most of it, whose chunks are not there any more."""
    source = forest.get("small")
    archived(pair, source, at)
    url = f"{nginx.tls}/{at.name}"
    for form in FORMS:
        ours("extract", f"{url}/{form}", pair.base / f"part-{form}", "src/deep")
        assert_same(snapshot(pair.base / f"part-{form}" / "deep"), snapshot(source / "src" / "deep"))
        assert ours("cat", f"{url}/{form}", "src/main.c") == (source / "src" / "main.c").read_bytes()
        assert ours("stat", f"{url}/{form}", "run.sh") == ours("stat", at / form, "run.sh")
    shutil.rmtree(at / "default.castr")
    ours("extract", f"--seed={source}", f"{url}/tree.caidx", pair.base / "seeded")
    assert pair.casync("digest", pair.base / "seeded") == pair.casync("digest", source)


def test_blobs(pair: Pair, ours: Tool, nginx: Nginx, at: Path) -> None:  # noqa: F811
    """A blob and its successor, with the former as a seed, and into standard output."""
    first = content(3 << 20, 1)
    second = first[: 2 << 20] + content(1 << 20, 2)
    for name, data in (("a", first), ("b", second)):
        (pair.base / name).write_bytes(data)
        pair.casync("make", f"--store={at}/default.castr", at / f"{name}.caibx", pair.base / name)
    url = f"{nginx.tls}/{at.name}"
    ours("extract", f"{url}/a.caibx", pair.base / "out")
    assert (pair.base / "out").read_bytes() == first
    ours("extract", f"--seed={pair.base}/a", f"{url}/b.caibx", pair.base / "out")
    assert (pair.base / "out").read_bytes() == second
    assert ours("cat", f"{url}/b.caibx") == second
    assert ours("digest", f"{url}/b.caibx") == pair.casync("digest", at / "b.caibx")
    assert b"all good" in ours("verify", f"{url}/b.caibx")


def test_made_there(pair: Pair, ours: Tool, forest: Forest, nginx: Nginx, at: Path) -> None:  # noqa: F811
    """What we write by URL is what casync writes in a directory, and casync reads it."""
    source = forest.get("small")
    url = f"{nginx.writable}/{at.name}"
    archived(pair, source, pair.theirs)
    for form in FORMS:
        assert ours("make", f"{url}/{form}", source) == pair.casync("digest", source)
        assert (at / form).read_bytes() == (pair.theirs / form).read_bytes()
        assert pair.casync("list", f"{nginx.plain}/{at.name}/{form}") == pair.casync("list", at / form)
    names = [sorted(p.name for p in (top / "default.castr").rglob("*.cacnk")) for top in (at, pair.theirs)]
    assert names[0] == names[1]
    assert sorted(path.name for path in at.iterdir()) == ["default.castr", *sorted(FORMS)]


def test_indexes_of_desync(pair: Pair, ours: Tool, desync: Tool, tmp_path: Path) -> None:
    """desync's index-server and chunk-server: what either writes there the other reads there."""
    for name in ("indexes", "chunks"):
        (tmp_path / name).mkdir()
    program = desync.command[0]
    with (
        index_server(program, tmp_path / "indexes", tmp_path / "log") as indexes,
        chunk_server(program, tmp_path / "chunks", tmp_path / "log2") as chunks,
    ):
        for name, size in (("mine", 2 << 20), ("theirs", 3 << 20)):
            (pair.base / name).write_bytes(content(size, size))
        ours("make", f"--store={chunks}", f"{indexes}/mine.caibx", pair.base / "mine")
        desync("extract", "-s", chunks, f"{indexes}/mine.caibx", pair.base / "out")
        assert (pair.base / "out").read_bytes() == (pair.base / "mine").read_bytes()
        desync("make", "-s", chunks, f"{indexes}/theirs.caibx", pair.base / "theirs")
        ours("extract", f"--store={chunks}", f"{indexes}/theirs.caibx", pair.base / "back")
        assert (pair.base / "back").read_bytes() == (pair.base / "theirs").read_bytes()
        assert b"all good" in ours("verify", f"--store={chunks}", f"{indexes}/theirs.caibx")
        gone = next((tmp_path / "chunks").rglob("*.cacnk"))
        (tmp_path / "more" / gone.parent.name).mkdir(parents=True)
        gone.rename(tmp_path / "more" / gone.parent.name / gone.name)
        more = f"--extra-store={tmp_path}/more"
        for name in ("mine", "theirs"):
            ours("extract", f"--store={chunks}", more, f"{indexes}/{name}.caibx", pair.base / "again")
            assert (pair.base / "again").read_bytes() == (pair.base / name).read_bytes()


@pytest.mark.parametrize(
    "tail",
    [
        "a/x.caidx",
        "a/x.caidx?q=1/2",
        "a/x.caidx?u=http://z/y.caidx",
        "a/x.caidx;v=1",
        "a/x.caidx?a;b",
        "a/x%20y.caidx",
        "a/x.caidx#part",
        "x.caidx",
    ],
)
def test_the_store_beside_an_url(pair: Pair, forest: Forest, tail: str) -> None:
    """Index and chunks of an odd URL are looked for where casync looks for them."""
    pair.casync("make", f"--store={pair.base}/default.castr", pair.base / "x.caidx", forest.get("one-file"))
    index = (pair.base / "x.caidx").read_bytes()
    with web_server() as server:
        server.special = lambda method, path, *_: Reply(200, index) if "castr" not in path else None
        asked = []
        for tool in (pair.casync, pair.pycasync):
            tool.run("list", "--what=archive-index", f"{server.url}/{tail}")
            paths = [path for _, path, _ in server.asked]
            asked.append({path.partition("default.castr")[0] for path in paths if "castr" in path})
            asked[-1].add(next(path for path in paths if "castr" not in path))
            server.asked.clear()
    assert asked[0] == asked[1]
    assert len(asked[0]) == 2
