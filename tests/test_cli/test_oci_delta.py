"""Update files of images: made of two images, carried, and used where the first one is."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from test_oci.images import build, layer, layout_at, noise

from .conftest import Run

Fails = Callable[..., str]
FILES = {f"usr/{n}": noise(20_000, n) for n in range(30)}


@pytest.fixture
def images(ok: Run, run: Run, tmp_path: Path) -> dict[str, str]:
    """Converted images `a:1` and, upon it, `a:2`; and a layout `there` with the first. Their digests by tag."""
    with layout_at(tmp_path / "plain") as layout:
        build(layout, "1", [layer(FILES), layer({"etc/app": b"1"})])
        build(layout, "2", [layer({**FILES, "usr/7": noise(20_000, 99)}), layer({"etc/app": b"2"})])
    for tag, base in (("1", ()), ("2", ("--base=oci:a:1",))):
        ok("oci", "convert", "--thin", "--chunk-size=4K", *base, f"oci:plain:{tag}", f"oci:a:{tag}")
    assert run("oci", "pull", "oci:a:1", "oci:there:1").status == 0
    found = {
        tag: ok("oci", "inspect", "--json", f"oci:a:{tag}").out.decode()
        for tag in "12"
    }  # fmt: skip
    return {tag: json.loads(text)["digest"] for tag, text in found.items()}


def everything(at: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return {str(path.relative_to(at)): path.read_bytes() for path in at.rglob("*") if path.is_file()}


def test_the_same_image_in_the_end(
    images: dict[str, str], ok: Run, run: Run, tmp_path: Path
) -> None:  # fmt: skip
    """Applied on top of the base the image has its digest, is whole, and gives the original back, of the same id."""
    made = json.loads(ok("oci", "delta", "--json", "oci:a:1", "oci:a:2", "-o", "2.patch").out)
    assert made["digest"] == images["2"]
    assert 0 < made["blob_bytes"] < made["all_bytes"] / 3
    assert made["size"] == os.stat("2.patch").st_size
    done = run("oci", "apply", "2.patch", "oci:there:2")
    assert (done.status, done.out.decode().strip()) == (0, images["2"])
    ok("oci", "verify", "oci:there:2")
    ids = [ok("oci", "export", f"oci:{at}", f"oci:back:{n}").out for n, at in enumerate(("a:2", "there:2"))]
    assert ids[0] == ids[1]
    before = everything(tmp_path / "there")
    again = json.loads(ok("oci", "apply", "--json", "2.patch", "oci:there:2").out)
    assert again["new"] == 0
    assert everything(tmp_path / "there") == before


def test_only_what_is_new_is_carried(images: dict[str, str], ok: Run, run: Run) -> None:
    """The file is an oci-archive that lacks what the base has; without a base it is a whole one."""
    ok("oci", "delta", "oci:a:1", "oci:a:2", "-o", "2.patch")
    with tarfile.open("2.patch", "r:") as tar:
        carried = {name.rpartition("/")[2] for name in tar.getnames() if name.startswith("blobs/")}
        reader = tar.extractfile("pycasync-delta.json")
        assert reader is not None
        head = json.load(reader)
    assert head == {
        "version": 1,
        "kind": "image",
        "bases": [{"name": "oci:a:1", "digest": images["1"]}],
        "target": {"name": "oci:a:2", "digest": images["2"]},
    }
    there = {path.name for path in Path("there/blobs/sha256").iterdir()}
    assert not carried & there
    assert run("oci", "pull", "oci-archive:2.patch:2", "oci:else:2").status == 1
    ok("oci", "delta", "oci:a:2", "-o", "whole.patch")
    assert run("oci", "pull", "oci-archive:whole.patch:2", "oci:else:2").status == 0
    assert run("oci", "apply", "whole.patch", "oci:another:2").status == 0


def test_without_the_base_nothing_is_written(
    images: dict[str, str], ok: Run, fails: Fails, tmp_path: Path
) -> None:
    """The message counts what is missing, names the first, and says what the file builds upon."""
    ok("oci", "delta", "oci:a:1", "oci:a:2", "-o", "2.patch")
    said = fails("oci", "apply", "2.patch", "oci:nowhere:2")
    assert said.startswith("2.patch: ")
    assert "missing from oci:nowhere, the first is sha256:" in said
    assert said.endswith("it builds upon oci:a:1")
    assert not (tmp_path / "nowhere").exists()


def test_an_estimate_is_made_of_manifests(images: dict[str, str], ok: Run, tmp_path: Path) -> None:
    """What it says is what the file has, and it needs no pack."""
    for path in (tmp_path / "a" / "blobs" / "sha256").iterdir():
        if path.stat().st_size > 60_000:
            path.rename(tmp_path / path.name)
    estimate = json.loads(ok("oci", "delta", "--estimate", "--json", "oci:a:1", "oci:a:2").out)
    for path in tmp_path.iterdir():
        if len(path.name) == 64:
            path.rename(tmp_path / "a" / "blobs" / "sha256" / path.name)
    made = json.loads(ok("oci", "delta", "--json", "oci:a:1", "oci:a:2", "-o", "2.patch").out)
    assert {**made, "size": None} == estimate


def test_a_damaged_file(images: dict[str, str], ok: Run, fails: Fails, tmp_path: Path) -> None:
    """Cut short or with a bit changed in any blob, it is refused in a line, and nothing is written."""
    ok("oci", "delta", "oci:a:1", "oci:a:2", "-o", "2.patch")
    good = (tmp_path / "2.patch").read_bytes()
    before = everything(tmp_path / "there")
    random = Random(1)
    with tarfile.open("2.patch", "r:") as tar:
        blobs = [each for each in tar.getmembers() if each.name.startswith("blobs/")]
    for each in blobs:
        bad = bytearray(good)
        bad[each.offset_data + random.randrange(each.size)] ^= 4
        (tmp_path / "bad").write_bytes(bad)
        fails("oci", "apply", "bad", "oci:there:2")
    for end in (0, 100, 600, len(good) // 2, blobs[-1].offset_data + 10):
        (tmp_path / "bad").write_bytes(good[:end])
        fails("oci", "apply", "bad", "oci:there:2")
    assert everything(tmp_path / "there") == before


def test_what_is_meant_must_be_clear(images: dict[str, str], ok: Run, fails: Fails) -> None:
    """No output, or a file that is no update of an image."""
    assert "-o" in fails("oci", "delta", "oci:a:1", "oci:a:2")
    Path("blob").write_bytes(b"x" * 1000)
    ok("make", "x.caibx", "blob")
    ok("delta", "x.caibx", "-o", "x.patch")
    fails("oci", "apply", "x.patch", "oci:there:2")
    ok("oci", "delta", "oci:a:1", "oci:a:2", "-o", "2.patch")
    assert "2.patch" in fails("apply", "2.patch", "y.caibx")


def test_packs_as_seeds(images: dict[str, str], ok: Run, run: Run, fails: Fails, tmp_path: Path) -> None:
    """An image in a layout gives `extract` the chunks that it has; what cannot be a seed costs a warning."""
    ok("oci", "convert", "--thin", "--chunk-size=4K", "oci:plain:2", "oci:b:2", "--store=s.castr")
    told = json.loads(ok("extract", "--json", "--store=s.castr", "--seed=oci:a:1", "0.caidx", "out").out)
    assert 0 < told["fetched"] < told["from_seeds"]
    os.rename("s.castr", "away.castr")
    words = ("--store=s.castr", "--seed=oci:a:2", "0.caidx", "else")
    told = json.loads(ok("extract", "--json", *words).out)
    assert told["fetched"] == 0
    assert everything(tmp_path / "else") == everything(tmp_path / "out")
    told = run("extract", "--store=away.castr", "--seed=oci:plain:2", "0.caidx", "third")
    assert told.status == 0
    assert b"oci:plain:2 is not used as a seed: " in told.err
