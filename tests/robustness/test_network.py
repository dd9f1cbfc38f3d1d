"""Bad networks and hostile servers: every job ends with the right bytes, or one line that names chunk and store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from faultproxy import (
    Cut,
    Endless,
    Fault,
    FaultProxy,
    Flip,
    Heads,
    Length,
    Loris,
    Moved,
    Reset,
    Script,
    Slow,
    Status,
    always,
    fault_proxy,
    first,
    seeded,
)
from webserver import web_server

from .mutants import times
from .running import Word, build_tree, everything, fails, run, start, works

SMALL = ("--chunk-size=4096:8192:16384",)
MEMORY = 200 << 20
CERTIFICATES = Path(__file__).parents[1] / "fixtures/certificates"
PAST = "Sun, 29 Nov 2020 00:00:00 GMT"
STORMS: dict[str, tuple[Fault, ...]] = {
    "resets": (Reset(0.0), Reset(0.5), Reset(1.0)),
    "truncation": (Cut(0.0), Cut(0.3), Cut(1.0)),
    "statuses": (Status(500), Status(502), Status(503), Status(504), Status(408), Status(425)),
    "too many": (Status(429, "0"), Status(503, PAST), Status(429)),
    "latency": (Slow(0.05), Slow(0.2)),
    "all": (Reset(0.5), Cut(0.9), Status(503), Status(429, "0"), Slow(0.02)),
}


@dataclass
class Site:
    """What servers have: a tree and a blob, as indexes with chunks in one store.

    :ivar files: by path, as they lie on a server
    """

    base: Path
    files: dict[str, bytes]

    def chunks(self) -> list[str]:
        """The paths of the chunks of the blob's index."""
        return sorted(path for path in self.files if path.endswith(".cacnk"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    base = tmp_path_factory.mktemp("site")
    build_tree(base / "tree")
    (base / "blob").write_bytes(os.urandom(1 << 18))
    served = base / "served"
    served.mkdir()
    for name, source in (("tree.caidx", "tree"), ("blob.caibx", "blob"), ("tree.catar", "tree")):
        works("make", *SMALL, f"--store={served}/default.castr", served / name, base / source, cwd=base)
    files = {
        f"/s/{path.relative_to(served)}": path.read_bytes() for path in served.rglob("*") if path.is_file()
    }
    return Site(base, files)


Serve = Callable[..., AbstractContextManager[FaultProxy]]


@pytest.fixture
def serve(site: Site, tmp_path: Path) -> Serve:
    """Begin a server that has the site, in a network of a script; it is spoken to with little patience."""

    @contextmanager
    def begin(
        script: Script,
        *,
        files: dict[str, bytes] | None = None,
        certificates: tuple[Path, ...] = (),
        retries: int = 9,
    ) -> Iterator[FaultProxy]:
        given = dict(site.files if files is None else files)
        with fault_proxy(given, script, certificates=certificates) as proxy:
            said = f"retry-interval = 0.01\nretries = {retries}\ntimeout = 1\n"
            keys = (f"{proxy.url}/s", f"{proxy.url}/s/default.castr")
            (tmp_path / "config.toml").write_text("".join(f'[stores."{key}"]\n{said}' for key in keys))
            yield proxy

    return begin


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PYCASYNC_CONFIG": str(tmp_path / "config.toml")}


def nothing_twice(proxy: FaultProxy) -> None:
    """What came whole was not asked for again."""
    assert {
        what: count for what, count in proxy.whole.items() if count > 1 and what[0] in ("GET", "PUT")
    } == {}


@pytest.mark.parametrize("seed", range(times(1)))
@pytest.mark.parametrize("storm", STORMS)
class TestStorms:
    """A third of all requests goes wrong, and all is as if none had."""

    def script(self, storm: str, seed: int) -> Script:
        return seeded(seed, 0.3, *STORMS[storm])

    def test_a_tree(
        self, site: Site, serve: Serve, tmp_path: Path, environ: dict[str, str], storm: str, seed: int
    ) -> None:
        """Extracted from an index, and listed."""
        with serve(self.script(storm, seed)) as proxy:
            works("extract", f"{proxy.url}/s/tree.caidx", tmp_path / "out", cwd=tmp_path, environ=environ)
            nothing_twice(proxy)
            listed = works("list", f"{proxy.url}/s/tree.caidx", cwd=tmp_path, environ=environ)
        assert everything(tmp_path / "out") == everything(site.base / "tree")
        assert listed.out == works("list", site.base / "tree", cwd=tmp_path).out

    def test_a_blob(
        self, site: Site, serve: Serve, tmp_path: Path, environ: dict[str, str], storm: str, seed: int
    ) -> None:
        """Extracted from an index."""
        with serve(self.script(storm, seed)) as proxy:
            works("extract", f"{proxy.url}/s/blob.caibx", tmp_path / "out", cwd=tmp_path, environ=environ)
            nothing_twice(proxy)
        assert (tmp_path / "out").read_bytes() == (site.base / "blob").read_bytes()

    def test_an_archive(
        self, site: Site, serve: Serve, tmp_path: Path, environ: dict[str, str], storm: str, seed: int
    ) -> None:
        """A whole file, large enough to break off several times."""
        with serve(self.script(storm, seed)) as proxy:
            works("extract", f"{proxy.url}/s/tree.catar", tmp_path / "out", cwd=tmp_path, environ=environ)
        assert everything(tmp_path / "out") == everything(site.base / "tree")

    def test_making(
        self, site: Site, serve: Serve, tmp_path: Path, environ: dict[str, str], storm: str, seed: int
    ) -> None:
        """Chunks and index sent to a server."""
        with serve(self.script(storm, seed), files={}) as proxy:
            words = ("make", *SMALL, f"--store={proxy.url}/s/default.castr", f"{proxy.url}/s/blob.caibx")
            works(*words, site.base / "blob", cwd=tmp_path, environ=environ)
            made = proxy.server.files
        assert made["/s/blob.caibx"] == site.files["/s/blob.caibx"]
        assert all(site.files[path] == content for path, content in made.items())


def test_bits_that_flip_once(site: Site, serve: Serve, tmp_path: Path, environ: dict[str, str]) -> None:
    """A chunk that came damaged is asked for once more."""
    with serve(first(Flip(), paths="cacnk")) as proxy:
        works("extract", f"{proxy.url}/s/blob.caibx", tmp_path / "out", cwd=tmp_path, environ=environ)
    assert (tmp_path / "out").read_bytes() == (site.base / "blob").read_bytes()


def named(line: str, proxy: FaultProxy, path: str) -> None:
    """A line says which server it was, and which file."""
    assert proxy.url in line, line
    assert Path(path).name.removesuffix(".cacnk") in line, line


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Reset(0.5), "reset by peer"),
        (Cut(0.5), "broke off"),
        (Status(500), "HTTP 500"),
        (Status(429, "100000"), "HTTP 429"),
        (Status(403), "HTTP 403"),
        (Status(404), "missing"),
        (Flip(), ""),
        (Length(10), "broke off"),
        (Length(-10), ""),
        (Endless(), ""),
        (Heads(2 << 20), ""),
        (Loris(5), "timed out"),
    ],
    ids=str,
)
@pytest.mark.parametrize("job", ["blob.caibx", "tree.caidx"])
def test_one_chunk_that_cannot_be_had(
    site: Site, serve: Serve, tmp_path: Path, environ: dict[str, str], fault: Fault, says: str, job: str
) -> None:
    """One line that names the chunk and the store, in bounded time and memory."""
    path = next(iter(set(site.chunks()) & set(_chunks_of(site, job))))
    with serve(always(fault, paths=path), retries=1) as proxy:
        line = fails(
            "extract", f"{proxy.url}/s/{job}", tmp_path / "out", cwd=tmp_path, environ=environ, memory=MEMORY
        )
        named(line, proxy, path)
    assert says in line


