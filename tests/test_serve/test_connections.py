"""Clients of HTTP/1.1 on real sockets: requests in order, and what becomes of those that are odd, slow or rude."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from casync_compat.compression import Compression, compress
from casync_compat.errors import RemoteError, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.serve import plain
from casync_compat.serve.addresses import Address, listening
from casync_compat.serve.application import Application
from casync_compat.serve.plain import PlainServer
from casync_compat.serve.replies import Reply
from casync_compat.serve.server import check_installed
from casync_compat.serve.settings import Limits, Served
from casync_compat.store.local import LocalFiles, LocalStore

D = Digest.SHA512_256
RAWS = [b"%d some chunk " % number * 5000 for number in range(4)]
NEW = b"a chunk that comes" * 30_000

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def path_of(id: ChunkId) -> bytes:
    return f"/{id.hex()[:4]}/{id}".encode()


def get(path: bytes, *fields: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: x", *fields, b"", b""])


PATHS = [path_of(D.of(raw)) for raw in RAWS]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(bytes(tmp_path / "store"), compression=Compression.NONE)
    for raw in RAWS:
        store.put(D.of(raw), raw)
    return store


@pytest.fixture
def application(tmp_path: Path, store: LocalStore) -> Iterator[Application]:
    """A store that can be written to, and a place with a large archive."""
    files = LocalFiles(bytes(tmp_path / "files"))
    files.write(b"big.catar", bytes(8 << 20))
    limits = Limits(chunk=1 << 20)
    application = Application(Served({"default": store}, files, {"default": store}, True), limits)
    yield application
    application.close()


@asynccontextmanager
async def running(application: Application) -> AsyncIterator[tuple[Address, PlainServer]]:
    """A server, until the block ends."""
    one = listening(Address("127.0.0.1", 0))
    address = Address("127.0.0.1", 0).taken(one)
    server = PlainServer(application, one)
    try:
        yield address, server
    finally:
        server.task.cancel()
        await asyncio.wait([server.task])


def with_client(application: Application, act: Callable[[Client], Awaitable[None]]) -> None:
    """Do something with a connection to a server."""

    async def run() -> None:
        async with running(application) as (address, _), asyncio.timeout(60):
            client = await asyncio.open_connection(address.host, address.port)
            try:
                await act(client)
            finally:
                client[1].close()

    asyncio.run(run())


async def answer(
    reader: asyncio.StreamReader, *, bare: bool = False
) -> tuple[int, dict[bytes, bytes], bytes]:
    """The next one.

    :param bare: whether it has no body, whatever its fields say
    """
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    fields = {line.partition(b": ")[0]: line.partition(b": ")[2] for line in lines}
    assert len(fields) == len(lines)
    body = b"" if bare else await reader.readexactly(int(fields.get(b"content-length", b"0")))
    return int(first.split()[1]), fields, body


def test_many_requests_at_once(application: Application) -> None:
    """What a client asks for without waiting is answered in its order, whatever takes time of it."""

    async def act(client: Client) -> None:
        reader, writer = client
        asked = [*PATHS, b"/healthz", b"/big.catar", PATHS[0], b"/nothing", *PATHS * 20]
        for _ in range(2):  # the second time, chunks are in memory and known
            writer.write(b"".join(map(get, asked)) + b"\r\n")
            for path in asked:
                status, _, body = await answer(reader)
                assert status == (404 if path == b"/nothing" else 200)
                if path in PATHS:
                    assert body == RAWS[PATHS.index(path)]
                elif path == b"/big.catar":
                    assert body == bytes(8 << 20)

    with_client(application, act)


def test_answers_without_a_body(application: Application) -> None:
    """To HEAD, and to who has it already: the next answer on the connection begins where it should."""

    async def act(client: Client) -> None:
        reader, writer = client
        for _ in range(2):
            writer.write(get(PATHS[0]))
            _, fields, body = await answer(reader)
            tag = fields[b"etag"]
            for path, size in ((PATHS[0], len(RAWS[0])), (b"/big.catar", 8 << 20), (b"/nothing", 30)):
                writer.write(get(path, method=b"HEAD"))
                _, fields, _ = await answer(reader, bare=True)
                assert int(fields[b"content-length"]) == size
            writer.write(get(PATHS[0], b"If-None-Match: " + tag))
            status, fields, _ = await answer(reader)
            assert status == 304
            assert b"content-length" not in fields
            writer.write(get(PATHS[0], b"Range: bytes=5-9"))
            assert (await answer(reader))[::2] == (206, body[5:10])
            writer.write(get(PATHS[0], b"Range: bytes=999999-"))
            assert (await answer(reader))[0] == 416
            writer.write(get(PATHS[0], b"Range: bytes=9-5", method=b"GET"))
            assert (await answer(reader))[0] == 200

    with_client(application, act)


@pytest.mark.parametrize("way", ["at once", "in parts", "byte by byte", "when told"])
def test_put(application: Application, store: LocalStore, way: str) -> None:
    """However the body comes, the chunk is kept, and the connection goes on."""
    body = compress(Compression.ZSTD, NEW)
    path = path_of(D.of(NEW)) + b".cacnk"
    length = b"Content-Length: %d" % len(body)

    async def act(client: Client) -> None:
        reader, writer = client
        if way == "in parts":
            parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:]))
            writer.write(get(path, b"Transfer-Encoding: chunked", method=b"PUT") + parts + b"0\r\n\r\n")
        elif way == "when told":
            writer.write(get(path, length, b"Expect: 100-continue", method=b"PUT"))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
        elif way == "byte by byte":
            for byte in get(path, length, method=b"PUT") + body:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
        else:
            writer.write(get(path, length, method=b"PUT") + body)
        writer.write(get(path))
        assert (await answer(reader))[0] == 200
        assert (await answer(reader))[::2] == (200, body)

    with_client(application, act)
    assert store.get(D.of(NEW), D, len(NEW)) == NEW


def test_body_that_is_not_wanted(application: Application) -> None:
    """The client hears why even while it still sends, and nothing of the body is taken for a request."""

    async def act(client: Client) -> None:
        reader, writer = client
        body = get(b"/smuggled") * 60_000
        writer.write(get(PATHS[0], b"Content-Length: %d" % len(body), method=b"PUT") + body[:1000])
        assert (await answer(reader))[0] == 413
        writer.write(body[1000:] + get(PATHS[1]))
        assert (await answer(reader))[::2] == (200, RAWS[1])

    with_client(application, act)


def test_body_that_is_not_asked_for(application: Application) -> None:
    """Who waits with its body hears why it is not wanted, and the connection ends, for nobody knows what follows."""

    async def act(client: Client) -> None:
        reader, writer = client
        writer.write(get(PATHS[0], b"Content-Length: 3000000", b"Expect: 100-continue", method=b"PUT"))
        status, fields, _ = await answer(reader)
        assert (status, fields[b"connection"]) == (413, b"close")
        assert await reader.read() == b""

    with_client(application, act)


@pytest.mark.parametrize("way", ["reset", "half-closed", "wrong parts"])
def test_put_that_ends_midway(application: Application, store: LocalStore, way: str) -> None:
    """Nothing is kept, and who can still be told is."""
    path = path_of(D.of(NEW))

    async def act(client: Client) -> None:
        reader, writer = client
        if way == "wrong parts":
            writer.write(get(path, b"Transfer-Encoding: chunked", method=b"PUT") + b"5\r\nabcdeXX")
        else:
            writer.write(get(path, b"Content-Length: %d" % len(NEW), method=b"PUT") + NEW[:1000])
        if way == "reset":
            await writer.drain()
            writer.transport.abort()
            while application.metrics.running or not application.metrics.requests:
                await asyncio.sleep(0.001)
            return
        if way == "half-closed":
            writer.write_eof()
        assert (await answer(reader))[0] == 400
        assert await reader.read() == b""

    with_client(application, act)
    assert not store.has(D.of(NEW))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\0\x01\0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /" + b"a" * 400_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (get(b"/", *[b"x: y"] * 200), 431),
        (get(b"/x.caibx", b"Transfer-Encoding: gzip", method=b"PUT"), 501),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (get(b"/", b"Host: y"), 400),
        (get(b"/", b"name : x"), 400),
        (get(b"/", b"a: x\r\n folded"), 400),
        (get(b"/", b"a: x\ny: z"), 400),
        (get(b"/", b"a: x\ry: z"), 400),
        (get(b"/", b"a: \0"), 400),
        (get(b"/", b"Content-Length: 1", b"Content-Length: 1", method=b"PUT"), 400),
        (get(b"/", b"Content-Length: 1, 1", method=b"PUT"), 400),
        (get(b"/", b"Content-Length: +1", method=b"PUT"), 400),
        (get(b"/", b"Content-Length: 0x1", method=b"PUT"), 400),
        (get(b"/", b"Content-Length: 99999999999999999999", method=b"PUT"), 400),
        (get(b"/", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", method=b"PUT"), 400),
        (get(b"/", b"Transfer-Encoding:\x0bchunked", method=b"PUT"), 400),
        (get(b"/", b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
    ],
)
def test_what_is_no_request(application: Application, sent: bytes, status: int) -> None:
    """It is answered with what is wrong, and nothing more is read; what came before it is answered, too."""

    async def act(client: Client) -> None:
        reader, writer = client
        writer.write(get(PATHS[0]) + sent + get(PATHS[1]))
        assert (await answer(reader))[::2] == (200, RAWS[0])
        heard, fields, _ = await answer(reader)
        assert (heard, fields[b"connection"]) == (status, b"close")
        assert await reader.read() == b""

    with_client(application, act)


@pytest.mark.parametrize(
    "fields", [b"GET %b HTTP/1.0\r\n\r\n", b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]
)
@pytest.mark.parametrize("path", [PATHS[0], b"/healthz", b"/big.catar"])
def test_the_last_request(application: Application, fields: bytes, path: bytes) -> None:
    """Of old clients, and of those that say so: the connection ends behind the answer."""

    async def act(client: Client) -> None:
        reader, writer = client
        writer.write(fields % path + get(PATHS[1]))
        status, told, _ = await answer(reader)
        assert (status, told[b"connection"]) == (200, b"close")
        assert await reader.read() == b""

    for _ in range(2):
        with_client(application, act)


@pytest.mark.parametrize("path", [PATHS[0], b"/healthz", b"/big.catar"])
def test_who_would_speak_something_newer(application: Application, path: bytes) -> None:
    """As curl does that would like HTTP/2: it is answered in HTTP/1.1, and told to ask for more on a new connection."""

    async def act(client: Client) -> None:
        reader, writer = client
        fields = [
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAAQAAP__",
        ]
        writer.write(get(path, *fields))
        status, told, _ = await answer(reader)
        assert (status, told[b"connection"]) == (200, b"close")
        assert await reader.read() == b""

    with_client(application, act)


def test_half_closed(application: Application) -> None:
    """Who has said all that he has to say still gets every answer."""

    async def act(client: Client) -> None:
        reader, writer = client
        asked = [*PATHS, b"/big.catar", *PATHS * 10]
        writer.write(b"".join(map(get, asked)) + b"GET /half")
        writer.write_eof()
        for path in asked:
            status, _, body = await answer(reader)
            assert (status, len(body)) == (200, 8 << 20 if path == b"/big.catar" else len(RAWS[0]))
        assert await reader.read() == b""

    with_client(application, act)


def test_who_asks_for_too_much_at_once(application: Application) -> None:
    """What waits takes memory; who has more than a thousand requests wait hears so behind his answers."""

    async def act(client: Client) -> None:
        reader, writer = client
        writer.write(get(b"/big.catar") + get(b"/healthz") * 2000)
        heard = [(await answer(reader))[0]]
        while heard[-1] == 200:
            heard.append((await answer(reader))[0])
        assert heard[-1] == 429
        assert 1000 < len(heard) < 1500
        assert await reader.read() == b""

    with_client(application, act)


def test_who_does_not_read_gets_no_more(application: Application) -> None:
    """A thousand requests of one client that reads no answer are not answered, until it does."""
    many = 1000

    async def run() -> None:
        async with running(application) as (address, server), asyncio.timeout(120):
            reader, writer = await asyncio.open_connection(address.host, address.port, limit=1 << 16)
            for path in PATHS:  # are known from now on
                writer.write(get(path))
                await answer(reader)
            writer.transport.pause_reading()
            before = sum(application.metrics.sent.values())
            writer.write(get(PATHS[0]) * many)
            still, last = 0, -1
            while still < 5:
                await asyncio.sleep(0.05)
                sent = sum(application.metrics.sent.values())
                still, last = (still + 1 if sent == last else 0), sent
            assert last - before < 16 << 20  # what the system keeps between them, and two answers
            (one,) = server.connections
            assert one.transport.get_write_buffer_size() < 1 << 20
            assert await other(address) == RAWS[1]
            writer.transport.resume_reading()
            for _ in range(many):
                assert (await answer(reader))[::2] == (200, RAWS[0])
            writer.transport.abort()

    async def other(address: Address) -> bytes:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(get(PATHS[1]))
        _, _, body = await answer(reader)
        writer.close()
        return body

    asyncio.run(run())


@pytest.mark.parametrize("sent", [b"", b"GET /half", get(PATHS[0]) + b"GE"])
def test_silent_clients_are_sent_away(
    application: Application, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """Also in the middle of a head, and after an answer."""
    monkeypatch.setattr(plain, "_LOOK_EVERY", 0.01)

    async def act(client: Client) -> None:
        client[1].write(sent)
        await client[0].read()

    monkeypatch.setattr(plain, "_QUIET", 0.1)
    with_client(application, act)


def test_who_takes_nothing_of_an_answer_is_sent_away(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "_LOOK_EVERY", 0.01)
    application.limits = Limits(receive=0.1)

    async def run() -> None:
        async with running(application) as (address, server), asyncio.timeout(60):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.transport.pause_reading()
            writer.write(get(PATHS[0]) * 1000)
            while not server.connections:
                await asyncio.sleep(0.001)
            while server.connections:
                await asyncio.sleep(0.01)
            writer.transport.abort()
            del reader

    asyncio.run(run())


def test_what_breaks_off_does_not_end_as_if_whole(application: Application) -> None:
    """An answer that fails midway has no end that a client could take for one."""

    def pieces() -> Iterator[bytes]:
        yield b"a" * 100
        raise RemoteError("it is gone")

    async def failing(*_: object, **__: object) -> Reply:
        return Reply(200, [], pieces=pieces(), size=1000)

    async def act(client: Client) -> None:
        reader, writer = client
        writer.write(get(b"/x.catar") + get(PATHS[0]))
        status, _, _ = await answer_head(reader)
        assert status == 200
        try:
            left = await reader.read()
        except ConnectionResetError:
            left = b""
        assert len(left) <= 100

    async def answer_head(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
        head = await reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1]), head, b""

    assert application.files is not None
    application.files.get = failing  # type: ignore[method-assign]
    with_client(application, act)


def test_no_room(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who find no room are sent away at once, and those who are there are served."""
    monkeypatch.setattr("casync_compat.serve.plain._CONNECTIONS", 3)

    async def run() -> None:
        async with running(application) as (address, _), asyncio.timeout(60):
            there = [await asyncio.open_connection(address.host, address.port) for _ in range(3)]
            for reader, writer in there:
                writer.write(get(PATHS[0]))
                await answer(reader)
            reader, _ = await asyncio.open_connection(address.host, address.port)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            for reader, writer in there:
                writer.write(get(PATHS[1]))
                assert (await answer(reader))[::2] == (200, RAWS[1])
                writer.close()

    asyncio.run(run())


