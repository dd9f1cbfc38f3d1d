"""Stores, indexes and archives over HTTP: nginx, casync and desync at the other end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from compare import assert_same, snapshot
from grounds import Forest
from interop.tools import Pair, Tool, better_than_casync
from interop.webservers import Nginx, chunk_server, nginx  # noqa: F401 - a fixture
from trees import content

pytestmark = better_than_casync


@pytest.fixture
def at(nginx: Nginx, tmp_path: Path) -> Path:  # noqa: F811
    """A directory that nginx serves."""
    directory = nginx.root / tmp_path.name
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture
def web(request: pytest.FixtureRequest, nginx: Nginx, at: Path) -> str:  # noqa: F811
    """The URL of that directory."""
    return f"{getattr(nginx, request.param)}/{at.name}"


everywhere = pytest.mark.parametrize("web", ["plain", "tls", "bare"], indirect=True)


@pytest.fixture
def tree(pair: Pair, forest: Forest, at: Path) -> Path:
    """A tree, archived by real casync into that directory: tree.caidx and tree.catar."""
    source = forest.get("small")
    pair.casync("make", f"--store={at}/default.castr", at / "tree.caidx", source)
    pair.casync("make", at / "tree.catar", source)
    return source


@pytest.fixture
def ours(pair: Pair, nginx: Nginx) -> Tool:  # noqa: F811
    """pycasync, trusting nginx."""
    return pair.pycasync.given(SSL_CERT_FILE=str(nginx.certificate))


@everywhere
def test_reading_verbs(ours: Tool, pair: Pair, tree: Path, at: Path, web: str) -> None:
    """What is said of an archive or index on the web is what is said of the file."""
    for name in ("tree.caidx", "tree.catar"):
        for verb in ("list", "mtree", "digest"):
            assert ours(verb, f"{web}/{name}") == pair.casync(verb, at / name)
    assert ours("info", f"{web}/tree.caidx") == ours("info", at / "tree.caidx")
    some = next(path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink())
    inside = str(some.relative_to(tree))
    for name in ("tree.caidx", "tree.catar"):
        assert ours("cat", f"{web}/{name}", inside) == some.read_bytes()


@everywhere
def test_extract(ours: Tool, pair: Pair, tree: Path, at: Path, web: str) -> None:
    """Trees come back as casync restores them from the disk."""
    for name in ("tree.caidx", "tree.catar"):
        mine, theirs = pair.base / f"ours-{name}", pair.base / f"theirs-{name}"
        ours("extract", f"{web}/{name}", mine)
        pair.casync("extract", at / name, theirs)
        assert_same(snapshot(mine), snapshot(theirs))


@everywhere
def test_blob_and_named_store(ours: Tool, pair: Pair, at: Path, web: str) -> None:
    """A blob, its chunks beside the index or in a store that is named, as the only one or a further one."""
    (pair.base / "blob").write_bytes(content(3 << 20, 7))
    pair.casync("make", f"--store={at}/default.castr", at / "b.caibx", pair.base / "blob")
    ours("extract", f"{web}/b.caibx", pair.base / "one")
    ours("extract", f"--store={web}/default.castr", at / "b.caibx", pair.base / "two")
    ours(
        "extract",
        "--store=/nowhere.castr",
        f"--extra-store={web}/default.castr",
        at / "b.caibx",
        pair.base / "three",
    )
    for name in ("one", "two", "three"):
        assert (pair.base / name).read_bytes() == (pair.base / "blob").read_bytes()


@pytest.mark.parametrize("web", ["tls"], indirect=True)
def test_certificates_are_checked(pair: Pair, tree: Path, web: str) -> None:
    """A server whose certificate nobody vouches for is not believed."""
    outcome = pair.pycasync.run("list", f"{web}/tree.caidx")
    assert outcome.status == 1
    assert b"not trusted" in outcome.err
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("web", ["plain"], indirect=True)
def test_what_is_missing_is_named(pair: Pair, tree: Path, at: Path, web: str) -> None:
    """An index or a chunk that the server has not."""
    outcome = pair.pycasync.run("list", f"{web}/none.caidx")
    assert outcome.status == 1
    assert f"{web}/none.caidx".encode() in outcome.err
    chunk = sorted((at / "default.castr").glob("*/*.cacnk"))[0]
    chunk.unlink()
    outcome = pair.pycasync.run("extract", f"{web}/tree.caidx", pair.base / "out")
    assert outcome.status == 1
    assert chunk.name.partition(".")[0].encode() in outcome.err
    assert web.encode() in outcome.err


CERTIFICATES = Path(__file__).parents[1] / "fixtures/certificates"


@pytest.mark.parametrize("web", ["mutual"], indirect=True)
def test_client_certificates(ours: Tool, pair: Pair, tree: Path, at: Path, web: str) -> None:
    """A server that wants one has it shown; without it, and with another one, it gives nothing."""
    good = (f"--client-cert={CERTIFICATES}/a.pem", f"--client-key={CERTIFICATES}/a.key")
    assert ours("list", *good, f"{web}/tree.caidx") == pair.casync("list", at / "tree.caidx")
    assert ours("digest", *good, f"{web}/tree.caidx") == pair.casync("digest", at / "tree.caidx")
    for bad in ((), (f"--client-cert={CERTIFICATES}/b.pem", f"--client-key={CERTIFICATES}/b.key")):
        outcome = ours.run("list", *bad, f"{web}/tree.caidx")
        assert outcome.status == 1
        assert len(outcome.err.splitlines()) == 1
        assert web.encode() in outcome.err


@pytest.mark.parametrize("web", ["tls"], indirect=True)
def test_authorities(pair: Pair, tree: Path, nginx: Nginx, web: str) -> None:  # noqa: F811
    """The option, the variable, or no check at all."""
    expected = pair.pycasync("list", tree)
    url = f"{web}/tree.caidx"
    assert pair.pycasync("list", f"--ca-cert={nginx.certificate}", url) == expected
    assert pair.pycasync("list", "--trust-insecure", url) == expected
    assert pair.pycasync.given(SSL_CERT_FILE=str(nginx.certificate))("list", url) == expected


@pytest.mark.parametrize("web", ["locked"], indirect=True)
def test_logins(pair: Pair, tree: Path, at: Path, web: str, tmp_path: Path) -> None:
    """In the URL, in netrc's file, in desync's variable and in the configuration; nowhere is it shown."""
    expected = pair.casync("list", at / "tree.caidx")
    with_login = web.replace("://", "://me:p%3Aw%40x@")
    assert pair.pycasync("list", f"{with_login}/tree.caidx") == expected
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password p:w@x\n")
    (tmp_path / "toml").write_text(
        "".join(
            f'[stores."{url}"]\nusername = "me"\npassword = "p:w@x"\n'
            for url in (web, f"{web}/default.castr")
        )
    )
    for given in (
        {"NETRC": str(tmp_path / "netrc")},
        {"DESYNC_HTTP_AUTH": "Basic bWU6cDp3QHg="},
        {"PYCASYNC_CONFIG": str(tmp_path / "toml")},
    ):
        assert pair.pycasync.given(**given)("list", f"{web}/tree.caidx") == expected
    for url in (web, web.replace("://", "://me:TOPSECRET@")):
        outcome = pair.pycasync.run("list", "-v", f"{url}/tree.caidx")
        assert outcome.status == 1
        assert b"401" in outcome.err
        assert outcome.err.rstrip().endswith(
            b"; a login may stand in the URL, in ~/.netrc or in the configuration"
        )
        assert b"TOPSECRET" not in outcome.err


@pytest.mark.parametrize("web", ["strict"], indirect=True)
def test_a_server_that_turns_away(pair: Pair, tree: Path, at: Path, web: str) -> None:
    """Too many requests at once are asked for again, more slowly."""
    pair.pycasync("extract", f"{web}/tree.caidx", pair.base / "ours")
    pair.casync("extract", at / "tree.caidx", pair.base / "theirs")
    assert_same(snapshot(pair.base / "ours"), snapshot(pair.base / "theirs"))


class TestChunkServer:
    """desync's chunk-server."""

    def test_both_ways(self, pair: Pair, desync: Tool, tmp_path: Path) -> None:
        """We write what desync reads, and read what desync wrote; a second run writes nothing."""
        (tmp_path / "store").mkdir()
        blob = pair.base / "blob"
        blob.write_bytes(content(2 << 20, 3))
        with chunk_server(desync.command[0], tmp_path / "store", tmp_path / "log") as url:
            pair.pycasync("make", f"--store={url}", pair.base / "x.caibx", blob)
            desync("extract", "-s", url, pair.base / "x.caibx", pair.base / "theirs")
            assert (pair.base / "theirs").read_bytes() == blob.read_bytes()
            before = {path: os.stat(path).st_mtime_ns for path in (tmp_path / "store").rglob("*.cacnk")}
            pair.pycasync("make", f"--store={url}", pair.base / "y.caibx", blob)
            assert before == {
                path: os.stat(path).st_mtime_ns for path in (tmp_path / "store").rglob("*.cacnk")
            }
            other = pair.base / "other"
            other.write_bytes(content(2 << 20, 4))
            desync("make", "-s", url, pair.base / "z.caibx", other)
            pair.pycasync("extract", f"--store={url}", pair.base / "z.caibx", pair.base / "ours")
            assert (pair.base / "ours").read_bytes() == other.read_bytes()
