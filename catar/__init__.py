"""The casync archive format (catar): bytes to nodes and back, without files, sockets or threads.

`Encoder` and `Decoder` are the two halves, `Archive` looks nodes up by path in anything that can read at an offset.
The bytes themselves are declared in `catar.schema` and explained in FORMAT.md.
"""

from __future__ import annotations

from catar.archive import Archive, Located, NotFound, PayloadReader, RandomAccess, RangeSource
from catar.decoder import END, NEED_DATA, Decoder, Event
from catar.encoder import Encoder
from catar.errors import CatarError, FormatError, UsageError
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
