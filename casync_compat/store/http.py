"""Files on a web server, and the chunk stores made of them: any static server, casync's layout, desync's chunk-server.

Reading needs GET alone; HEAD, ranges and PUT are used where the server has them. Names are appended to the path of the
base URL, in front of its query if it has one. Nothing can be listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from casync_compat.errors import AccessDenied, RemoteError, UsageError
from casync_compat.net.exchange import is_temporary
from casync_compat.net.http import BytesBody, Fetched, Headers, Request, Wanted, read_all
from casync_compat.net.resuming import ChangedMeanwhile, Download
from casync_compat.store.files import (
    Can,
    FileChanged,
    FileDamaged,
    Files,
    FileStatus,
    Listed,
    Opened,
    Version,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from casync_compat.net.authorizer import Authorizer
    from casync_compat.net.exchange import Exchange
    from casync_compat.net.traffic import Answer

__all__ = ["HttpFiles"]

_ABSENT = (404, 410)
_CHUNK = re.compile(rb"[0-9a-f]{4}/[0-9a-f]{64}(\.[^/]*)?")
_PLAIN = "/;=,:@"
"""What stands in a path as it is; a plus sign does not, which some servers read as a space."""
_AS_IT_IS = re.compile(rb"[0-9A-Za-z/._-]+")
"""Names that need no second look: those of all chunks."""
_NO_TEXT = re.compile("[\udc80-\udcff]")
"""Bytes of a locator that are no UTF-8, as `os.fsdecode` has them."""
_PIECE = 1 << 18


class HttpFiles(Files):
    """The files below an URL.

    :param url: of the directory; a query is sent with every request
    :param authorizer: None sends no credentials
    :param exchange: makes the requests; it is not closed here
    """

    can = Can.RANGE | Can.WRITE | Can.DATES
    eager = True

    def __init__(self, url: str, exchange: Exchange, authorizer: Authorizer | None = None) -> None:
        parts = urlsplit(url)
        path = _NO_TEXT.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", parts.path.rstrip("/"))
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}/"
        self._query = f"?{parts.query}" if parts.query else ""
        self._exchange = exchange
        self._authorizer = authorizer

    @property
    def name(self) -> str:
        return self._base.rstrip("/")

    def url_of(self, name: bytes) -> str:
        """Where a file is."""
        path = name.decode("ascii") if _AS_IT_IS.fullmatch(name) else quote(name, safe=_PLAIN)
        return f"{self._base}{path}{self._query}"

    def _send(self, method: str, name: bytes, op: str, **fields: str) -> Answer:
        """The answer to a request without a body, if the file may be seen."""
        headers = {key.replace("_", "-"): value for key, value in fields.items()}
        request = Request(method, self.url_of(name), headers)
        answer = self._exchange.send(request, self._authorizer, frozenset(), op=op, where=self.name)
        if answer.status in (401, 403):
            answer.close()
            raise self._refused(answer.status, op)
        return answer

    def _failed(self, answer: Answer, op: str) -> RemoteError:
        answer.close()
        return self._refused(answer.status, op)

    def _open(self, name: bytes, start: int = 0, end: int | None = None) -> Download | None:
        """A file, or a part of it, to be read; None if there is none. After its end there is nothing, status 416."""
        op = f"read {_shown(name)}"
        download = Download(
            self._exchange,
            self.url_of(name),
            self._authorizer,
            where=self.name,
            op=op,
            start=start,
            end=end,
        )
        if download.status == 200 or (download.status == 416 and end is not None):
            return download
        download.close()
        if _is_absent(download.status, name):
            return None
        raise self._refused(download.status, op)

    def _refused(self, status: int, op: str) -> RemoteError:
        if status in (401, 403):
            return AccessDenied(self.name, op, "access was denied", status)
        return RemoteError(self.name, op, "the server did not give it", status)

    def read(self, name: bytes, limit: int) -> bytes | None:
        for _ in range(self._exchange.attempts):
            try:
                return self._read(name, limit)
            except ChangedMeanwhile as error:
                changed = error
        raise changed

    def _read(self, name: bytes, limit: int) -> bytes | None:
        download = self._open(name)
        if download is None:
            return None
        content = read_all(download, limit)
        if content is None:
            raise FileDamaged(name, self.name, f"the server sends more than the {limit} bytes it may have")
        return content

    def begin(self, wanted: Sequence[tuple[bytes, int]]) -> Callable[[], list[bytes | None]]:
        asked = [Wanted(self.url_of(name), limit) for name, limit in wanted]
        answers = self._exchange.begin(asked, self._authorizer, frozenset())
        return lambda: [
            self._checked(one, name, limit) for one, (name, limit) in zip(answers(), wanted, strict=True)
        ]

    def begin_ranges(self, wanted: Sequence[tuple[bytes, int, int]]) -> Callable[[], list[bytes | None]]:
        asked = [Wanted(self.url_of(name), size, offset) for name, offset, size in wanted]
        answers = self._exchange.begin(asked, self._authorizer, frozenset())
        return lambda: [
            one.content
            if one.status == 206 or (one.status == 200 and not offset)
            else self.read_range(name, offset, size)  # which knows redirects and servers without ranges
            for one, (name, offset, size) in zip(answers(), wanted, strict=True)
        ]

    def read_many(self, wanted: Sequence[tuple[bytes, int]]) -> list[bytes | None]:
        return self.begin(wanted)()

    def _checked(self, one: Fetched, name: bytes, limit: int) -> bytes | None:
        """What a file among many is. Redirects and the like are followed here; what is damaged is for `read` to say.

        :raises RemoteError: it was not given, although it was asked for again and again
        """
        if one.status == 200:
            return one.content
        if _is_absent(one.status, name):
            return None
        op = f"read {_shown(name)}"
        if one.error is not None:
            raise RemoteError(self.name, op, one.error.why) from one.error
        if is_temporary(one.status):
            raise self._refused(one.status, op)
        try:
            return self.read(name, limit)
        except FileDamaged:
            return None

    def pieces(self, name: bytes) -> Iterator[bytes] | None:
        """The content of a file, piece by piece; None if there is none.

        :raises RemoteError: also between pieces, where the rest cannot be had
        """
        download = self._open(name)
        return None if download is None else _pieces(download)

    def open_file(self, name: bytes, head: int | None = None) -> Opened | None:
        """See `Files.open_file`. One request; a server that gives no ranges sends all of it as the answer to that."""
        download = self._open(name, 0, None if head is None else max(head, 1))
        if download is None:
            return None
        if download.status == 416 or (download.partial and download.size is None):
            download.close()  # of an empty file, or one of a size that is not told, there are no parts
            return self.open_file(name)
        status = _status(download.headers, download.size or 0)
        if download.partial:
            return Opened(download.size, status, b"".join(_pieces(download))[:head], None)
        download.end = None
        return Opened(download.size, status, b"", _pieces(download))

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        return self._read_range(name, offset, size, None)

    def read_part(self, name: bytes, offset: int, size: int, status: FileStatus) -> bytes:
        data = self._read_range(name, offset, size, status)
        if data is None:
            raise FileChanged(name, self.name)
        return data

    def _read_range(self, name: bytes, offset: int, size: int, known: FileStatus | None) -> bytes | None:
        if size <= 0:
            return b""
        for _ in range(self._exchange.attempts):
            download = self._open(name, offset, offset + size)
            if download is None:
                return None
            try:
                if known is not None and not _is_still(download, known):
                    raise FileChanged(name, self.name)
                return b"" if download.status == 416 else b"".join(_pieces(download))
            except ChangedMeanwhile as error:
                changed = error
            finally:
                download.close()
        raise changed

    def stat(self, name: bytes) -> FileStatus | None:
        op = f"look for {_shown(name)}"
        answer = self._send("HEAD", name, op)
        answer.drain()
        if _is_absent(answer.status, name):
            return None
        if answer.status != 200:
            raise self._failed(answer, op)
        size = answer.headers.number("Content-Length")
        return _status(
            answer.headers, 1 if size is None else size
        )  # who does not say has something all the same

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


def _pieces(download: Download) -> Iterator[bytes]:
    try:
        while piece := download.read(_PIECE):
            yield piece
    finally:
        download.close()


def _is_absent(status: int, name: bytes) -> bool:
    """Whether an answer says that there is no such file. desync's chunk-server has 400 for another form."""
    return status in _ABSENT or (status == 400 and _CHUNK.fullmatch(name) is not None)


def _status(headers: Headers, size: int) -> FileStatus:
    return FileStatus(size, _nanoseconds(headers.get("Last-Modified")), headers.get("ETag"))


def _is_still(download: Download, known: FileStatus) -> bool:
    """Whether an answer is of the content that is known."""
    size = known.size if download.size is None else download.size
    return download.status != 416 and _status(download.headers, size).is_of_same(known)


def _nanoseconds(date: str | None) -> int | None:
    try:
        return None if date is None else int(parsedate_to_datetime(date).timestamp()) * 10**9
    except (ValueError, TypeError, OverflowError):
        return None
