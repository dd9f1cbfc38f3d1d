"""`mirror` and `copy`: places made equal, in thin steps that a break leaves whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from webserver import WebServer, web_server

from casync_compat.index import Index

from .conftest import Run

Fails = Callable[..., str]
SIZES = "--chunk-size=256:1024:4096"


def chunks(store: Path) -> dict[str, bytes]:
    """The chunk files of a store."""
    return {path.name: path.read_bytes() for path in store.rglob("*.cacnk")}


def names(place: Path) -> list[str]:
    """The files of a place."""
    return sorted(path.name for path in place.iterdir() if path.is_file())


@pytest.fixture
def origin(ok: Run, tmp_path: Path) -> Path:
    """A place with two versions of a blob that share chunks, an archive index, and an archive."""
    place = tmp_path / "origin"
    place.mkdir()
    random = Random(1)
    old = random.randbytes(60_000)
    for name, content in (("v1", old), ("v2", old[:30_000] + random.randbytes(5_000) + old[30_000:])):
        (tmp_path / name).write_bytes(content)
        ok("make", SIZES, place / f"{name}.caibx", name)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "file").write_bytes(random.randbytes(20_000))
    ok("make", SIZES, place / "tree.caidx", "src")
    ok("make", place / "tree.catar", "src")
    return place


@pytest.fixture
def server(origin: Path) -> Iterator[WebServer]:
    """The same on a web server."""
    with web_server() as running:
        for path in sorted(origin.rglob("*")):
            if path.is_file():
                running.files[f"/at/{path.relative_to(origin)}"] = path.read_bytes()
        yield running


def test_a_place_becomes_equal(ok: Run, origin: Path, tmp_path: Path) -> None:
    """All indexes come, byte for byte, with exactly the chunks that they need; doing it again changes nothing."""
    said = json.loads(ok("mirror", "--json", "origin", "edge").out)
    edge = tmp_path / "edge"
    assert names(edge) == ["tree.caidx", "v1.caibx", "v2.caibx"]
    for name in names(edge):
        assert (edge / name).read_bytes() == (origin / name).read_bytes()
        assert b"all good" in ok("verify", edge / name).out
    assert chunks(edge / "default.castr").keys() == chunks(origin / "default.castr").keys()
    assert said["copied"] == said["files"] == 3
    assert said["fetched"] == said["chunks"] == len(chunks(edge / "default.castr"))
    before = {path: path.stat().st_mtime_ns for path in edge.rglob("*") if path.is_file()}
    again = json.loads(ok("mirror", "--json", "origin", "edge").out)
    assert (again["copied"], again["fetched"], again["chunks"]) == (0, 0, said["chunks"])
    assert {path: path.stat().st_mtime_ns for path in edge.rglob("*") if path.is_file()} == before


def test_patterns_choose(ok: Run, origin: Path, tmp_path: Path) -> None:
    """Only what matches comes, and only its chunks; archives too, when they are chosen."""
    ok("mirror", "origin", "edge", "v1*", "*.catar")
    assert names(tmp_path / "edge") == ["tree.catar", "v1.caibx"]
    needed = {id_.hex() for id_ in Index.load(bytes(origin / "v1.caibx")).ids()}
    assert {name.partition(".")[0] for name in chunks(tmp_path / "edge" / "default.castr")} == needed
    assert (tmp_path / "edge" / "tree.catar").read_bytes() == (origin / "tree.catar").read_bytes()


def test_what_is_there_is_not_fetched(ok: Run, origin: Path, server: WebServer) -> None:
    """Each chunk that is missing is asked for once, whatever number of indexes needs it; others not at all."""
    ok("mirror", server.url + "/at", "edge", "v1.caibx")
    had = {name.partition(".")[0] for name in chunks(Path("edge/default.castr"))}
    server.asked.clear()
    said = json.loads(ok("mirror", "--json", server.url + "/at", "edge", "v1.caibx", "v2.caibx").out)
    asked = [path.rpartition("/")[2] for _, path, _ in server.asked if path.endswith(".cacnk")]
    assert len(asked) == len(set(asked)) == said["fetched"]
    assert not {name.partition(".")[0] for name in asked} & had
    assert b"all good" in ok("verify", "edge/v2.caibx").out


def test_a_web_server_is_not_listed(ok: Run, fails: Fails, server: WebServer) -> None:
    """It takes names, and says so; archives come from there as well."""
    said = fails("mirror", server.url + "/at", "edge")
    assert "cannot be listed" in said
    assert "name the files" in said
    assert "cannot be listed" in fails("mirror", "--delete", server.url + "/at", "edge", "v1.caibx")
    ok("mirror", server.url + "/at", "edge", "tree.catar", "tree.caidx")
    assert names(Path("edge")) == ["tree.caidx", "tree.catar"]


def test_to_a_web_server(ok: Run, server: WebServer) -> None:
    """An index is put there after all of its chunks, of which none is sent again."""
    ok("mirror", "origin", server.url + "/new", "v1.caibx")
    server.asked.clear()
    ok("mirror", "origin", server.url + "/new", "v1.caibx", "v2.caibx")
    puts = [path for method, path, _ in server.asked if method == "PUT"]
    assert puts[-1] == "/new/v2.caibx"
    assert len(puts) == len(set(puts))
    assert all(path.endswith(".cacnk") for path in puts[:-1])
    ok("copy", f"{server.url}/new/v2.caibx", "back.caibx", "--store=back.castr")
    assert b"all good" in ok("verify", "--store=back.castr", "back.caibx").out


def test_a_missing_chunk_keeps_its_index_away(ok: Run, run: Run, origin: Path) -> None:
    """Others come all the same; the status is 1; and when it is there again the next run goes on where this was."""
    ours = {id_.hex() for id_ in Index.load(bytes(origin / "v2.caibx")).ids()}
    theirs = {id_.hex() for id_ in Index.load(bytes(origin / "v1.caibx")).ids()}
    gone = sorted(ours - theirs)[0]
    path = next((origin / "default.castr").rglob(f"{gone}.cacnk"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    for damage in (lambda: None, path.unlink):
        damage()
        left = run("mirror", "origin", "edge")
        assert left.status == 1
        assert b"v2.caibx is not copied" in left.err
        assert gone.encode() in left.err
        assert names(Path("edge")) == ["tree.caidx", "v1.caibx"]
    had = chunks(Path("edge/default.castr"))
    path.write_bytes(content)
    said = json.loads(ok("mirror", "--json", "origin", "edge").out)
    assert said["copied"] == 1
    assert said["fetched"] == len(chunks(Path("edge/default.castr"))) - len(had)
    assert b"all good" in ok("verify", "edge/v2.caibx").out


def test_a_lost_chunk_comes_back(ok: Run, origin: Path) -> None:
    """Also of an index that is there already; a damaged one with --verify-reused."""
    ok("mirror", "origin", "edge")
    files = sorted(Path("edge/default.castr").rglob("*.cacnk"))
    files[0].unlink()
    assert json.loads(ok("mirror", "--json", "origin", "edge").out)["fetched"] == 1
    content = files[1].read_bytes()
    files[1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    ok("mirror", "--verify-reused", "origin", "edge")
    assert b"all good" in ok("verify", "edge/default.castr").out


def test_delete(ok: Run, fails: Fails, origin: Path) -> None:
    """What is no more in the source goes if it matches, unless it is kept; never by default; chunks stay."""
    ok("mirror", "origin", "edge", "*")
    for name in ("v1.caibx", "v2.caibx", "tree.catar"):
        (origin / name).unlink()
    Path("edge/notes").touch()
    ok("mirror", "origin", "edge")
    assert len(names(Path("edge"))) == 5
    before = chunks(Path("edge/default.castr"))
    would = ok("mirror", "-n", "--delete", "--keep=v2*", "origin", "edge").out.decode()
    assert "Would delete v1.caibx" in would
    assert "v2" not in would
    ok("mirror", "--delete", "origin", "--keep", "v2*", "edge")
    assert names(Path("edge")) == ["notes", "tree.caidx", "tree.catar", "v2.caibx"]
    ok("mirror", "--delete", "origin", "edge")
    assert names(Path("edge")) == ["notes", "tree.caidx", "tree.catar"]
    assert chunks(Path("edge/default.castr")) == before
    assert "--keep" in fails("mirror", "--keep=x", "origin", "edge")


def test_an_empty_source_empties_nothing(ok: Run, fails: Fails, origin: Path) -> None:
    """What is not mounted, say, or misspelt, does not make a mirror go away."""
    ok("mirror", "origin", "edge")
    Path("empty").mkdir()
    for source in ("empty", "nowhere"):
        fails("mirror", "--delete", source, "edge")
        assert len(names(Path("edge"))) == 3


def test_nothing_goes_when_something_failed(ok: Run, run: Run, origin: Path) -> None:
    """A source that is damaged is no authority on what is to go."""
    ok("mirror", "origin", "edge")
    (origin / "v1.caibx").unlink()
    (origin / "v2.caibx").write_bytes(b"nothing of the kind")
    left = run("mirror", "--delete", "origin", "edge")
    assert left.status == 1
    assert b"v2.caibx is not copied" in left.err
    assert names(Path("edge")) == ["tree.caidx", "v1.caibx", "v2.caibx"]
    assert b"all good" in ok("verify", "edge/v2.caibx").out


def test_a_dry_run_counts(ok: Run, origin: Path) -> None:
    """It says what would come, each chunk once, and writes nothing; afterwards that comes."""
    would = json.loads(ok("mirror", "-n", "--json", "origin", "edge").out)
    assert not Path("edge").exists()
    assert would.pop("dry_run") is True
    did = json.loads(ok("mirror", "--json", "origin", "edge").out)
    assert {**did, "stored_bytes": 0} == would


def test_copy(ok: Run, fails: Fails, origin: Path) -> None:
    """One index under another name, its chunks into the store beside it; an archive as well; kinds stay apart."""
    Path("there").mkdir()
    said = json.loads(ok("copy", "--json", "origin/v1.caibx", "there/new.caibx").out)
    assert (said["files"], said["copied"]) == (1, 1)
    assert Path("there/new.caibx").read_bytes() == (origin / "v1.caibx").read_bytes()
    assert b"all good" in ok("verify", "there/new.caibx").out
    ok("copy", "origin/tree.catar", "there/other.catar")
    assert Path("there/other.catar").read_bytes() == (origin / "tree.catar").read_bytes()
    assert "another kind" in fails("copy", "origin/v1.caibx", "there/new.caidx")
    assert "No such file" in fails("copy", "origin/nothing.caibx", "there/no.caibx")


def test_stores_of_either_side(
    ok: Run, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: WebServer
) -> None:
    """They may be anywhere; $CASYNC_STORE is of what is on this machine, not of what is elsewhere."""
    (origin / "default.castr").rename("all.castr")
    ok("mirror", "--source-store=all.castr", "--store=mine.castr", "origin", "edge")
    assert chunks(Path("mine.castr")).keys() == chunks(Path("all.castr")).keys()
    ok("mirror", "--extra-store=all.castr", "origin", "other")
    assert b"all good" in ok("verify", "other/v1.caibx").out
    monkeypatch.setenv("CASYNC_STORE", str(tmp_path / "local.castr"))
    ok("copy", f"{server.url}/at/v1.caibx", "v1.caibx")
    assert not Path("default.castr").exists()
    assert b"all good" in ok("verify", "--store=local.castr", "v1.caibx").out


def test_a_changed_archive_comes_anew(ok: Run, origin: Path) -> None:
    """One that is as it was is left alone."""
    ok("mirror", "origin", "edge", "*.catar")
    before = Path("edge/tree.catar").stat().st_mtime_ns
    ok("mirror", "origin", "edge", "*.catar")
    assert Path("edge/tree.catar").stat().st_mtime_ns == before
    Path("src/file").write_bytes(b"changed")
    ok("make", "origin/tree.catar", "src")
    ok("mirror", "origin", "edge", "*.catar")
    assert Path("edge/tree.catar").read_bytes() == Path("origin/tree.catar").read_bytes()


@pytest.mark.parametrize("pattern", ["a/*.caidx", "", "..", "default.castr/x.caidx"])
def test_patterns_stay_in_the_place(fails: Fails, origin: Path, pattern: str) -> None:
    """No pattern leads out of it, or into its stores."""
    assert "no name in a place" in fails("mirror", "origin", "edge", pattern)
    assert not list(Path("edge").rglob("*"))
