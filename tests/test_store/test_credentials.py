"""What goes with requests to a store, where it is from, and that it goes nowhere else."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from webserver import Reply, WebServer, web_server

from casync_compat.errors import RemoteError, UsageError
from casync_compat.locations import Settings, input_path, open_store
from casync_compat.locations.credentials import reached
from casync_compat.locations.remote import exchange_for, open_files
from casync_compat.locations.shown import shown, without_login
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.memory import MemoryFiles
from casync_compat.store.options import StoreOptions

from .contract import D, text

SAID = StoreOptions(
    authorization="Bearer TOPSECRET",
    cookie="session=TOPSECRET",
    headers=(("X-Key", "TOPSECRET"),),
    retries=0,
)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as running:
        yield running


@pytest.fixture
def other() -> Iterator[WebServer]:
    """A server of another origin."""
    with web_server() as running:
        yield running


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def said(options: StoreOptions, **environ: str) -> Settings:
    return Settings(environ=environ, options=lambda where: options)


def with_login(url: str, login: str = "me:TOPSECRET") -> str:
    return url.replace("://", f"://{login}@")


def test_fields_of_every_request(server: WebServer) -> None:
    """What is said of a store goes with each request to it: one by one, many at once, and what is sent there."""
    files = open_files(server.url, said(SAID))
    files.write(b"x", b"1")
    files.stat(b"x")
    files.read(b"x", 10)
    files.read_many([(b"x", 10), (b"none", 10)])
    assert files.read_range(b"x", 0, 1) == b"1"
    assert len(server.asked) == 6
    for _, _, fields in server.asked:
        assert fields["authorization"] == "Bearer TOPSECRET"
        assert fields["cookie"] == "session=TOPSECRET"
        assert fields["x-key"] == "TOPSECRET"


def test_nothing_leaves_with_a_redirect(server: WebServer, other: WebServer) -> None:
    """A redirect to another origin is followed without any of it, on every way to read; one at home keeps it."""
    other.files = {"/x": b"there"}
    server.files = {"/moved/y": b"here"}

    def redirect(method: str, path: str, *_: object) -> Reply | None:
        if path == "/x":
            return Reply(302, fields=[("Location", with_login(other.url, "you:me") + "/x")])
        return Reply(307, fields=[("Location", "/moved/y")]) if path == "/y" else None

    server.special = redirect
    files = open_files(server.url, said(SAID))
    assert files.read(b"x", 10) == b"there"
    assert files.read_range(b"x", 1, 2) == b"he"
    assert files.read_many([(b"x", 10), (b"y", 10)]) == [b"there", b"here"]
    assert b"".join(files.pieces(b"x") or ()) == b"there"
    assert len(other.asked) == 4
    for _, _, fields in other.asked:
        assert not {"authorization", "cookie", "x-key"} & fields.keys()
    assert all(fields["x-key"] == "TOPSECRET" for _, _, fields in server.asked)


def test_login_in_an_url(server: WebServer) -> None:
    """It becomes basic authorization, percent signs undone, before what else is said, and is handed on to nobody."""
    settings = said(replace(SAID, headers=()))
    raw = text(100)
    store = open_store(with_login(server.url, "m%40e:a%3Ab") + "/s", settings)
    store.put(D.of(raw), raw)
    assert store.get(D.of(raw), D, 100) == raw
    assert {fields["authorization"] for _, _, fields in server.asked} == {basic("m@e", "a:b")}
    assert "a%3Ab" not in store.name
    assert "a%3Ab" not in repr(store)


def test_indexes_take_it_too(server: WebServer) -> None:
    """An index's URL has a login, and what is said of the file's directory never sees it."""
    asked: list[str] = []

    def options(where: str) -> StoreOptions:
        asked.append(where)
        return StoreOptions()

    server.files = {"/a/x.caibx": b"1"}
    input_path(with_login(server.url) + "/a/x.caibx?k=1", Settings(options=options))
    assert server.asked[0][2]["authorization"] == basic("me", "TOPSECRET")
    assert asked == [server.url + "/a?k=1"]


def test_netrc(tmp_path: Path) -> None:
    """Names and passwords for a host, from `$NETRC` or the home directory; for the user in the URL, if there is one."""
    file = tmp_path / ".netrc"
    file.write_text("machine h.test login me password one\ndefault login x password two\n")

    def of(url: str, **environ: str) -> str | None:
        return reached(url, Settings(environ=environ)).authorization

    home = str(tmp_path)
    assert of("https://h.test/x", HOME=home) == basic("me", "one")
    assert of("http://h.test:81/x", NETRC=str(file)) == basic("me", "one")
    assert of("https://other.test/", HOME=home) == basic("x", "two")
    assert of("https://me@h.test/", HOME=home) == basic("me", "one")
    assert of("https://you@h.test/", HOME=home) == basic("you", "")
    assert of("https://h.test/", HOME=str(tmp_path / "none")) is None
    assert of("https://h.test/") is None


def test_a_bad_netrc(tmp_path: Path) -> None:
    """It is named, and not quoted."""
    file = tmp_path / "netrc"
    file.write_text("machine h login me password one\nTOPSECRET\n")
    for path in (file, tmp_path / "none"):
        with pytest.raises(UsageError, match=str(path)) as caught:
            reached("https://h/", Settings(environ={"NETRC": str(path)}))
        assert "TOPSECRET" not in str(caught.value)


def test_general_authorization() -> None:
    """desync's variable has no host: it goes where nobody listens on the way, and gives way to what does."""

    def of(url: str, options: StoreOptions | None = None) -> str | None:
        return reached(url, said(options or StoreOptions(), DESYNC_HTTP_AUTH="Bearer x")).authorization

    assert of("https://h.test/") == "Bearer x"
    assert of("http://127.0.0.1:80/") == "Bearer x"
    assert of("http://h.test/") is None
    assert of("https://me:y@h.test/") == basic("me", "y")
    assert of("https://h.test/", SAID) == "Bearer TOPSECRET"