def test_end(application: Application) -> None:
    """At the end, who waits for nothing is sent away, and what runs is answered in full, as the last."""

    async def run() -> None:
        async with running(application) as (address, server), asyncio.timeout(60):
            idle, _ = await asyncio.open_connection(address.host, address.port)
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(get(b"/big.catar"))
            got = await reader.readexactly(1000)
            server.stop()
            assert await idle.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(address.host, address.port)
            writer.write(get(PATHS[0]))
            got += await reader.read()
            assert got.partition(b"\r\n\r\n")[2].startswith(bytes(8 << 20))
            await asyncio.wait_for(server.task, 60)

    asyncio.run(run())


def test_ipv6_and_unix_sockets(application: Application, tmp_path: Path) -> None:
    """Of the one the address is known, of the other there is none."""
    six = listening(Address("::1", 0))
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(tmp_path / "socket"))
    one.listen()
    unix = listening(Address(f"unix:{tmp_path}/socket", 0, one.fileno()))
    heard: list[str] = []
    at_once = application.at_once
    application.at_once = lambda request: heard.append(request.client) or at_once(request)  # type: ignore[method-assign, func-returns-value]

    async def run() -> None:
        servers = [PlainServer(application, six), PlainServer(application, unix)]
        for reader, writer in (
            await asyncio.open_connection("::1", six.getsockname()[1]),
            await asyncio.open_unix_connection(tmp_path / "socket"),
        ):
            writer.write(get(PATHS[0]))
            assert (await answer(reader))[::2] == (200, RAWS[0])
            writer.close()
        for server in servers:
            server.stop()
            await server.task

    asyncio.run(run())
    one.close()
    assert heard[0] == "::1"
    assert heard[-1] == ""


