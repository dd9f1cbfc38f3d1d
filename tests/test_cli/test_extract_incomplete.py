"""The exit status of `extract` when the target cannot hold everything."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import xattr

from .conftest import Run


@pytest.fixture
def archive(tmp_path: Path, ok: Run) -> Path:
    """An archive of a file with an attribute, which can from now on not be set."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "f").write_bytes(b"x")
    os.setxattr(tmp_path / "tree" / "f", "user.x", b"1")
    made = tmp_path / "x.catar"
    ok("make", str(made), str(tmp_path / "tree"))
    return made


@pytest.fixture
def refusing(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive, where attributes are refused."""

    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(xattr, "set", refuse)
    return archive


def test_status_and_summary(refusing: Path, tmp_path: Path, run: Run) -> None:
    """Data is there, one line says what is not, and the status is 3."""
    out = tmp_path / "out"
    result = run("extract", str(refusing), str(out))
    assert result.status == 3
    (line,) = result.err.decode().splitlines()
    assert line.endswith(f"the target cannot hold it: extended attributes (1, first {out}/f)")
    assert (out / "f").read_bytes() == b"x"


def test_json(refusing: Path, tmp_path: Path, run: Run) -> None:
    """A program is told the same."""
    out = tmp_path / "out"
    result = run("extract", "--json", str(refusing), str(out))
    assert result.status == 3
    told = json.loads(result.out)
    assert told["left_out"] == [{"kind": "extended attributes", "count": 1, "first": f"{out}/f"}]
    assert told["entries"] == 2


def test_strict(refusing: Path, tmp_path: Path, run: Run) -> None:
    """Who wants all or nothing says so; the hint of the message works."""
    out = tmp_path / "out"
    result = run("extract", "--strict", str(refusing), str(out))
    assert result.status == 1
    assert "--without=xattrs leaves it out" in result.err.decode()
    assert run("extract", "--strict", "--without=xattrs", str(refusing), str(out)).status == 0


def test_complete(archive: Path, tmp_path: Path, run: Run) -> None:
    """What is complete is status 0 and an empty list."""
    result = run("extract", "--json", str(archive), str(tmp_path / "out"))
    assert (result.status, json.loads(result.out)["left_out"]) == (0, [])


def test_no_place_for_temporary_files(
    ok: Run, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a system that is all read-only but for the target, a seed is not used and the tree is there."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "f").write_bytes(b"x")
    ok("make", "--store=s.castr", "x.caidx", "tree")
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere/tmp"])
        result = run("extract", "--store=s.castr", "--seed=tree", "x.caidx", "out")
    assert result.status == 0
    said = result.err.decode()
    assert "tree is not used as a seed: TMPDIR: cannot make a temporary file" in said
    assert "/nowhere/tmp" in said
    assert (tmp_path / "out" / "f").read_bytes() == b"x"
