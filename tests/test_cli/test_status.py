"""Exit status 2: the words alone are wrong, and no file was looked at. Status 1: what there is decides."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casync_compat.cli import _elsewhere, _verbs

from .conftest import Run

EVERY = [("", verb) for verb in _verbs.VERBS]
EVERY += [(group, verb) for group in _verbs.GROUPS for verb in _verbs.verbs_of(group)]


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ("completion", "bash, zsh or fish"),
        ("mirror", "SOURCE, TARGET"),
        ("store pack", "STORE"),
        ("gc", "every index whose chunks are to stay"),
    ],
)
def test_what_is_missing(run: Run, words: str, missing: str) -> None:
    """What is asked for is what has to be given, and not what may be left out."""
    assert f"the following arguments are required: {missing}; see " in run(*words.split()).err.decode()


@pytest.mark.parametrize(
    "words",
    [
        "",
        "nonsense",
        "oci",
        "oci nonsense",
        "list --nonsense",
        "list --store",
        "list a b c",
        "list -n",
        "info --yes x.caidx",
        "gc",
        "--log-level=errors list",
        "list --rate-limit-bps=0",
        "list --with=nonsense",
        "make --chunk-size=many x.caidx",
        "make --digest=md5 x.caidx",
        "make --compression=lzma x.caidx",
        "make --uid-shift=perhaps x.catar",
        "list --what=nonsense",
        "make --delete=maybe",
        "make --what=directory x",
        "make x.tar tree",
        "cat x.caidx",
        "verify --what=nonsense x",
        "oci ls nonsense:x",
        "oci ls --platform=a/b/c/d/e oci:x:y",
        "oci ls --json --long oci:x:y",
        "oci gc oci:x:y",
        "oci mount --using=kernel oci:x:y root",
        "oci mount --using=smoke oci:x:y root",
        "oci mount --using=fuse --file-store=files oci:x:y root",
        "oci mount --upper=state oci:x:y root",
        "oci mount --fetch oci:x:y root",
        "oci mount --using=kernel --file-store=files --fetch oci:x:y root",
        "oci mount --file-store=files --chunk-cache=chunks oci:x:y root",
        "oci mount --using=fuse --upper=state --file-store=files oci:x:y root",
        "oci umount",
        "oci erofs oci:x:y",
        "oci erofs -n --file-store=files oci:x:y",
        "oci unpack --using=kernel oci:x:y bundle",
        "oci unpack --file-store=files oci:x:y bundle",
        "oci export --max-layer-size=many oci:x:y oci:x:z",
        "serve",
        "serve a --listen=nowhere",
        "serve healthz=a",
        "serve a=b a=c",
        "serve a b --writable",
        "serve a --key=k",
        "serve a --client-rate=-1",
        "serve a --max-chunk-size=many",
        "mirror a b --keep=c",
        "completion csh",
        "completion",
        "mirror",
        "make --log-file= x.caidx tree",
        "mkdev --socket= x.caibx",
        "mkdev --socket=s -",
        "list -q -v",
        "oci ls --quiet --verbose oci:x:y",
        "-h -l",
    ],
)
def test_wrong_words(run: Run, words: str, tmp_path: Path) -> None:
    """One line that says what is wrong, status 2, and nothing is made."""
    before = os.listdir(tmp_path)
    said = run(*words.split())
    if words == "-h -l":  # help is given to who asks for it, whatever else is wrong
        assert said.status == 0
        return
    assert said.status == 2, said
    assert said.out == b""
    assert said.err.startswith(b"pycasync: ")
    assert said.err.count(b"\n") == 1
    assert os.listdir(tmp_path) == before


@pytest.mark.parametrize(("group", "verb"), EVERY)
def test_every_verb_refuses_unknown_options(run: Run, group: str, verb: str) -> None:
    """An option that nobody knows, and an abbreviation of none."""
    said = run(*([group] if group else []), verb, "--unheard-of")
    assert (said.status, said.out) == (2, b"")


@pytest.mark.parametrize(
    "words",
    ["list nowhere", "info nowhere.caidx", "extract nowhere.caidx out", "list a.txt", "oci ls oci:x:y"],
)
def test_what_depends_on_files(run: Run, words: str, tmp_path: Path) -> None:
    """Words that could be right: status 1."""
    (tmp_path / "a.txt").write_text("no archive")
    assert run(*words.split()).status == 1


@pytest.mark.parametrize("words", ["-V", "--version", "list -V", "oci -V", "oci ls -V"])
def test_version_in_short(run: Run, words: str) -> None:
    """`-V` is `--version`, wherever it stands."""
    said = run(*words.split())
    assert (said.status, said.out.split()[0], said.err) == (0, b"pycasync", b"")


VERBS_OF_DESYNC = (
    *(
        "cache",
        "cat",
        "chop",
        "chunk",
        "chunk-server",
        "extract",
        "index-server",
        "info",
        "inspect-chunks",
        "pull",
    ),
    *(
        "list-chunks",
        "make",
        "manpage",
        "mount-index",
        "mtree",
        "prune",
        "tar",
        "untar",
        "verify",
        "verify-index",
    ),
)
VERBS_OF_CASYNC = (
    "make",
    "extract",
    "list",
    "mtree",
    "stat",
    "digest",
    "gc",
    "mount",
    "mkdev",
    "pull",
    "push",
    "help",
)


@pytest.mark.parametrize("verb", sorted({*VERBS_OF_DESYNC, *VERBS_OF_CASYNC, *_elsewhere.ELSEWHERE[""]}))
def test_verbs_of_other_programs(run: Run, verb: str) -> None:
    """Each is there, or the message names one that is."""
    if verb in _verbs.VERBS or verb == "help":
        return
    said = run(verb)
    assert said.status == 2
    advice = said.err.decode().partition(f"unknown verb {verb!r}; use `pycasync ")[2]
    assert run(*advice.partition("`")[0].split(), "--help").status == 0, said


@pytest.mark.parametrize("group", sorted(filter(None, _elsewhere.ELSEWHERE)))
def test_verbs_of_programs_for_images(run: Run, group: str) -> None:
    """The same within a group."""
    for verb in sorted(set(_elsewhere.ELSEWHERE[group]) - set(_verbs.verbs_of(group))):
        said = run(group, verb)
        assert said.status == 2
        advice = said.err.decode().partition("pycasync: unknown verb ")[2].partition("`pycasync ")[2]
        assert run(*advice.partition("`")[0].split(), "--help").status == 0, said


@pytest.mark.parametrize(("group", "verb"), [("", ""), *((group, "") for group in _verbs.GROUPS), *EVERY])
@pytest.mark.parametrize("width", [80, 132])
def test_help_fits(run: Run, monkeypatch: pytest.MonkeyPatch, group: str, verb: str, width: int) -> None:
    """Help is as wide as the terminal; commands to be pasted, and words that are longer, are not folded."""
    monkeypatch.setattr(_verbs, "columns", lambda: width)
    monkeypatch.setattr("casync_compat.cli._parser.columns", lambda: width)
    text = run(*filter(None, (group, verb)), "--help").out.decode()
    for line in text.splitlines():
        pasted = line.startswith("  pycasync ") or "usage: " in line
        assert len(line) <= width or pasted or len(line.split()) == 1, line
