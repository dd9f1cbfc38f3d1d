"""casync, desync, curl and pycasync as clients of `pycasync serve`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
from compare import assert_same, snapshot
from grounds import Forest
from interop.serving import Serving, serving
from interop.tools import Pair, Tool, better_than_casync
from interop.webservers import chunk_server, index_server
from trees import content

from casync_compat.compression import Compression, compress
from casync_compat.ids import Digest

pytestmark = better_than_casync

NEW = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@pytest.fixture
def at(pair: Pair, forest: Forest) -> Path:
    """A directory with tree.caidx, tree.catar and disk.caibx, and their chunks, all by real casync."""
    at = pair.base / "served"
    at.mkdir()
    (at / "disk").write_bytes(content(900_000, 7))
    for name, source in (("tree.caidx", forest.get("small")), ("disk.caibx", at / "disk")):
        pair.casync("make", f"--store={at}/default.castr", at / name, source)
    pair.casync("make", at / "tree.catar", forest.get("small"))
    return at


def curl(*arguments: str | Path) -> tuple[int, str]:
    """The status, and the body."""
    command = [
        "curl",
        "-s",
        "-o",
        "-",
        "-w",
        "\n%{http_code}",
        "--max-time",
        "20",
        "--path-as-is",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, timeout=30)
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body.decode("latin-1")


def test_reading(pair: Pair, desync: Tool, forest: Forest, at: Path) -> None:
    """Archives and blobs come out of it with every client as they went in, from where each looks for chunks."""
    expected = snapshot(forest.get("small"))
    with serving(pair.pycasync, at / "default.castr", f"--index-dir={at}") as it:
        for tool in (pair.casync, pair.pycasync):
            out = pair.base / f"out-{tool.name}"
            tool("extract", f"{it.url}/tree.caidx", out)
            assert_same(snapshot(out), expected)
            tool("extract", f"--store={it.url}/", f"{it.url}/disk.caibx", f"{out}-disk")
            assert Path(f"{out}-disk").read_bytes() == (at / "disk").read_bytes()
            assert tool("list", f"{it.url}/tree.catar") == pair.casync("list", at / "tree.catar")
        out = pair.base / "out-desync"
        desync("extract", "-s", f"{it.url}/", f"{it.url}/disk.caibx", out)
        assert out.read_bytes() == (at / "disk").read_bytes()
        config = pair.base / "config.json"
        config.write_text(json.dumps({"store-options": {f"{it.url}/": {"uncompressed": True}}}))
        desync("--config", config, "extract", "-s", f"{it.url}/", f"{it.url}/disk.caibx", f"{out}-plain")
        assert Path(f"{out}-plain").read_bytes() == (at / "disk").read_bytes()
        missing = json.loads(desync("info", "-s", f"{it.url}/", f"{it.url}/disk.caibx"))
        assert missing["in-store"] == missing["unique"]


def test_writing(pair: Pair, desync: Tool, at: Path) -> None:
    """desync's clients and ours put chunks and indexes; what both put is what both read."""
    store, indexes = pair.base / "store", pair.base / "indexes"
    for directory in (store, indexes):
        directory.mkdir()
    with serving(pair.pycasync, store, f"--index-dir={indexes}", "--writable") as it:
        desync("make", "-s", f"{it.url}/", f"{it.url}/theirs.caibx", at / "disk")
        pair.pycasync("make", f"--store={it.url}", f"{it.url}/ours.caibx", at / "disk")
        again = desync("extract", "-s", f"{it.url}/", f"{it.url}/ours.caibx", pair.base / "back")
        assert not again
        refused = pair.pycasync.run(
            "make", f"--store={pair.base}/other", f"{it.url}/lies.caibx", at / "tree.catar"
        )
        assert refused.status == 1
    assert (pair.base / "back").read_bytes() == (at / "disk").read_bytes()
    for name in ("theirs.caibx", "ours.caibx"):
        pair.pycasync("verify", f"--store={store}", indexes / name, at / "disk")
        assert pair.casync("digest", f"--store={store}", indexes / name)
    assert not (indexes / "lies.caibx").exists()


