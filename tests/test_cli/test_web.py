"""Every verb on archives and indexes that lie on a web server."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from urllib.parse import quote, unquote, unquote_to_bytes

import pytest
from webserver import Reply, WebServer, web_server

from .conftest import Run

Fails = Callable[..., str]
NAMES = ("a.catar", "a.caidx")


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def server(request: pytest.FixtureRequest) -> Iterator[WebServer]:
    with web_server() as running:
        running.ranges = request.param
        yield running


@pytest.fixture
def web(server: WebServer, ok: Run, tree: Path, tmp_path: Path) -> str:
    """An archive, an index of it, one of a blob, and their store: here, and on a server, whose URL this is."""
    (tmp_path / "blob").write_bytes(Random(1).randbytes(400_000))
    ok("make", "a.catar", tree)
    ok("make", "--chunk-size=4096", "a.caidx", tree)
    ok("make", "--chunk-size=4096", "b.caibx", "blob")
    for path in sorted(tmp_path.rglob("*")):
        if path.is_file() and not path.is_relative_to(tree):
            server.files[f"/at/{path.relative_to(tmp_path)}"] = path.read_bytes()
    return server.url + "/at"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "words",
    ["list {}", "list {} sub", "mtree {}", "stat {} hello", "digest {}", "digest {} sub", "cat {} sub/link"],
)
def test_what_is_said_is_the_same(ok: Run, web: str, name: str, words: str) -> None:
    """Of an archive or index on the web as of the file."""
    assert ok(*words.format(f"{web}/{name}").split()).out == ok(*words.format(name).split()).out


@pytest.mark.parametrize(
    "words", ["digest {}/blob", "digest {}/b.caibx", "cat {}/b.caibx", "info {}/a.caidx"]
)
def test_blobs_and_indexes(ok: Run, web: str, words: str) -> None:
    """The same of blobs, plain or in chunks, and of what an index says."""
    assert ok(*words.format(web).split()).out == ok(*words.format(".").split()).out


@pytest.mark.parametrize("name", [*NAMES, "b.caibx"])
def test_dump(ok: Run, web: str, name: str) -> None:
    """Record by record."""
    assert ok("dump", f"{web}/{name}").out == ok("dump", name).out


def test_extract(ok: Run, web: str, tree: Path, tmp_path: Path) -> None:
    """Trees, parts of them, and blobs."""
    for name in NAMES:
        ok("extract", f"{web}/{name}", f"out-{name}")
        assert (tmp_path / f"out-{name}" / "sub" / "data").read_bytes() == (
            tree / "sub" / "data"
        ).read_bytes()
        ok("extract", f"{web}/{name}", f"part-{name}", "sub/data")
        assert [path.name for path in (tmp_path / f"part-{name}").iterdir()] == ["data"]
        assert b"Would change nothing" in ok("extract", "-n", f"{web}/{name}", f"out-{name}").out
    ok("extract", f"{web}/b.caibx", "out-blob")
    assert (tmp_path / "out-blob").read_bytes() == (tmp_path / "blob").read_bytes()


@pytest.mark.parametrize(
    "words", ["extract {}/b.caibx out", "extract {}/a.caidx out", "list {}/a.caidx", "cat {}/b.caibx"]
)
def test_packs_are_looked_for_while_the_index_comes(ok: Run, server: WebServer, web: str, words: str) -> None:
    """Both are known before the first chunk is asked for, and a line of 200 ms is not waited for twice."""
    looked, both = threading.Event(), []

    def answer(method: str, path: str, fields: dict[str, str], body: bytes) -> Reply | None:
        if path.endswith("/head"):
            looked.set()
        elif path.endswith((".caibx", ".caidx")):
            both.append(looked.wait(20))
        return None

    server.special = answer
    ok(*words.format(web).split())
    assert both[0]
    assert len([path for _, path, _ in server.asked if path.endswith("/head")]) == 2


@pytest.mark.parametrize("odd", ["a b", "a%20b", "a%3Fb", "a+b", "a&b=c", "\u00e4", "a\udcffb", "a%FFb"])
def test_odd_names(ok: Run, server: WebServer, web: str, tmp_path: Path, odd: str) -> None:
    """Names are taken as they are written, percent-encoded or not, whatever their bytes."""
    sent = quote(os.fsencode(odd), safe="%")
    name, there = unquote(sent), f"{server.url}/{odd}"
    for path in list(server.files):
        server.files[path.replace("/at/", f"/{name}/", 1)] = server.files[path]
    server.files[f"/{name}/{name}.caibx"] = server.files["/at/b.caibx"]
    ok("extract", f"--store={there}/default.castr", f"{there}/{odd}.caibx", "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "blob").read_bytes()
    (asked,) = (path for _, path, _ in server.asked if path.endswith(".caibx"))
    assert unquote_to_bytes(asked) == unquote_to_bytes(f"/{sent}/{sent}.caibx")


def test_a_page_for_whatever_is_asked(ok: Run, server: WebServer, web: str, tmp_path: Path) -> None:
    """A server that has a page instead of what it has not has no packs; what it has is read."""

    def answer(method: str, path: str, fields: dict[str, str], body: bytes) -> Reply | None:
        return None if path in server.files else Reply(200, b"\n<!doctype html><title>Welcome</title>")

    server.special = answer
    ok("extract", f"{web}/b.caibx", "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "blob").read_bytes()


def test_no_web_server(fails: Fails) -> None:
    """Something else that listens there is told from a failure of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=talk, daemon=True).start()
        said = fails("extract", f"http://127.0.0.1:{listening.getsockname()[1]}/x.caibx", "out")
        assert "does not speak HTTP" in said
        listening.shutdown(socket.SHUT_RDWR)


