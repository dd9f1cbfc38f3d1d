"""Blobs of the right name and size, but other contents, where something is written to: no tag comes to name them."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_oci.images import build, build_index, flip, layer, layout_at, noise

from casync_compat.cli import main

VERBS = {
    "convert": "oci convert oci:source:x oci:target:x",
    "convert thin": "oci convert --thin oci:source:x oci:target:x",
    "convert squashed": "oci convert --squash oci:source:x oci:target:x",
    "convert without base": "oci convert --no-base oci:source:x oci:target:x",
    "convert all": "oci convert --all oci:source:both oci:target:x",
    "pull": "oci pull oci:source:made oci:target:x",
    "pull all": "oci pull oci:source:both oci:target:x",
    "export": "oci export oci:source:made oci:target:x",
}


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("again", [False, True], ids=["fresh tag", "same tag"])
def test_damaged_blobs(tmp_path: Path, name: str, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever blob is damaged there: the run mends it, or fails; it never ends well over a damaged one."""
    monkeypatch.chdir(tmp_path)
    with layout_at(tmp_path / "source") as source:
        one = build(source, "x", [layer({"f": noise(30_000)}), layer({"g": noise(5000, 2)})])
        two = build(source, "y", [layer({"f": noise(30_000, 3)})], architecture="arm64")
        build_index(source, "both", [(one, "linux/amd64"), (two, "linux/arm64")])
    words = VERBS[name].split()
    assert main(["oci", "convert", "--thin", "oci:source:x", "oci:source:made"]) == 0
    assert main(words) == 0
    blobs = sorted((tmp_path / "target/blobs/sha256").iterdir())
    if not again:
        words[-1] = "oci:target:new"
    for blob in blobs:
        good = blob.read_bytes()
        blob.unlink()  # the source may have the same file
        blob.write_bytes(good)
        flip(blob, len(good) // 2)
        if main(words) == 0:
            assert main(["oci", "verify", words[-1]]) == 0, blob
        blob.write_bytes(good)
