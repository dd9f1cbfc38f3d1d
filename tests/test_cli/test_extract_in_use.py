"""`extract` over what it reads: standard input and a cache are spared, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import Run

KINDS = pytest.mark.parametrize("suffix", ["catar", "caidx"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a").write_bytes(b"a")
    (tree / "sub" / "b").write_bytes(b"b")
    return tree


def _words(suffix: str) -> list[str]:
    return ["--what=archive-index", "--store=x.castr"] if suffix == "caidx" else []


@KINDS
@pytest.mark.parametrize("where", ["x", "old/deep/x"])
def test_standard_input_is_not_deleted(tree: Path, ok: Run, run: Run, suffix: str, where: str) -> None:
    """What standard input comes from is left alone below the target, as a file that is named is."""
    ok("make", f"x.{suffix}", tree, "--store=x.castr")
    at = Path("out") / where
    at.parent.mkdir(parents=True)
    os.rename(f"x.{suffix}", at)
    (Path("out") / "unwanted").touch()
    result = run("extract", *_words(suffix), "-", "out", stdin=at)
    assert result.status == 0
    assert b"in use, and not deleted: out/" in result.err
    assert at.exists()
    assert (Path("out") / "sub" / "b").read_bytes() == b"b"
    assert not (Path("out") / "unwanted").exists()


@KINDS
def test_standard_input_is_not_replaced(tree: Path, ok: Run, run: Run, suffix: str) -> None:
    """Where the archive has an entry of that name, nothing is changed at all."""
    (tree / "z").write_bytes(b"me")
    ok("make", f"x.{suffix}", tree, "--store=x.castr")
    at = Path("out") / "z"
    at.parent.mkdir()
    os.rename(f"x.{suffix}", at)
    data = at.read_bytes()
    (Path("out") / "unwanted").touch()
    result = run("extract", *_words(suffix), "-", "out", stdin=at)
    assert result.status == 1
    assert b"it is in use" in result.err
    assert at.read_bytes() == data
    assert sorted(os.listdir("out")) == ["unwanted", "z"]


@pytest.mark.parametrize("words", [("--cache=out/c",), ("-c",)])
def test_a_cache_is_not_deleted(
    tree: Path, ok: Run, run: Run, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that is named on the command line keeps its files, and so does the user's own."""
    Path("out").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("out").absolute()))
    ok("make", "x.caidx", *words, tree)
    held = sorted(path for path in Path("out").rglob("*") if path.is_file())
    assert held
    result = run("extract", *words, "x.caidx", "out")
    assert result.status == 0
    assert b"in use, and not deleted: out/" in result.err
    assert [path for path in held if not path.exists()] == []


def test_other_names_of_an_index(tree: Path, ok: Run, run: Run) -> None:
    """A hard link to the index survives in any depth, and what lies beside it does not."""
    ok("make", "x.caidx", tree)
    deep = Path("out") / "one" / "two"
    deep.mkdir(parents=True)
    os.link("x.caidx", deep / "link")
    (deep / "beside").touch()
    (Path("out") / "other").mkdir()
    result = run("extract", "x.caidx", "out")
    assert result.status == 0
    assert sorted(path.name for path in Path("out").rglob("*")) == ["a", "b", "link", "one", "sub", "two"]


@pytest.mark.parametrize("below", ["", "deep"])
def test_a_target_that_is_in_use_itself(tree: Path, ok: Run, run: Run, below: str) -> None:
    """A store, or a directory in one, as target: nothing in it goes, what the archive has is added; that is said."""
    ok("make", "x.caidx", tree, "--store=x.castr")
    target = Path("x.castr") / below
    target.mkdir(exist_ok=True)
    (target / "other").touch()
    before = {path for path in Path("x.castr").rglob("*") if path.is_file()}
    result = run("extract", "--store=x.castr", "x.caidx", str(target))
    assert result.status == 0
    assert b"in use, and nothing in it deleted: " + os.fsencode(target) in result.err
    assert [path for path in before if not path.exists()] == []
    assert (target / "sub" / "b").read_bytes() == b"b"
