"""The site is built without a warning, and asks nobody else for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents.pasting import ROOT

import casync_compat
from casync_compat.cli._verbs import parser_of, verbs_of


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as CONTRIBUTING.md says how to build it, but elsewhere."""
    base = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-c",
        "docs",
        "-d",
        str(base / "trees"),
        ".",
    ]
    done = subprocess.run(
        [*command, str(base / "site")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return base / "site"


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    """The library's page has each name of the package."""
    page = (site / "docs" / "reference" / "library.html").read_text()
    for name in casync_compat.__all__:
        assert f'id="casync_compat.{name}"' in page, name


def test_pages_made_of_tables_are_filled(site: Path) -> None:
    """Each verb is on the page about the command line, and each that prints JSON on the page about that."""
    command_line = (site / "docs" / "reference" / "command-line.html").read_text()
    printed = (site / "docs" / "reference" / "json.html").read_text()
    for verb in verbs_of(""):
        assert f"<h2>pycasync {verb}<" in command_line
        if "--json" in parser_of("", verb).takes_value:
            assert f"<h2>{verb}<" in printed


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Pages load styles, scripts, fonts and pictures from the site alone."""
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="(?:https?:)?//', text), page
        assert not re.findall(r'<link[^>]*\shref="(?:https?:)?//', text), page
    for style in site.rglob("*.css"):
        assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//", style.read_text()), style


def test_documents_are_all_in_it(site: Path) -> None:
    """Each document of docs/, the formats and the reports became a page."""
    documents = [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "bench" / "reports").glob("*.md"),
        ROOT / "catar" / "FORMAT.md",
    ]
    for document in documents:
        assert (site / document.relative_to(ROOT).with_suffix(".html")).exists(), document
