"""A file, or a part of one, read from a web server as if connections never broke.

What came is not asked for again: the rest is asked for as a range, on the condition that the file is still the same
(`ETag`, `If-Range`, else its date and size); where the server gives no ranges, the beginning is read once more and
dropped. It goes on as long as each attempt brings something; `exchange` has the pauses.

    >>> download = Download(exchange, url, authorizer, where="https://host/store", op="read 0000/00….cacnk")
    >>> download.status, download.read(1 << 18)
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from casync_compat.errors import RemoteError
from casync_compat.net.http import CONTENT_RANGE, Headers, Request, TransportError

if TYPE_CHECKING:
    from casync_compat.net.authorizer import Authorizer
    from casync_compat.net.exchange import Exchange
    from casync_compat.net.traffic import Answer

__all__ = ["ChangedMeanwhile", "Download"]

_PIECE = 1 << 18
_PROGRESS = 1 << 16
"""An attempt that brings so many bytes does not count as one that failed."""


class ChangedMeanwhile(RemoteError):
    """The file was replaced while it was read."""


class Download:
    """A `Response` that goes on where it breaks off.

    :param start: the first byte that is wanted
    :param end: the one after the last; None for all
    :ivar status: 200 where there is such a file or part, else the server's, and there is no body
    :ivar end: may be set to None where the answer is not `partial`, to read all of it
    :ivar partial: whether the server gave the part that was asked for, and nothing more
    :ivar size: of the whole file; None when the server does not say
    :raises RemoteError: there is no answer, here and in `read`
    """

    def __init__(
        self,
        exchange: Exchange,
        url: str,
        authorizer: Authorizer | None,
        *,
        where: str,
        op: str,
        start: int = 0,
        end: int | None = None,
    ) -> None:
        self._exchange = exchange
        self._url = url
        self._authorizer = authorizer
        self._where = where
        self._op = op
        self._at = start
        self.end = end
        self._behind = 0  # bytes that come before those that are wanted
        self._mark = start
        self._failures = 0
        self._tag: str | None = None
        self._date: str | None = None
        self.size: int | None = None
        self.partial = False
        self._answer = self._ask(ranged=start > 0 or end is not None)
        self.headers: Headers = self._answer.headers
        self.status = self._begin()

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty at the end.

        :raises ChangedMeanwhile: what is left is of another file
        """
        if self.end is not None:
            size = min(size, self.end - self._at)
        while size > 0:
            try:
                self._pass_over()
                data = self._answer.read(size)
            except TransportError as error:
                self._go_on(error)
                continue
            if data:
                self._at += len(data)
                return data
            if self._is_whole():
                break
            self._go_on(TransportError("the answer broke off before its end"))
        return b""

    def close(self) -> None:
        """Let go of it."""
        self._answer.close()

    def _is_whole(self) -> bool:
        ends = [end for end in (self.end, self.size) if end is not None]
        return not ends or self._at >= min(ends)

    def _pass_over(self) -> None:
        while self._behind:
            data = self._answer.read(min(_PIECE, self._behind))
            if not data:
                raise TransportError("the answer broke off before its end")
            self._behind -= len(data)

    def _ask(self, *, ranged: bool) -> Answer:
        fields = {}
        if ranged:
            fields["Range"] = f"bytes={self._at}-{'' if self.end is None else self.end - 1}"
            if self._tag is not None and not self._tag.startswith("W/"):
                fields["If-Range"] = self._tag
        request = Request("GET", self._url, fields)
        return self._exchange.send(request, self._authorizer, frozenset(), op=self._op, where=self._where)

    def _begin(self) -> int:
        """Take in the headers of an answer. Returns the status."""
        answer = self._answer
        size: int | None
        if answer.status == 200:
            self._behind = self._at
            self.partial = False
            size = answer.headers.number("Content-Length")
        elif answer.status == 206:
            self._behind = 0
            self.partial = True
            match = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range") or "")
            if match is None or int(match[1]) != self._at:
                answer.close()
                raise RemoteError(
                    self._where, self._op, "the server gave another range than was asked for", 206
                )
            size = None if match[3] == "*" else int(match[3])
        else:
            return answer.status
        tag, date = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
        self._check(size, tag, date)
        self.size, self._tag, self._date = size or self.size, tag or self._tag, date or self._date
        return 200

    def _check(self, size: int | None, tag: str | None, date: str | None) -> None:
        """Compare with the answers before what both of them say."""
        pairs = ((self._tag, tag), (self.size, size), *(() if self._tag and tag else ((self._date, date),)))
        if any(was is not None and now is not None and was != now for was, now in pairs):
            self._answer.close()
            raise ChangedMeanwhile(self._where, self._op, "it was replaced while it was read")

    def _go_on(self, error: TransportError) -> None:
        self._answer.close()
        if self._at - self._mark >= _PROGRESS:
            self._mark, self._failures = self._at, 0
        self._failures += 1
        if error.final or self._failures >= self._exchange.attempts:
            raise RemoteError(self._where, self._op, error.why) from error
        self._exchange.pause(self._failures - 1, why=f"{self._where}: cannot {self._op}: {error.why}")
        self._answer = self._ask(ranged=self._at > 0 or self.end is not None)
        status = self._begin()
        if status != 200:
            with contextlib.closing(self._answer):
                if status == 416:
                    raise ChangedMeanwhile(self._where, self._op, "it was replaced while it was read", status)
                raise RemoteError(self._where, self._op, "the server did not give the rest of it", status)
