"""Extraction both ways: casync extracts what pycasync made, pycasync what casync made, and both get the same tree."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import inodes
import posix1e
import pytest
import trees
from compare import assert_same, holes, snapshot
from grounds import Forest, Grounds
from interop.tools import Pair, better_than_casync, tree_cases
from trees import Tree

CASYNC_FAILS = tuple(t.name for t in trees.TREES.values() if t.not_restored)


@pytest.mark.parametrize(("tree", "on"), tree_cases(without=CASYNC_FAILS))
def test_archive_both_ways(pair: Pair, forest: Forest, ground: Grounds, tree: Tree, on: str) -> None:
    """Each program's archive, extracted by the other, gives the tree that was archived."""
    source = forest.get(tree.name, on)
    pair.archive("x.catar", source, *tree.faithful)
    by_casync, by_us = ground("by-casync", on), ground("by-us", on)
    pair.casync("extract", pair.ours / "x.catar", by_casync)
    pair.pycasync("extract", pair.theirs / "x.catar", by_us)
    ours = snapshot(by_us)
    assert_same(snapshot(by_casync), ours)
    if not tree.filtered:
        assert_same(snapshot(source), ours, tree.lost)


@pytest.mark.parametrize(
    "options", [(), ("--digest=sha256", "--compression=xz", "--chunk-size=8K")], ids=["plain", "xz"]
)
@pytest.mark.parametrize(
    ("tree", "on"), tree_cases("small", "sizes", "holes", "duplicates", "fat-directory", "random-2", "empty")
)
def test_index_both_ways(
    pair: Pair, forest: Forest, ground: Grounds, tree: Tree, on: str, options: tuple[str, ...]
) -> None:
    """The same through an index and a store; both programs find the default store beside the index."""
    source = forest.get(tree.name, on)
    pair.archive("x.caidx", source, *options)
    by_casync, by_us = ground("by-casync", on), ground("by-us", on)
    pair.casync("extract", pair.ours / "x.caidx", by_casync)
    pair.pycasync("extract", pair.theirs / "x.caidx", by_us)
    assert_same(snapshot(by_casync), snapshot(by_us))
    assert_same(snapshot(source), snapshot(by_us), tree.lost)


@better_than_casync
@pytest.mark.parametrize("suffix", ["catar", "caidx"])
@pytest.mark.parametrize(("tree", "on"), tree_cases(*CASYNC_FAILS))
def test_what_casync_cannot_extract(
    pair: Pair, forest: Forest, ground: Grounds, tree: Tree, on: str, suffix: str
) -> None:
    """Trees that casync archives and cannot extract come back whole."""
    source = forest.get(tree.name, on)
    archive, target = pair.base / f"x.{suffix}", ground("by-us", on)
    pair.casync("make", archive, source)
    theirs = pair.casync.run("extract", archive, ground("by-casync", on))
    assert theirs.status == 1, f"casync can do it now: {tree.not_restored}"
    pair.pycasync("extract", archive, target)
    assert_same(snapshot(source), snapshot(target), tree.lost)


@better_than_casync
@pytest.mark.root
def test_archives_that_casync_writes_and_cannot_read(pair: Pair, forest: Forest, ground: Grounds) -> None:
    """Microsecond times are read, to the microsecond."""
    source, target = forest.get("times"), ground("by-us")
    archive = pair.base / "x.catar"
    pair.casync("make", archive, source, "--with=usec-time", "--with=symlinks", "--with=fifos")
    assert pair.casync.run("list", archive).status == 1
    pair.pycasync("extract", archive, target)
    for path in source.rglob("file*"):
        want = path.lstat().st_mtime_ns // 1000 * 1000
        assert (target / path.relative_to(source)).lstat().st_mtime_ns == want, path


# ---- options ---------------------------------------------------------------------------------------------------------


def extract_both(
    pair: Pair,
    ground: Grounds,
    archive: Path,
    *options: object,
    prepare: object = None,
    ignore: tuple[str, ...] = (),
) -> Path | None:
    """Extract with both into directories prepared alike and compare them; None if both refused."""
    targets = ground("by-casync"), ground("by-us")
    for at in targets:
        if prepare is not None:
            prepare(at)
    theirs = pair.casync.run("extract", archive, targets[0], *options)
    ours = pair.pycasync.run("extract", archive, targets[1], *options)
    assert theirs.status == ours.status, f"exit status differs\n{theirs}\n{ours}"
    if theirs.status:
        return None
    # OUT itself keeps its time when only a part of the archive goes into it, and was made at another moment.
    partial = any(not os.fsdecode(option).startswith("-") for option in options)
    assert_same(snapshot(targets[0]), snapshot(targets[1]), ignore + ((".:mtime",) if partial else ()))
    return targets[1]


