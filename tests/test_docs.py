"""Documents point at what is there: links lead somewhere, files that they name exist, and rules they give hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from builds import native_modules

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:catar|casync_compat|tests|bench|docs|\.ci)/[\w./-]*)`")
"""A path in backticks, from the top of the checkout. One with a placeholder (`cli/<verb>.py`) is not meant."""


def documents() -> list[str]:
    """All that is written in Markdown, apart from what tools keep in hidden directories."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(str(path) for path in found if not any(part.startswith(".") for part in path.parts))


def anchors(text: str) -> set[str]:
    """What the headings of a document are called in links."""
    headings = re.findall(r"^#+ +(.+?) *$", _without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", documents())
def test_links_lead_somewhere(name: str) -> None:
    """A link within the repository names a file that is there, and a heading that is in it."""
    document = ROOT / name
    for link in LINK.findall(_without_code(document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), f"{name}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{name}: {link}"


@pytest.mark.parametrize("name", documents())
def test_named_files_exist(name: str) -> None:
    """A path in backticks is one that is there."""
    for path in NAMED.findall((ROOT / name).read_text()):
        assert (ROOT / path).exists(), f"{name}: {path}"


@pytest.mark.parametrize("name", native_modules())
def test_every_c_file_has_its_twin(name: str) -> None:
    """`_x.c` lies beside `x.py`, as CONTRIBUTING.md says, typed by `_x.pyi`; one twin is not ours, but hashlib."""
    package, _, module = name.rpartition(".")
    beside = ROOT / package.replace(".", "/")
    assert module.startswith("_")
    assert (beside / f"{module}.c").exists()
    assert (beside / f"{module}.pyi").exists()
    assert (beside / f"{module[1:]}.py").exists() or module == "_sha512"
