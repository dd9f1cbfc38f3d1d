"""Containers that runc starts, of programs of this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from filesystems import lacking

__all__ = ["add_programs", "run_bundle"]


def add_programs(tree: Path) -> None:
    """Make a root file system with a shell and what it needs, taken from this machine."""
    for name in ("bin", "proc", "dev", "sys", "etc", "tmp"):
        (tree / name).mkdir(parents=True)
    for program in ("sh", "cat", "id"):
        path = shutil.which(program) or lacking(program)
        shutil.copy(path, tree / "bin" / program)
        found = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", found):
            (tree / library[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, tree / library[1:])
    (tree / "etc/passwd").write_text("app:x:1000:1001::/home/app:/bin/sh\n")


def run_bundle(bundle: Path, name: str, args: Sequence[str] = (), *, readonly: bool = False) -> list[str]:
    """Run the container of a bundle to its end. Returns the lines it says.

    :param name: what the container is called
    :param args: its command; the configuration's where there is none, and runc's own configuration where there is none
        of that
    :param readonly: whether nothing is to be written to its root
    """
    runc = shutil.which("runc")
    if runc is None:
        lacking("runc is not installed; .ci/setup installs it")
    if not (bundle / "config.json").exists():
        subprocess.run([runc, "spec", "--bundle", bundle], check=True, timeout=60)
    document = json.loads((bundle / "config.json").read_text())
    document["process"]["terminal"] = False  # there is none here
    if args:
        document["process"]["args"] = list(args)
        document["root"]["readonly"] = readonly
    (bundle / "config.json").write_text(json.dumps(document))
    argv = [
        runc,
        "--root",
        bundle / "state",
        "run",
        "--bundle",
        bundle,
        f"pycasync-test-{os.getpid()}-{name}",
    ]
    done = subprocess.run(argv, capture_output=True, timeout=60)
    if done.returncode and b"permission denied" in done.stderr.lower():
        lacking(f"containers cannot be started here: {done.stderr[-200:]!r}")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().splitlines()
