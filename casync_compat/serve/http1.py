"""HTTP/1.1 requests as bytes (RFC 9112): where a head ends and what it says, and where its body ends. No IO.

Strict where others might read the same bytes differently, as proxies in front do: what frames a body is written once
and as the standard has it, lines end in CR LF, names are followed by their colon, nothing is folded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["END", "MOST_HEAD", "BadRequest", "Framing", "Heads", "RequestBody", "RequestHead"]

END = b"\r\n\r\n"
"""What a head ends with."""
MOST_HEAD = 64 << 10
"""Bytes of a head."""
_MOST_FIELDS = 100
_MOST_LINE = 4 << 10
"""Bytes of a line between the parts of a body."""
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~\x80-\xff]+) HTTP/([0-9])\.([0-9])")
_ABSOLUTE = re.compile(rb"(?i:https?)://[^/?#]*")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)\r\n")
_FIELDS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)*")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_REMEMBERED = 256
"""Groups of fields: a client sends the same ones with each of its requests."""
_REMEMBERED_BYTES = 1 << 10


class BadRequest(Exception):
    """This is no request that can be answered. Where the next one begins is not known.

    :ivar status: of HTTP
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Framing(NamedTuple):
    """What the fields of a head say.

    :ivar fields: by lower-case name; of repeated ones the last
    :ivar length: bytes of the body; None where it comes in parts that say theirs
    :ivar keep: whether the client may ask for more on the same connection
    :ivar waits: whether it sends its body only when it is told to
    """

    fields: Mapping[bytes, bytes]
    length: int | None
    keep: bool
    waits: bool


class RequestHead(NamedTuple):
    """The head of a request.

    :ivar target: path and query, as they were sent
    :ivar minor: of the version, HTTP/1.x
    """

    method: str
    target: bytes
    minor: int
    framing: Framing


class Heads:
    """Reads heads, and remembers what fields say that came before."""

    def __init__(self) -> None:
        self._known: dict[bytes, Framing] = {}

    def read(self, head: bytes) -> RequestHead:
        """A head without the last line, the empty one.

        :raises BadRequest: see there
        """
        line, _, rest = head.partition(b"\r\n")
        found = _LINE.fullmatch(line)
        if found is None:
            raise BadRequest(400, "this is no request of HTTP/1.1")
        method, target, major, minor = found.groups()
        if major != b"1":
            raise BadRequest(505, "only HTTP/1.1 is spoken here; HTTP/2 is, over TLS")
        if not target.startswith(b"/") and (absolute := _ABSOLUTE.match(target)):
            target = target[absolute.end() :]
            target = target if target.startswith(b"/") else b"/" + target
        old = minor == b"0"
        framing = None if old else self._known.get(rest)
        if framing is None:
            framing = _framing(rest, old=old)
            if not old and len(rest) <= _REMEMBERED_BYTES:
                if len(self._known) >= _REMEMBERED:
                    del self._known[next(iter(self._known))]
                self._known[rest] = framing
        return RequestHead(method.decode("ascii"), target, 0 if old else 1, framing)


def _framing(block: bytes, *, old: bool) -> Framing:
    if _FIELDS.fullmatch(block) is None:
        raise BadRequest(400, "a field of the request is not written as one")
    rows = [(name.lower(), value.strip(b" \t")) for name, value in _FIELD.findall(block)]
    if len(rows) > _MOST_FIELDS:
        raise BadRequest(431, f"more than {_MOST_FIELDS} fields")
    fields = dict(rows)
    names = [name for name, _ in rows]
    if names.count(b"host") > 1 or (not old and b"host" not in fields):
        raise BadRequest(400, "a request names one host")
    said = [
        value.strip().lower() for name, value in rows if name == b"connection" for value in value.split(b",")
    ]
    keep = not old and b"close" not in said
    waits = not old and fields.get(b"expect", b"").lower() == b"100-continue"
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if old or b"content-length" in fields or names.count(b"transfer-encoding") > 1:
            raise BadRequest(400, "the length of the body is said twice")
        if coding.lower() != b"chunked":
            raise BadRequest(501, "of transfer codings only chunked is known")
        return Framing(fields, None, keep, waits)
    length = fields.get(b"content-length", b"0")
    if names.count(b"content-length") > 1 or _LENGTH.fullmatch(length) is None:
        raise BadRequest(400, "Content-Length is one number")
    return Framing(fields, int(length), keep, waits)


class RequestBody:
    """A body on its way: what of the bytes that come belongs to it.

    :param length: its bytes; None where its parts say theirs
    :ivar done: whether it has ended
    """

    def __init__(self, length: int | None) -> None:
        self._parted = length is None
        self._left = length or 0
        self._trailer = 0
        self._state = self._sized if length is not None else self._size_line
        self.done = length == 0

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """What there is of it, and what is left: the beginning of something that has to come, or the next request.

        :raises BadRequest: parts of it are not written as such
        """
        taken: list[bytes] = []
        at, last = 0, -1
        while at != last and at < len(data) and not self.done:
            last, at = at, self._state(data, at, taken)
        return (taken[0] if len(taken) == 1 else b"".join(taken)), data[at:]

    # Each state takes what it can from `at` on, and returns where that ends: `at` itself where more has to come.

    def _sized(self, data: bytes, at: int, taken: list[bytes]) -> int:
        part = data[at : at + self._left]
        taken.append(part)
        self._left -= len(part)
        if not self._left:
            if self._parted:
                self._state = self._part_end
            else:
                self.done = True
        return at + len(part)

    def _part_end(self, data: bytes, at: int, taken: list[bytes]) -> int:
        if len(data) - at < 2 and data[at] == 13:
            return at
        if not data.startswith(b"\r\n", at):
            raise BadRequest(400, "a part of the body is longer than it says")
        self._state = self._size_line
        return at + 2

    def _size_line(self, data: bytes, at: int, taken: list[bytes]) -> int:
        end = _line_end(data, at)
        if end < 0:
            return at
        found = _SIZE.fullmatch(data, at, end)
        if found is None:
            raise BadRequest(400, "a part of the body has no size")
        self._left = int(found[1], 16)
        self._state = self._sized if self._left else self._trailers
        return end + 2

    def _trailers(self, data: bytes, at: int, taken: list[bytes]) -> int:
        end = _line_end(data, at)
        if end < 0:
            return at
        self._trailer += end - at
        if self._trailer > _MOST_LINE:
            raise BadRequest(400, "too much follows the body")
        self.done = end == at
        return end + 2


def _line_end(data: bytes, at: int) -> int:
    """Where a line ends; below 0 where that has to come."""
    end = data.find(b"\r\n", at, at + _MOST_LINE + 2)
    if end < 0 and len(data) - at > _MOST_LINE + 1:
        raise BadRequest(400, "a line in the body is too long")
    return end
