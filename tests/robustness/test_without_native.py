"""Every verb once with native modules switched off: the same status, the same output, the same files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builds import native_modules
from test_oci.images import build, layer, layout_at

from .running import build_tree, environment

# The command, run many times in one process: what each run prints goes to a file of its own.
PROGRAM = """
import json, os, sys
hidden, refused, runs = json.load(sys.stdin)
sys.modules.update(dict.fromkeys(hidden))  # whose import now fails
from casync_compat.cli import main
for number, words in enumerate(runs):
    out = os.open(f"{number:02}.out", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.dup2(out, 1)
    os.close(out)
    if main(words) != (" ".join(words).startswith(tuple(refused))):
        sys.exit(f"failed, or did not: {words}")
"""

RUNS = {
    "make": ("x.caidx ../src", "x.catar ../src", "x.caibx ../blob", *("c.caidx ../src --cache=cache",) * 2),
    "extract": ("x.caidx out", "x.catar again", "x.caidx out --seed=again", "x.caibx blob"),
    "list": ("x.caidx", "../src", "x.catar --json"),
    "mtree": ("x.catar", "../src"),
    "stat": ("x.catar", "../src"),
    "digest": ("x.caidx", "../src", "x.caibx", "x.catar --digest=sha256"),
    "info": ("x.caidx",),
    "dump": ("x.caidx", "x.catar --json"),
    "mount": ("x.caidx nowhere --mkdir=no",),
    "mkdev": ("x.caibx --socket=missing/socket",),
    "cat": ("x.caidx d1/e0/f006", "x.caibx"),
    "convert-index": ("x.caidx w.caidx --chunk-size=1K:8K:20K",),
    "mirror": (". edge", "--delete . edge *.caidx"),
    "copy": ("x.caibx edge/copied.caibx",),
    "delta": ("x.caidx w.caidx -o w.patch",),
    "apply": ("w.patch applied.caidx",),
    "verify": ("default.castr", "x.caidx", "x.caidx ../src", "x.caibx ../blob"),
    "gc": tuple(f"{option} x.caidx c.caidx w.caidx applied.caidx x.caibx" for option in ("-n", "-v")),
    "store pack": ("default.castr",),
    "store explode": ("default.castr",),
    "pull": ("-n - - x.caidx default.castr",),
    "push": ("-n - - pushed.caidx default.castr",),
    "serve": ("-n default.castr more=default.castr --index-dir=.",),
    "self-check": ("--help",),
    "config": ("", "--json"),
    "completion": ("bash",),
    "oci convert": ("oci:../images:app oci:new:app --store=images.castr", "oci:../images:app oci:thin:app --thin"),
    "oci export": ("oci:new:app oci:back:app", "oci:thin:app docker-archive:app.tar --rebuild"),
    "oci push": ("oci:new:app oci:pushed:app",),
    "oci pull": ("oci:new:app oci:pulled:app", "oci:new:app oci:chunks:app --store=pulled.castr"),
    "oci copy": ("oci:new:app oci:copied:app",),
    "oci tags": ("oci:copied",),
    "oci delete": ("oci:copied:app",),
    "oci login": ("--help",),
    "oci logout": ("--help",),
    "oci delta": ("oci:thin:app oci:new:app -o image.patch",),
    "oci apply": ("image.patch oci:thin:applied",),
    "oci ls": ("oci:new:app", "oci:../images:app"),
    "oci cat": ("oci:new:app etc/app", "oci:thin:app usr/data"),
    "oci unpack": ("oci:new:app bundle", "oci:../images:app plain"),
    "oci checkout": ("oci:new:app tree --file-store=files --link=copy",),
    "oci mount": ("oci:new:app missing/nowhere",),
    "oci umount": ("nowhere",),
    "oci erofs": ("oci:new:app -o app.erofs", "oci:../images:app -o stored.erofs --file-store=files"),
    "oci verify": ("oci:thin:app",),
    "oci inspect": ("oci:new:app",),
    "oci stats": ("oci:../images:app",),
    "oci repack": ("oci:thin:app",),
    "oci gc": ("oci:thin",),
}  # fmt: skip
"""What each verb is given, in an order in which each finds what it needs."""

REFUSED = ("mkdev", "mount", "oci mount", "oci umount")
"""Verbs that end with status 1 here: what they do takes a kernel that lets them."""

NOT_COMPARED = ("cache", "files")
"""What holds inode numbers and times of the moment."""


def _verbs(help_text: str) -> set[str]:
    """The verbs that --help lists."""
    lines = help_text.partition("\nverbs:\n")[2].partition("\n\n")[0].splitlines()
    return {
        line.split()[0] for line in lines if line[2:3] != " "
    }  # what is deeper goes on with the line above


def _run(at: Path, hidden: list[str], runs: list[list[str]]) -> None:
    at.mkdir()
    given = json.dumps([hidden, REFUSED, runs]).encode()
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, cwd=at, env=environment(), input=given, stderr=subprocess.PIPE, timeout=250
    )
    assert done.returncode == 0, done.stderr[-2000:].decode()


def _files(at: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and contents of all that lies beneath."""
    found = {}
    for path in at.rglob("*"):
        name = str(path.relative_to(at))
        if name.split("/")[0] in NOT_COMPARED:
            continue
        what = path.lstat()
        link = os.fsencode(os.readlink(path)) if path.is_symlink() else b""
        found[name] = what.st_mode, path.read_bytes() if path.is_file() and not link else link
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree, a file and an image."""
    at = tmp_path_factory.mktemp("builds")
    build_tree(at / "src")
    (at / "blob").write_bytes(b"".join(path.read_bytes() for path in sorted(at.rglob("f*"))))
    with layout_at(at / "images") as layout:
        files = {"etc": None, "etc/hostname": b"box\n", "usr": None, "usr/data": bytes(range(256)) * 1000}
        build(layout, "app", [layer(files), layer({"etc/app": b"1"})])
    return at


def test_every_verb(base: Path) -> None:
    """What a verb prints and writes does not depend on whether there was a compiler."""
    runs = [[*verb.split(), *words.split()] for verb, given in RUNS.items() for words in given]
    runs += [["--help"], ["oci", "--help"]]
    _run(base / "with", [], runs)
    _run(base / "without", native_modules(), runs)
    found, expected = _files(base / "without"), _files(base / "with")
    for number, words in enumerate(runs):
        assert found[f"{number:02}.out"] == expected[f"{number:02}.out"], words
    assert found == expected
    plain, images = (_verbs(expected[f"{len(runs) - back:02}.out"][1].decode()) for back in (2, 1))
    assert {verb.split()[0] for verb in RUNS} == plain
    assert {verb for verb in RUNS if verb.startswith("oci ")} == {f"oci {verb}" for verb in images}