def certificates(at: Path) -> None:
    """An authority, and certificates of it for a server and a client."""

    def run(*words: str | Path) -> None:
        subprocess.run([*NEW, "-days", "2", *words], check=True, capture_output=True, timeout=60)

    run("-keyout", at / "ca.key", "-out", at / "ca.pem", "-subj", "/CN=authority")
    for name in ("server", "client"):
        run(
            *("-keyout", at / f"{name}.key", "-out", at / f"{name}.pem", "-subj", f"/CN={name}"),
            *("-CA", at / "ca.pem", "-CAkey", at / "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )


def test_tls_and_certificates_of_clients(pair: Pair, desync: Tool, at: Path, tmp_path: Path) -> None:
    """With TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2; without a certificate nobody gets in; SIGHUP takes new ones."""
    certificates(tmp_path)
    given = (f"--cert={tmp_path}/server.pem", f"--key={tmp_path}/server.key")
    trust = ("--cacert", tmp_path / "ca.pem")
    with serving(pair.pycasync, at / "default.castr", f"--index-dir={at}", *given) as it:
        for words in (("--tls-max", "1.2"), ("--http2",), ("--http1.1",)):
            assert curl(*trust, *words, f"{it.url}/healthz") == (200, "ok\n")
        pair.pycasync("list", f"--ca-cert={tmp_path}/ca.pem", f"{it.url}/tree.caidx")
        certificates(tmp_path)
        it.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while curl(*trust, f"{it.url}/healthz")[0] != 200:
            assert time.monotonic() < deadline
    own = ("--cert", tmp_path / "client.pem", "--key", tmp_path / "client.key")
    given = (*given, f"--client-ca={tmp_path}/ca.pem")
    with serving(pair.pycasync, at / "default.castr", f"--index-dir={at}", *given) as it:
        assert curl(*trust, f"{it.url}/healthz")[0] == 0
        assert curl(*trust, *own, f"{it.url}/healthz") == (200, "ok\n")
        ours = (f"--client-cert={tmp_path}/client.pem", f"--client-key={tmp_path}/client.key")
        pair.pycasync("list", f"--ca-cert={tmp_path}/ca.pem", *ours, f"{it.url}/tree.caidx")
        theirs = ("--client-cert", tmp_path / "client.pem", "--client-key", tmp_path / "client.key")
        desync(
            *("extract", "-s", f"{it.url}/", "--ca-cert", tmp_path / "ca.pem", *theirs),
            *(f"{it.url}/disk.caibx", pair.base / "back"),
        )


def test_logins(pair: Pair, desync: Tool, at: Path, tmp_path: Path) -> None:
    """desync's field, and tokens, which clients may write into an URL; SIGHUP reads the file again."""
    rules = tmp_path / "tokens.toml"

    def write(token: str) -> None:
        digest = sha256(token.encode()).hexdigest()
        rules.write_text(f'[[token]]\nsha256 = "{digest}"\nread = ["default", "indexes"]\n')

    write("first")
    tool = pair.pycasync.given(DESYNC_HTTP_AUTH="Token letmein")
    with serving(tool, at / "default.castr", f"--index-dir={at}", f"--tokens={rules}") as it:
        url = it.url.replace("://", "://me:first@")
        assert curl(f"{it.url}/tree.caidx")[0] == 401
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"store-options": {f"{it.url}/": {"http-auth": "Token letmein"}}}))
        desync("--config", config, "extract", "-s", f"{it.url}/", f"{it.url}/disk.caibx", pair.base / "back")
        for client in (pair.casync, pair.pycasync):
            assert client("list", f"{url}/tree.caidx") == pair.casync("list", at / "tree.caidx")
        write("second")
        it.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while curl("-H", "Authorization: Bearer second", f"{it.url}/tree.caidx")[0] != 200:
            assert time.monotonic() < deadline
        assert curl(f"{url}/tree.caidx")[0] == 401
        assert it.process.stderr is not None
        for break_it in (
            lambda: rules.write_text("anybody = ["),
            rules.unlink,
            rules.mkdir,
            lambda: (rules.rmdir(), os.mkfifo(rules)),
        ):
            break_it()
            it.process.send_signal(signal.SIGHUP)
            said = it.process.stderr.readline()
            assert str(rules).encode() in said
            assert said.endswith(b"the rules stay as they were\n")
            assert curl("-H", "Authorization: Bearer second", f"{it.url}/tree.caidx")[0] == 200
            assert curl(f"{it.url}/tree.caidx")[0] == 401


