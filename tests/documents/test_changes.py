"""The changelog is gathered from fragments."""

from __future__ import annotations

import importlib.util

import pytest
from documents.pasting import ROOT

spec = importlib.util.spec_from_file_location("gather", ROOT / "changes" / "gather.py")
assert spec is not None
assert spec.loader is not None
gather = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gather)

OLD = "# Changelog\n\n## 1.0 (2026-01-01)\n\n* One.\n"


def test_a_new_version_comes_on_top() -> None:
    """With its date, and the bullets of all fragments."""
    made = gather.gathered(OLD, ["* Two.\n", "* Three,\n  on two lines.\n\n"], "1.1", "2026-02-02")
    assert made == (
        "# Changelog\n\n## 1.1 (2026-02-02)\n\n* Two.\n* Three,\n  on two lines.\n\n## 1.0 (2026-01-01)\n\n* One.\n"
    )


def test_a_section_that_is_open_is_closed() -> None:
    """Bullets that were written into it stay."""
    made = gather.gathered(
        "# Changelog\n\n## 1.0 (unreleased)\n\n* One.\n", ["* Two.\n"], "1.0", "2026-02-02"
    )
    assert made == "# Changelog\n\n## 1.0 (2026-02-02)\n\n* Two.\n* One.\n"


@pytest.mark.parametrize(("fragment", "version"), [("Two.\n", "1.1"), ("* Two.\n", "1.0")])
def test_what_cannot_be_meant_is_refused(fragment: str, version: str) -> None:
    """A fragment that is no bullet, and a version that is out."""
    with pytest.raises(ValueError, match=r"begins with|released already"):
        gather.gathered(OLD, [fragment], version, "2026-02-02")


def test_fragments_are_bullets() -> None:
    """Those that wait to be gathered can be."""
    for path in (ROOT / "changes").glob("*.md"):
        assert path.name == "README.md" or path.read_text().startswith("* "), path
