"""Sockets that systemd hands over: what is taken, and what is refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from casync_compat.errors import UsageError
from casync_compat.serve import inherited
from casync_compat.serve.addresses import Address

MINE = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A socket of this kind, as the first that is handed over."""
    with socket.socket(*request.param) as one:
        monkeypatch.setattr(inherited, "_FIRST", one.fileno())
        yield one


TCP = (socket.AF_INET, socket.SOCK_STREAM)


@pytest.mark.parametrize("given", [TCP], indirect=True)
def test_an_address(given: socket.socket) -> None:
    """It is served at by its address; programs that the server starts do not get it; and it stays open."""
    given.bind(("127.0.0.1", 0))
    given.listen()
    os.set_inheritable(given.fileno(), True)
    (found,) = inherited.inherited(MINE)
    assert found == Address("127.0.0.1", given.getsockname()[1], given.fileno())
    assert str(found) == f"127.0.0.1:{given.getsockname()[1]}"
    assert not given.get_inheritable()


@pytest.mark.parametrize("given", [(socket.AF_UNIX, socket.SOCK_STREAM)], indirect=True)
def test_a_path(given: socket.socket, tmp_path: Path) -> None:
    """A Unix socket is told by its path."""
    given.bind(str(tmp_path / "s"))
    given.listen()
    (found,) = inherited.inherited(MINE)
    assert str(found) == f"unix:{tmp_path}/s"


@pytest.mark.parametrize("given", [TCP, (socket.AF_INET, socket.SOCK_DGRAM)], indirect=True)
def test_what_cannot_be_served_at(given: socket.socket) -> None:
    """A socket that nobody listens on, or of datagrams; and no socket at all."""
    with pytest.raises(UsageError, match="LISTEN_FDS"):
        inherited.inherited(MINE)
    given.close()
    with pytest.raises(UsageError, match="LISTEN_FDS"):
        inherited.inherited(MINE)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {**MINE, "LISTEN_PID": "1"},
        {**MINE, "LISTEN_FDS": "0"},
    ],
)
def test_for_somebody_else(environ: dict[str, str]) -> None:
    """What was not handed to this process is not touched."""
    assert inherited.inherited(environ) == []


@pytest.mark.parametrize("count", ["x", "-1", "1 ", "1.0", "99999", "\u0661"])
def test_no_number(count: str) -> None:
    """What is meant for this process, and cannot be read, is told: to listen elsewhere would be a surprise."""
    with pytest.raises(UsageError, match="no number of sockets"):
        inherited.inherited({**MINE, "LISTEN_FDS": count})
