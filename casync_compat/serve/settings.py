"""What a server is told at its start: what it serves, and its limits. Values; no IO."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from casync_compat.errors import UsageError
from casync_compat.store.base import ChunkSink, ChunkSource
from casync_compat.store.files import Files

__all__ = ["DEFAULT", "FILES", "Limits", "Served", "check_name"]

DEFAULT = "default"
"""The name, for tokens and metrics, of the stores that were given none."""
FILES = "indexes"
"""The name, for tokens and metrics, of the indexes and archives."""
_RESERVED = frozenset({DEFAULT, FILES, "default.castr", "healthz", "metrics", "*", ".", ".."})


@dataclass(frozen=True, slots=True)
class Served:
    """What is served.

    :ivar stores: chunk stores by name; that of `DEFAULT` is at the root, and at `default.castr`
    :ivar files: the place of indexes and archives; None for none
    :ivar sinks: where chunks are put, by the names of stores; empty where nobody may write
    :ivar writable: whether indexes may be put
    """

    stores: Mapping[str, ChunkSource] = field(default_factory=dict)
    files: Files | None = None
    sinks: Mapping[str, ChunkSink] = field(default_factory=dict)
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take.

    :ivar chunk: bytes of a chunk that is put, before compression
    :ivar index: bytes of an index that is put
    :ivar receive: seconds without a byte after which an upload is given up
    :ivar slowest: bytes a second that an upload has on the whole, after the first `receive` seconds
    :ivar uploads: how many are read and written at once for a store; others wait
    :ivar waiting: how many requests may wait for stores; further ones are told to come back
    :ivar threads: that wait for a store far away, for each
    :ivar near_threads: that read what is near
    :ivar rate: requests a second of one address; None for no limit
    :ivar drain: seconds that running requests have when the server ends
    """

    chunk: int = 16 << 20
    index: int = 64 << 20
    receive: float = 60.0
    slowest: int = 1 << 10
    uploads: int = 16
    waiting: int = 4096
    threads: int = 32
    near_threads: int = 4
    rate: float | None = None
    drain: float = 30.0


def check_name(name: str) -> str:
    """`name`, if a store can be served under it.

    :raises UsageError: it cannot
    """
    if (
        name in _RESERVED
        or re.fullmatch(r"[0-9a-f]{4}", name)
        or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name)
        or name.endswith((".caidx", ".caibx", ".catar"))
    ):
        raise UsageError(f"{name!r} cannot be the name of a store that is served")
    return name


def named(words: Sequence[str]) -> list[tuple[str, str]]:
    """`NAME=STORE` taken apart: for each a name, or `DEFAULT`, and a locator. A path with such a sign in it begins
    with `./`.

    :raises UsageError: a name cannot be used
    """
    found = []
    for word in words:
        name, equals, where = word.partition("=")
        if equals and where and not re.search(r"[/:?|]", name):
            found.append((check_name(name), where))
        else:
            found.append((DEFAULT, word))
    return found
