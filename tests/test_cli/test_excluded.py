"""What is kept out of archives is counted by `make`, and spared by a restore in place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from casync_compat.fs.inode_flags import set_flags
from catar.flags import FeatureFlags

from .conftest import Result, Run

NODUMP = int(FeatureFlags.FLAG_NODUMP)


def nodump(path: Path) -> None:
    """Have a file or directory stay out of archives."""
    fd = os.open(path, os.O_RDONLY)
    try:
        set_flags(fd, NODUMP, NODUMP)
    except OSError as error:
        pytest.skip(f"no flags here: {error}")
    finally:
        os.close(fd)


def write(top: Path, **files: str) -> None:
    """Write files; `__` in a name stands for a slash, `DOT` for a period at the begin."""
    for name, text in files.items():
        path = top / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*")}


@pytest.fixture
def done(run: Run) -> Run:
    """Runs the command, which must end with status 0."""

    def call(*words: str) -> Result:
        result = run(*words)
        assert result.status == 0, result
        return result

    return call


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with rules, and with what they keep out."""
    tree = tmp_path / "tree"
    write(tree, DOTcaexclude="*.o\n/cache\n", a="1", b__c="2", x_o="", b__new="3")
    (tree / "x_o").rename(tree / "x.o")
    (tree / "cache").mkdir()
    write(tree, cache__one="1", cache__two="2", b__y="")
    (tree / "b" / "y").rename(tree / "b" / "y.o")
    return tree


def test_a_restore_of_the_own_archive_loses_nothing(tree: Path, done: Run, run: Run) -> None:
    """What `make` left out is still there after the archive was restored over the tree; what is new is not."""
    before = names(tree)
    done("make", "x.catar", str(tree))
    write(tree, later="x", b__later="x")
    result = run("extract", "x.catar", str(tree))
    assert (result.status, names(tree)) == (0, before)
    text = result.err.decode()
    assert f"not deleted: {tree}/b/y.o, {tree}/cache, {tree}/x.o" in text
    assert "deleted 2 entries that the archive does not have: b/later, later" in text
    assert (tree / "cache" / "two").read_text() == "2"


def test_again_and_again(tree: Path, done: Run) -> None:
    """Rules that no archive has stay with what they keep, so that the next restore spares it as well."""
    empty = tree.parent / "empty"
    empty.mkdir()
    (empty / "a").write_text("new")
    done("make", "x.catar", str(empty))
    for _ in range(3):
        done("extract", "x.catar", str(tree))
        assert {"x.o", "b/y.o", "cache/one", "cache/two", ".caexclude", "a"} <= names(tree)
        assert not names(tree) & {"b/c", "b/new"}
    assert (tree / "a").read_text() == "new"


def test_rules_of_the_archive(tree: Path, done: Run) -> None:
    """Its exclude file counts, too: it is the target's own from then on."""
    target = tree.parent / "target"
    write(target, a="", old="", cache__mine="")
    (target / "old").rename(target / "old.o")
    done("make", "x.catar", str(tree))
    done("extract", "x.catar", str(target))
    assert {"old.o", "cache/mine"} <= names(target)


def test_rules_that_the_archive_replaces(tree: Path, done: Run) -> None:
    """The rules that the target had count for this restore, although the archive brings others."""
    done("make", "x.catar", str(tree))
    (tree / ".caexclude").write_text("*.keep\n")
    (tree / "b" / "my.keep").write_text("")
    done("extract", "x.catar", str(tree))
    assert "b/my.keep" in names(tree)
    assert (tree / ".caexclude").read_text() == "*.o\n/cache\n"


def test_rules_of_the_archive_count_below(tree: Path, done: Run) -> None:
    """They travel down into directories that come after them, as they do when an archive is made."""
    target = tree.parent / "target"
    write(target, b__old="", b__junk="", b__deep__old="", other__old="")
    for name in ("b/old", "b/deep/old", "other/old"):
        (target / name).rename(target / f"{name}.o")
    (tree / "b" / "deep").mkdir()
    done("make", "x.catar", str(tree))
    said = done("extract", "x.catar", str(target)).err
    assert b"deleted 1 " in said
    assert {"b/old.o", "b/deep/old.o", "other/old.o"} <= names(target)
    assert "b/junk" not in names(target)


def test_an_exception_of_one_side_is_none_of_the_other(tree: Path, done: Run) -> None:
    """What the archive's rules keep out stays, although the rules that the target had made an exception of it."""
    target = tree.parent / "target"
    write(target, DOTcaexclude="*.o\n!kept.o\n", kept="")
    (target / "kept").rename(target / "kept.o")
    done("make", "x.catar", str(tree))
    done("extract", "x.catar", str(target))
    assert "kept.o" in names(target)


