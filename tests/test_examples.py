"""The examples in the documentation of the library do what they say."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pandas
import pytest
from test_oci.images import build, layer, layout_at

import casync_compat
import casync_compat.api

PAGE = Path(__file__).parents[1] / "docs" / "tutorials" / "python.md"
MODULES = ["casync_compat", "casync_compat.api"]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what the examples work on."""
    (tmp_path / "etc" / "ssh").mkdir(parents=True)
    (tmp_path / "etc" / "hostname").write_bytes(b"example\n")
    (tmp_path / "etc" / "ssh" / "sshd_config").write_bytes(b"Port 22\n")
    (tmp_path / "disk.img").write_bytes(bytes(510) + b"\x55\xaa" + bytes(300_000 - 512))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(test: doctest.DocTest, report: list[str]) -> None:
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append, clear_globs=False)


@pytest.mark.parametrize("name", MODULES)
def test_modules(place: Path, name: str) -> None:
    """Examples of modules run, each with what it makes itself."""
    module = importlib.import_module(name)
    test = doctest.DocTestParser().get_doctest(module.__doc__ or "", {"casync": casync_compat}, name, None, 0)
    report: list[str] = []
    run(test, report)
    assert not "".join(report)


def test_functions(place: Path) -> None:
    """Every function of the library has an example; they run in the order in which they are documented."""
    globs: dict[str, object] = {"casync": casync_compat}
    report: list[str] = []
    for name in ("make", "extract", *sorted({*VERBS} - {"make", "extract"})):
        text = getattr(casync_compat, name).__doc__
        test = doctest.DocTestParser().get_doctest(text, globs, name, None, 0)
        assert test.examples, f"{name} has no example"
        test.globs = globs
        run(test, report)
    assert not "".join(report)


VERBS = [name for name in casync_compat.api.__all__ if name.islower()]


def test_public_names_are_documented() -> None:
    """Whatever the package offers says what it is, and functions what they raise."""
    for name in casync_compat.__all__:
        assert (getattr(casync_compat, name).__doc__ or "").strip(), name
    for name in VERBS:
        assert ":raises CasyncError:" in getattr(casync_compat, name).__doc__


def test_the_page_about_python(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its Python blocks run as they stand."""
    (place / "data" / "2026").mkdir(parents=True)
    pandas.DataFrame({"sold": [1, 2]}).to_parquet(place / "data" / "2026" / "sales.parquet")
    (place / "data" / "names.csv").write_text("name\nx\n")
    casync_compat.make("data.caidx", "data")
    table = (place / "data" / "2026" / "sales.parquet").read_bytes()
    with layout_at(place / "images") as layout:
        build(layout, "models", [layer({"data/sales.parquet": table, "etc/os-release": b"NAME=small"})])
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), {})
    said = capsys.readouterr().out
    assert "Port 22" in said
    assert "NAME=small" in said
