"""What may be done about an error by options is said behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from casync_compat import ids
from casync_compat.cli._hints import HINTS, hint_for
from casync_compat.errors import CasyncError, ChunkMissing, FileError
from casync_compat.oci.spec.errors import CannotShare, ImageTooLarge, NoSuchPlatform


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


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ChunkMissing(bytes(32), "x.castr"), "add the store that has it with --extra-store"),
        (NoSuchPlatform("oci:a", "why"), "choose with --platform or --all"),
        (ImageTooLarge("oci:a", "why"), "allow more with --max-size if you trust it"),
        (CannotShare(b"root", "check out", "why"), "or use --link=auto"),
    ],
)
def test_options_are_named(error: CasyncError, says: str) -> None:
    """The option that helps is said behind the message, which does not know of it."""
    assert hint_for(error).endswith(says)
    assert "--" not in str(error)


def test_nothing_to_do() -> None:
    """Errors without a row get nothing behind them."""
    assert hint_for(ValueError("x")) == ""


def test_an_error_that_is_its_own_cause() -> None:
    """One that was passed on as it is, by `raise error from error`, is looked at once."""
    error = FileError(b"x", "read", "why")
    error.__cause__ = error
    assert hint_for(error) == ""


def test_hints_read_as_the_end_of_a_line() -> None:
    """Each is one line that ends without a full stop."""
    texts = [hint.text for hint in HINTS if isinstance(hint.text, str)]
    assert [text for text in texts if "\n" in text or text.endswith(".")] == []
