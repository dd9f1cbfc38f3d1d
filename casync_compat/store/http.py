"""Files on a web server, and the chunk stores made of them: any static server, casync's layout, desync's chunk-server.

Reading needs GET alone; HEAD, ranges and PUT are used where the server has them. Names are appended to the path of the
base URL, in front of its query if it has one. Nothing can be listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from casync_compat.errors import AccessDenied, RemoteError, UsageError
from casync_compat.net.http import BytesBody, Request, TransportError, Wanted, read_all
from casync_compat.store.files import Can, FileDamaged, Files, FileStatus, Listed, Version

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from casync_compat.net.authorizer import Authorizer
    from casync_compat.net.exchange import Exchange
    from casync_compat.net.traffic import Answer

__all__ = ["HttpFiles"]

_ABSENT = (404, 410)
_PIECE = 1 << 18
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class HttpFiles(Files):
    """The files below an URL.

    :param url: of the directory; a query is sent with every request
    :param authorizer: None sends no credentials
    :param exchange: makes the requests; it is not closed here
    """

    can = Can.RANGE | Can.WRITE | Can.DATES

    def __init__(self, url: str, exchange: Exchange, authorizer: Authorizer | None = None) -> None:
        parts = urlsplit(url)
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/"
        self._query = f"?{parts.query}" if parts.query else ""
        self._exchange = exchange
        self._authorizer = authorizer

    @property
    def name(self) -> str:
        return self._base.rstrip("/")

    def url_of(self, name: bytes) -> str:
        """Where a file is."""
        return f"{self._base}{quote(name)}{self._query}"

    def _send(self, method: str, name: bytes, op: str, **fields: str) -> Answer:
        """The answer to a request without a body, if the file may be seen."""
        headers = {key.replace("_", "-"): value for key, value in fields.items()}
        request = Request(method, self.url_of(name), headers)
        answer = self._exchange.send(request, self._authorizer, frozenset(), op=op, where=self.name)
        if answer.status in (401, 403):
            answer.close()
            raise AccessDenied(self.name, op, "access was denied", answer.status)
        return answer

    def _failed(self, answer: Answer, op: str) -> RemoteError:
        answer.close()
        return RemoteError(self.name, op, "the server did not give it", answer.status)

    def read(self, name: bytes, limit: int) -> bytes | None:
        op = f"read {_shown(name)}"
        for last in (False, True):
            answer = self._send("GET", name, op)
            if answer.status in _ABSENT:
                answer.drain()
                return None
            if answer.status != 200:
                raise self._failed(answer, op)
            try:
                content = read_all(answer, limit)
            except TransportError as error:
                if last:
                    raise RemoteError(self.name, op, error.why) from error
                continue
            if content is None:
                raise FileDamaged(
                    name, self.name, f"the server sends more than the {limit} bytes it may have"
                )
            return content
        raise AssertionError

    def read_many(self, wanted: Sequence[tuple[bytes, int]]) -> list[bytes | None]:
        asked = [Wanted(self.url_of(name), limit) for name, limit in wanted]
        found = self._exchange.fetch(asked, self._authorizer, frozenset())
        return [
            one.content if one.status == 200 else None if one.status in _ABSENT else self._again(name, limit)
            for one, (name, limit) in zip(found, wanted, strict=True)
        ]

    def _again(self, name: bytes, limit: int) -> bytes | None:
        """The same with redirects, credentials and patience; what is damaged is for `read` to say."""
        try:
            return self.read(name, limit)
        except FileDamaged:
            return None

    def pieces(self, name: bytes) -> Iterator[bytes] | None:
        """The content of a file, piece by piece; None if there is none.

        :raises RemoteError: also between pieces, where it breaks off
        """
        op = f"read {_shown(name)}"
        answer = self._send("GET", name, op)
        if answer.status in _ABSENT:
            answer.drain()
            return None
        if answer.status != 200:
            raise self._failed(answer, op)
        return self._pieces(answer, op)

    def _pieces(self, answer: Answer, op: str) -> Iterator[bytes]:
        try:
            while piece := answer.read(_PIECE):
                yield piece
        except TransportError as error:
            raise RemoteError(self.name, op, error.why) from error
        finally:
            answer.close()

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        if size <= 0:
            return b""
        op = f"read {_shown(name)}"
        answer = self._send("GET", name, op, Range=f"bytes={offset}-{offset + size - 1}")
        if answer.status in _ABSENT:
            answer.drain()
            return None
        if answer.status == 416:
            answer.drain()
            return b""
        skip = offset
        if answer.status == 206:
            match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range") or "")
            if match is None or int(match[1]) != offset:
                raise self._failed(answer, op)
            skip = 0
        elif answer.status != 200:
            raise self._failed(answer, op)
        try:
            return _part(answer, skip, size)
        except TransportError as error:
            raise RemoteError(self.name, op, error.why) from error
        finally:
            answer.close()

    def stat(self, name: bytes) -> FileStatus | None:
        op = f"look for {_shown(name)}"
        answer = self._send("HEAD", name, op)
        answer.drain()
        if answer.status in _ABSENT:
            return None
        if answer.status != 200:
            raise self._failed(answer, op)
        size = answer.headers.number("Content-Length")
        return FileStatus(
            1 if size is None else size,  # a server that does not say has something all the same
            _nanoseconds(answer.headers.get("Last-Modified")),
            answer.headers.get("ETag"),
        )

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> Version | None:
        if if_absent or if_version is not None:
            raise UsageError(f"{self.name}: a web server cannot write on a condition")
        op = f"write {_shown(name)}"
        request = Request("PUT", self.url_of(name), {}, BytesBody(memoryview(data).cast("B")))
        answer = self._exchange.send(request, self._authorizer, frozenset(), op=op, where=self.name)
        answer.drain()
        if answer.status in (401, 403):
            raise AccessDenied(self.name, op, "access was denied", answer.status)
        if answer.status not in (200, 201, 204):
            raise RemoteError(self.name, op, "the server did not take it", answer.status)
        return answer.headers.get("ETag")

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        raise UsageError(f"{self.name}: a web server cannot list its files")

    def remove(self, name: bytes) -> int:
        status = self.stat(name)
        if status is None:
            return 0
        op = f"remove {_shown(name)}"
        answer = self._send("DELETE", name, op)
        answer.drain()
        if answer.status in _ABSENT:
            return 0
        if answer.status not in (200, 202, 204):
            raise RemoteError(self.name, op, "the server does not let it go", answer.status)
        return status.size

    def sync(self, *, others: bool = False) -> None:
        """A server that has answered has it."""

    def close(self) -> None:
        """Connections are the exchange's."""


def _shown(name: bytes) -> str:
    return name.decode(errors="replace")


def _part(answer: Answer, skip: int, size: int) -> bytes:
    """So many bytes of a body, after those that are passed over."""
    pieces = []
    while size and (data := answer.read(_PIECE)):
        part = data[skip : skip + size]
        skip = max(0, skip - len(data))
        size -= len(part)
        pieces.append(part)
    return b"".join(pieces)


def _nanoseconds(date: str | None) -> int | None:
    try:
        return None if date is None else int(parsedate_to_datetime(date).timestamp()) * 10**9
    except (ValueError, TypeError, OverflowError):
        return None
