"""Files of certificates: good ones are taken, and of a bad one is said which it is and what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from casync_compat.errors import UsageError
from casync_compat.net.certificates import identity, trusted
from casync_compat.net.handles import Handles
from casync_compat.store.options import StoreOptions

MADE = Path(__file__).parents[1] / "fixtures/certificates"


def options(certificate: str | None, key: str | None) -> StoreOptions:
    return StoreOptions(
        client_cert=None if certificate is None else str(MADE / certificate),
        client_key=None if key is None else str(MADE / key),
    )


def test_good_ones() -> None:
    """A certificate with its key, in one file or two, and authorities beside the system's and the environment's."""
    assert identity(StoreOptions()) == ("", "")
    assert identity(options("both.pem", None)) == (str(MADE / "both.pem"), str(MADE / "both.pem"))
    assert identity(options("a.pem", "a.key")) == (str(MADE / "a.pem"), str(MADE / "a.key"))
    blob, _ = trusted({"SSL_CERT_FILE": str(MADE / "a.pem")}, str(MADE / "b.pem"))
    assert (MADE / "a.pem").read_bytes() in blob
    assert (MADE / "b.pem").read_bytes() in blob


@pytest.mark.parametrize(
    ("certificate", "key", "named"),
    [
        ("none.pem", None, "none.pem"),
        ("a.pem", "none.key", "none.key"),
        ("no.pem", "a.key", "no.pem"),
        ("a.pem", None, "a.pem"),
        ("a.pem", "b.key", "b.key"),
        ("locked.pem", "locked.key", "locked.key"),
        (None, "a.key", "a.key"),
    ],
)
def test_bad_identities(certificate: str | None, key: str | None, named: str) -> None:
    """A file that is not there, none, of another key or locked: an error that names it, before any connection."""
    handles = Handles({}, "x", options(certificate, key))
    with pytest.raises(UsageError, match=named) as caught:
        handles.prepare(True, True)
    assert len(str(caught.value).splitlines()) == 1
    handles.prepare(False, True)  # not wanted


@pytest.mark.parametrize("name", ["none.pem", "no.pem"])
def test_bad_authorities(name: str) -> None:
    """The same of files of authorities."""
    with pytest.raises(UsageError, match=f"--ca-cert: .*{name}"):
        trusted({}, str(MADE / name))