MASKS = {
    "unix": ("--with=unix",),
    "fuse": ("--with=fuse",),
    "unprivileged": ("--without=privileged",),
    "no-names": ("--without=user-names",),
    "no-ids": ("--without=32bit-uids", "--without=user-names"),
    "no-special": ("--without=fifos", "--without=sockets", "--without=device-nodes"),
    "no-links": ("--without=symlinks",),
    "no-xattrs": ("--without=xattrs", "--without=fcaps", "--without=selinux"),
    "no-acl": ("--without=acl",),
    "no-chattr": ("--without=chattr",),
    "shifted": ("--uid-shift=100000",),
}
SPECIAL_MODES = ("1777", "2755", "4755", "7777")
NO_PERMISSIONS = ("--without=permissions", "--without=acl", "--without=read-only")
SHIFTED_NO_NAMES = ("--uid-shift=100000", "--without=user-names")
NO_TIME = ("--without=nsec-time", "--without=usec-time", "--without=sec-time", "--without=2sec-time")


@pytest.mark.root
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_mask(pair: Pair, forest: Forest, ground: Grounds, mask: tuple[str, ...]) -> None:
    """--with and --without choose what is restored, as casync restores it."""
    archive = pair.base / "x.catar"
    pair.casync("make", archive, forest.get("everything", "ext4"))
    extract_both(pair, ground, archive, *mask)


@pytest.mark.root
def test_without_permissions(pair: Pair, forest: Forest, ground: Grounds) -> None:
    """Modes are those of new files, as with casync, but set-id and sticky bits are never given to who did not ask.

    casync passes the recorded mode to open(), which keeps them on files.
    """
    archive = pair.base / "x.catar"
    pair.casync("make", archive, forest.get("everything", "ext4"))
    special = tuple(f"modes/{kind}{bits}:mode" for kind in ("file", "fifo") for bits in SPECIAL_MODES)
    target = extract_both(pair, ground, archive, *NO_PERMISSIONS, ignore=special)
    assert target is not None
    modes = {path.lstat().st_mode & 0o7000 for path in (target / "modes").iterdir() if not path.is_symlink()}
    assert modes == {0}


@pytest.mark.root
def test_shifted_without_names(pair: Pair, forest: Forest, ground: Grounds) -> None:
    """--without=user-names shifts every id, those in ACLs too, where casync still gives names to users of this host."""
    archive = pair.base / "x.catar"
    pair.casync("make", archive, forest.get("everything", "ext4"))
    ignore = tuple(
        f"{os.fsdecode(path)}:xattrs"
        for path in snapshot(forest.get("everything", "ext4"))
        if path == b"acls" or path.startswith(b"acls/")
    )
    target = extract_both(pair, ground, archive, *SHIFTED_NO_NAMES, ignore=ignore)
    assert target is not None
    acl = posix1e.ACL(file=os.fspath(target / "acls" / "user"))
    assert [entry.qualifier for entry in acl if entry.tag_type == posix1e.ACL_USER] == [100033]


@pytest.mark.root
def test_times_left_alone(pair: Pair, forest: Forest, ground: Grounds) -> None:
    """Without a time flag no time is set; everything else is."""
    archive = pair.base / "x.catar"
    pair.casync("make", archive, forest.get("modes"))
    targets = ground("by-casync"), ground("by-us")
    for tool, at in zip((pair.casync, pair.pycasync), targets, strict=True):
        tool("extract", archive, at, *NO_TIME)
    assert_same(snapshot(targets[0]), snapshot(targets[1]), ("mtime",))
    assert (targets[1] / "file0644").stat().st_mtime_ns > forest.get("modes").stat().st_mtime_ns


SUBPATHS = (
    "src",
    "/src/deep/",
    "src/main.c",
    "link",
    "void",
    "run.sh",
    "nothing",
    "src/nothing",
    "//src//deep//deeper",
)


@pytest.mark.parametrize("suffix", ["catar", "caidx"])
@pytest.mark.parametrize("subpath", SUBPATHS)
def test_subpath(pair: Pair, forest: Forest, ground: Grounds, subpath: str, suffix: str) -> None:
    """A path inside the archive is put into OUT under its own last name."""
    archive = pair.base / f"x.{suffix}"
    pair.casync("make", archive, forest.get("small"))
    target = extract_both(pair, ground, archive, subpath)
    assert (target is None) == ("nothing" in subpath)