def _chunks_of(site: Site, index: str) -> list[str]:
    from casync_compat.index import Index

    found = Index.parse(site.files[f"/s/{index}"])
    return [f"/s/default.castr/{chunk.id.hex()[:4]}/{chunk.id.hex()}.cacnk" for chunk in found.chunks()]


def test_a_bomb(site: Site, serve: Serve, tmp_path: Path, environ: dict[str, str]) -> None:
    """A chunk that unpacks to a gigabyte."""
    path = _chunks_of(site, "blob.caibx")[3]
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 30))
    with serve(always(Slow(0)), files={**site.files, path: bomb}) as proxy:
        words = ("extract", f"{proxy.url}/s/blob.caibx", tmp_path / "out")
        named(fails(*words, cwd=tmp_path, environ=environ, memory=MEMORY), proxy, path)


@pytest.mark.parametrize(
    "fault",
    [Endless(), Heads(2 << 20), Cut(0.5), Reset(0.9), Length(10), Length(-10), Loris(5), Status(500)],
    ids=str,
)
@pytest.mark.parametrize("verb", ["extract", "list"])
def test_an_index_that_cannot_be_had(
    serve: Serve, tmp_path: Path, environ: dict[str, str], fault: Fault, verb: str
) -> None:
    """The same of an index."""
    with serve(always(fault, paths="caidx"), retries=1) as proxy:
        words = (verb, f"{proxy.url}/s/tree.caidx", *(["out"] if verb == "extract" else []))
        line = fails(*words, cwd=tmp_path, environ=environ, memory=MEMORY)
    assert proxy.url in line
    assert "tree.caidx" in line


