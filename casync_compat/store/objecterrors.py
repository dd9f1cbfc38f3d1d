"""What obstore's errors mean, in words of our own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from casync_compat.errors import AccessDenied, RemoteError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["failure", "may_be_past_the_end", "reasoned"]

_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})|status: (\d{3}),")
_FAILED = "the service failed"
_NOBODY = "no credentials were found, and this machine has none from its cloud"
_REASONS = (
    ("169.254.169.254", _NOBODY),
    ("metadata.google.internal", _NOBODY),
    ("ConnectionRefused", "the connection was refused"),
    ("dns error", "the name of the server is not known"),
    ("InvalidCertificate", "its certificate is not trusted"),
    ("BadScheme", "plain http is not allowed here"),
    ("TimedOut", "no answer came in time"),
    ("operation timed out", "no answer came in time"),
    ("kind: Timeout", "no answer came in time"),
    ("kind: Connect", "it cannot be reached"),
    ("IncompleteMessage", "it closed the connection without an answer"),
    ("IncompleteBody", "the answer broke off before its end"),
    ("ConnectionReset", "the connection was reset"),
)
"""What stands in the text of an error, and what it means."""

_EXPIRED = "the credentials have expired"
_CLOCK = "this machine's clock and the service's do not agree"
_DENIED = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestExpired": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
}
"""Codes of what is not the request's fault but of who signs it, whatever status they come with."""


def failure(name: str, op: str, error: Exception, login: str) -> RemoteError:
    """What went wrong, without what services say in between: it may hold signatures.

    :param name: what messages call the place
    :param op: what was being done
    :param login: what is to be done where nobody says who we are; empty for nothing
    """
    text = str(error)
    found = _STATUS.search(text)
    status = int(found[1] or found[2]) if found else 0
    code = _CODE.search(text)
    said = f": {code[1]}" if code else ""
    if code and (why := _DENIED.get(code[1])):
        return AccessDenied(name, op, f"{why} ({code[1]})", status)
    reason = next((meaning for sign, meaning in _REASONS if sign in text), None)
    if reason is None and (
        status in (401, 403) or isinstance(error, (PermissionDeniedError, UnauthenticatedError))
    ):
        return AccessDenied(name, op, f"access was denied{said}", status)
    if reason is _NOBODY and login:
        reason = f"{_NOBODY}; {login}"
    return RemoteError(name, op, reason or f"{_FAILED}{said}", status)


def may_be_past_the_end(error: RemoteError) -> bool:
    """Whether an error may say that a range begins behind the end: by its status, or where nothing tells what it is."""
    return error.status == 416 or (not error.status and error.why == _FAILED)


def reasoned(store: ObjectStore, key: str, error: Exception) -> Exception:
    """An error of a look at an object, or one that says more: the answer to a HEAD has no body, and so no reason."""
    found = _STATUS.search(str(error))
    if found is None or (found[1] or found[2]) not in ("400", "401", "403"):
        return error
    try:
        store.get_range(key, start=0, length=1)
    except (BaseError, OSError) as other:
        if _CODE.search(str(other)):
            return other
    return error
