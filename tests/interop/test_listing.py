"""`list`, `mtree`, `stat` and `digest` print what casync prints, to the byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from grounds import Forest
from interop.tools import Pair, better_than_casync, tree_cases
from trees import Tree

VERBS = ("list", "mtree", "stat", "digest")
UNREADABLE = (
    "time-minus-one",
)  # casync refuses to read what it wrote; pycasync's answer is tested in test_extract


@pytest.mark.parametrize(("tree", "on"), tree_cases(without=UNREADABLE))
def test_archive(pair: Pair, forest: Forest, tree: Tree, on: str) -> None:
    """The four verbs over the archive of every tree."""
    archive = pair.base / "x.catar"
    pair.casync("make", archive, forest.get(tree.name, on))
    for verb in VERBS:
        assert pair.same_output(verb, archive) is not None


@pytest.mark.parametrize(("tree", "on"), tree_cases(refused=True, large=False))
def test_directory(pair: Pair, forest: Forest, tree: Tree, on: str) -> None:
    """The verbs over every tree as it lies on disk."""
    for verb in ("mtree", "stat", "digest"):  # what `list` shows is in the output of `mtree` too
        if verb == "mtree" and tree.name == "virtual":
            continue  # see test_virtual_files
        pair.same_output(verb, forest.get(tree.name, on))


@pytest.mark.root
def test_virtual_files(pair: Pair, forest: Forest) -> None:
    """A file on sysfs is archived as empty, and `mtree` says so; casync shows a size that no archive of it has."""
    tree = forest.get("virtual")
    theirs = pair.casync("mtree", tree)
    assert b"file type=file mode=0644 size=4096 " in theirs
    assert pair.pycasync("mtree", tree) == theirs.replace(b"size=4096 ", b"size=0 ")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("digest", ["sha256", "sha512-256"])
def test_index(pair: Pair, forest: Forest, verb: str, digest: str) -> None:
    """The four verbs over an index, whatever its digest; --digest on the command line does not change what it is."""
    index = pair.base / "x.caidx"
    pair.casync("make", index, f"--digest={digest}", forest.get("duplicates"))
    if verb == "mtree":
        # casync labels the digests with the command line's algorithm; we with the one that made them.
        right = pair.casync(verb, index, f"--digest={digest}")
        assert all(pair.pycasync(verb, index, *other) == right for other in ((), ("--digest=sha256",)))
        return
    assert pair.same_output(verb, index)
    assert pair.same_output(verb, index, "--digest=sha256")
    assert pair.same_output(verb, index, "copy3")


SUBPATHS = (
    "", "/", "small", "/small", "//small//src", "small/src/", "small/src/main.c", "small/link", "small/void", "nothing",
    "small/nothing", "small/src/main.c/deeper", "fifos_sockets/fifo", "devices/c1-3", "devices/b8-1", "acls/user",
    "xattrs_user/odd", "chattr/dir-immutable", "modes/dir7777", ".", "small/.", "small/..",
)  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize("subpath", SUBPATHS)
def test_subpath(pair: Pair, forest: Forest, subpath: str) -> None:
    """A path inside the archive: files, directories, special nodes, odd spellings, and what is not there."""
    archive = pair.base / "x.catar"
    pair.casync("make", archive, forest.get("everything", "ext4"))
    for verb in ("mtree", "stat", "digest"):
        pair.same_output(verb, archive, subpath)
    pair.same_output("list", archive, subpath, "--recursive=no")


def test_subpath_that_is_not_text(pair: Pair, forest: Forest) -> None:
    """Names are bytes; so are paths on the command line."""
    archive = pair.base / "x.catar"
    pair.casync("make", archive, forest.get("sort-traps"))
    for name in (b"\xff", b"new\nline", b"B\xff", b"B\xff/\xfa", b"back\\", b"\\", b" "):
        for verb in VERBS:
            pair.same_output(verb, archive, name)


MASKS = {
    "unix": ("--with=unix",),
    "fat": ("--with=fat",),
    "best": ("--with=best",),
    "names": ("--with=user-names",),
    "ids": ("--with=16bit-uids",),
    "no-names": ("--without=user-names",),
    "no-ids": ("--without=32bit-uids", "--without=16bit-uids"),
    "no-time": ("--without=nsec-time", "--without=usec-time", "--without=sec-time", "--without=2sec-time"),
    "no-permissions": ("--without=permissions", "--without=acl", "--without=read-only"),
    "no-types": ("--without=symlinks", "--without=fifos", "--without=sockets", "--without=device-nodes"),
    "no-xattrs": ("--without=xattrs", "--without=selinux", "--without=fcaps"),
    "sha256": ("--digest=sha256",),
    "shifted": ("--uid-shift=100000",),
    "ranged": ("--uid-shift=0", "--uid-range=10000"),
}


@pytest.mark.root
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_mask(pair: Pair, forest: Forest, mask: tuple[str, ...]) -> None:
    """--with and --without limit what is shown of an archive, and what is read of a directory.

    `stat` of a directory is left out: where a mask leaves out attributes that are there, casync fails with "No data
    available", which is not worth imitating.
    """
    tree = forest.get("everything", "ext4")
    archive = pair.base / "x.catar"
    pair.casync("make", archive, tree)
    pair.same_output("list", archive, *mask)
    # The digests' label is the archive's here, and the command line's with casync (see test_index).
    shown = () if mask == ("--digest=sha256",) else mask
    assert pair.pycasync("mtree", archive, *mask) == pair.casync("mtree", archive, *shown)
    for verb in ("stat", "digest"):
        pair.same_output(verb, archive, "owners/33-33", *mask)
        pair.same_output(verb, archive, "acls", *mask)
    for verb in ("mtree", "digest"):
        pair.same_output(verb, tree, *mask)


@pytest.mark.root
@pytest.mark.parametrize(
    "made_with", ["unix", "fat", "fuse", "user-names", "2sec-time", "flag-hidden", "xattrs"]
)
def test_archive_with_few_flags(pair: Pair, forest: Forest, made_with: str) -> None:
    """Archives that hold less show less (or cannot be read: names without ids)."""
    archive = pair.base / "x.catar"
    pair.casync(
        "make", archive, f"--with={made_with}", forest.get("everything", "ext4"), "--without=user-names"
    )
    for verb in VERBS:
        pair.same_output(verb, archive)


def test_not_recursive(pair: Pair, forest: Forest) -> None:
    """--recursive=no lists the top and its direct children."""
    archive = pair.base / "x.catar"
    pair.casync("make", archive, forest.get("duplicates"))
    out = pair.same_output("list", archive, "--recursive=no")
    assert out is not None
    assert len(out.splitlines()) == 11


@pytest.mark.parametrize("verb", VERBS)
def test_standard_input_and_kinds(pair: Pair, forest: Forest, verb: str) -> None:
    """`-` and --what name the input where a suffix cannot."""
    archive = pair.base / "x.bin"
    pair.casync("make", "--what=archive", archive, forest.get("small"))
    pair.same_output(verb, archive)
    pair.same_output(verb, "--what=archive", archive)
    if verb != "digest":
        pair.same_output(verb, "--what=archive", stdin=archive)
        pair.same_output(verb, "--what=archive", "-", stdin=archive)
    pair.same_output(verb, "--what=archive", archive, "src")
    pair.same_output(verb, forest.get("small") / "src" / "main.c")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--with=help",),
        ("--without=help",),
        ("list", "none.catar"),
        ("list", "a", "b", "c"),
        ("verb",),
    ],
    ids=" ".join,
)
def test_help_and_errors(pair: Pair, arguments: tuple[str, ...]) -> None:
    """The tables that scripts read are casync's, and so are the exit statuses."""
    pair.same_output(*arguments)