@pytest.mark.parametrize("fault", [Loris(5), Status(429, "200")], ids=str)
@pytest.mark.parametrize("verb", ["extract", "make"])
def test_interrupted(site: Site, serve: Serve, tmp_path: Path, fault: Fault, verb: str) -> None:
    """A run that waits for a server, with all the patience there is, ends when it is told to."""
    with serve(always(fault, paths="cacnk")) as proxy:
        words: tuple[Word, ...] = ("extract", f"{proxy.url}/s/blob.caibx", tmp_path / "out")
        if verb == "make":
            words = ("make", f"--store={proxy.url}/s/default.castr", tmp_path / "x.caibx", site.base / "blob")
        process = start(*words, cwd=tmp_path)
        while not any("cacnk" in path for _, path, _ in proxy.server.asked):
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        _, err = process.communicate(timeout=15)
    assert err == b"Got exit signal, quitting.\n"


def test_credentials_stay_home(site: Site, serve: Serve, tmp_path: Path, environ: dict[str, str]) -> None:
    """A server that sends everybody to another host gets the login; the other host gets none, and gives the bytes."""
    with web_server() as other:
        other.files = dict(site.files)
        with serve(always(Moved(other.url, 307), paths="cacnk")) as proxy:
            url = proxy.url.replace("://", "://me:TOPSECRET@")
            outcome = run(
                "extract", "-v", f"{url}/s/blob.caibx", tmp_path / "out", cwd=tmp_path, environ=environ
            )
            assert outcome.status == 0
            assert b"TOPSECRET" not in outcome.err
        assert (tmp_path / "out").read_bytes() == (site.base / "blob").read_bytes()
        assert proxy.server.asked
        assert all("authorization" in fields for _, _, fields in proxy.server.asked)
        assert other.asked
        assert not any("authorization" in fields for _, _, fields in other.asked)


def test_a_certificate_that_changes(
    site: Site, serve: Serve, tmp_path: Path, environ: dict[str, str]
) -> None:
    """Whoever is not trusted is not believed, also when another was before; with both trusted all is well."""
    both, other = tmp_path / "trusted.pem", tmp_path / "other.pem"
    other.write_bytes(b"".join((CERTIFICATES / name).read_bytes() for name in ("b.pem", "b.key")))
    both.write_bytes(b"".join((CERTIFICATES / name).read_bytes() for name in ("a.pem", "b.pem")))
    with serve(first(Cut(0.5)), certificates=(CERTIFICATES / "both.pem", other)) as proxy:
        words = ("extract", f"{proxy.url}/s/blob.caibx", tmp_path / "out")
        line = fails(f"--ca-cert={CERTIFICATES}/a.pem", *words, cwd=tmp_path, environ=environ)
        assert proxy.url in line
        assert "not trusted" in line
        works(f"--ca-cert={both}", *words, cwd=tmp_path, environ=environ)
    assert (tmp_path / "out").read_bytes() == (site.base / "blob").read_bytes()


def test_a_certificate_of_nobody(serve: Serve, tmp_path: Path, environ: dict[str, str]) -> None:
    """It is refused, unless that is asked for."""
    with serve(first(Slow(0)), certificates=(CERTIFICATES / "both.pem",)) as proxy:
        words = ("list", f"{proxy.url}/s/tree.caidx")
        assert "--ca-cert" in fails(*words, cwd=tmp_path, environ=environ)
        works("--trust-insecure", *words, cwd=tmp_path, environ=environ)
