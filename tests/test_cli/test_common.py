"""What options mean: feature flags, replay masks, id shifts, kinds of input."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from casync_compat.cli import _verbs
from casync_compat.cli._common import feature_flags, id_shift, named_kind, open_tree, replay_mask, tree_kind
from casync_compat.errors import CasyncError, FileError, UsageError
from casync_compat.fs.owners import IdShift
from casync_compat.kinds import Kind
from catar.errors import CatarError
from catar.flags import NAMED_SETS, NO_REPLAY_LIMIT, WITH_ALL, FeatureFlags

F = FeatureFlags


def options(words: str = "") -> argparse.Namespace:
    return _verbs.parser_of("", "make").parse_args(words.split())


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("", 0xB0000001FFEFFE26),
        ("--digest=sha256", 0x90000001FFEFFE26),
        ("--digest=sha512-256", 0xB0000001FFEFFE26),
        ("--digest=default", 0xB0000001FFEFFE26),
        ("--exclude-nodump=no", 0x30000001FFFFFE26),
        ("--exclude-submounts=yes", 0xF0000001FFEFFE26),
        ("--exclude-file=no", 0xA0000001FFEFFE26),
        ("--with=unix", 0xB000000000001F09),
        ("--with=fat", 0xB00000000000E0C0),
        ("--with=best", 0xB0000001FFEFFE26),
        ("--with=16bit-uids --with=sec-time", 0xB000000000000009),
        ("--with=16bit-uids --with=32bit-uids", 0xB000000000000002),
        ("--without=32bit-uids", 0xB0000001FFEFFE25),
        ("--without=nsec-time", 0xB0000001FFEFFE16),
        ("--without=acl", 0xB0000001DFEFFF26),
        ("--with=acl", 0xB000000020000006),
        ("--without=all --with=xattrs", 0xB000000000000000),
        ("--with=xattrs --without=all", 0xB000000000000000),
        ("--with=subvolume-ro", 0xB00000000C000000),
    ],
)
def test_feature_flags(words: str, flags: int) -> None:
    """The flag word is casync's for each choice, whatever the order of options (casync-format.md §3.4, V9)."""
    assert feature_flags(options(words)) == flags


def test_feature_flags_of_blobs() -> None:
    """A blob records nothing unless it is asked to."""
    assert feature_flags(options(), default=0) == 0xB000000000000000
    assert feature_flags(options("--with=sec-time"), default=0) == 0xB000000000000008


@pytest.mark.parametrize("words", ["--with=nonsense", "--without=XATTRS", "--with=xattrs,acl", "--with="])
def test_unknown_flags(words: str) -> None:
    """Names are exact, one at a time; the error says where they are listed."""
    with pytest.raises(CatarError, match=r"unknown feature flag .*--with=help lists"):
        feature_flags(options(words))


@pytest.mark.parametrize("words", ["--digest=md5", "--digest=SHA256", "--digest="])
def test_unknown_digests(words: str) -> None:
    """A digest that does not exist is refused; names are exact."""
    with pytest.raises(UsageError):
        feature_flags(options(words))


def test_replay_masks() -> None:
    """Without options nothing is held back; else only what is named, less what is left out."""
    assert replay_mask(options()) == NO_REPLAY_LIMIT
    assert replay_mask(options("--with=all")) == NO_REPLAY_LIMIT
    assert replay_mask(options("--with=unix")) == NAMED_SETS["unix"]
    assert replay_mask(options("--without=acl")) == WITH_ALL & ~F.ACL
    assert replay_mask(options("--with=acl --with=xattrs --without=acl")) == F.XATTRS


OFF = IdShift()

# Every row observed with casync 2: what it stores for a file of uid 5 and gid 70000, or that it refuses the option.
SHIFTS = (
    ("", OFF),
    ("--uid-shift=yes", IdShift(0, 65536, True)),
    ("--uid-shift=on", IdShift(0, 65536, True)),
    ("--uid-shift=0", IdShift(0, 65536, True)),
    ("--uid-shift=1", IdShift(1, 65536, True)),
    ("--uid-shift=100000", IdShift(100_000, 65536, True)),
    ("--uid-shift=0x10", IdShift(16, 65536, True)),
    ("--uid-shift=010", IdShift(8, 65536, True)),
    ("--uid-shift=no", OFF),
    ("--uid-range=yes", IdShift(0, 65536, True)),
    ("--uid-range=no", OFF),
    ("--uid-range=0", OFF),
    ("--uid-range=1", IdShift(0, 1, True)),
    ("--uid-range=65535", IdShift(0, 65535, True)),
    ("--uid-range=4294967296", IdShift(0, 0, True)),
    ("--uid-shift=1 --uid-range=no", OFF),
    ("--uid-range=no --uid-shift=1", IdShift(1, 65536, True)),
    ("--uid-range=100 --uid-shift=no", OFF),
    ("--uid-shift=no --uid-range=100", IdShift(0, 100, True)),
    ("--uid-shift=yes --uid-range=100000", IdShift(0, 100_000, True)),
    ("--uid-shift=7 --uid-shift=yes", IdShift(7, 65536, True)),
    ("--uid-shift=7 --uid-shift=8", IdShift(8, 65536, True)),
)


