"""Locators told apart by their form: what each is, the path or the name in it, the store that belongs to an index.

They follow casync's rules (`src/calocator.c`): an URL has a scheme; `HOST:PATH` goes through ssh; all else is a local
path, and `./a:b` writes one that looks like the former. Nothing is opened here.
"""

from __future__ import annotations

import enum
import os
import re

from casync_compat.errors import UsageError
from casync_compat.locations.remote import PLACES
from casync_compat.locations.settings import PathType, Settings
from casync_compat.locations.shown import shown

__all__ = [
    "Scheme",
    "classify",
    "default_store",
    "group_members",
    "in_files",
    "in_peer",
    "in_registry",
    "inside",
    "is_remote",
    "local_path",
    "name_of",
    "on_web",
    "shown_name",
    "split_url",
]

_URL = r"[a-z][a-z0-9+.-]*://(?:[^/?#\s]*@)?[A-Za-z0-9._@:\[\]-]+(?:[/;?]|$)"
_FILE_URL = r"file://(?:localhost)?(/[^?;]*)"
_SSH = r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9._-]+:(?s:.+)"


class Scheme(enum.Enum):
    """What a locator is."""

    LOCAL = "local path"
    URL = "URL"
    SSH = "ssh location"


def classify(locator: str) -> Scheme:
    """What a locator is, by its form alone."""
    if ":" not in locator or locator.startswith(("/", "./")) or re.match(_FILE_URL, locator):
        return Scheme.LOCAL
    if re.match(_URL, locator):
        return Scheme.URL
    return Scheme.SSH if re.fullmatch(_SSH, locator) else Scheme.LOCAL


def local_path(where: PathType) -> bytes:
    """The path of a local location.

    :raises UsageError: for an empty one, and for remote ones
    """
    if not isinstance(where, str):
        return os.fsencode(where)
    if not where:
        raise UsageError("an empty path was given")
    scheme = classify(where)
    if scheme is not Scheme.LOCAL:
        raise UsageError(
            f"{shown(where)}: this is read as {'an' if scheme is Scheme.SSH else 'a'} {scheme.value}, and only what is "
            f"on this machine will do here; write ./{shown(where)} for a local file of that name"
        )
    match = where.startswith("file:") and re.match(_FILE_URL, where)
    if match:
        from urllib.parse import unquote_to_bytes  # lazily: 4 ms, for the few who write file:// URLs

        return unquote_to_bytes(match[1])
    return os.fsencode(where)


def in_registry(where: object) -> bool:
    """Whether a location is a locator that names a chunk store, or an index, in a registry."""
    return isinstance(where, str) and where.startswith(("oci+https://", "oci+http://"))


def on_web(where: object) -> bool:
    """Whether a location is a locator of something on a web server."""
    return isinstance(where, str) and where.startswith(("https://", "http://"))


def in_files(where: object) -> bool:
    """Whether a location is a locator of something in a place of files that is not on this machine (`remote`)."""
    return isinstance(where, str) and where.partition("://")[0] in PLACES and "://" in where


def in_peer(where: object) -> bool:
    """Whether a location is a locator of something that another casync gives, or a helper that speaks as one."""
    if not isinstance(where, str) or not where or in_registry(where) or in_files(where):
        return False
    return classify(where) is not Scheme.LOCAL


def is_remote(where: object) -> bool:
    """Whether a location is a locator of something that is not on this machine."""
    return in_registry(where) or in_files(where) or in_peer(where)


def name_of(where: PathType) -> bytes:
    """What a location ends in tells what it is; for local paths and remote ones alike."""
    if isinstance(where, str) and in_files(where):
        return os.fsencode(_without_query(where))
    if isinstance(where, str) and in_peer(where):
        return os.fsencode(_without_query(where) if classify(where) is Scheme.URL else where)
    return os.fsencode(where) if in_registry(where) else local_path(where)


def group_members(where: str) -> list[str]:
    """The stores of a failover group, as desync writes it: ``a|b|c``; a locator that is none is its only member.

    A local path with such a sign in it is one if there is something of this name; `./a|b` is one always.
    """
    if "|" not in where or where.startswith("./"):
        return [where]
    members = [member for member in where.split("|") if member]
    if not any(map(is_remote, members)) and os.path.lexists(os.fsencode(where)):
        return [where]
    return members


def shown_name(where: PathType) -> bytes:
    """What messages call a location: a remote one without what is secret in it."""
    return os.fsencode(
        shown(where) if isinstance(where, str) and (in_files(where) or in_peer(where)) else where
    )


def default_store(index: PathType | None, settings: Settings) -> PathType:
    """Where chunks are when nobody says: $CASYNC_STORE, else default.castr beside the index (or here)."""
    configured = settings.environ.get("CASYNC_STORE")
    if configured:
        return configured
    if index is None:
        return "default.castr"
    if not isinstance(index, str):
        return os.path.join(os.path.dirname(os.fsencode(index)), b"default.castr")
    if in_registry(index):
        return index.rpartition("/")[0]  # chunks and indexes share a repository
    if in_peer(index) and classify(index) is Scheme.SSH:
        host, colon, path = index.partition(":")
        directory, slash, _ = path.rpartition("/")
        return f"{host}{colon}{directory}{slash}default.castr"
    if on_web(index) or in_peer(
        index
    ):  # casync's rule (`src/caremote.c`): the last part and what follows it give way
        return f"{_without_query(index).rpartition('/')[0]}/default.castr"
    if in_files(index):  # a query is part of how a place is reached, as desync's `?lookup=` is
        directory, mark, query = index.partition("?")
        return f"{directory.rpartition('/')[0]}/default.castr{mark}{query}"
    directory, slash, _ = index.rpartition("/")
    return f"{directory}{slash}default.castr"


def inside(where: PathType, name: str) -> PathType:
    """The location of a file in a place: a directory, wherever it is.

    :param name: of the file, without a slash
    """
    if not isinstance(where, str) or not is_remote(where):
        return os.path.join(local_path(where), os.fsencode(name))
    if in_registry(where):
        return f"{where.rstrip('/')}/{name}"
    if in_peer(where) and classify(where) is Scheme.SSH:
        return f"{where}{name}" if where.endswith(("/", ":")) else f"{where}/{name}"
    from urllib.parse import quote  # lazily: 4 ms

    directory, mark, query = where.partition("?")
    return f"{directory.rstrip('/')}/{quote(os.fsencode(name))}{mark}{query}"


def split_url(where: str) -> tuple[str, bytes]:
    """The URL of the directory that a file is in, with the query of the file's, and the file's name.

    :raises UsageError: it has no name, or no host
    """
    from urllib.parse import unquote_to_bytes, urlsplit  # lazily: 4 ms

    parts = urlsplit(where)
    path, _, name = parts.path.rpartition("/")
    if not parts.netloc:
        raise UsageError(f"{shown(where)} names no host, nor a bucket, behind ://")
    if not name:
        raise UsageError(f"{shown(where)} names a directory, not a file")
    return parts._replace(path=path, fragment="").geturl(), unquote_to_bytes(os.fsencode(name))


def _without_query(where: str) -> str:
    return where.partition("?")[0].partition(";")[0]
