"""What may be done about an error by options is said behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from casync_compat import ids
from casync_compat.cli._hints import HINTS, hint_for


def test_a_missing_hash_function(
    fails: Callable[..., str], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another digest helps where Python lacks one."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    ids._template.cache_clear()
    monkeypatch.setattr(hashlib, "new", refuse)
    try:
        said = fails("digest", "--digest=sha256", tree)
    finally:
        ids._template.cache_clear()
    assert said == (
        "this Python's OpenSSL does not offer sha256; use another --digest= or a Python with OpenSSL 1.1.1"
    )


def test_nothing_to_do() -> None:
    """Errors without a row get nothing behind them."""
    assert hint_for(ValueError("x")) == ""


def test_hints_read_as_the_end_of_a_line() -> None:
    """Each is one line that ends without a full stop."""
    assert [hint for hint in HINTS if "\n" in hint.text or hint.text.endswith(".")] == []
