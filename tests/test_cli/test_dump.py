"""`dump` from the command line: what it prints where, and its exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from casync_compat.fs.scan import reusing

from .conftest import Run

FIXTURES = Path(__file__).parents[1] / "fixtures" / "catar"
Fails = Callable[..., str]
KINDS = ("CACHE_DIRECTORY", "CACHE_NAME", "CACHE_IDENTITY")


def test_archive(ok: Run) -> None:
    """One line a piece, or one JSON object; from a file and from standard input alike."""
    archive = FIXTURES / "one-file.catar"
    lines = ok("dump", archive).out.splitlines()
    assert lines[0].split()[:3] == [b"0", b"ENTRY", b"64"]
    pieces = [json.loads(line) for line in ok("dump", "--json", archive).out.splitlines()]
    assert len(pieces) == len(lines)
    assert sum(piece["size"] for piece in pieces) == archive.stat().st_size
    assert ok("dump", "-", stdin=archive).out.splitlines() == lines


def test_index_and_chunk(ok: Run, tree: Path) -> None:
    """What `make` wrote is shown: the index, and each of its chunks under the id that is its name."""
    ok("make", "x.caidx", tree)
    pieces = [json.loads(line) for line in ok("dump", "x.caidx", "--json").out.splitlines()]
    ids = {piece["fields"]["id"] for piece in pieces if piece["type"] == "INDEX_ITEM"}
    chunks = {path.stem: path for path in Path("default.castr").glob("*/*.cacnk")}
    assert ids == set(chunks)
    for name, path in chunks.items():
        assert json.loads(ok("dump", "--json", path).out)["fields"]["sha512_256"] == name


def test_cache(ok: Run, run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache shows which files it knows and by what; one flipped bit is noticed, if only by the checksum."""
    monkeypatch.setattr(reusing, "SETTLED", -3600 * 10**9)  # what has only just changed is believed
    ok("make", "--cache=cache", "x.caidx", tree)
    (cache,) = Path("cache").glob("*.cache")
    pieces = [json.loads(line) for line in ok("dump", "--json", cache).out.splitlines()]
    assert sum(piece["size"] for piece in pieces) == cache.stat().st_size
    fields = {kind: [piece["fields"] for piece in pieces if piece["type"] == kind] for kind in KINDS}
    assert [found["path"] for found in fields["CACHE_DIRECTORY"]] == ["sub", ""]
    assert [found["name"] for found in fields["CACHE_NAME"]] == ["data", "link", "hello", "sub"]
    inodes = [(tree / name).lstat().st_ino for name in ("sub/data", "sub/link", "hello", "sub")]
    assert [found["inode"] for found in fields["CACHE_IDENTITY"]] == inodes
    data = bytearray(cache.read_bytes())
    for at in range(0, len(data), len(data) // 5):
        data[at] ^= 1
        Path("damaged").write_bytes(data)
        result = run("dump", "damaged")
        assert result.status == 1
        assert result.err.count(b"\n") == 1
        data[at] ^= 1


def test_damaged(run: Run) -> None:
    """What is right is printed, then one line says where it ends; the status is 1."""
    archive = FIXTURES / "broken" / "user-twice.catar"
    result = run("dump", archive)
    assert result.status == 1
    assert [line.split()[1] for line in result.out.splitlines()] == [b"ENTRY", b"FILENAME", b"ENTRY", b"USER"]
    assert result.err.count(b"\n") == 1
    assert b"user-twice.catar: USER record is out of order (at byte 164)" in result.err


def test_refused(fails: Fails, tree: Path) -> None:
    """A store is a directory, and other files are none of ours."""
    Path("x.castr").mkdir()
    assert "x.castr: cannot dump: it is a directory" in fails("dump", "x.castr")
    Path("text").write_text("text")
    assert "text: by its first bytes neither archive, index" in fails("dump", "text")
    assert "No such file" in fails("dump", "missing.catar")
