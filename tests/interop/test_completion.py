"""Completion scripts, loaded by zsh and fish from where the wheel puts them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from filesystems import lacking
from terminals import Terminal

from casync_compat.cli import completion

SCRIPTS = Path(completion.__file__).parent / "completions"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a file, and with the program in `bin`."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "pycasync"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m casync_compat "$@"\n')
    program.chmod(0o755)
    (tmp_path / "a file.caidx").touch()
    return tmp_path


def environ(place: Path) -> dict[str, str]:
    return {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "HOME": str(place), "XDG_DATA_HOME": str(place)}


def test_zsh(place: Path) -> None:
    """The Tab key completes verbs, values behind `=`, and quotes files."""
    if shutil.which("zsh") is None:
        lacking("zsh")
    (place / "functions").mkdir()
    shutil.copy(SCRIPTS / "_pycasync", place / "functions")
    given = environ(place) | {"PS1": "ready> ", "PROMPT": "ready> "}
    with Terminal((), place, columns=200, environ=given, program=("zsh", "-f", "-i")) as terminal:
        terminal.wait_for("ready> ")
        terminal.type(b"bindkey -e; fpath=($PWD/functions $fpath); autoload compinit; compinit -u -D\n")
        for typed, line in (
            (b"pycasync dig\t", "pycasync digest"),
            (b"pycasync make --compression=z\t", "pycasync make --compression=zstd"),
            (b"pycasync list a\tb", "pycasync list a file.caidx b"),
            (b"pycasync make --layo\tp\t", "pycasync make --layout=packs"),
        ):
            terminal.type(typed + b"\x01print -r -- \x05\n")  # the words, as the shell has them in the end
            terminal.wait_for(f"\n{line}")


def test_fish(place: Path) -> None:
    """Verbs come with what they do, and values and files are completed."""
    if shutil.which("fish") is None:
        lacking("fish")
    vendor = place / "fish" / "vendor_completions.d"
    vendor.mkdir(parents=True)
    shutil.copy(SCRIPTS / "pycasync.fish", vendor)
    for line, expected in (
        ("pycasync dig", "digest\tprint the digest"),
        ("pycasync make --compression=z", "--compression=zstd"),
        ("pycasync list a", "a file.caidx"),
        ("pycasync -v oci conv", "convert\t"),
    ):
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source {vendor}/pycasync.fish; complete -C {line!r}"],
            cwd=place,
            env=os.environ | environ(place),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert expected in done.stdout, (line, done)