@pytest.mark.parametrize("rules", ["*.o\n", "", "# nothing\n!a.o\n*.o\n", "*\n!b\n!a\n"])
def test_a_preview_knows_rules_that_the_archive_brings(tree: Path, done: Run, rules: str) -> None:
    """It lists what is deleted then, and nothing else: also where they are exceptions."""
    target = tree.parent / "target"
    write(target, DOTcaexclude="*.was\n", a__o="", b__a="", z__deep__x="", x="")
    for name in ("b/a", "z/deep/x", "x"):
        (target / name).rename(target / f"{name}.o")
    (target / "y.was").write_text("")
    (tree / ".caexclude").write_text(rules)
    done("make", "x.catar", str(tree))
    before = names(target)
    preview = done("extract", "-n", "x.catar", str(target))
    assert names(target) == before
    begin = b"Would delete "
    told = {
        line.removeprefix(begin).rstrip(b"/").decode()
        for line in preview.out.splitlines()
        if line.startswith(begin)
    }
    done("extract", "x.catar", str(target))
    assert before - names(target) == told


def test_rules_below(tree: Path, done: Run) -> None:
    """Rules in a directory that the archive does not have, and those that travel down into it, are found."""
    done("make", "x.catar", str(tree))
    write(tree, new__deep__DOTcaexclude="secret\n", new__deep__secret="", new__deep__other="", new__more="")
    write(tree, plain__z="")
    done("extract", "x.catar", str(tree))
    found = names(tree)
    assert {"new/deep/secret", "new/deep/.caexclude"} <= found
    assert not found & {"new/deep/other", "new/more", "plain", "plain/z"}


def test_nodump(tree: Path, done: Run) -> None:
    """Files and directories with the flag are spared, and what holds them; their neighbours are not."""
    done("make", "x.catar", str(tree))
    write(tree, secret="s", vault__in="s", far__down__here="s", far__down__not="", far__off="")
    for path in ("secret", "vault", "far/down/here"):
        nodump(tree / path)
    done("extract", "x.catar", str(tree))
    found = names(tree)
    assert {"secret", "vault/in", "far/down/here"} <= found
    assert not found & {"far/down/not", "far/off"}


def test_an_archive_that_obeys_neither(tree: Path, done: Run) -> None:
    """It would have had all of it, so what it does not have is deleted."""
    (tree / "secret").write_text("")
    nodump(tree / "secret")
    empty = tree.parent / "empty"
    empty.mkdir()
    done("make", "--exclude-nodump=no", "--exclude-file=no", "x.catar", str(empty))
    done("extract", "x.catar", str(tree))
    assert names(tree) == set()


def test_make_counts(tree: Path, done: Run, run: Run) -> None:
    """What was kept out is counted, by reason: for programs, with -v, and in the last line."""
    (tree / "secret").write_text("")
    nodump(tree / "secret")
    for suffix in ("catar", "caidx"):
        told = json.loads(done("make", "--json", f"x.{suffix}", str(tree)).out)
        assert told["excluded"] == {"nodump": 1, "exclude_file": 3, "submounts": 0}
        assert told["left_out"] == []
    line = "pycasync: kept out of the archive: 1 by the nodump flag, 3 by .caexclude"
    assert run("make", "x.catar", str(tree)).err.decode().splitlines() == [line]
    assert line in run("make", "-v", "x.catar", str(tree)).err.decode().splitlines()
    all_of_it = run("make", "--exclude-nodump=no", "--exclude-file=no", "x.catar", str(tree))
    assert all_of_it.err == b""


def test_make_counts_with_a_cache(tree: Path, done: Run) -> None:
    """The counts are the same when most of the tree is known already."""
    for _ in range(3):
        told = json.loads(done("make", "--json", "--cache=cache", "x.caidx", str(tree)).out)
        assert told["excluded"]["exclude_file"] == 3


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_however_the_target_is_written(tree: Path, done: Run, slash: str) -> None:
    """Rules travel down from the top, and a preview names what would really go."""
    done("make", "x.catar", str(tree))
    write(tree, b__more="")
    (tree / "b" / "more").rename(tree / "b" / "more.o")
    write(tree, b__gone="")
    shown = done("extract", "--dry-run", "x.catar", f"{tree}{slash}")
    assert b"gone" in shown.out + shown.err
    done("extract", "x.catar", f"{tree}{slash}")
    assert "b/more.o" in names(tree)
    assert "b/gone" not in names(tree)
    assert b"delete b/more.o" not in shown.out


def test_names_on_the_terminal(tree: Path, run: Run) -> None:
    """With -v as in any message, a name cannot write what it likes on the terminal."""
    (tree / "\x1b]0;title\x07\n").write_text("")
    assert run("make", "x.catar", str(tree)).status == 0
    told = run("extract", "-v", "x.catar", "out")
    assert told.status == 0
    assert b"\x1b" not in told.err
    assert rb"Extracting \x1b]0;title\x07\n" in told.err