def test_a_store_that_comes_later(pair: Pair, at: Path, tmp_path: Path) -> None:
    """That it is not there is told at once; when it is, it is served, and casync gets what it wants."""
    late = tmp_path / "late"
    with serving(pair.pycasync, late / "default.castr", f"--index-dir={late}") as it:
        assert it.process.stderr is not None
        for name in (late / "default.castr", late):
            assert f"{name} is not there".encode() in it.process.stderr.readline()
        assert curl(f"{it.url}/tree.caidx")[0] == 404
        late.symlink_to(at)
        for client in (pair.casync, pair.pycasync):
            client("extract", f"{it.url}/disk.caibx", pair.base / "back")
            assert (pair.base / "back").read_bytes() == (at / "disk").read_bytes()


SAME = [
    ("GET", "{there}.cacnk"),
    ("HEAD", "{there}.cacnk"),
    ("GET", "/0000/{zeros}.cacnk"),
    ("HEAD", "/0000/{zeros}.cacnk"),
    ("GET", "/1111/{zeros}.cacnk"),
    ("GET", "{there}.zip"),
    ("GET", "/x{there}.cacnk"),
    ("GET", "/0000/short.cacnk"),
    ("POST", "{there}.cacnk"),
    ("DELETE", "{there}.cacnk"),
    ("PUT", "{there}.cacnk"),
]
"""Requests that a chunk-server of desync's and ours answer with the same status."""
SAME_OF_INDEXES = [
    ("GET", "/disk.caibx", 200),
    ("HEAD", "/disk.caibx", 200),
    ("GET", "/none.caibx", 404),
    ("HEAD", "/none.caibx", 404),
    ("POST", "/disk.caibx", 405),
]


def test_status_of_desyncs_servers(pair: Pair, desync: Tool, at: Path) -> None:
    """What clients rely on is as with desync's own servers. What is none of their paths is 404 here, and 400 there."""
    log = pair.base / "log"
    chunk = next(path for path in sorted((at / "default.castr").rglob("*.cacnk")))
    names = {"there": f"/{chunk.parent.name}/{chunk.stem}", "zeros": "0" * 64}
    empty = pair.base / "empty"
    empty.mkdir()

    def status(url: str, method: str, path: str, body: Path | None = None) -> int:
        words = ("--data-binary", f"@{body}") if body is not None else ()
        how = ("-I",) if method == "HEAD" else ("-X", method)
        return curl(*how, *words, f"{url}{path.format(**names)}")[0]

    writable = ("--writable", f"--index-dir={pair.base}/put")
    with (
        chunk_server(desync.command[0], at / "default.castr", log) as theirs,
        serving(pair.pycasync, at / "default.castr", *writable) as it,
    ):
        for method, path in SAME:
            body = chunk if method == "PUT" else None
            found = status(it.url, method, path, body)
            if "short" in path:
                assert (status(theirs, method, path), found) == (400, 404)
            else:
                assert found == status(theirs, method, path, body), (method, path)
        nonsense = pair.base / "nonsense"
        nonsense.write_bytes(b"nonsense")
        assert status(it.url, "PUT", "/x.caibx", nonsense) == 415
    with (
        index_server(desync.command[0], at, log) as theirs,
        serving(pair.pycasync, at / "default.castr", f"--index-dir={at}", "--writable") as it,
    ):
        for method, path, expected in SAME_OF_INDEXES:
            assert status(theirs, method, path) == status(it.url, method, path) == expected, (method, path)
        assert (
            status(theirs, "PUT", "/x.caibx", nonsense) == status(it.url, "PUT", "/x.caibx", nonsense) == 415
        )
        index = at / "disk.caibx"
        assert status(theirs, "PUT", "/x.caibx", index) == status(it.url, "PUT", "/x.caibx", index) == 200


