"""Second attempts at many files at once: what failed for a while, all of it together, and not for ever."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping, Sequence

import pytest

from casync_compat.errors import RemoteError
from casync_compat.net import patience
from casync_compat.net.exchange import Clock, Exchange
from casync_compat.net.http import Fetched, Request, Response, TransportError, Wanted
from casync_compat.net.transport import CurlTransport
from casync_compat.store.http import HttpFiles
from casync_compat.store.options import StoreOptions

RESET = TransportError("Connection reset by peer")
ABSENT = TransportError("nobody listens there", absent=True)
OK = Fetched(200, b"ok")


class Server:
    """Answers by a script: for each name what it gets in turn; the last of them for ever.

    :ivar rounds: the names that were asked for together
    """

    def __init__(self, script: Mapping[str, Sequence[Fetched]], options: StoreOptions | None = None) -> None:
        self._script = {name: list(answers) for name, answers in script.items()}
        self.rounds: list[list[str]] = []
        self.waits: list[float] = []
        clock = Clock(lambda: 0.0, lambda: 0.0, self.waits.append, lambda: 1.0)
        self.exchange = Exchange(self, clock, options=options or StoreOptions(retries=3))
        self.files = HttpFiles("http://h.test", self.exchange)

    def begin(
        self, wanted: Sequence[Wanted], headers: Mapping[str, str], *, verify: bool
    ) -> Callable[[], list[Fetched]]:
        names = [one.url.rpartition("/")[2] for one in wanted]
        self.rounds.append(names)
        return lambda: [self._next(self._script[name]) for name in names]

    def _next(self, answers: list[Fetched]) -> Fetched:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def send(self, request: Request, *, verify: bool) -> Response:
        raise AssertionError("nothing is asked for one by one")

    def close(self) -> None:
        """Nothing is open."""

    def read(self, *names: str) -> list[bytes | None]:
        return self.files.read_many([(name.encode(), 10) for name in names])


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_storms_pass(status: int) -> None:
    """What fails is asked for again after a pause that grows, and what came is not."""
    server = Server(
        {"a": [OK], "b": [Fetched(status, b""), Fetched(0, b"", RESET), OK], "c": [Fetched(404, b"")]}
    )
    assert server.read("a", "b", "c") == [b"ok", b"ok", None]
    assert server.rounds == [["a", "b", "c"], ["b"], ["b"]]
    assert server.waits == [0.5, 1.0]


def test_waiting_as_asked() -> None:
    """The longest Retry-After of a round counts, and a little more, lest all come back at once; not what is absurd."""
    server = Server({"a": [Fetched(429, b"", None, 7), OK], "b": [Fetched(503, b"", None, 3), OK]})
    assert server.read("a", "b") == [b"ok", b"ok"]
    assert server.waits == [7.125]
    server = Server({"a": [Fetched(429, b"", None, 3600)]})
    with pytest.raises(RemoteError, match=r"http://h\.test: cannot read a: .*429"):
        server.read("a")
    assert server.waits == []


@pytest.mark.parametrize(
    ("answer", "says"), [(Fetched(500, b""), "500"), (Fetched(0, b"", RESET), "reset by peer")]
)
def test_giving_up(answer: Fetched, says: str) -> None:
    """After so many attempts in vain, with the name of the file and of the server."""
    server = Server({"a": [answer]})
    with pytest.raises(RemoteError, match=f"http://h.test: cannot read a: .*{says}"):
        server.read("a")
    assert len(server.rounds) == 4
    server = Server({"a": [answer]}, StoreOptions(retries=0))
    with pytest.raises(RemoteError):
        server.read("a")
    assert len(server.rounds) == 1


def test_a_server_that_is_alive() -> None:
    """While something comes, attempts do not count; but nothing is tried for ever."""
    bad = Fetched(0, b"", RESET)
    names = [f"f{n}" for n in range(6)]
    server = Server({name: [*[bad] * n, OK] for n, name in enumerate(names)})
    assert server.read(*names) == [b"ok"] * 6
    assert len(server.rounds) == 6


def test_connections_that_break_among_others() -> None:
    """They are made anew at once, twice, while others bring something; who says that it is too much is given rest."""
    bad = Fetched(0, b"", RESET)
    server = Server({"a": [OK], "b": [bad, OK], "c": [bad, bad, OK], "d": [bad, bad, bad, OK]})
    assert server.read("a", "b", "c", "d") == [b"ok"] * 4
    assert server.waits == [2.0]
    server = Server({"a": [OK], "b": [bad, OK], "c": [Fetched(503, b""), OK]})
    assert server.read("a", "b", "c") == [b"ok"] * 3
    assert server.waits == [0.5]


def test_nobody_there() -> None:
    """On first contact it is a mistyped name and told at once; later it is a server that is started anew."""
    server = Server({"a": [Fetched(0, b"", ABSENT)]})
    with pytest.raises(RemoteError, match="nobody listens"):
        server.read("a")
    assert server.waits == []
    server = Server({"a": [OK, Fetched(0, b"", ABSENT), OK]})
    assert server.read("a") + server.read("a") == [b"ok", b"ok"]


def test_what_is_final() -> None:
    """A certificate that is not trusted stays so; no access is no access."""
    untrusted = TransportError("its certificate is not trusted", final=True)
    server = Server({"a": [Fetched(0, b"", untrusted)]})
    with pytest.raises(RemoteError, match="not trusted"):
        server.read("a")
    assert server.waits == []


def test_what_is_left_to_a_single_request() -> None:
    """Redirects, questions for credentials and what is too large are looked at one by one."""
    for answer in (Fetched(302, b""), Fetched(401, b""), Fetched(0, b"")):
        server = Server({"a": [answer]})
        with pytest.raises(AssertionError, match="one by one"):
            server.read("a")


def test_pauses() -> None:
    """They double from what is said of the store, up to half a minute, with jitter of a half."""
    waits: list[float] = []
    jitter = iter([0.0, 1.0, *[0.5] * 20])
    clock = Clock(lambda: 0.0, lambda: 0.0, waits.append, lambda: next(jitter))
    exchange = Exchange(Server({}), clock, options=StoreOptions(retry_interval=2.0))
    for attempt in (0, 0, 1, 2, 3, 10, 5000):
        exchange.pause(attempt, why="it failed")
    assert waits == [1.0, 2.0, 3.0, 6.0, 12.0, 22.5, 22.5]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given up is given up for this test only."""
    monkeypatch.setattr(patience, "_state", patience._State())


@pytest.mark.usefixtures("ended")
def test_a_run_that_is_to_end() -> None:
    """Nobody rests any more, and whoever wants to know is told."""
    told: list[int] = []
    patience.tell(lambda: told.append(1))
    patience.rest(0.001)
    assert not patience.has_ended()
    patience.give_up()
    patience.rest(1e6)
    assert patience.has_ended()
    assert told == [1]


@pytest.mark.usefixtures("ended")
def test_servers_that_say_nothing() -> None:
    """Whoever waits for them when a run is to end gets an error at once, and so does who comes later."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = CurlTransport({}, "x")
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        answers = transport.begin([Wanted(url, 10)] * 300, {}, verify=True)
        connection, _ = silent.accept()
        failed: list[TransportError] = []

        def ask() -> None:
            try:
                transport.send(Request("GET", url), verify=True)
            except TransportError as error:
                failed.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        patience.give_up()
        found = answers()
        asking.join()
        assert {one.status for one in found} == {0}
        assert all(one.error is not None and one.error.final for one in found)
        assert [error.final for error in failed] == [True]
        with pytest.raises(TransportError, match="end"):
            transport.begin([Wanted(url, 10)], {}, verify=True)
        connection.close()
        transport.close()
