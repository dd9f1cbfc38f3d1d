"""JSON: what every verb prints with `--json` is what the schema says, with keys in one style."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from filesystems import library
from test_oci.images import build, layer, layout_at

from casync_compat.cli import _verbs

from .conftest import Run

jsonschema = library("jsonschema")

SCHEMA: dict[str, Any] = json.loads(files("casync_compat.cli").joinpath("output.schema.json").read_text())
DESCRIBED: dict[str, Any] = SCHEMA["$defs"]["verbs"]

RUNS = {
    "make": ("y.caidx tree", "y.catar tree", "y.caibx blob", "-n z.caidx tree", "-c c.caidx tree"),
    "extract": ("x.caidx out", "-n x.caidx other", "x.caibx blob2"),
    "list": ("x.caidx", "tree"),
    "stat": ("x.caidx", "x.caidx hello", "tree"),
    "digest": ("x.caidx", "blob", "tree"),
    "verify": ("default.castr", "broken.castr", "x.caidx"),
    "info": ("x.caidx", "x.caidx --store=default.castr"),
    "dump": ("x.caidx", "x.catar"),
    "config": ("", "https://example.com/store"),
    "self-check": ("",),
    "mirror": (". there", "-n . elsewhere"),
    "copy": ("x.caidx there.caidx", "-n x.caidx nowhere.caidx"),
    "delta": ("x.caidx x.caidx --estimate", "x.caidx -o up.capatch"),
    "apply": ("up.capatch applied.caidx --store=fresh.castr",),
    "oci convert": ("oci:images:app oci:images:casync",),
    "oci export": ("oci:images:casync oci:images:back",),
    "oci push": ("oci:images:casync oci:second:app",),
    "oci copy": ("oci:images:casync oci:sixth:app",),
    "oci tags": ("oci:images",),
    "oci pull": ("oci:images:casync oci:third:app --store=s.castr",),
    "oci delta": ("oci:images:casync --estimate", "oci:images:casync -o image.tar"),
    "oci apply": ("-n image.tar oci:fourth:app", "image.tar oci:fourth:app"),
    "oci ls": ("oci:images:casync",),
    "oci unpack": ("--rootless oci:images:casync bundle",),
    "oci checkout": ("--rootless oci:images:casync checked --file-store=files",),
    "oci erofs": ("oci:images:casync -o image.erofs", "-n oci:images:casync"),
    "oci verify": ("oci:images:casync",),
    "oci inspect": ("oci:images:casync",),
    "oci stats": ("oci:images:app",),
}
"""Command lines of each verb, in an order in which one may use what another has made."""

ELSEWHERE = {"oci mount"}
"""What takes a kernel that lets it: `tests/interop/test_oci_kernel.py` holds its lines against the schema."""


def keys(value: Any) -> Iterator[str]:
    """All keys that a schema names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "properties":
                yield from inner
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_keys_have_one_style() -> None:
    """The schema is one, and its keys are in snake_case."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert [key for key in keys(SCHEMA) if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", key)] == []


def test_every_verb_is_described() -> None:
    """Each verb that has `--json` is in the schema, and no other; and is tried here."""
    verbs = {
        f"{group} {verb}".strip()
        for group in ("", *_verbs.GROUPS)
        for verb in _verbs.verbs_of(group)
        if "--json" in _verbs.parser_of(group, verb).takes_value
    }
    assert verbs == set(DESCRIBED) == set(RUNS) | ELSEWHERE


def test_what_is_printed(run: Run, tree: Path, tmp_path: Path) -> None:
    """Each line that a verb prints with `--json` is an object as the schema says, and every alternative is met."""
    os.mkfifo(tree / "fifo")
    (tree / os.fsdecode(b"odd\xff")).symlink_to(os.fsdecode(b"\xfe"))
    os.setxattr(tree / "hello", "user.note", b"\xff\x00")
    (tree / "odd").mkdir()
    (tmp_path / "blob").write_bytes(bytes(range(256)) * 2000)
    with layout_at(tmp_path / "images") as layout:
        build(layout, "app", [layer({"etc/app": b"1" * 5000}), layer({"usr/bin/app": b"2"})])
    run("make", "x.caidx", "tree")
    run("make", "x.catar", "tree")
    run("make", "x.caibx", "blob", "--store=broken.castr")
    run("make", "x.caibx", "blob")
    for path in (tmp_path / "broken.castr").glob("*/*.cacnk"):
        path.write_bytes(b"broken")
    for verb, lines in RUNS.items():
        described = {"$ref": f"#/$defs/verbs/{verb}"}
        validator = jsonschema.Draft202012Validator({**SCHEMA, **described})
        for words in lines:
            said = run(*verb.split(), "--json", *words.split())
            assert said.status == (words == "broken.castr"), (verb, words, said)
            printed = said.out.decode().splitlines()
            assert printed, (verb, words)
            for line in printed:
                validator.validate(json.loads(line))