def test_verify(ok: Run, run: Run, server: WebServer, web: str, tree: Path) -> None:
    """The chunks of an index, in the store beside it; and a file or directory against it."""
    assert b"all good" in ok("verify", f"{web}/a.caidx").out
    assert b"all good" in ok("verify", f"{web}/a.caidx", tree).out
    assert b"all good" in ok("verify", f"{web}/b.caibx", "blob").out
    path = next(path for path in server.files if path.endswith(".cacnk"))
    del server.files[path]
    both = [run("verify", f"{web}/{name}") for name in ("a.caidx", "b.caibx")]
    assert sorted(result.status for result in both) == [0, 1]
    assert any(b"missing" in result.out for result in both)


def test_make(ok: Run, server: WebServer, web: str, tree: Path) -> None:
    """What is made there is what is made here; an index comes after all of its chunks."""
    server.files.clear()
    server.asked.clear()
    for name, source in (("a.catar", tree), ("a.caidx", tree), ("b.caibx", "blob")):
        sizes = [] if name.endswith("catar") else ["--chunk-size=4096"]
        ok("make", *sizes, f"{web}/{name}", source)
        assert server.files[f"/at/{name}"] == Path(name).read_bytes()
    puts = [path for method, path, _ in server.asked if method == "PUT"]
    assert {path for path in puts if path.endswith(".cacnk")} == {p for p in server.files if "castr" in p}
    indexes = [path for path in puts if not path.endswith(".cacnk")]
    assert indexes == ["/at/a.catar", "/at/a.caidx", "/at/b.caibx"]
    assert not puts[1].endswith("x")
    assert puts[-1] == "/at/b.caibx"
    assert ok("make", "-n", f"{web}/new.caidx", tree).out.startswith(b"Would create http")
    assert "/at/new.caidx" not in server.files


def test_nothing_appears_of_what_failed(fails: Fails, server: WebServer, web: str) -> None:
    """An index whose chunks could not be written is not written, nor an archive of what cannot be read."""
    before = set(server.files)
    server.special = lambda method, path, *_: Reply(403) if method == "PUT" and "cacnk" in path else None
    Path("fresh").write_bytes(b"never seen" * 9999)
    assert "403" in fails("make", f"{web}/new.caibx", "fresh")
    fails("make", f"{web}/new.catar", "nothing-here")
    assert set(server.files) == before
    server.special = lambda method, *_: Reply(403) if method == "PUT" else None
    said = fails("make", f"{web}/new.catar", "tree")
    assert "403" in said
    assert "new.catar" in said


def test_convert_index(ok: Run, web: str, server: WebServer) -> None:
    """From there to here, and from there to there."""
    ok("convert-index", "--chunk-size=1024", f"{web}/b.caibx", "small.caibx")
    ok("convert-index", "--chunk-size=1024", f"{web}/b.caibx", f"{web}/small.caibx")
    assert server.files["/at/small.caibx"] == Path("small.caibx").read_bytes()
    assert ok("digest", f"{web}/small.caibx").out == ok("digest", "b.caibx").out


def test_gc(ok: Run, fails: Fails, web: str) -> None:
    """Indexes there keep chunks here; where chunks cannot be listed none can be collected, and that is said."""
    assert b"Removed 0 chunks" in ok("gc", "--store=default.castr", f"{web}/a.caidx", f"{web}/b.caibx").out
    assert b"Would remove" in ok("gc", "-n", "--yes", "--store=default.castr", f"{web}/b.caibx").out
    assert "cannot list" in fails("gc", f"{web}/a.caidx")


@pytest.mark.parametrize(
    "verb",
    [
        *("list", "mtree", "stat", "digest", "extract {} fresh", "info", "verify"),
        *("dump", "gc -n", "cat {} x", "make x.caidx"),
    ],
)
def test_one_line_says_what_is_wrong(fails: Fails, server: WebServer, web: str, verb: str) -> None:
    """A file that is missing or forbidden, and a page in its place: one line with its name, without keys in it."""

    def said(name: str) -> str:
        words = verb if "{}" in verb else verb + " {}"
        line = fails(*words.format(f"{web}/{name}?key=SECRET").split())
        assert "SECRET" not in line
        return line

    server.special = lambda method, path, *_: Reply(403) if "forbidden" in path else None
    server.files["/at/page.caidx"] = b"<html><title>Index of /"
    if verb.startswith("make"):
        assert "a.caidx" in said("a.caidx")
        return
    assert "none.caidx: cannot open: No such file" in said("none.caidx")
    assert "(HTTP 403)" in said("forbidden.caidx")
    assert "page.caidx: a web page" in said("page.caidx") or verb == "dump"


def test_keys_are_in_no_output(ok: Run, web: str, tree: Path) -> None:
    """What stands behind a question mark is sent, and not shown."""
    for words in (["--json"], ["-n"], ["-n", "--json"]):
        out = ok("make", *words, f"{web}/b.catar?key=SECRET", tree).out
        assert b"b.catar" in out
        assert b"SECRET" not in out
    assert json.loads(ok("make", "--json", f"{web}/b.catar?key=1", tree).out)["output"] == f"{web}/b.catar"
