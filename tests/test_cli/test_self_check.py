"""`pycasync self-check`: what is here, and how to get what is not."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from casync_compat.verbs import self_check

from .conftest import Run

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())


def findings(ok: Run, *words: str) -> dict[str, dict[str, object]]:
    """What is found, by name."""
    said = json.loads(ok("self-check", "--json", *words).out)
    return {one["name"]: one for one in said["findings"]}


def test_everything_is_looked_for() -> None:
    """All native modules that are built, and all libraries that a user may install, each with the extra that has it."""
    modules = {each["name"] for each in PROJECT["tool"]["setuptools"]["ext-modules"]}
    assert set(self_check.NATIVE) == modules
    extras = {"": PROJECT["project"]["dependencies"], **PROJECT["project"]["optional-dependencies"]}
    packages = {
        extra: {re.split(r"[<>=\[; ]", requirement)[0].lower() for requirement in requirements}
        for extra, requirements in extras.items()
    }
    known = {name.lower() for name, *_ in self_check.LIBRARIES}
    assert [row for row in self_check.LIBRARIES if row[0].lower() not in packages[row[3]]] == []
    for extra in packages.keys() - {"test", "dev", "docs", "all"}:
        assert packages[extra] <= known, extra


def test_what_is_told(ok: Run, tmp_path: Path) -> None:
    """Libraries come with their version, the file system of the directory is tried, and nothing is left in it."""
    found = findings(ok, str(tmp_path))
    assert found["zstandard"]["there"]
    assert re.match(r"\d+\.\d+", str(found["zstandard"]["what"]))
    os.setxattr(tmp_path, "user.test", b"1")
    assert found["extended attributes"]["there"]
    assert found["release"]["what"] == os.uname().release
    assert list(tmp_path.iterdir()) == []
    text = ok("self-check").out.decode()
    assert text.startswith("pycasync ")
    for name in found:
        assert re.search(rf"^  (yes |no  ) {re.escape(name)}\b", text, re.MULTILINE), name


def test_what_is_missing(ok: Run, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there is told with how to get it; the exit status is 1 only where nothing works without it."""
    monkeypatch.setitem(sys.modules, "granian", None)
    monkeypatch.setitem(sys.modules, "casync_compat.chunker._kernel", None)
    monkeypatch.setenv("PATH", "/nowhere")
    text = ok("self-check").out.decode()
    assert re.search(r"no   granian .* pip install 'pycasync\[serve\]' \(serve over TLS\)", text)
    assert re.search(r"no   casync_compat.chunker._kernel .* in Python", text)
    assert re.search(r"no   ssh +not in \$PATH \(places on other machines\)", text)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert run("self-check").status == 1


def test_a_directory_that_is_not_there(fails: Callable[..., str]) -> None:
    """A directory must be one."""
    assert fails("self-check", "nowhere") == "nowhere: cannot open: No such file or directory"
