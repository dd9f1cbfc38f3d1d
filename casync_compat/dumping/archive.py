"""An archive (.catar) in pieces: every record, and the items of its lookup tables.

Values come from the declarations of `catar.schema`. What may follow what, and which values are allowed, is asked of
`catar.Decoder`, which gets every record in two steps, so that a length is judged before its bytes are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from construct import Construct

from casync_compat.dumping.pieces import Piece, Source, Value, cut_short, parse
from casync_compat.errors import FormatError
from catar import errors, schema
from catar.decoder import END, NEED_DATA, Decoder
from catar.grammar import check_node
from catar.records import AclDefault, AclEntry, Node, XAttr

__all__ = ["ENTRY_MARK", "archive_pieces"]

_HEADER = 16
ENTRY_MARK = schema.ENTRY.type.to_bytes(8, "little")
"""What stands at offset 8 of an archive."""
_ROWS = {row.type: row for row in schema.ARCHIVE_RECORDS}
_ACL_FIELDS = {
    "ACL_USER": "acl_users",
    "ACL_GROUP": "acl_groups",
    "ACL_DEFAULT_USER": "acl_default_users",
    "ACL_DEFAULT_GROUP": "acl_default_groups",
}


def archive_pieces(source: Source) -> Iterator[Piece]:
    """The pieces of an archive, the bytes behind it included.

    :raises FormatError: from the first record that is wrong, with its offset
    """
    decoder = Decoder(native=False)
    order = _Order()
    while not (_advance(decoder) and source.offset):
        start = source.offset
        header = source.read(_HEADER)
        decoder.receive(header)
        if len(header) < _HEADER:
            decoder.receive(b"")
        _advance(decoder, start)
        size, type_ = (int.from_bytes(header[at : at + 8], "little") for at in (0, 8))
        row = _ROWS[type_]
        if row is schema.PAYLOAD:
            yield _payload(decoder, source, start, size)
        elif row is schema.GOODBYE:
            yield from _goodbye(decoder, source, start, size)
        else:
            body = source.take(size - _HEADER, f"{row.name} record", start)
            decoder.receive(body)
            _advance(decoder, start)
            fields = parse(row.body, body, f"{row.name} record", start)
            order.check(row.name, fields, decoder.feature_flags or 0, start)
            yield Piece(start, row.name, size, fields)
    start = source.offset
    rest = source.skip_rest()
    if rest:
        yield Piece(start, "BEHIND_THE_END", rest)


def _advance(decoder: Decoder, start: int = 0) -> bool:
    """Have the decoder judge what it was given. :returns: whether the archive is complete"""
    try:
        while (event := decoder.next_event()) is not NEED_DATA:
            if event is END:
                return True
            if decoder.payload_left:
                break
    except errors.FormatError as error:
        truncated = error.reason.startswith("archive is truncated")
        raise FormatError(error.reason, offset=start if truncated else error.offset) from None
    return False


def _payload(decoder: Decoder, source: Source, start: int, size: int) -> Piece:
    wanted = decoder.skip_payload()
    if source.skip(wanted) < wanted:
        raise cut_short("PAYLOAD record", start, source.offset)
    return Piece(start, "PAYLOAD", size, {"data_size": size - _HEADER})


def _goodbye(decoder: Decoder, source: Source, start: int, size: int) -> Iterator[Piece]:
    """The header, the items and the tail. The decoder has compared the size with the number of children."""
    body = source.take(size - _HEADER, "GOODBYE record", start)
    decoder.receive(body)
    _advance(decoder, start)
    yield Piece(start, "GOODBYE", _HEADER, {"size": size})
    at = 0
    step = schema.GOODBYE_ITEM.sizeof()
    tail = len(body) - schema.GOODBYE_TAIL.sizeof()
    while at < tail:
        yield _part("GOODBYE_ITEM", schema.GOODBYE_ITEM, body[at : at + step], start + _HEADER + at)
        at += step
    yield _part("GOODBYE_TAIL", schema.GOODBYE_TAIL, body[tail:], start + _HEADER + tail)


def _part(name: str, declaration: Construct[Any, Any], data: bytes, at: int) -> Piece:
    return Piece(at, name, len(data), parse(declaration, data, name, at))


class _Order:
    """Names the record that breaks the rules of attributes and ACLs; the decoder only knows its node."""

    def __init__(self) -> None:
        self._last: dict[str, Any] = {}

    def check(self, name: str, fields: dict[str, Value], features: int, offset: int) -> None:
        """:raises FormatError: the record may not stand here, or not have these values"""
        if name == "ENTRY":
            self._last.clear()
        node = self._excerpt(name, fields)
        reason = check_node(node, features) if node is not None else None
        if reason:
            raise FormatError(reason, offset=offset)

    def _excerpt(self, name: str, fields: dict[str, Any]) -> Node | None:
        """A node of the record and the one before it, as far as they have rules in common."""
        if name == "XATTR":
            return Node(b"", 0, xattrs=self._pair(name, XAttr(fields["name"], fields["value"])))
        if name == "ACL_GROUP_OBJ":
            return Node(b"", 0, acl_group_obj=fields["permissions"])
        if name == "ACL_DEFAULT":
            values = (None if value == schema.UINT64_MAX else value for value in fields.values())
            self._last[name] = AclDefault(*values)
            return Node(b"", 0, acl_default=self._last[name])
        if name in _ACL_FIELDS:
            entry = AclEntry(fields["id"], fields["permissions"], fields["name"])
            entries: dict[str, Any] = {_ACL_FIELDS[name]: self._pair(name, entry)}
            return Node(b"", 0, acl_group_obj=0, acl_default=self._last.get("ACL_DEFAULT"), **entries)
        return None

    def _pair(self, name: str, value: Any) -> tuple[Any, ...]:
        pair = (self._last[name], value) if name in self._last else (value,)
        self._last[name] = value
        return pair