def test_end(pair: Pair, at: Path) -> None:
    """A request that runs when SIGTERM comes is answered in full; new ones are not taken; the status is 0."""
    big = content(32 << 20)
    (at / "big.catar").write_bytes(big)
    with serving(pair.pycasync, at / "default.castr", f"--index-dir={at}") as it:
        host, port = it.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 20) as client:
            client.sendall(b"GET /big.catar HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got = client.recv(1000)
            it.process.terminate()
            deadline = time.monotonic() + 20
            while curl(f"{it.url}/healthz")[0]:
                assert time.monotonic() < deadline
            while piece := client.recv(1 << 20):
                got += piece
        assert got.partition(b"\r\n\r\n")[2] == big
        assert it.process.wait(20) == 0


def test_killed_while_chunks_are_put(pair: Pair, at: Path) -> None:
    """Whatever is in the store after SIGKILL is right, and it is served by the next run."""
    store = pair.base / "store"
    store.mkdir()
    chunks = [content(60_000, seed) for seed in range(200)]
    puts = 0

    def put_all(url: str) -> None:
        nonlocal puts
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 20) as client:
            for raw in chunks:
                id_ = Digest.SHA512_256.of(raw)
                body = compress(Compression.ZSTD, raw)
                head = f"PUT /{id_.hex()[:4]}/{id_}.cacnk HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + body)
                if not client.recv(4096).startswith(b"HTTP/1.1 200"):
                    return
                puts += 1

    with serving(pair.pycasync, store, "--writable") as it:
        writer = threading.Thread(target=lambda: _until_reset(put_all, it))
        writer.start()
        while puts < 20:
            time.sleep(0.001)
        it.process.kill()
        writer.join(30)
    assert not [path for path in store.rglob("*") if path.name.endswith(".tmp")]
    pair.pycasync("verify", store)
    found = list(store.rglob("*.cacnk"))
    assert len(found) >= 20
    with serving(pair.pycasync, store) as it:
        for path in found[:5]:
            assert curl("-I", f"{it.url}/{path.parent.name}/{path.name}")[0] == 200


def _until_reset(work: object, it: Serving) -> None:
    try:
        work(it.url)  # type: ignore[operator]
    except OSError:
        return


def test_hostile_clients(pair: Pair, at: Path) -> None:
    """Nothing that they send leads out of what is served, ends the server, or keeps others from being served."""
    with serving(pair.pycasync, at / "default.castr", f"--index-dir={at}") as it:
        host, port = it.url.removeprefix("http://").split(":")
        address = host, int(port)
        silent = [socket.create_connection(address, 20) for _ in range(200)]
        for number, client in enumerate(silent):
            client.sendall(
                (b"", b"GET /tree.ca", b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx")[
                    number % 3
                ]
            )
        for sent in (
            b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(5000)) + b"\r\n",
            b"GET / HTTP/1.1\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /tree.caidx HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"PUT /x.caibx HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ):
            with socket.create_connection(address, 20) as client:
                try:
                    client.sendall(sent)
                    client.shutdown(socket.SHUT_WR)
                    heard = client.recv(1 << 16)
                except OSError:
                    heard = b""
                assert b"root:" not in heard
                assert not heard.startswith(b"HTTP/1.1 5")
        assert curl(f"{it.url}/tree.caidx")[0] == 200
        for path in (
            "/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/..%2f..%2fetc%2fpasswd.caidx",
            "//etc/passwd",
        ):
            status, body = curl(f"{it.url}{path}")
            assert status in (400, 404)
            assert "root:" not in body
        for client in silent:
            client.close()


def test_logs_and_readiness(pair: Pair, at: Path, tmp_path: Path) -> None:
    """systemd is told when it is ready; each request has a line."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(os.fspath(tmp_path / "notify"))
        systemd.settimeout(20)
        tool = pair.pycasync.given(NOTIFY_SOCKET=str(tmp_path / "notify"))
        log = (f"--access-log={tmp_path}/log", "--access-log-format=json")
        with serving(tool, at / "default.castr", f"--index-dir={at}", *log) as it:
            assert systemd.recv(100) == b"READY=1"
            curl("-A", 'a"b', f"{it.url}/tree.caidx?x=1")
            curl(f"{it.url}/none.caidx")
        assert systemd.recv(100) == b"STOPPING=1"
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["path"], line["status"], line["method"]) for line in lines] == [
        ("/tree.caidx", 200, "GET"),
        ("/none.caidx", 404, "GET"),
    ]
    assert lines[0]["agent"] == 'a"b'


def test_behind_another(pair: Pair, forest: Forest, at: Path) -> None:
    """One server is in front of another, with a cache, which is enough once it was asked for all."""
    cache = pair.base / "cache"
    with serving(pair.pycasync, at / "default.castr", f"--index-dir={at}") as origin:
        words = (f"{origin.url}/default.castr", f"--index-dir={origin.url}", f"--chunk-cache={cache}")
        with serving(pair.pycasync, *words) as it:
            for name in ("first", "second"):
                pair.casync("extract", f"{it.url}/tree.caidx", pair.base / name)
                assert_same(snapshot(pair.base / name), snapshot(forest.get("small")))
            body = curl(f"{it.url}/metrics")[1]
    assert 'hit="true"' in body
    with serving(pair.pycasync, cache, f"--index-dir={at}") as it:
        pair.casync("extract", f"{it.url}/tree.caidx", pair.base / "third")
