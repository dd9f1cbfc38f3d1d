"""What obstore's errors mean, in words of our own."""

from __future__ import annotations

import re

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from casync_compat.errors import AccessDenied, RemoteError

__all__ = ["failure"]

_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})|status: (\d{3}),")
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
)
"""What stands in the text of an error, and what it means."""


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
    reason = next((meaning for sign, meaning in _REASONS if sign in text), None)
    if reason is None and (
        status in (401, 403) or isinstance(error, (PermissionDeniedError, UnauthenticatedError))
    ):
        return AccessDenied(name, op, f"access was denied{said}", status)
    if reason is _NOBODY and login:
        reason = f"{_NOBODY}; {login}"
    return RemoteError(name, op, reason or f"the service failed{said}", status)
