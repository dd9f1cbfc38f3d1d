"""What may be done about an error by options is said behind it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from test_oci.fake_registry import FakeRegistry

from casync_compat import ids
from casync_compat.cli import _hints, _verbs
from casync_compat.cli._hints import HINTS, hint_for
from casync_compat.errors import AccessDenied, CasyncError, ChunkMissing, FileError
from casync_compat.net import transport
from casync_compat.net.http import UntrustedCertificate
from casync_compat.oci.spec.errors import CannotShare, ImageTooLarge, NoSuchPlatform
from casync_compat.store.leases import StoreBusy


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
        (
            AccessDenied("host", "read", "why", 401),
            "; a login may stand in the URL, in ~/.netrc or in the configuration",
        ),
        (CannotShare(b"root", "check out", "why"), "or use --link=auto"),
    ],
)
def test_options_are_named(error: CasyncError, says: str) -> None:
    """The option that helps is said behind the message, which does not know of it."""
    assert hint_for(error).endswith(says)
    assert "--" not in str(error)


@pytest.mark.parametrize("group", ["", "oci"])
@pytest.mark.parametrize(
    "error",
    [
        ChunkMissing(bytes(32), "x.castr"),
        NoSuchPlatform("oci:a", "why"),
        ImageTooLarge("oci:a", "why"),
        AccessDenied("host", "read", "why", 401),
        UntrustedCertificate("why"),
        StoreBusy("x.castr", "who", 1.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_only_options_that_the_verb_has(error: CasyncError, group: str) -> None:
    """No verb advises an option of another."""
    for verb in _verbs.verbs_of(group):
        options = _verbs.parser_of(group, verb).takes_value
        assert set(re.findall(r"--[a-z-]+", hint_for(error, options))) <= set(options), verb


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "oci ls {}",
            r"log in with `pycasync oci login \S+` or `skopeo login` \(HTTP 401\), or give --creds=USER:PASSWORD",
        ),
        ("oci ls --creds=joe:wrong {}", r"do not allow it.*, or give --creds=USER:PASSWORD"),
        ("list {}", r"wants credentials.*, or name a file of credentials in \$REGISTRY_AUTH_FILE$"),
    ],
)
def test_credentials(
    fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch, words: str, says: str
) -> None:
    """What may be given where a registry wants credentials, and the verb takes it."""
    fake = FakeRegistry(auth="basic")
    monkeypatch.setattr(transport, "CurlTransport", lambda *_, **__: fake)
    place = (
        "oci+https://registry.test/a/b/x.caidx"
        if words.startswith("list")
        else "docker://registry.test/a/b:x"
    )
    assert re.search(says, fails(*words.format(place).split()))


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


def test_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file that is there is not found, a missing /proc is named; not for a file that is not there."""
    found = FileError(tmp_path / "under a temporary name", "set time of", OSError(2, ""))
    missing = FileError(tmp_path / "gone", "open", OSError(2, ""))
    assert hint_for(found) == ""
    monkeypatch.setattr(_hints, "_PROC", str(tmp_path / "no" / "proc"))
    assert "/proc is missing" in hint_for(found)
    assert hint_for(missing) == ""
