"""One place of files of each kind, to have the same promises kept by all: a directory, memory, web servers.

    @EVERYWHERE
    def test_something(place: Place) -> None: ...

A new kind of place is a row of `KINDS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from webserver import WebServer, web_server

from casync_compat.net.exchange import Clock, Exchange
from casync_compat.net.transport import CurlTransport
from casync_compat.store.files import Files, StoredFile
from casync_compat.store.http import HttpFiles
from casync_compat.store.local import LocalFiles
from casync_compat.store.memory import MemoryFiles

__all__ = ["EVERYWHERE", "KINDS", "Place", "place"]


@dataclass
class Place:
    """A place.

    :ivar server: of a place on the web
    """

    files: Files
    server: WebServer | None = None

    def put(self, name: bytes, content: bytes) -> StoredFile:
        """A file in it."""
        self.files.write(name, content)
        return StoredFile(self.files, name)


@contextmanager
def _memory(base: Path) -> Iterator[Place]:
    yield Place(MemoryFiles())


@contextmanager
def _directory(base: Path) -> Iterator[Place]:
    yield Place(LocalFiles(os.fsencode(base / "files")))


@contextmanager
def _web(base: Path, ranges: bool = True) -> Iterator[Place]:
    transport = CurlTransport({}, "pycasync")
    with web_server() as server:
        server.ranges = ranges
        exchange = Exchange(transport, Clock(sleep=lambda seconds: None, jitter=lambda: 0.5))
        yield Place(HttpFiles(server.url + "/at", exchange), server)
    transport.close()


def _without_ranges(base: Path) -> AbstractContextManager[Place]:
    return _web(base, ranges=False)


KINDS: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "memory": _memory,
    "directory": _directory,
    "web": _web,
    "web without ranges": _without_ranges,
}


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place of the kind that the test is for."""
    with KINDS[request.param](tmp_path) as made:
        yield made


EVERYWHERE = pytest.mark.parametrize("place", KINDS, indirect=True)
