"""Completion: what a word may be, and that bash really asks for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from terminals import Terminal
from test_oci.images import build, layer, layout_at

from casync_compat.cli import _options, _verbs
from casync_compat.cli._complete import SHELLS, candidates, words_of

from .conftest import Run


def offered(line: str) -> list[str]:
    """What the last word of a command line may be."""
    words, _ = words_of(line)
    return [one.text for one in candidates(words)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Some files, directories and a layout."""
    for name in ("a.caidx", "b.catar", "c.txt", "with space.caidx", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "inner.caibx").touch()
    with layout_at(tmp_path / "images") as layout:
        build(layout, "app", [layer({"etc/app": b"1"})])
        build(layout, "base", [layer({"etc/app": b"2"})])
    return tmp_path


def test_verbs() -> None:
    """All verbs and groups come with what they do; behind a group its verbs, wherever options stand."""
    assert offered("pycasync ") == sorted([*_verbs.VERBS, *_verbs.GROUPS])
    assert offered("pycasync ma") == ["make"]
    assert offered("pycasync -v --store x oci ") == sorted(_verbs.verbs_of("oci"))
    assert offered("pycasync --sto") == []
    for one in candidates(["pycasync", ""]):
        assert one.about


@pytest.mark.parametrize(
    ("group", "verb"), [(g, v) for g in ("", *_verbs.GROUPS) for v in _verbs.verbs_of(g)]
)
def test_options(group: str, verb: str) -> None:
    """Each verb's options are those of its help, with `=` where a value follows."""
    parser = _verbs.parser_of(group, verb)
    shown = {action.option_strings[-1]: action.nargs != 0 for action in parser.shown_options()}
    expected = sorted(f"{flag}=" if value else flag for flag, value in shown.items() if flag.startswith("--"))
    assert offered(f"pycasync {group} {verb} --") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("make --compression=", ["--compression=gzip", "--compression=xz", "--compression=zstd"]),
        ("make --compression x", ["xz"]),
        ("extract --delete=", ["--delete=no", "--delete=yes"]),
        ("extract --compare ", ["content", "metadata"]),
        ("list --what=arch", ["--what=archive", "--what=archive-index"]),
        ("list -l deb", ["debug"]),
        ("--log-level=w", ["--log-level=warning"]),
        ("make --with=sym", ["--with=symlinks"]),
        ("make --without ac", ["acl"]),
        ("completion ", sorted(SHELLS)),
        ("oci convert --mtime=", ["--mtime=epoch", "--mtime=keep"]),
        ("oci ls --platform linux/am", ["linux/amd64"]),
        ("make --jobs=", []),
        ("make --unheard-of ", ["a.caidx", "b.catar", "c.txt", "dir/", "images/", "with space.caidx"]),
        ("list ", ["a.caidx", "b.catar", "dir/", "images/", "with space.caidx"]),
        ("list c", ["c.txt"]),
        ("info dir/", ["dir/inner.caibx"]),
        ("info .h", [".hidden"]),
        ("list a.caidx ", []),
        ("gc a.caidx ", ["a.caidx", "dir/", "images/", "with space.caidx"]),
        ("list --store=d", ["--store=dir/"]),
        ("list --store=s3", ["--store=s3://"]),
        ("list htt", ["http://", "https://"]),
        ("list 'with sp", ["with space.caidx"]),
        ("list with\\ sp", ["with space.caidx"]),
        ("list -- a.", ["a.caidx"]),
        ("oci ls ", ["dir:", "docker-archive:", "docker://", "oci-archive:", "oci:"]),
        ("oci ls oci:", ["oci:dir/", "oci:images:"]),
        ("oci ls oci:images:", ["oci:images:app", "oci:images:base"]),
        ("oci convert --base=oci:images:b", ["--base=oci:images:base"]),
        ("oci ls oci:dir:", []),
        ("oci ls docker-archive:a", ["docker-archive:a.caidx"]),
        ("zzz ", []),
    ],
)
def test_values_and_arguments(files: Path, line: str, expected: list[str]) -> None:
    """Values of options, files that the verb can use, schemes of locators, and images in layouts."""
    assert offered(f"pycasync {line}") == expected


def test_every_option_with_few_values_is_completed() -> None:
    """No option of casync's whose values are a handful of words is left out."""
    names = [
        option for option in _options.OPTIONS if option.keywords.get("metavar") in ("NAME", "yes|no", "KIND")
    ]
    assert [option.flags for option in names if not offered(f"pycasync make {option.flags[-1]}=")] == []


def test_home_directory(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde stays what was written."""
    monkeypatch.setenv("HOME", str(files))
    assert offered("pycasync info ~/a") == ["~/a.caidx"]


def test_what_shells_get(ok: Run, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bash gets what is behind its own breaks of words, quoted; the others the whole word and what it is."""
    monkeypatch.setenv("COMP_WORDBREAKS", " =:")
    assert ok("completion", "bash", "--line=pycasync oci ls oci:images:b").out == b"base\n"
    assert ok("completion", "bash", "--line=pycasync list w").out == b"with\\ space.caidx\n"
    assert ok("completion", "bash", "--line=pycasync list 'w").out == b"with space.caidx\n"
    assert ok("completion", "zsh", "--", "pycasync", "oci", "ls", "oci:images:b").out == b"oci:images:base\n"
    assert ok("completion", "fish", "--", "pycasync", "dig").out.startswith(b"digest\tprint the digest")


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts(ok: Run, shell: str) -> None:
    """There is a script for each shell."""
    assert f" completion {shell} ".encode() in ok("completion", shell).out


def test_other_shells(fails: Callable[..., str]) -> None:
    """A shell without a script is an error that lists those with one."""
    assert fails("completion", "tcsh") == "no completion for 'tcsh'; there is one for bash, zsh, fish"


def test_without_a_shell(fails: Callable[..., str]) -> None:
    """The shell must be named."""
    assert "the following arguments are required: bash, zsh or fish;" in fails("completion")


def test_bash(files: Path, ok: Run) -> None:
    """Loaded in bash, the Tab key completes verbs, values behind `=`, images behind `:`, and quotes files."""
    (files / "bin").mkdir()
    program = files / "bin" / "pycasync"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m casync_compat "$@"\n')
    program.chmod(0o755)
    (files / "script").write_bytes(ok("completion", "bash").out)
    path = f"{files / 'bin'}:{os.environ['PATH']}"
    environ = {"PATH": path, "PS1": "ready> ", "INPUTRC": "/dev/null", "HISTFILE": ""}
    shell = ("bash", "--noprofile", "--norc", "-i")
    with Terminal((), files, columns=200, environ=environ, program=shell) as terminal:
        terminal.wait_for("ready> ")
        terminal.type(b"source ./script; bind 'set enable-bracketed-paste off'; echo lo'ad'ed\n")
        terminal.wait_for("loaded")
        for typed, seen in (
            (b"echo pycasync ls\x15pycasync dig\t", "pycasync digest "),
            (b"\x15pycasync make --compression=z\t", "make --compression=zstd "),
            (b"\x15pycasync oci ls oci:im\tb\t", "oci ls oci:images:base "),
            (b"\x15pycasync list wi\t", "list with\\ space.caidx "),
        ):
            terminal.type(typed)
            terminal.wait_for(seen)
