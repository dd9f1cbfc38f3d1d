"""Several stores at once: chains and failover groups, on the command line and in the library."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import casync_compat as casync
from casync_compat.cli import main
from casync_compat.errors import ChunkMissing, UsageError
from casync_compat.locations import Settings, group_members, open_source, open_store
from casync_compat.store.failover import FailoverGroup
from casync_compat.store.layered import Layered


@pytest.mark.parametrize(
    ("where", "members"),
    [
        ("a", ["a"]),
        ("a|b", ["a", "b"]),
        ("https://a/x|https://b/y|/c", ["https://a/x", "https://b/y", "/c"]),
        ("./a|b", ["./a|b"]),
        ("there|too", ["there|too"]),
    ],
)
def test_groups(where: str, members: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As desync writes them; what is there under such a name is no group."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there|too").mkdir()
    assert group_members(where) == members


def test_opened(tmp_path: Path) -> None:
    """A chain may have groups in it; a group cannot be written to."""
    source = open_source(f"{tmp_path}/a|{tmp_path}/b", [str(tmp_path / "c")], Settings())
    assert isinstance(source, Layered)
    assert isinstance(source.layers[0], FailoverGroup)
    with pytest.raises(UsageError, match="failover group"):
        open_store("https://a|https://b", Settings())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A blob whose chunks lie half in one store, half in another, and nowhere both."""
    monkeypatch.chdir(tmp_path)
    blob = b"".join(b"%d bottles\n" % number for number in range(100_000))
    (tmp_path / "blob").write_bytes(blob)
    assert main(["make", "--store=one", "--chunk-size=4096", "b.caibx", "blob"]) == 0
    for number, file in enumerate(sorted(tmp_path.glob("one/*/*"))):
        if number % 2:
            target = tmp_path / "two" / file.parent.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target)
    return tmp_path


VERBS = [
    ["extract", "b.caibx", "out"],
    ["cat", "b.caibx"],
    ["digest", "b.caibx"],
    ["verify", "b.caibx"],
    ["convert-index", "b.caibx", "c.caibx", "--chunk-size=8192"],
]


@pytest.mark.parametrize("words", VERBS, ids=lambda words: str(words[0]))
@pytest.mark.parametrize(
    "stores",
    [["--store=one", "--store=two"], ["--store=two", "--extra-store=one"], ["--store=no|one", "--store=two"]],
)
def test_every_verb_takes_several(here: Path, words: list[str], stores: list[str]) -> None:
    """What one store lacks is taken from the other, whichever is the primary."""
    assert main([words[0], *stores, *words[1:]]) == 0
    if words[0] == "extract":
        assert (here / "out").read_bytes() == (here / "blob").read_bytes()


def test_the_last_is_written_to(here: Path) -> None:
    """casync's rule: the primary is the last one named."""
    before = sorted(here.glob("one/*/*"))
    assert main(["make", "--store=one", "--store=new", "--chunk-size=4096", "d.caibx", "blob"]) == 0
    assert sorted(here.glob("one/*/*")) == before
    assert sorted(here.glob("new/*/*"))


def test_gc_leaves_the_others_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says so."""
    (here / "none").write_bytes(b"")
    assert main(["make", "--store=two", "e.caibx", "none"]) == 0
    before = sorted(here.glob("one/*/*"))
    time.sleep(0.05)  # an index that is as old as the run would count as named
    assert main(["gc", "--yes", "--store=one", "--store=two", "e.caibx"]) == 0
    assert sorted(here.glob("one/*/*")) == before
    assert not sorted(here.glob("two/*/*"))
    assert "the others are left as they are" in capsys.readouterr().err


def test_a_server_that_is_down(here: Path) -> None:
    """One warning, and the run goes on; where nobody else has a chunk the reason is that server."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
        command = [sys.executable, "-m", "casync_compat", "extract", f"--store={url}", "--store=one"]
        whole = subprocess.run(
            [*command, "--extra-store=two", "b.caibx", "out"], capture_output=True, text=True, timeout=120
        )
        assert whole.returncode == 0
        assert (here / "out").read_bytes() == (here / "blob").read_bytes()
        assert whole.stderr.count(url) == 1
        lacking = subprocess.run([*command, "b.caibx", "out2"], capture_output=True, text=True, timeout=120)
        assert lacking.returncode == 1
        assert url in lacking.stderr.splitlines()[-1]
        assert "is missing from one" in lacking.stderr.splitlines()[-1]


def test_library(here: Path) -> None:
    """The functions of the library take a list, the first of which is asked first."""
    casync.extract("b.caibx", "out", store=["one", here / "two"])
    assert (here / "out").read_bytes() == (here / "blob").read_bytes()
    casync.extract("b.caibx", "out2", store=("no|one", casync.open_store("two")))
    with pytest.raises(ChunkMissing, match="one"):
        casync.extract("b.caibx", "out3", store=["one"])
    with pytest.raises(UsageError, match="no store"):
        casync.extract("b.caibx", "out3", store=[])


@pytest.fixture
def web(here: Path) -> Iterator[str]:
    """The whole directory on a web server of the standard library, which counts what was asked of it."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, directory=str(here), **keywords)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_PUT(self) -> None:
            path = Path(self.translate_path(self.path))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 256  # as many as are asked for at once; more than that wait for long

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("configured", [False, True])
def test_cache_on_the_command_line(
    here: Path, web: str, configured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an option, or by `config.toml`: what was read or written once is here when the server is gone."""
    words = ["--chunk-cache=cache", "--chunk-cache-size=100M"]
    if configured:
        (here / "config.toml").write_text('chunk-cache = "cache"\nchunk-cache-size = "100M"')
        monkeypatch.setenv("PYCASYNC_CONFIG", str(here / "config.toml"))
        words = []
    stores = [f"--store={web}/one", f"--store={web}/two"]
    assert main(["extract", *words, *stores, "b.caibx", "out"]) == 0
    chunks = len(list(here.glob("one/*/*"))) + len(list(here.glob("two/*/*")))
    assert len(list(here.glob("cache/*/*"))) == chunks
    (here / "one").rename(here / "gone")
    assert main(["extract", *words, *stores, "b.caibx", "again"]) == 0
    assert (here / "again").read_bytes() == (here / "blob").read_bytes()
    (here / "small").write_bytes(b"something else\n")
    assert main(["make", *words, f"--store={web}/two", "s.caibx", "small"]) == 0
    assert len(list(here.glob("cache/*/*"))) == chunks + 1
    assert main(["extract", *words, "--store=one", "--extra-store=two", "s.caibx", "out2"]) == 0
    assert len(list(here.glob("cache/*/*"))) == chunks + 1