def a_mess(at: Path) -> None:
    """Everything in the way of the tree `small`: other contents, other kinds, links, and things it does not have."""
    (at / "run.sh").mkdir()
    (at / "run.sh" / "inside").write_bytes(b"a directory where a file goes")
    (at / "src").write_bytes(b"a file where a directory goes")
    os.symlink("/nonexistent", at / "void")
    (at / "link").write_bytes(b"a file where a link goes")
    os.mkfifo(at / "absolute")
    (at / "extra").write_bytes(b"not in the archive")
    (at / "extra.d" / "deep").mkdir(parents=True)
    (at / "extra.d" / "deep" / "file").write_bytes(b"")
    for extra in ("extra.d/deep/file", "extra.d/deep", "extra.d", "extra"):
        trees.touch(at / extra, 1_000_000_000 * trees.SECOND)
    os.chmod(at, 0o700)


@pytest.mark.parametrize("suffix", ["catar", "caidx"])
@pytest.mark.parametrize(
    "options", [(), ("--delete=yes",), ("--delete=no",)], ids=["default", "delete", "keep"]
)
def test_into_a_mess(
    pair: Pair, forest: Forest, ground: Grounds, options: tuple[str, ...], suffix: str
) -> None:
    """What is in the way is replaced; what the archive does not have is removed, or kept on request.

    casync then empties directories that are in the way all the same; here they stay, and are an error at the end.
    """
    archive = pair.base / f"x.{suffix}"
    pair.casync("make", archive, forest.get("small"))
    if "--delete=no" not in options:
        target = extract_both(pair, ground, archive, *options, prepare=a_mess)
        assert target
        assert not (target / "extra.d").exists()
        assert_same(snapshot(forest.get("small")), snapshot(target))
        return
    target = ground("by-us")
    a_mess(target)
    done = pair.pycasync.run("extract", archive, target, *options)
    assert done.status == 1
    assert b"run.sh: cannot replace: it is a directory with something in it" in done.err
    assert (target / "extra.d" / "deep" / "file").exists()
    (target / "run.sh" / "inside").unlink()
    pair.pycasync("extract", archive, target, *options)
    theirs = ground("by-casync")
    a_mess(theirs)
    pair.casync("extract", archive, theirs, *options)
    assert_same(snapshot(theirs), snapshot(target))


@pytest.mark.root
@pytest.mark.parametrize("seed", range(4))
def test_update_in_place(pair: Pair, forest: Forest, ground: Grounds, seed: int) -> None:
    """One random tree extracted over another gives the new one, whatever the old one was."""
    archive = pair.base / "x.caidx"
    pair.casync("make", archive, forest.get(f"random-{seed}"))

    def prepare(at: Path) -> None:
        trees.random_tree(at, seed + 1, privileged=True)

    target = extract_both(pair, ground, archive, prepare=prepare)
    assert target
    assert_same(snapshot(forest.get(f"random-{seed}")), snapshot(target))


@pytest.mark.parametrize("with_store", [True, False], ids=["store", "no-store"])
@pytest.mark.parametrize(
    "options", [("seed",), ("seed", "--seed-output=no"), ("output",), ("output", "--seed-output=no")]
)
def test_seed(
    pair: Pair, forest: Forest, ground: Grounds, options: tuple[str, ...], with_store: bool
) -> None:
    """Chunks come from a seed tree or from OUT itself; what is in no store and no seed is an error."""
    source = forest.get("duplicates")
    archive = pair.base / "x.caidx"
    pair.casync("make", archive, source)
    if not with_store:
        shutil.rmtree(pair.base / "default.castr")
    seeds = [f"--seed={source}"] if options[0] == "seed" else []

    def prepare(at: Path) -> None:
        if options[0] == "output":
            shutil.copytree(source, at, dirs_exist_ok=True, symlinks=True)

    target = extract_both(pair, ground, archive, *seeds, *options[1:], prepare=prepare)
    assert (target is not None) == (
        with_store or options in (("seed",), ("seed", "--seed-output=no"), ("output",))
    )
    if target:
        assert_same(snapshot(source), snapshot(target))


