"""What `oci verify` calls good can be given back and unpacked, whatever somebody changed in an image's documents."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_oci.images import build, layer, layout_at, noise

from casync_compat.cli import main

Place = tuple[Any, ...]


def changes(value: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Ways to change a document: where, and what stands there then; `...` for nothing."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from changes(one, (*path, key))
        yield (*path, key), ...
    if isinstance(value, list) and len(value) > 1:
        yield path, value[::-1]
        yield path, [value[0], *value]
    elif isinstance(value, int):
        yield path, value + 1
        yield path, 0
    elif isinstance(value, str):
        yield path, ""
        other = hashlib.sha256(value.encode()).hexdigest()
        yield path, f"sha256:{other}" if value.startswith("sha256:") else f"{value}x"


def changed(document: Any, path: Place, value: Any) -> Any:
    document = copy.deepcopy(document)
    at = document
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return document


def put(place: Path, document: Any) -> dict[str, Any]:
    data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(data).hexdigest()
    (place / "blobs/sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


@pytest.mark.parametrize("which", ["manifest", "config", "image config", "source manifest"])
def test_good_is_good(tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change of a member is found by verification, or does no harm to anything that is made of the image."""
    monkeypatch.chdir(tmp_path)
    with layout_at(tmp_path / "source") as source:
        build(source, "x", [layer({"f": noise(30_000)}), layer({"g": noise(5000, 2)})])
    assert main(["oci", "convert", "--thin", "oci:source:x", "oci:made:x"]) == 0
    made = tmp_path / "made"

    def blob(described: dict[str, Any]) -> Any:
        return json.loads((made / "blobs/sha256" / described["digest"].split(":")[1]).read_bytes())

    index = json.loads((made / "index.json").read_bytes())
    manifest = blob(index["manifests"][0])
    number = {"manifest": None, "config": -1, "image config": 0, "source manifest": 1}[which]
    described = manifest["config"] if number == -1 else manifest["layers"][number or 0]
    document = manifest if number is None else blob(described)
    for path, value in list(changes(document))[::2]:
        at = tmp_path / "changed"
        shutil.copytree(made, at)
        new = changed(document, path, value)
        top = new
        if number is not None:
            put(at, new)
            top = copy.deepcopy(manifest)
            (top["config"] if number == -1 else top["layers"][number]).update(put(at, new))
        entry = {**index["manifests"][0], **put(at, top)}
        (at / "index.json").write_text(json.dumps({**index, "manifests": [entry]}))
        if main(["oci", "verify", "oci:changed:x"]) == 0:
            for verb, target in (("export", "oci:back:x"), ("unpack", "bundle")):
                assert main(["oci", verb, "oci:changed:x", target]) == 0, (path, value, verb)
            assert main(["oci", "verify", "oci:back:x"]) == 0
            shutil.rmtree("back")
            shutil.rmtree("bundle")
        shutil.rmtree(at)
