"""What is published: the sdist has everything, the wheel what runs, two builds are the same, and names are right."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from documents.pasting import ROOT

METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def _tracked() -> list[str]:
    """The files of the checkout that are in version control; where there is none, all that .gitignore leaves."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return sorted(name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).exists())
    hidden = {".venv", ".peers", ".git", "build", "dist", ".hypothesis"}
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return sorted(
        str(path)
        for path in found
        if not hidden & set(path.parts) and "cache" not in str(path) and path.suffix not in (".so", ".pyc")
    )


def _build(what: str, source: Path, out: Path) -> Path:
    """Build from a copy of `source`, without native modules, as pip does where no compiler is."""
    out.mkdir(parents=True)
    copy = out / "source"
    shutil.copytree(source, copy, symlinks=True)
    environ = os.environ | {"CC": "false", "SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, "-c", BUILD, f"build_{what}", str(out)]
    done = subprocess.run(command, cwd=copy, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = (path for path in out.iterdir() if path.is_file())
    return made


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in version control, and nothing else."""
    top = tmp_path_factory.mktemp("clone")
    for name in _tracked():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, top / name, follow_symlinks=False)
    return top


@pytest.fixture(scope="module")
def sdist(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    base = tmp_path_factory.mktemp("sdist")
    with tarfile.open(_build("sdist", clone, base / "built")) as archive:
        archive.extractall(base, filter="data")
    (top,) = base.glob("pycasync-*")
    return top


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist."""
    return _build("wheel", sdist, tmp_path_factory.mktemp("wheel") / "built")


def test_the_sdist_has_everything(sdist: Path) -> None:
    """Whoever has it can set up, run every test and build the documents: no file of the checkout is missing."""
    missing = [name for name in _tracked() if not os.path.lexists(sdist / name)]
    assert not missing
    assert os.access(sdist / ".ci" / "setup", os.X_OK)


def test_the_wheel_has_what_runs(wheel: Path) -> None:
    """All modules and their types, man pages where man looks, the licence; no tests, no sources of the documents."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in _tracked():
        if name.startswith(("catar/", "casync_compat/")) and name.endswith((".py", "py.typed")):
            assert name in names, name
    pages = {name.rpartition("/")[2] for name in names if "/share/man/man1/" in name}
    assert pages == {path.name for path in (ROOT / "docs" / "man").iterdir()}
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("pycasync-")} == {"catar", "casync_compat"}


def test_two_builds_are_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    """In another directory, at another time, it is the same wheel to the byte."""
    again = _build("wheel", sdist, tmp_path / "built")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_extras_that_are_named_are_there() -> None:
    """`pycasync[serve]` in a message or a document is an extra of the package."""
    extras = set(METADATA["optional-dependencies"])
    paths = [*(ROOT / "casync_compat").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    named: set[str] = set()
    for path in paths:
        for found in re.findall(r"pycasync\[([\w,]+)\]", path.read_text()):
            named |= set(found.split(","))
    assert named
    assert named <= extras


def test_all_is_all() -> None:
    """The extra `all` has each extra that a user may want."""
    (everything,) = METADATA["optional-dependencies"]["all"]
    inner = set(everything.partition("[")[2].rstrip("]").split(","))
    assert inner == set(METADATA["optional-dependencies"]) - {"all", "test", "docs", "dev"}
