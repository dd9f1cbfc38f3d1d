"""The exit status of `make`, and of what else reads directories, when not everything can be read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from .conftest import Run


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory that every user may enter, and write to."""
    with TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.fixture
def tree(tmp_path: Path, ok: Run) -> Iterator[Path]:
    """A tree of which an ordinary user may not read `secret`, for an ordinary user."""
    for suffix in ("catar", "caidx"):  # so that every module is imported while that is allowed
        ok("make", str(tmp_path / f"first.{suffix}"), str(Path(__file__).parent))
        for verb in ("list", "digest", "mtree"):
            ok(verb, str(tmp_path / f"first.{suffix}"))
    for made in (tmp_path / "default.castr").rglob("*"):
        os.chmod(made, 0o777)
    os.chmod(tmp_path / "default.castr", 0o777)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "open").write_bytes(b"x")
    (tree / "secret").write_bytes(b"y")
    os.chmod(tree / "secret", 0)
    os.seteuid(65534)
    yield tree
    os.seteuid(0)


@pytest.mark.parametrize("suffix", ["catar", "caidx"])
def test_status_and_summary(tree: Path, tmp_path: Path, run: Run, suffix: str) -> None:
    """What can be read is archived; it is said what could not, and the status is 3."""
    made = tmp_path / f"x.{suffix}"
    result = run("make", str(made), str(tree))
    assert result.status == 3
    first, last = result.err.decode().splitlines()
    assert first.endswith(f"warning: {tree}/secret: it cannot be read (Permission denied), and is left out")
    assert last.endswith(f"not archived as it was: unreadable entries (1, first {tree}/secret)")
    listed = run("list", str(made))
    assert (listed.status, listed.out.split(), listed.err) == (0, run("list", str(made)).out.split(), b"")
    assert b"open" in listed.out
    assert b"secret" not in listed.out


def test_json(tree: Path, tmp_path: Path, run: Run) -> None:
    """A program is told the same."""
    result = run("make", "--json", str(tmp_path / "x.catar"), str(tree))
    assert result.status == 3
    told = json.loads(result.out)
    assert told["left_out"] == [{"kind": "unreadable entries", "count": 1, "first": f"{tree}/secret"}]
    assert told["entries"] == 2


def test_strict(tree: Path, tmp_path: Path, run: Run) -> None:
    """Who wants all or nothing says so."""
    result = run("make", "--strict", str(tmp_path / "x.catar"), str(tree))
    assert result.status == 1
    assert f"{tree}/secret: cannot open: Permission denied" in result.err.decode()
    assert not (tmp_path / "x.catar").exists()


def test_complete(tree: Path, tmp_path: Path, run: Run) -> None:
    """What is complete is status 0 and an empty list."""
    os.seteuid(0)
    result = run("make", "--json", str(tmp_path / "x.catar"), str(tree))
    assert (result.status, json.loads(result.out)["left_out"], result.err) == (0, [], b"")


@pytest.mark.parametrize("verb", ["digest", "list", "mtree"])
def test_others_that_read_directories(tree: Path, tmp_path: Path, run: Run, verb: str) -> None:
    """They tell what `make` would have archived, and that it is not all."""
    result = run(verb, str(tree))
    assert result.status == 3
    assert f"not read as it was: unreadable entries (1, first {tree}/secret)" in result.err.decode()
    made = run("make", str(tmp_path / "x.catar"), str(tree))
    archived = run(verb, str(tmp_path / "x.catar"))
    assert (archived.status, archived.out) == (0, result.out)
    if verb == "digest":
        assert made.out == result.out


def test_names_are_escaped(tree: Path, tmp_path: Path, run: Run) -> None:
    """A name cannot write what it likes on the terminal."""
    os.seteuid(0)
    os.rename(tree / "secret", tree / "\x1b[31m\n")
    os.seteuid(65534)
    result = run("make", str(tmp_path / "x.catar"), str(tree))
    assert result.status == 3
    assert b"\x1b" not in result.err
    assert rb"\x1b[31m\n: it cannot be read" in result.err
