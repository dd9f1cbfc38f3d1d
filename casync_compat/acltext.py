"""POSIX ACLs as text, as `getfacl --numeric` and `setfacl` have it, by way of libacl (posix1e).

    >>> to_text([(USER_OBJ, 7), (USER, 5, 33), (GROUP_OBJ, 5), (MASK, 5), (OTHER, 0)])
    'user::rwx,user:33:r-x,group::r-x,mask::r-x,other::---'

Names of users and groups are never looked up: the text may come from anybody, the name service is this host's, and what
it knows means nothing for an image. So ids are written as numbers, and a text that names somebody without a number is
refused. Nothing here touches files; `casync_compat.fs.acl` has the form that the kernel stores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = [
    "GROUP",
    "GROUP_OBJ",
    "MASK",
    "OTHER",
    "TEXT_MAX",
    "USER",
    "USER_OBJ",
    "Entry",
    "from_text",
    "to_text",
]

Entry = tuple[int, int, int | None]
"""Tag, permissions (4 read, 2 write, 1 execute), and the id of `USER` and `GROUP` entries, None for the rest."""

# linux/posix_acl.h; libacl has the same
USER_OBJ = 0x01
USER = 0x02
GROUP_OBJ = 0x04
GROUP = 0x08
MASK = 0x10
OTHER = 0x20

TEXT_MAX = 64 << 10
"""Bytes of the longest text that is read; the kernel stores some 8000 entries at most."""

_TAGS = {b"u": "user", b"g": "group", b"m": "mask", b"o": "other"}
_ID = rb"(?:0|[1-9][0-9]{0,9})"
# star puts the number behind the permissions where it has a name before them; a comment tells effective permissions.
_ENTRY = re.compile(
    rb"\s*(u(?:ser)?|g(?:roup)?|m(?:ask)?|o(?:ther)?):([^:,\s]*):([r-][w-][x-])(?::(%b))?\s*(?:#.*)?" % _ID
)
_SEPARATOR = re.compile(rb"[,\n]")
_ID_MAX = 0xFFFFFFFE


def to_text(entries: Iterable[Entry]) -> str | None:
    """The long form, its entries separated by commas, in the order of their tags and ids.

    :returns: None when libacl does not take the entries
    """
    import posix1e  # lazily: few nodes have an ACL

    acl = posix1e.ACL()
    bits = ((4, posix1e.ACL_READ), (2, posix1e.ACL_WRITE), (1, posix1e.ACL_EXECUTE))
    try:
        for tag, permissions, id_ in sorted(entries, key=lambda entry: (entry[0], entry[2] or 0)):
            entry = acl.append()
            entry.tag_type = tag
            if id_ is not None:
                entry.qualifier = id_
            for bit, permission in bits:
                if permissions & bit:
                    entry.permset.add(permission)
        return acl.to_any_text("", b",", posix1e.TEXT_NUMERIC_IDS).decode("ascii")
    except (OSError, ValueError, OverflowError, TypeError):
        return None


def from_text(text: bytes) -> list[Entry]:
    """The entries of a text: of the long form or the short one, or as star writes it, with ids behind names.

    :raises ValueError: it is no whole ACL, names somebody without a number, or is too long; says why in one line
    """
    import posix1e

    if len(text) > TEXT_MAX:
        raise ValueError(f"an ACL of {len(text)} bytes is too long")
    plain = ",".join(_numeric(part) for part in _SEPARATOR.split(text.rstrip(b"\0")) if part.strip())
    try:
        acl = posix1e.ACL(text=plain)
    except OSError:
        raise ValueError("it is no ACL") from None
    if not plain or not acl.valid():
        raise ValueError("an ACL needs owner, group and others once each, and a mask where it names somebody")
    return [
        (
            entry.tag_type,
            entry.permset.read << 2 | entry.permset.write << 1 | entry.permset.execute,
            entry.qualifier if entry.tag_type in (USER, GROUP) else None,
        )
        for entry in acl
    ]


def _numeric(part: bytes) -> str:
    """An entry with nothing in it that libacl would look up."""
    found = _ENTRY.fullmatch(part)
    if found is None:
        raise ValueError(f"{part[:80]!r} is no entry of an ACL")
    tag, who, permissions, number = found.groups()
    if who and tag[:1] in b"mo":
        raise ValueError(f"{part[:80]!r} is no entry of an ACL")
    if who:
        if number is None and not re.fullmatch(_ID, who):
            raise ValueError(f"{part[:80]!r} has a name without a number")
        who = who if number is None else number
        if int(who) > _ID_MAX:
            raise ValueError(f"{part[:80]!r} has an id that there is not on Linux")
    return f"{_TAGS[tag[:1]]}:{who.decode()}:{permissions.decode()}"
