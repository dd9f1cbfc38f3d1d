"""The casync archive format (catar): bytes to nodes and back, without files, sockets or threads.

`Encoder` and `Decoder` are the two halves, `Archive` looks nodes up by path in anything that can read at an offset.
The bytes themselves are declared in `catar.schema` and explained in FORMAT.md. Names load when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catar.archive import Archive, Located, PayloadReader, RandomAccess, RangeSource
    from catar.decoder import END, NEED_DATA, Decoder, Event
    from catar.encoder import Encoder
    from catar.errors import CatarError, FormatError, NotFound, UsageError
    from catar.flags import FeatureFlags
    from catar.records import AclDefault, AclEntry, Data, DirectoryEnd, Node, XAttr
    from catar.walker import ByteSource, TreeStream, Walker

__all__ = [
    "END",
    "NEED_DATA",
    "AclDefault",
    "AclEntry",
    "Archive",
    "ByteSource",
    "CatarError",
    "Data",
    "Decoder",
    "DirectoryEnd",
    "Encoder",
    "Event",
    "FeatureFlags",
    "FormatError",
    "Located",
    "Node",
    "NotFound",
    "PayloadReader",
    "RandomAccess",
    "RangeSource",
    "TreeStream",
    "UsageError",
    "Walker",
    "XAttr",
]

_HOMES = {
    "archive": "Archive Located PayloadReader RandomAccess RangeSource",
    "decoder": "END NEED_DATA Decoder Event",
    "encoder": "Encoder",
    "errors": "CatarError FormatError NotFound UsageError",
    "flags": "FeatureFlags",
    "records": "AclDefault AclEntry Data DirectoryEnd Node XAttr",
    "walker": "ByteSource TreeStream Walker",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
