"""`--log-level` and `--log-file`: what a run says of its work, and what it never says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from webserver import Reply, WebServer, web_server

from .conftest import Run

WARNING = b"pycasync: warning: gc works on one store, default.castr; the others are left as they are\n"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


@pytest.fixture
def server(ok: Run, tree: Path, tmp_path: Path) -> Iterator[WebServer]:
    """An index and its chunks on a web server."""
    ok("make", "a.caidx", tree)
    with web_server() as running:
        for path in [Path("a.caidx"), *Path("default.castr").rglob("*.cacnk")]:
            running.files[f"/at/{path}"] = path.read_bytes()
        yield running


@pytest.mark.parametrize("level", ["err", "3", "crit", "error", "emergency"])
def test_no_warnings(run: Run, tree: Path, level: str) -> None:
    """Who wants errors only is told no warnings."""
    run("make", "a.caidx", "tree")
    words = ("gc", "a.caidx", "--extra-store=x")
    assert run(*words).err == run(*words, "-l", "notice").err == WARNING
    assert run(*words, "-l", level).err == b""


def test_choices_and_times(run: Run, tree: Path) -> None:
    """At level info each store and seed is told that is used, and how long it took; nothing by default."""
    assert run("make", "a.caidx", "tree").err == b""
    said = run("extract", "-l", "info", "--seed=tree", "a.caidx", "out").err.decode()
    assert "pycasync: info: chunks come from default.castr\n" in said
    assert "pycasync: info: a seed: tree\n" in said
    assert re.search(r"^pycasync: info: extract: status 0 after \d+\.\d\d s$", said, re.MULTILINE)


def test_log_file(run: Run, fails: Callable[..., str], tree: Path) -> None:
    """The file gets, with the time, what info tells, warnings and errors, one run after the other."""
    assert run("make", "--log-file=log", "a.caidx", "tree").err == b""
    assert run("gc", "--log-file=log", "a.caidx", "--extra-store=x").err == WARNING
    error = fails("list", "nowhere", "--log-file=log")
    lines = Path("log").read_text().splitlines()
    assert [line for line in lines if not MOMENT.match(line)] == []
    texts = [MOMENT.sub("", line) for line in lines]
    assert "info casync_compat.locations.stores: store: default.castr" in texts
    assert f"warning casync_compat: {WARNING.decode().removeprefix('pycasync: warning: ').strip()}" in texts
    assert texts[-1] == f"error casync_compat: {error}"
    fails("list", "nowhere", "--log-file=other", "-l", "err")
    assert "Traceback" not in Path("other").read_text()
    run("list", "nowhere", "--log-file=third", "-l", "debug")
    assert "Traceback" in Path("third").read_text()


def test_a_log_that_cannot_be_written(fails: Callable[..., str], tree: Path) -> None:
    """A log that was asked for and cannot be had is an error, before anything is done."""
    assert fails("make", "--log-file=no/log", "a.caidx", "tree").startswith("no/log: cannot write: ")
    assert not Path("a.caidx").exists()


def test_requests(run: Run, server: WebServer) -> None:
    """At level debug each request is told, with its status, and what is secret in it is not."""
    login = server.url.replace("://", "://me:geheim@")
    said = run("list", "-l", "debug", f"{login}/at/a.caidx?key=geheim", f"--store={login}/at/default.castr")
    text = said.err.decode()
    assert f"pycasync: debug: GET {server.url}/at/a.caidx: status " in text
    assert re.search(rf"debug: GET {server.url}/at/default.castr/\w{{4}}/\w+\.cacnk: ", text)
    assert "geheim" not in text
    assert said.out


def test_second_attempts(run: Run, server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """At level info it is told that a request is sent again, and why."""
    config = Path("config.toml")
    config.write_text('[stores."http://*/at"]\nretry-interval = 0.01\n')
    monkeypatch.setenv("PYCASYNC_CONFIG", str(config.absolute()))
    failures = iter([Reply(503)])
    server.special = lambda *_: next(failures, None)
    said = run("info", "-l", "info", f"{server.url}/at/a.caidx").err.decode()
    assert f"GET {server.url}/at/a.caidx: status 503; attempt 2 comes in 0.0 s" in said


def test_programs_may_listen(tree: Path) -> None:
    """A program that uses the library hears through `logging`, and nobody else is bothered."""
    program = (
        "import logging, sys\n"
        "logging.basicConfig(level=logging.INFO, format='%(name)s|%(message)s', stream=sys.stdout)\n"
        "import casync_compat as casync\n"
        "casync.make('a.caidx', 'tree')\n"
        "casync.extract('a.caidx', 'out', options=casync.ExtractOptions(seeds=(b'tree',)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "casync_compat.streams.seeds|a seed: tree" in done.stdout


def test_log_file_on_a_full_disk(run: Run, tree: Path) -> None:
    """It is told of once, in a line, and the run goes on as without it."""
    result = run("make", "--log-file=/dev/full", "-l", "debug", "a.caidx", "tree")
    assert result.status == 0
    assert result.err.count(b"pycasync: ") == 1
    assert (
        b"pycasync: warning: /dev/full: cannot write: No space left on device; nothing more is logged"
        in result.err
    )
    assert Path("a.caidx").exists()


def test_log_file_that_nobody_reads(fails: Callable[..., str], tree: Path) -> None:
    """A pipe without a reader is an error, not something to wait for."""
    os.mkfifo("pipe")
    assert fails("make", "--log-file=pipe", "a.caidx", "tree").startswith("pipe: cannot write: ")


def test_log_of_names_that_are_no_text(run: Run, tree: Path) -> None:
    """A name of any bytes is written."""
    result = run("list", "--log-file=log", os.fsdecode(b"\xff\xfe.caidx"))
    assert result.status == 1
    assert b"Traceback" not in result.err
    assert Path("log").read_bytes().count(b"\n") == 1
