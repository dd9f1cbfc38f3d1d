"""What a path of an URL means: one table, in one place. No IO.

| path | what |
| --- | --- |
| `/abcd/<id><suffix>` | a chunk of the store without a name, as desync's clients ask |
| `/default.castr/abcd/<id><suffix>` | the same, as casync's do |
| `/NAME/abcd/<id><suffix>` | a chunk of a store with a name |
| `/DIRECTORY/FILE.caidx`, `.caibx`, `.catar` | an index or archive |
| `/healthz`, `/metrics` | for operators |
| others | a page, where there are pages |

The suffix of a chunk says in which form it is wanted, whatever it is stored as.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from casync_compat.ids import ChunkId
from casync_compat.kinds import Kind
from casync_compat.serve.settings import DEFAULT
from casync_compat.store.files import check_name

__all__ = [
    "ChunkRoute",
    "FileRoute",
    "Form",
    "NoRoute",
    "OperatorRoute",
    "OtherRoute",
    "Route",
    "chunk_route",
    "route",
]

_CHUNK = re.compile(rb"/(?:([^/%]+)/)?([0-9a-f]{4})/([0-9a-f]{64})(\.[a-z]+)?")
_LIKE_CHUNK = re.compile(rb"(?:.*/)?[0-9A-Fa-f]{64}(?:\.[^/]*)?")
_LONGEST = 4096
_LONGEST_PART = 255
"""What file systems take for a name."""


class Form(enum.Enum):
    """The forms that a chunk can be had in; the values are their suffixes."""

    PLAIN = b""
    ZSTD = b".cacnk"
    XZ = b".xz"
    GZIP = b".gz"


_FORMS = {form.value: form for form in Form} | {b".zst": Form.ZSTD, None: Form.PLAIN}


@dataclass(frozen=True, slots=True)
class ChunkRoute:
    """A chunk.

    :ivar store: the name of its store
    """

    store: str
    id: ChunkId
    form: Form


@dataclass(frozen=True, slots=True)
class FileRoute:
    """An index or archive, there or not."""

    name: bytes
    kind: Kind


@dataclass(frozen=True, slots=True)
class OperatorRoute:
    """What operators ask for: `healthz` or `metrics`."""

    what: str


@dataclass(frozen=True, slots=True)
class OtherRoute:
    """A path that is none of the rest: a page, perhaps.

    :ivar path: decoded, without empty parts; the slash at its end stays
    """

    path: bytes


@dataclass(frozen=True, slots=True)
class NoRoute:
    """A path that asks for something that cannot be.

    :ivar why: for the client
    """

    why: str


Route: TypeAlias = ChunkRoute | FileRoute | OperatorRoute | OtherRoute | NoRoute


def route(raw: bytes, stores: Collection[str]) -> Route:
    """What a path means.

    :param raw: of the URL, as it was sent, without a query
    :param stores: the names of those that are served
    """
    found = _CHUNK.fullmatch(raw)
    if found is None:
        return _others(raw, stores)
    return _chunk(found, stores) or NoRoute("there is no such store")


def chunk_route(raw: bytes, stores: Collection[str]) -> ChunkRoute | None:
    """The same, of the path of a chunk as clients write it; None for all others."""
    found = _CHUNK.fullmatch(raw)
    where = None if found is None else _chunk(found, stores)
    return where if isinstance(where, ChunkRoute) else None


def _chunk(found: re.Match[bytes], stores: Collection[str]) -> Route | None:
    """A chunk's route; None where no store has the name."""
    prefix, directory, digits, suffix = found.groups()
    if prefix is None or prefix == b"default.castr":
        name = DEFAULT
    else:
        name = prefix.decode("latin-1")
    if name not in stores or (name == DEFAULT and prefix == b"default"):
        return None
    if not digits.startswith(directory):
        return NoRoute(f"expected the chunk in the directory {digits[:4].decode()}")
    form = _FORMS.get(suffix)
    if form is None:
        return NoRoute("chunks are here with the suffix .cacnk (zstd), .xz or .gz, or without one (plain)")
    return ChunkRoute(name, ChunkId.from_hex(digits.decode()), form)


def _others(raw: bytes, stores: Collection[str]) -> Route:
    if len(raw) > _LONGEST or any(len(part) > _LONGEST_PART for part in raw.split(b"/")):
        return NoRoute("the path is too long")
    path = unquote_to_bytes(raw) if b"%" in raw else raw
    if b"//" in path:  # as web servers do; casync puts one more where a store's URL ends in a slash
        path = re.sub(rb"/{2,}", b"/", path)
    if not path.startswith(b"/") or re.search(rb"[\0-\x1f\x7f]", path):
        return NoRoute("this is no path")
    if found := _CHUNK.fullmatch(path):
        return _chunk(found, stores) or NoRoute("there is no such store")
    if path in (b"/healthz", b"/metrics"):
        return OperatorRoute(path[1:].decode())
    try:
        check_name(path.strip(b"/") or b"-")
    except ValueError:
        return NoRoute("the path has parts that no name can have")
    kind = Kind.of_suffix(path)
    if kind is not None and not path.endswith(b"/"):
        return FileRoute(path[1:], kind)
    if _LIKE_CHUNK.fullmatch(path):
        return NoRoute("a chunk is at /<first 4 digits of its id>/<64 hexadecimal digits>.cacnk")
    return OtherRoute(path)
