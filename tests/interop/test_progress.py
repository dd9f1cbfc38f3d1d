"""What a person at a terminal sees of a copy to and from a real registry that takes its time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from interop.registries import RunningRegistry
from interop.tools import better_than_casync
from terminals import Terminal

pytestmark = better_than_casync

_LAYER = 4 << 20
_AT_FIRST = 1 << 20
"""Bytes that a connection carries in either direction before it waits."""


class Gate:
    """Connections to a registry, which carry little until they may go on."""

    def __init__(self, host: str) -> None:
        self._to = host.rpartition(":")[0], int(host.rpartition(":")[2])
        self.open = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(self._to, timeout=60)
                for ends in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while data := source.recv(16 << 10):
                target.sendall(data)
                carried += len(data)
                if carried > _AT_FIRST:
                    self.open.wait(60)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.open.set()
        self._listener.close()


@contextmanager
def gate(registry: RunningRegistry) -> Iterator[Gate]:
    found = Gate(registry.host)
    try:
        yield found
    finally:
        found.close()


def layout(path: Path) -> None:
    """An image with three layers of noise."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        kind = f"application/vnd.oci.image.{kind}"
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    layers = [put(random.Random(seed).randbytes(_LAYER), "layer.v1.tar") for seed in range(3)]
    roots = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
    config = put(
        json.dumps({"architecture": "amd64", "os": "linux", "rootfs": roots}).encode(), "config.v1+json"
    )
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    named = put(json.dumps({**manifest, "config": config, "layers": layers}).encode(), "manifest.v1+json")
    named["annotations"] = {"org.opencontainers.image.ref.name": "app"}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


@contextmanager
def under_way(gate: Gate, tmp_path: Path, *words: str) -> Iterator[Terminal]:
    """A run of which several blobs are seen to be under way, and wait."""
    gate.open.clear()
    with Terminal(["oci", *words], tmp_path, columns=100) as terminal:
        until = time.monotonic() + 60
        while True:
            whole, *parts = terminal.screen
            if whole.startswith(words[0]) and sum(part.startswith("  sha256:") for part in parts) > 1:
                break
            assert time.monotonic() < until, terminal.screen
            terminal.look(0.1)
        yield terminal


def test_several_blobs(registry: RunningRegistry, tmp_path: Path) -> None:
    """The whole and each blob that moves have a line, all of which are gone when it is done."""
    layout(tmp_path / "images")
    with gate(registry) as slow:
        there = f"docker://{slow.host}/progress:1"
        for words in (("push", "oci:images:app", there), ("pull", there, "oci:back:app")):
            with under_way(slow, tmp_path, *words) as terminal:
                slow.open.set()
                assert terminal.end() == 0, terminal.seen
                (left,) = filter(None, terminal.screen)
                assert left.startswith("4 of 4 blobs copied: 12 MiB, ")


def test_ctrl_c(registry: RunningRegistry, tmp_path: Path) -> None:
    """All lines are taken away, also what was typed behind them."""
    layout(tmp_path / "images")
    with gate(registry) as slow:
        there = f"docker://{slow.host}/interrupted:1"
        with under_way(slow, tmp_path, "push", "oci:images:app", there) as terminal:
            terminal.type(b"\x03")
            assert terminal.end() == -signal.SIGINT
            assert list(filter(None, terminal.screen)) == ["Got exit signal, quitting."]
