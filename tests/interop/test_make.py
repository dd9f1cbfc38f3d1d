"""`make` writes what casync writes: archive, index, chunk names, file modes and the digest that it prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from grounds import Forest
from interop.tools import Pair, better_than_casync, tree_cases
from trees import Tree

FLAG_SETS: dict[str, tuple[str, ...]] = {
    "default": (),
    "unix": ("--with=unix",),
    "fat": ("--with=fat",),
    "fuse-sha256": ("--with=fuse", "--digest=sha256"),
    "unprivileged": ("--without=privileged",),
    "dump-all": ("--exclude-nodump=no", "--exclude-submounts=yes"),
    "weaker": ("--without=user-names", "--without=nsec-time", "--without=acl", "--without=32bit-uids"),
    "names-only": (
        "--with=user-names",
        "--with=usec-time",
        "--with=acl",
        "--with=selinux",
        "--with=symlinks",
    ),
    "nothing": ("--without=all", "--with=xattrs"),
}


@pytest.mark.parametrize("flags", FLAG_SETS.values(), ids=FLAG_SETS.keys())
@pytest.mark.parametrize(("tree", "on"), tree_cases(large=False, refused=True))
def test_archive(pair: Pair, forest: Forest, tree: Tree, on: str, flags: tuple[str, ...]) -> None:
    """A `.catar` and the digest printed for it are casync's, for every tree and set of flags."""
    made = pair.same_make("x.catar", forest.get(tree.name, on), *flags)
    if not flags:
        assert made == (not tree.refused), tree.refused


INDEX_SETS: dict[str, tuple[str, ...]] = {
    "default": (),
    "sha256-xz": ("--digest=sha256", "--compression=xz"),
    "small-gzip": ("--chunk-size=1K:8K:20K", "--compression=gzip", "--with=best"),
}


@pytest.mark.parametrize("options", INDEX_SETS.values(), ids=INDEX_SETS.keys())
@pytest.mark.parametrize(("tree", "on"), tree_cases(refused=True))
def test_index(pair: Pair, forest: Forest, tree: Tree, on: str, options: tuple[str, ...]) -> None:
    """A `.caidx` is casync's, and so is the set of chunk files with their modes."""
    made = pair.same_make("x.caidx", forest.get(tree.name, on), "--store=s.castr", *options)
    assert made == (not tree.refused), tree.refused


@pytest.mark.parametrize("output", ["x.caidx", "sub/x.caidx", "./x.caidx", "../pycasync/x.caidx"])
def test_default_store(pair: Pair, forest: Forest, output: str) -> None:
    """Without --store the chunks go to default.castr beside the index."""
    for at in (pair.theirs, pair.ours):
        (at / "sub").mkdir()
    if output.startswith("../"):
        output = str(pair.ours / "x.caidx")
        pair.pycasync("make", output, forest.get("small"))
        assert (pair.ours / "default.castr").is_dir()
    else:
        assert pair.same_make(output, forest.get("small"))


@pytest.mark.parametrize(("tree", "on"), tree_cases(large=False))
def test_cache(pair: Pair, forest: Forest, tmp_path: Path, tree: Tree, on: str) -> None:
    """With a cache the index is the one that casync makes without, each time; and nothing is printed."""
    source = forest.get(tree.name, on)
    pair.casync("make", "x.caidx", source, cwd=pair.theirs)
    for _ in range(3):
        told = pair.pycasync("make", "x.caidx", source, f"--cache={tmp_path / 'cache'}", cwd=pair.ours)
        assert not told
        assert (pair.ours / "x.caidx").read_bytes() == (pair.theirs / "x.caidx").read_bytes()


def test_second_make_reuses_chunks(pair: Pair, forest: Forest) -> None:
    """Chunks that are in the store already are left alone: same names, same times."""
    tree = forest.get("duplicates")
    assert pair.same_make("x.caidx", tree)
    before = {p: p.stat().st_mtime_ns for p in pair.ours.rglob("*.cacnk")}
    assert pair.same_make("y.caidx", tree, "--compression=xz")
    assert {p: p.stat().st_mtime_ns for p in pair.ours.rglob("*.cacnk")} == before


@pytest.mark.parametrize(
    ("output", "options"),
    [
        ("x.bin", ("--what=archive",)),
        ("x.bin", ("--what=archive-index",)),
        ("x.catar", ("--what=archive-index",)),
        ("x.bin", ()),
        (".catar", ()),
        ("x.caibx", ()),
        ("x.castr", ()),
        ("x.catar.bak", ()),
        ("none/x.catar", ()),
        ("x.catar", ("--what=directory",)),
        ("x.catar", ("--digest=md5",)),
        ("x.catar", ("--with=nonsense",)),
        ("x.catar", ("--exclude-nodump=perhaps",)),
        ("x.caidx", ("--compression=lz4",)),
    ],
    ids=" ".join,
)
def test_kinds_and_errors(pair: Pair, forest: Forest, output: str, options: tuple[str, ...] | str) -> None:
    """The kind of output comes from --what or the suffix, and what casync refuses is refused."""
    pair.same_make(output, forest.get("small"), *options)


def test_archive_on_standard_output(pair: Pair, forest: Forest) -> None:
    """`make -` writes the archive, and nothing but the archive, to standard output."""
    out = pair.same_output("make", "-", forest.get("small"))
    assert out == pair.same_output("make", "--what=archive", "-", forest.get("small"))
    assert out is not None
    assert len(out) > 1000


@better_than_casync
def test_index_on_standard_output(pair: Pair, forest: Forest) -> None:
    """An index on standard output is the index alone; casync spoils it with a line of 65 bytes."""
    theirs, ours = pair.run("make", "--what=archive-index", "--store=s.castr", "-", forest.get("small"))
    assert ours.out == theirs.out[:-65]
    assert theirs.out[-65:] in ours.err, "the digest goes to standard error"


def test_current_directory_is_the_default_input(pair: Pair, forest: Forest, tmp_path: Path) -> None:
    """`make OUT` archives the current directory."""
    tree = forest.get("small")
    for tool, name in ((pair.casync, "a.catar"), (pair.pycasync, "b.catar")):
        tool("make", tmp_path / name, cwd=tree)
    assert (tmp_path / "a.catar").read_bytes() == (tmp_path / "b.catar").read_bytes()


@better_than_casync
def test_exclude_file_no_means_it(pair: Pair, forest: Forest) -> None:
    """With --exclude-file=no the rules in .caexclude files are not followed; casync follows them all the same."""
    pair.pycasync("make", pair.ours / "x.catar", forest.get("caexclude"), "--exclude-file=no")
    listed = pair.pycasync("list", pair.ours / "x.catar").splitlines()
    assert len(listed) == 1 + sum(1 for _ in forest.get("caexclude").rglob("*"))