def test_extra_store(pair: Pair, forest: Forest, ground: Grounds) -> None:
    """Chunks that one store lacks come from another."""
    source = forest.get("sizes")
    archive, store, other = pair.base / "x.caidx", pair.base / "default.castr", pair.base / "other.castr"
    pair.casync("make", archive, source, "--chunk-size=4K")
    other.mkdir()
    for prefix in sorted(store.iterdir())[::2]:
        prefix.rename(other / prefix.name)
    assert extract_both(pair, ground, archive) is None
    fresh = ground("whole")
    pair.pycasync(
        "extract", archive, fresh, f"--extra-store={pair.base / 'none.castr'}", f"--extra-store={other}"
    )
    assert_same(snapshot(source), snapshot(fresh))


@pytest.mark.parametrize(
    "punch", [(), ("--punch-holes=yes",), ("--punch-holes=no",)], ids=["default", "yes", "no"]
)
@pytest.mark.parametrize("suffix", ["catar", "caidx"])
def test_punch_holes(
    pair: Pair, forest: Forest, ground: Grounds, punch: tuple[str, ...], suffix: str
) -> None:
    """Runs of zeros become holes unless that is switched off; contents are the same either way."""
    source = forest.get("holes")
    archive = pair.base / f"x.{suffix}"
    pair.casync("make", archive, source)
    target = extract_both(pair, ground, archive, *punch)
    assert target
    found = holes(target / "front")
    if "--punch-holes=no" in punch:
        assert not found
    else:
        assert sum(end - start for start, end in found) > 150_000


@pytest.mark.parametrize("suffix", ["catar", "caidx"])
def test_hardlink_to_a_seed(pair: Pair, forest: Forest, ground: Grounds, suffix: str) -> None:
    """--hardlink=yes links files to their equals in the seed instead of copying them."""
    seed = ground("seed")
    archive = pair.base / f"x.{suffix}"
    pair.casync("make", archive, forest.get("small"))
    pair.casync("extract", archive, seed)
    by_casync, by_us = ground("by-casync"), ground("by-us")
    for tool, at in ((pair.casync, by_casync), (pair.pycasync, by_us)):
        tool("extract", archive, at, f"--seed={seed}", "--hardlink=yes")
    names = [os.fsdecode(name) for name, node in snapshot(seed).items() if node["type"] == "-"]

    def linked(at: Path) -> set[str]:
        return {name for name in names if os.path.samefile(at / name, seed / name)}

    assert linked(by_us) == linked(by_casync)
    assert "src/main.c" in linked(by_us)
    assert_same(snapshot(by_casync), snapshot(by_us))


@pytest.mark.root
@pytest.mark.parametrize("options", [(), ("--undo-immutable=yes",)], ids=["default", "undo"])
def test_immutable_target(pair: Pair, forest: Forest, ground: Grounds, options: tuple[str, ...]) -> None:
    """A protected file in the way is an error, or is unprotected on request."""
    archive = pair.base / "x.catar"
    pair.casync("make", archive, forest.get("one-file"))

    def prepare(at: Path) -> None:
        (at / "hello").write_bytes(b"old")
        inodes.set_flags(at / "hello", inodes.IMMUTABLE)

    assert (extract_both(pair, ground, archive, *options, prepare=prepare) is None) == (not options)


@pytest.mark.parametrize("arguments", [(), ("-",)], ids=["nothing", "dash"])
def test_archive_on_standard_input(
    pair: Pair, forest: Forest, ground: Grounds, arguments: tuple[str, ...]
) -> None:
    """An archive is extracted from standard input, where --what says what comes."""
    archive = pair.base / "x.catar"
    pair.casync("make", archive, forest.get("small"))
    target = ground("by-us")
    pair.pycasync("extract", "--what=archive", *(arguments or ("-",)), target, stdin=archive)
    assert_same(snapshot(forest.get("small")), snapshot(target))


def test_out_is_created_or_is_a_link(pair: Pair, forest: Forest, ground: Grounds) -> None:
    """OUT is created, one level only; OUT itself may be a link to a directory."""
    archive, here = pair.base / "x.catar", ground("here")
    pair.casync("make", archive, forest.get("small"))
    pair.pycasync("extract", archive, here / "new")
    assert_same(snapshot(forest.get("small")), snapshot(here / "new"))
    assert pair.pycasync.run("extract", archive, here / "none" / "deeper").status == 1
    (here / "real").mkdir()
    os.symlink("real", here / "link")
    pair.pycasync("extract", archive, here / "link")
    assert_same(snapshot(forest.get("small")), snapshot(here / "real"))