def test_fields_of_answers_have_one_line(application: Application) -> None:
    """Whatever the names of files are: no answer has fields that its server did not write."""

    async def split(*_: object, **__: object) -> Reply:
        return Reply(200, [(b"x", b"a\r\nset-cookie: b")], b"body")

    async def act(client: Client) -> None:
        reader, writer = client
        writer.write(get(b"/x.catar"))
        assert await reader.read() == b""

    assert application.files is not None
    application.files.get = split  # type: ignore[method-assign]
    with_client(application, act)


@pytest.mark.parametrize(("missing", "tls"), [("uvicorn", False), ("httptools", False), ("granian", True)])
def test_without_a_library(monkeypatch: pytest.MonkeyPatch, missing: str, tls: bool) -> None:
    """It is told which, and what brings it."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=rf"needs .*{missing}.*install pycasync\[serve\]"):
        check_installed(tls=tls)
    check_installed(tls=not tls)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("given", [False, True])
def test_nothing_waits_for_more(application: Application, host: str, given: bool) -> None:
    """Connections send what is written at once: else the body behind a head waits until the client has confirmed
    that, 40 ms."""
    own = listening(Address(host, 0))
    port = own.getsockname()[1]
    one = listening(Address(host, port, own.fileno())) if given else own
    seen: list[object] = []

    async def run() -> None:
        server = PlainServer(application, one)
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(get(b"/healthz"))
        await answer(reader)
        for fd in os.listdir("/proc/self/fd"):
            try:
                found = socket.socket(fileno=os.dup(int(fd)))
            except OSError:
                continue
            with found:
                if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
                    with suppress(OSError):  # the one that is listened on has no other end
                        found.getpeername()
                        seen.append(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()
        server.stop()
        await server.task

    asyncio.run(run())
    own.close()
    assert seen == [1]