@pytest.mark.parametrize(("words", "shift"), SHIFTS)
def test_id_shifts(words: str, shift: IdShift) -> None:
    """Numbers switch shifting on, booleans on or off, and the last one given decides."""
    assert id_shift(options(words)) == shift


@pytest.mark.parametrize(
    "words",
    [
        "--uid-shift=65535",
        "--uid-shift=4294967295",
        "--uid-shift=5000000000",
        "--uid-shift=-1",
        "--uid-shift=08",
        "--uid-shift=x",
        "--uid-shift=",
        "--uid-range=4294967297",
        "--uid-range=-1",
        "--uid-range=many",
    ],
)
def test_id_shifts_that_are_none(words: str) -> None:
    """Ids that are invalid, too large or no numbers are refused, naming the option."""
    with pytest.raises(UsageError, match=words.split("=")[0]):
        id_shift(options(words))


@pytest.mark.parametrize("kind", list(Kind))
def test_names_of_kinds(kind: Kind) -> None:
    """`--what` takes the names that the kinds have."""
    assert named_kind(options(f"--what={kind.value}")) is kind


@pytest.mark.parametrize("text", ["", "Archive", "archive ", "index", "catar"])
def test_other_names_are_refused(text: str) -> None:
    """The message lists the names there are."""
    with pytest.raises(UsageError) as caught:
        named_kind(argparse.Namespace(what=text))
    assert all(kind.value in str(caught.value) for kind in Kind)


@pytest.mark.parametrize(
    ("argument", "words", "kind"),
    [
        (None, "", Kind.DIRECTORY),
        ("dir", "", Kind.DIRECTORY),
        ("dir/", "", Kind.DIRECTORY),
        ("dir.catar", "", Kind.DIRECTORY),
        ("file.catar", "", Kind.ARCHIVE),
        ("file.caidx", "", Kind.ARCHIVE_INDEX),
        ("file.caidx", "--what=archive", Kind.ARCHIVE),
        ("-", "--what=archive", Kind.ARCHIVE),
        ("-", "--what=archive-index", Kind.ARCHIVE_INDEX),
        (None, "--what=archive", Kind.ARCHIVE),
    ],
)
def test_kinds_of_trees(tmp_path: Path, argument: str | None, words: str, kind: Kind) -> None:
    """A directory is one whatever its name; files are told by their suffix; --what decides over both."""
    for name in ("dir", "dir.catar"):
        (tmp_path / name).mkdir()
    for name in ("file.catar", "file.caidx", "file", ".catar"):
        (tmp_path / name).touch()
    assert tree_kind(options(words), argument) is kind


@pytest.mark.parametrize(
    ("argument", "words", "error", "says"),
    [
        ("file", "", UsageError, "say what it is with --what"),
        (".catar", "", UsageError, "say what it is with --what"),
        ("x.caibx", "", UsageError, "say what it is with --what"),
        ("missing", "", FileError, "missing: cannot open: No such file"),
        ("missing.catar", "", FileError, "missing.catar: cannot open: No such file"),
        ("-", "", UsageError, "--what=archive or --what=archive-index"),
        ("", "", UsageError, "an empty path"),
        ("foo://h/x.catar", "", UsageError, "nothing here can read foo://"),
        ("file", "--what=tarball", UsageError, "unknown kind 'tarball'"),
    ],
)
def test_trees_of_no_kind(
    tmp_path: Path, argument: str, words: str, error: type[CasyncError], says: str
) -> None:
    """What cannot be told is an error that says how to tell."""
    for name in ("file", ".catar", "x.caibx"):
        (tmp_path / name).touch()
    with pytest.raises(error) as caught:
        open_tree(options(words), argument)
    assert says in str(caught.value)
