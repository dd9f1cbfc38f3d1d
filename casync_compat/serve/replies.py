"""Answers as values, and what HTTP says of them: conditions (RFC 9110, section 13) and ranges (section 14). No IO."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from typing import TypeAlias

__all__ = [
    "BINARY",
    "BodyPart",
    "Field",
    "Reply",
    "http_date",
    "is_other",
    "not_modified",
    "text",
    "wanted_range",
]

Field: TypeAlias = tuple[bytes, bytes]

BINARY = (b"content-type", b"application/octet-stream")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_RANGE = re.compile(rb"bytes=\s*(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))\s*")


@dataclass(slots=True)
class Reply:
    """What a client gets.

    :ivar status: of HTTP
    :ivar fields: but for Content-Length
    :ivar body: all of it; empty where there are pieces
    :ivar pieces: a body that is too large to have at once, each taken by a thread
    :ivar size: bytes of the body, also of one that is not sent because only its head was asked for; None where
        nobody knows, for want of looking
    :ivar store: whose it is, for metrics
    :ivar hit: whether it was there already, and nothing behind was asked; None where that is no question
    :ivar threads: that take the pieces; None for any
    """

    status: int
    fields: list[Field] = field(default_factory=list)
    body: bytes = b""
    pieces: Iterator[bytes] | None = None
    size: int | None = None
    store: str = ""
    hit: bool | None = None
    threads: Executor | None = None

    def __post_init__(self) -> None:
        if self.size is None and self.pieces is None and self.body:
            self.size = len(self.body)


def text(status: int, why: str, *fields: Field, store: str = "") -> Reply:
    """A line of text, for errors."""
    body = why.encode() + b"\n"
    return Reply(status, [_TEXT, _NOSNIFF, *fields], body, size=len(body), store=store)


def not_modified(fields: Mapping[bytes, bytes], tag: bytes | None, modified: int | None) -> bool:
    """Whether a client has already what it asks for.

    :param fields: of the request
    :param tag: of what there is, with its quotes
    :param modified: nanoseconds since 1970
    """
    known = fields.get(b"if-none-match")
    if known is not None:
        if known.strip() == b"*":
            return True
        return tag is not None and tag.removeprefix(b"W/") in re.findall(rb'"[^"]*"', known)
    since = fields.get(b"if-modified-since")
    if since is None or modified is None:
        return False
    moment = _moment(since)
    return moment is not None and modified // 10**9 <= moment


def is_other(
    fields: Mapping[bytes, bytes], tag: bytes | None, modified: int | None, *, there: bool = True
) -> bool:
    """Whether what there is, is not what a client wants it to be (412): If-Match and If-Unmodified-Since.

    :param there: whether there is anything; other parameters as of `not_modified`
    """
    wanted = fields.get(b"if-match")
    if wanted is not None:
        if wanted.strip() == b"*":
            return not there
        return tag is None or tag not in re.findall(rb'(?<!/)"[^"]*"', wanted)  # weak ones are equal to none
    since = fields.get(b"if-unmodified-since")
    moment = None if since is None or modified is None else _moment(since)
    return moment is not None and modified is not None and modified // 10**9 > moment


def _moment(value: bytes) -> int | None:
    try:
        return int(parsedate_to_datetime(value.decode("ascii")).timestamp())
    except (ValueError, OverflowError, TypeError):
        return None


def http_date(moment: int) -> bytes:
    """A moment, in nanoseconds since 1970, as fields have it."""
    return formatdate(moment // 10**9, usegmt=True).encode()


@dataclass(frozen=True, slots=True)
class BodyPart:
    """A part of a body.

    :ivar start: its offset
    :ivar stop: where it ends; `start` where nothing of the body is in it
    """

    start: int
    stop: int

    def told(self, size: int) -> Field:
        """The Content-Range of an answer."""
        if self.start == self.stop:
            return b"content-range", b"bytes */%d" % size
        return b"content-range", b"bytes %d-%d/%d" % (self.start, self.stop - 1, size)


def wanted_range(
    fields: Mapping[bytes, bytes], size: int, tag: bytes | None, modified: int | None = None
) -> BodyPart | None:
    """The part that is asked for; None for all: also where several are, which need not be given.

    :param fields: of the request
    :param size: bytes of the body
    :param tag: of the body, for `If-Range`
    :param modified: of the body, in nanoseconds since 1970
    """
    value = fields.get(b"range")
    found = None if value is None else _RANGE.fullmatch(value)
    if found is None:
        return None
    if (condition := fields.get(b"if-range")) is not None and condition != tag:
        exact = _moment(condition) if modified is not None and b'"' not in condition else None
        if exact is None or modified is None or exact != modified // 10**9:
            return None
    first, last, suffix = found.groups()
    if suffix is not None:
        length = int(suffix)
        return BodyPart(max(0, size - length), size) if length and size else BodyPart(0, 0)
    start = int(first)
    stop = min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return None
    return BodyPart(start, stop) if start < size else BodyPart(0, 0)
