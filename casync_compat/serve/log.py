"""The access log: a line a request, as text (the common log format, and seconds) or as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TypeAlias

from casync_compat.serve.replies import Reply
from casync_compat.serve.requests import WebRequest

__all__ = ["AccessLog", "json_line", "text_line"]

Line: TypeAlias = Callable[[float, WebRequest, Reply, int, float], str]


def text_line(now: float, request: WebRequest, answer: Reply, sent: int, seconds: float) -> str:
    """A line of text. What a client chose is escaped, and cannot begin a line of its own."""
    moment = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now))
    asked = f"{request.method} {_shown(request.path)} HTTP/{request.version}"
    return f'{request.client or "-"} - - [{moment}] "{asked}" {answer.status} {sent} {seconds:.6f}'


def json_line(now: float, request: WebRequest, answer: Reply, sent: int, seconds: float) -> str:
    """A line of JSON."""
    return json.dumps(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "client": request.client,
            "method": request.method,
            "path": request.path.decode("latin-1"),
            "status": answer.status,
            "bytes": sent,
            "seconds": round(seconds, 6),
            "store": answer.store,
            "hit": answer.hit,
            "agent": request.fields.get(b"user-agent", b"").decode("latin-1"),
        }
    )


def _shown(path: bytes) -> str:
    return path.decode("latin-1").encode("ascii", "backslashreplace").decode().replace('"', "%22")


class AccessLog:
    """Where lines go.

    :param line: what makes one
    :param write: takes it, without a newline; what it raises ends nothing
    """

    def __init__(self, line: Line, write: Callable[[str], object]) -> None:
        self._line = line
        self._write = write

    def add(self, request: WebRequest, answer: Reply, sent: int, seconds: float) -> None:
        """Say that a request was answered."""
        try:
            self._write(self._line(time.time(), request, answer, sent, seconds))
        except OSError:  # a full disk is no reason to serve nobody
            return