@better_than_casync
def test_kinds_that_there_are(pair: Pair) -> None:
    """--what=help names all five kinds; casync forgets the first."""
    theirs, ours = pair.run("--what=help")
    assert ours.out.splitlines() == [theirs.out.splitlines()[0], b"archive", *theirs.out.splitlines()[1:]]


@better_than_casync
def test_digest_of_standard_input(pair: Pair, forest: Forest) -> None:
    """`digest` takes an archive from standard input as the other verbs do; casync refuses."""
    archive = pair.base / "x.catar"
    printed = pair.casync("make", archive, forest.get("small"))
    assert pair.pycasync("digest", "--what=archive", "-", stdin=archive) == printed


OWNERS = (
    0,
    1,
    33,
    999,
    1000,
    1001,
    2000,
    65533,
    65534,
    65536,
    66536,
    100_000,
    1 << 31,
    (1 << 32) - 3,
    (1 << 32) - 2,
)


@pytest.mark.root
@pytest.mark.parametrize("id_range", [1, 7, 1000, 2000, 65536, 1 << 32])
def test_owners_out_of_the_range(pair: Pair, tmp_path: Path, id_range: int) -> None:
    """With --uid-range casync names root for whatever becomes 0 in an archive, and for root only in a directory."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in OWNERS:
        (tree / str(number)).touch()
        os.chown(tree / str(number), number, number)
    archive = pair.base / "owners.catar"
    pair.casync("make", archive, tree)
    for source in (tree, archive):
        pair.same_output("mtree", source, f"--uid-range={id_range}")
    for number in OWNERS:
        pair.same_output("stat", archive, str(number), f"--uid-range={id_range}")
