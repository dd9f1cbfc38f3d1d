"""Bytes a second: how long is waited for how much, and that all that moves counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from webserver import WebServer, web_server

from casync_compat.net.http import BytesBody, Request, Wanted, read_all
from casync_compat.net.limiter import Limiter
from casync_compat.net.transport import CurlTransport

DATA = bytes(300_000)


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_moved_is_paid_for() -> None:
    """After so many bytes so many seconds of rest, and no more."""
    clock = FakeTime()
    limiter = Limiter(1000, clock)
    assert limiter.owed() == 0
    for _ in range(20):
        limiter.spend(500)
    assert limiter.owed() == pytest.approx(10)
    clock.now += 9.5
    assert limiter.owed() == pytest.approx(0.5)
    clock.now += 1
    assert limiter.owed() == 0


def test_nothing_is_saved_up() -> None:
    """After an hour in which nothing moved, no more than a tenth of a second's bytes are free."""
    clock = FakeTime()
    limiter = Limiter(1000, clock)
    clock.now += 3600
    limiter.spend(1000)
    assert limiter.owed() == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("rate", "piece", "requests"), [(1, 1024, 1), (64 << 10, 4096, 4), (1 << 30, 16 << 10, 16)]
)
def test_low_limits(rate: int, piece: int, requests: int) -> None:
    """The less there is, the smaller the pieces, and the fewer share it: each has its turn within a minute."""
    limiter = Limiter(rate)
    assert (limiter.piece, limiter.requests) == (piece, requests)
    assert rate < 1000 or requests * 10 * piece / rate < 15


def test_no_rate_at_all() -> None:
    """Nothing would ever move."""
    with pytest.raises(ValueError, match="none"):
        Limiter(0)


class Counting(Limiter):
    """A limiter that makes the loop rest a few times, and counts."""

    def __init__(self) -> None:
        super().__init__(1 << 30)
        self.spent = 0
        self.rests = 0
        self._counting = threading.Lock()

    def spend(self, size: int) -> None:
        with self._counting:
            self.spent += size

    def owed(self) -> float:
        self.rests += 1
        return 0.0001 if self.rests % 3 == 0 else 0.0


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as running:
        yield running


def test_everything_counts(server: WebServer) -> None:
    """What comes and what goes, one by one and many at once; and after each rest it goes on."""
    limiter = Counting()
    transport = CurlTransport({}, "x", limiter=limiter)
    try:
        answer = transport.send(Request("PUT", server.url + "/x", {}, BytesBody(DATA)), verify=True)
        assert (answer.status, read_all(answer, 10)) == (201, b"")
        assert limiter.spent == len(DATA)
        answer = transport.send(Request("GET", server.url + "/x"), verify=True)
        assert read_all(answer, 1 << 20) == DATA
        assert limiter.spent == 2 * len(DATA)
        found = transport.begin([Wanted(server.url + "/x", 1 << 20)] * 20, {}, verify=True)()
        assert [one.content for one in found] == [DATA] * 20
        assert limiter.spent == 22 * len(DATA)
        assert limiter.rests > 20
        assert server.most <= limiter.requests
    finally:
        transport.close()
