"""Documents of others with null for what is not there, as tools in Go read and write it: every verb takes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from test_oci import rawtar
from test_oci.opened import tar

from casync_compat.cli import main

OCI = "application/vnd.oci.image."


def put(at: Path, data: bytes, kind: str, **members: Any) -> dict[str, Any]:
    """Store a blob. Returns what points at it."""
    digest = hashlib.sha256(data).hexdigest()
    blobs = at / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    (blobs / digest).write_bytes(data)
    nothing = dict.fromkeys(("annotations", "platform", "urls", "data", "artifactType"))
    described = {"mediaType": f"{OCI}{kind}", "digest": f"sha256:{digest}", "size": len(data)}
    return {**nothing, **described, **members}


def without(document: dict[str, Any]) -> bytes:
    """A document as JSON, but for the members that are `...`."""
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


def image(
    at: Path, layers: list[bytes], config: dict[str, Any], manifest: Any, entry: dict[str, Any]
) -> None:
    """Write a layout whose documents say null wherever they may; the last three say otherwise, or leave out (`...`)."""
    at.mkdir()
    (at / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    names = ("Env", "Cmd", "Entrypoint", "Labels", "Volumes", "ExposedPorts", "User", "WorkingDir", "OnBuild")
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    described: dict[str, Any] = {
        **dict.fromkeys(("variant", "os.version", "os.features", "author", "created", "history")),
        "os": "linux",
        "architecture": "amd64",
        "config": dict.fromkeys((*names, "StopSignal", "Healthcheck")),
        "rootfs": {"type": "layers", "diff_ids": diff_ids or None},
        **config,
    }
    document: dict[str, Any] = {
        **dict.fromkeys(("mediaType", "annotations", "subject", "artifactType")),
        "schemaVersion": 2,
        "config": put(at, without(described), "config.v1+json"),
        "layers": [put(at, layer, "layer.v1.tar") for layer in layers] or None,
        **manifest,
    }
    named = {"annotations": {"org.opencontainers.image.ref.name": "x", "other": None}, **entry}
    index = {
        **dict.fromkeys(("mediaType", "annotations", "subject", "artifactType")),
        "schemaVersion": 2,
        "manifests": [put(at, without(document), "manifest.v1+json", **named)],
    }
    (at / "index.json").write_text(json.dumps(index))


LAYERS = [tar(rawtar.file(b"f", b"contents"))]
PLATFORM = {"os": "linux", "architecture": "amd64", "variant": None, "os.version": None, "os.features": None}
CASES: dict[str, tuple[list[bytes], dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "members": (LAYERS, {}, {}, {}),
    "no layers": ([], {}, {}, {}),
    "no list of layers": ([], {"rootfs": {"type": "layers"}}, {"layers": ...}, {}),
    "empty lists": ([], {"rootfs": {"type": "layers", "diff_ids": []}}, {"layers": []}, {}),
    "config": (LAYERS, {"config": None}, {}, {}),
    "no config": (LAYERS, {"config": ...}, {}, {}),
    "platform": (LAYERS, {}, {}, {"platform": PLATFORM}),
    "empty platform": (LAYERS, {}, {}, {"platform": {}}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_verb(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such an image is converted, given back, read, checked and collected like any other."""
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "lay", *CASES[name])
    for words in (
        "convert oci:lay:x oci:lay:y",
        "convert --thin oci:lay:x oci:thin:x",
        "convert --thin --squash oci:lay:x oci:squashed:x",
        "export oci:thin:x oci:back:x",
        "unpack --rootless oci:lay:x one",
        "unpack --rootless oci:thin:x two",
        "checkout --rootless --file-store=files oci:thin:x three",
        "ls oci:lay:x",
        "ls oci:squashed:x",
        "inspect oci:lay:x",
        "inspect --json oci:lay:y",
        "stats oci:lay:x",
        "verify oci:lay:y",
        "verify oci:back:x",
        "pull oci:lay:x oci:copy:x",
        "repack oci:thin:x",
        "gc oci:lay",
        "verify oci:lay:x",
    ):
        assert main(["oci", *words.split()]) == 0, words
    left, right = ((tmp_path / one / "rootfs" / "f").exists() for one in ("one", "two"))
    assert left == right == bool(CASES[name][0])
