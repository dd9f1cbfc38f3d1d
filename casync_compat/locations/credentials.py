"""What a place is reached with: what is said of it, and the login that its URL, `.netrc` or the environment has for it.

Logins are sent to the origin of the place they are for and are shown nowhere. Nothing is asked of anybody.

    >>> reached("https://me:secret@host/store", settings).authorization
    'Basic bWU6c2VjcmV0'
"""

from __future__ import annotations

import base64
import netrc
import os
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from casync_compat.errors import UsageError
from casync_compat.locations.settings import Settings
from casync_compat.locations.shown import shown, without_login
from casync_compat.net.http import is_loopback
from casync_compat.store.options import StoreOptions

__all__ = ["reached"]


def reached(where: str, settings: Settings) -> StoreOptions:
    """Everything that is said of how the place at an URL is reached, with the login for it as `authorization`.

    :raises UsageError: `$NETRC` cannot be read, or what is said makes no sense
    """
    options = settings.said_of(without_login(where))
    try:
        parts = urlsplit(where)
        host, user, password = parts.hostname or "", parts.username, parts.password
    except ValueError as error:
        raise UsageError(f"{shown(where)} is no URL: {error}") from error
    if user is not None and password is not None:
        return replace(options, authorization=_basic(unquote(user), unquote(password)))
    if options.authorization is not None:
        return options
    if options.username is not None and user in (None, options.username):
        return replace(options, authorization=_basic(options.username, options.password or ""))
    login = _from_netrc(host, settings, None if user is None else unquote(user))
    if login is None and user is not None:
        login = (unquote(user), "")
    if login is not None:
        return replace(options, authorization=_basic(*login))
    # A name without a host to it: not for everybody on the way to hear.
    general = settings.environ.get("DESYNC_HTTP_AUTH")
    if general and (parts.scheme == "https" or is_loopback(parts.netloc)):
        return replace(options, authorization=general)
    return options


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _netrc_path(environ: Mapping[str, str]) -> str | None:
    """curl's: `$NETRC`, else `.netrc` in the home directory."""
    home = environ.get("HOME")
    return environ.get("NETRC") or (os.path.join(home, ".netrc") if home else None)


def _from_netrc(host: str, settings: Settings, user: str | None) -> tuple[str, str] | None:
    """The name and password for a host; for one user only, if he is given."""
    path = _netrc_path(settings.environ)
    if path is None:
        return None
    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError, UnicodeError) as error:
        if isinstance(error, FileNotFoundError) and not settings.environ.get("NETRC"):
            return None
        # Not its own text, which quotes the file.
        line = f", line {error.lineno}" if isinstance(error, netrc.NetrcParseError) else ""
        why = error.strerror if isinstance(error, OSError) else "it is not of netrc's form"
        raise UsageError(f"{path}{line}: {why}") from None
    if found is None or (user is not None and found[0] != user):
        return None
    return found[0], found[2] or ""
