"""`extract` over a tree that is there: what it says of it, what it fetches, and a blob's output."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from .conftest import Run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "inner").write_bytes(b"inner")
    (tree / "file").write_bytes(os.urandom(500_000))
    (tree / "link").symlink_to("file")
    return tree


def counts(text: bytes) -> tuple[int, ...]:
    told = json.loads(text)
    return tuple(told[key] for key in ("created", "updated", "unchanged", "removed"))


@pytest.mark.parametrize("suffix", ["catar", "caidx"])
def test_counts(tree: Path, tmp_path: Path, ok: Run, run: Run, suffix: str) -> None:
    """`--json` says what became of the entries: five of them, and one more that is removed in the end."""
    made, out = tmp_path / f"x.{suffix}", tmp_path / "out"
    ok("make", str(made), str(tree))
    command = ("extract", "--json", str(made), str(out))
    assert counts(ok(*command).out) == (5, 0, 0, 0)
    assert counts(ok(*command).out) == (0, 0, 5, 0)
    (out / "sub" / "inner").chmod(0o600)
    assert counts(ok(*command).out) == (0, 1, 4, 0)
    (out / "sub" / "inner").unlink()
    assert counts(ok(*command).out) == (1, 1, 3, 0)
    (out / "sub" / "more").write_bytes(b"")
    assert counts(run(*command).out) == (0, 1, 4, 1)


@pytest.mark.parametrize("compare", ["content", "metadata"])
def test_nothing_is_fetched_for_what_is_there(tree: Path, tmp_path: Path, ok: Run, compare: str) -> None:
    """An update of a current tree needs no store at all."""
    made, out = tmp_path / "x.caidx", tmp_path / "out"
    ok("make", str(made), str(tree))
    ok("extract", str(made), str(out))
    before = (out / "file").stat()
    for path in (tmp_path / "default.castr").iterdir():
        shutil.rmtree(path)
    ok("extract", f"--compare={compare}", str(made), str(out))
    after = (out / "file").stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_compare_by_metadata(tree: Path, tmp_path: Path, ok: Run) -> None:
    """`--compare=metadata` takes a file's word for its contents; the default does not."""
    made, out = tmp_path / "x.catar", tmp_path / "out"
    ok("make", str(made), str(tree))
    ok("extract", str(made), str(out))
    st = (out / "file").stat()
    (out / "file").write_bytes(bytes(500_000))
    os.utime(out / "file", ns=(st.st_atime_ns, st.st_mtime_ns))
    ok("extract", "--compare=metadata", str(made), str(out))
    assert (out / "file").read_bytes() == bytes(500_000)
    ok("extract", str(made), str(out))
    assert (out / "file").read_bytes() == (tree / "file").read_bytes()


def test_unknown_comparison(tree: Path, tmp_path: Path, run: Run) -> None:
    """A word that is neither is refused, with those that are."""
    result = run("extract", "--compare=mtime", str(tmp_path / "x.catar"), str(tmp_path / "out"))
    assert result.status != 0
    assert b"neither content nor metadata" in result.err


def test_hard_links_to_a_seed_stay(tree: Path, tmp_path: Path, ok: Run) -> None:
    """With hard links a second run finds every link as it is, and touches nothing."""
    made, out = tmp_path / "x.caidx", tmp_path / "out"
    ok("make", str(made), str(tree))
    command = ("extract", "--hardlink=yes", f"--seed={tree}", "--json", str(made), str(out))
    ok(*command)
    assert (out / "file").samefile(tree / "file")
    before = (out / "file").stat().st_ctime_ns
    assert counts(ok(*command).out) == (0, 0, 5, 0)
    assert (out / "file").samefile(tree / "file")
    assert (out / "file").stat().st_ctime_ns == before


def test_a_blob_does_not_become_a_directory(tmp_path: Path, ok: Run, run: Run) -> None:
    """Neither a file named like the directory that was meant is made, nor is a directory replaced."""
    (tmp_path / "blob").write_bytes(b"blob")
    made = tmp_path / "x.caibx"
    ok("make", str(made), str(tmp_path / "blob"))
    (tmp_path / "there").mkdir()
    for output in ("new/", "there", "there/", "."):
        result = run("extract", str(made), os.path.join(tmp_path, output))
        assert result.status == 1
        assert b"directory" in result.err
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "there").iterdir()) == []


def test_what_no_archive_has_is_removed_from_a_current_tree(
    tree: Path, tmp_path: Path, ok: Run, run: Run
) -> None:
    """Something that the archive cannot hold is no part of it, and goes, although all else is as recorded."""
    made, out = tmp_path / "x.caidx", tmp_path / "out"
    ok("make", "--without=fifos", str(made), str(tree))
    ok("extract", str(made), str(out))
    st = out.stat()
    os.mkfifo(out / "pipe")
    os.utime(out, ns=(st.st_atime_ns, st.st_mtime_ns))
    assert counts(run("extract", "--json", str(made), str(out)).out)[3] == 1
    assert not (out / "pipe").exists()


def test_times_in_whole_seconds_are_restored_as_such(tree: Path, tmp_path: Path, ok: Run) -> None:
    """A time that differs in what the archive does not record is not the recorded one."""
    made, out = tmp_path / "x.caidx", tmp_path / "out"
    ok("make", "--without=nsec-time", "--with=sec-time", str(made), str(tree))
    ok("extract", str(made), str(out))
    os.utime(out / "file", ns=(0, (out / "file").stat().st_mtime_ns + 5))
    ok("extract", str(made), str(out))
    assert (out / "file").stat().st_mtime_ns % 1_000_000_000 == 0


def test_names_are_listed_all_the_same(tree: Path, tmp_path: Path, ok: Run, run: Run) -> None:
    """With `-v` every entry of a current tree is named, and what became of them is said."""
    made, out = tmp_path / "x.caidx", tmp_path / "out"
    ok("make", str(made), str(tree))
    ok("extract", str(made), str(out))
    told = run("extract", "-v", str(made), str(out)).err.decode()
    assert "Extracting sub/inner" in told
    assert "created: 0, updated: 0, unchanged: 5" in told


@pytest.mark.parametrize("change", ["contents", "another file", "nothing"])
def test_large_files_are_not_read_for_their_metadata(
    tree: Path, tmp_path: Path, ok: Run, run: Run, change: str
) -> None:
    """`--compare=metadata` over an index reads what it needs of the target, and gets the rest right all the same."""
    made, out = tmp_path / "x.caidx", tmp_path / "out"
    ok("make", str(made), str(tree))
    ok("extract", str(made), str(out))
    if change == "contents":
        (out / "sub" / "inner").write_bytes(b"INNER")
    elif change == "another file":
        (out / "sub" / "more").write_bytes(bytes(100))
    before = (out / "file").stat()
    # What is in the middle of a file is not looked at.
    with (out / "file").open("r+b") as file:
        file.seek(250_000)
        file.write(b"changed in the middle")
    os.utime(out / "file", ns=(before.st_atime_ns, before.st_mtime_ns))
    told = counts(run("extract", "--json", "--compare=metadata", str(made), str(out)).out)
    assert told == {"contents": (0, 2, 3, 0), "another file": (0, 1, 4, 1), "nothing": (0, 0, 5, 0)}[change]
    assert (out / "sub" / "inner").read_bytes() == b"inner"
    assert b"changed in the middle" in (out / "file").read_bytes()
    ok("extract", str(made), str(out))
    assert (out / "file").read_bytes() == (tree / "file").read_bytes()
