"""What `serve` says before it serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Run

Fails = Callable[..., str]


def test_what_is_not_there(run: Run) -> None:
    """It may come later, and is told: a wrong name would look like a store without chunks."""
    Path("there.castr").mkdir()
    said = run("serve", "there.castr", "gone.castr", "--index-dir=nowhere", "--dry-run")
    assert said.status == 0
    assert b"there.castr" not in said.err
    for name in (b"gone.castr", b"nowhere"):
        assert said.err.count(name + b" is not there") == 1


@pytest.mark.parametrize("words", ["file", "there.castr --index-dir=file", "there.castr other=file"])
def test_a_file_is_no_store(fails: Fails, words: str) -> None:
    Path("there.castr").mkdir()
    Path("file").touch()
    said = fails("serve", *words.split(), "--dry-run")
    assert "file" in said
    assert "Not a directory" in said