def test_names_and_passwords_of_a_store() -> None:
    """What a file of configuration says of a store; for one user only, if the URL names him."""
    settings = said(StoreOptions(username="me", password="TOPSECRET"))
    assert reached("https://h/", settings).authorization == basic("me", "TOPSECRET")
    assert reached("https://me@h/", settings).authorization == basic("me", "TOPSECRET")
    assert reached("https://you@h/", settings).authorization == basic("you", "")


def test_the_command_line_goes_first() -> None:
    """What is said of every store counts, and what is said of one fills it up."""
    settings = replace(said(StoreOptions(ca_cert="a", timeout=3)), network=StoreOptions(ca_cert="b"))
    options = reached("https://h/", settings)
    assert (options.ca_cert, options.timeout) == ("b", 3)


def test_stores_that_are_reached_alike_share_connections() -> None:
    """One exchange for an origin, another for another, or for other options; one loop for all of them."""
    settings = Settings()
    same = [exchange_for(f"http://h/{n}", settings, StoreOptions()) for n in range(2)]
    apart = [exchange_for("http://g/", settings, StoreOptions()), exchange_for("http://h/", settings, SAID)]
    assert same[0] is same[1]
    assert len({id(one) for one in [*same, *apart]}) == 3


def test_secrets_are_not_shown(server: WebServer) -> None:
    """Neither errors nor what values look like have any."""
    server.special = lambda *_: Reply(403)
    where = with_login(server.url) + "/s?token=TOPSECRET"
    settings = said(SAID)
    for fail in (
        lambda: open_files(where, settings).read(b"x", 1),
        lambda: open_files(where, settings).read_many([(b"x", 1)]),
        lambda: input_path(where, settings),
        lambda: open_files("https://me:TOPSECRET@/x", settings),
        lambda: open_files("https://me:TOPSECRET@[/x", settings),
        lambda: input_path("xyz://me:TOPSECRET@h/x?TOPSECRET", settings),
    ):
        with pytest.raises((RemoteError, UsageError)) as caught:
            fail()
        assert "TOPSECRET" not in f"{caught.value!s} {caught.value!r}"
    assert "TOPSECRET" not in f"{SAID} {settings}"


def test_shown() -> None:
    """URLs as they may be shown."""
    assert shown("https://me:p@ss@h/x?key=1") == "https://h/x"
    assert (
        without_login("cannot read https://a:b@h/x, nor ssh://c@g/y?z")
        == "cannot read https://h/x, nor ssh://g/y?z"
    )
    assert without_login("me@host:/x") == "me@host:/x"


def test_retries_as_said(server: WebServer) -> None:
    """So many attempts as are asked for."""
    server.special = lambda *_: Reply(503)
    options = StoreOptions(retries=2, retry_interval=0.0)
    with pytest.raises(RemoteError, match="503"):
        open_files(server.url, said(options)).read(b"x", 1)
    assert len(server.asked) == 3


def test_requests_at_a_time(server: WebServer) -> None:
    """A store that is to be asked one at a time is."""
    memory = MemoryFiles()
    store = ChunkStore(memory)
    wanted = []
    for n in range(30):
        raw = text(200 + n, n)
        store.put(D.of(raw), raw)
        wanted.append((D.of(raw), len(raw)))
    server.files = {f"/{name.decode()}": content for name, content in memory.contents.items()}
    remote = open_store(server.url, said(StoreOptions(jobs=1)))
    found = ChunkStore(remote.files).get_many(wanted, D) if isinstance(remote, ChunkStore) else []
    assert [D.of(raw) for raw in found] == [id for id, _ in wanted]
    assert server.most == 1
