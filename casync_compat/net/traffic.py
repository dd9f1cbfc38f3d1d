"""What moves to and from registries, counted: requests, and the bytes of bodies in either direction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from casync_compat.net.http import Body, Headers, Response, TransportError

__all__ = ["Answer", "CountedBody", "Meter", "Traffic"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has moved: requests sent, and bytes of their bodies, in either direction."""

    requests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.requests - other.requests,
            self.bytes_up - other.bytes_up,
            self.bytes_down - other.bytes_down,
        )


class Meter:
    """Counts traffic, from any thread."""

    def __init__(self, on_bytes: Callable[[int], None] | None) -> None:
        self._lock = threading.Lock()
        self._on_bytes = on_bytes
        self._requests = self._up = self._down = 0

    def add(self, requests: int = 0, up: int = 0, down: int = 0) -> None:
        with self._lock:
            self._requests += requests
            self._up += up
            self._down += down
        if self._on_bytes is not None and up + down:
            self._on_bytes(up + down)

    @property
    def traffic(self) -> Traffic:
        with self._lock:
            return Traffic(self._requests, self._up, self._down)


class CountedBody:
    """A body whose bytes are counted as they go out."""

    def __init__(self, body: Body, meter: Meter) -> None:
        self._body = body
        self._meter = meter

    @property
    def size(self) -> int:
        return self._body.size

    def pieces(self) -> Iterator[bytes | memoryview]:
        for piece in self._body.pieces():
            yield piece
            self._meter.add(up=memoryview(piece).nbytes)


class Answer:
    """A response whose bytes are counted as they come in; it knows where it is from.

    :ivar url: after redirects
    :ivar at_home: whether it is from the origin that was asked
    """

    def __init__(self, response: Response, url: str, at_home: bool, meter: Meter) -> None:
        self._response = response
        self._meter = meter
        self.status: int = response.status
        self.headers: Headers = response.headers
        self.url = url
        self.at_home = at_home

    def read(self, size: int, /) -> bytes:
        data = self._response.read(size)
        if data:
            self._meter.add(down=len(data))
        return data

    def close(self) -> None:
        self._response.close()

    def drain(self) -> None:
        """Read the little that is left, so that the connection can be used again, and close."""
        try:
            for _ in range(4):
                if not self._response.read(1 << 14):
                    break
        except TransportError:
            pass
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
