"""Images with changed layers, blobs and indexes against every verb for images: right, or refused in a line."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from fuzz.mutator import mutate
from fuzz.targets import TARGETS
from test_oci.images import build, layer, layout_at

from .mutants import changed, fresh, judged, times
from .running import works

TARS = [data for data in TARGETS["tar"].corpus() if data]
READ = (
    "oci ls {}",
    "oci inspect {}",
    "oci stats {}",
    "oci verify {}",
    "oci unpack {} bundle",
    "oci cat {} a",
)


def image(at: Path, tar: bytes) -> str:
    """A layout with an image of one layer; its name and tag."""
    fresh(at)
    with layout_at(at) as layout:
        build(layout, "t", [tar], "none")
    return f"oci:{at.name}:t"


def blobs(at: Path) -> list[Path]:
    """The blobs of a layout, in order."""
    return sorted(p for p in (at / "blobs").rglob("*") if p.is_file())


def layer_and_config(at: Path) -> set[str]:
    """Digests of what makes an image: the tar that is its layer, and its config."""
    return {p.name for p in blobs(at) if b'"schemaVersion"' not in p.read_bytes()}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory for runs."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def test_layers(here: Path) -> None:
    """What can be converted can be given back, byte for byte; what cannot is told."""
    repair = TARGETS["tar"].repair
    assert repair is not None
    for number, base in enumerate(TARS):
        for data in changed(base, f"layer {number}", 2, others=TARS, tokens=TARGETS["tar"].tokens):
            tar = repair(data, random.Random(number))
            name = image(here / "plain", tar)
            fresh(here / "bundle")
            judged(*READ[number % len(READ)].format(name).split(), cwd=here, quiet=True)
            fresh(here / "converted")
            if judged("oci", "convert", name, "oci:converted:c", cwd=here).status:
                continue
            judged(*READ[(number + 1) % len(READ)].format("oci:converted:c").split(), cwd=here, quiet=True)
            fresh(here / "back")
            works("oci", "export", "--compress=none", "oci:converted:c", "oci:back:b", cwd=here)
            assert layer_and_config(here / "plain") <= layer_and_config(here / "back")


def test_blobs_and_indexes(here: Path) -> None:
    """A blob that was changed is never given out, and verify finds it; a changed index gives an image or none."""
    tar = layer({"a": b"text" * 500, "b": random.Random(1).randbytes(20_000), "c": None, "c/d": b"x"})
    works("oci", "convert", image(here / "plain", tar), "oci:right:c", cwd=here)
    wanted = layer_and_config(here / "plain")
    number = 0
    for _ in range(times(2)):
        for place in [*blobs(here / "right"), here / "right" / "index.json"]:
            number += 1
            fresh(here / "m")
            shutil.copytree(here / "right", here / "m")
            target = here / "m" / place.relative_to(here / "right")
            right = target.read_bytes()
            data = mutate(right, random.Random(number), tokens=TARGETS["manifest"].tokens)
            target.unlink()
            target.write_bytes(data)
            verify = judged("oci", "verify", "oci:m:c", cwd=here, quiet=True)
            assert verify.status == 1 or data == right or place.name == "index.json", place
            fresh(here / "bundle")
            judged(*READ[number % len(READ)].format("oci:m:c").split(), cwd=here, quiet=True)
            fresh(here / "back")
            if judged("oci", "export", "--compress=none", "oci:m:c", "oci:back:b", cwd=here).status == 0:
                assert wanted <= layer_and_config(here / "back")
            judged("oci", "gc", "--dry-run", "oci:m", cwd=here)
