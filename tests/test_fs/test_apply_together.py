"""Names that fall together where the target ignores case: both are told, the first stays, nothing else is lost."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from applying import Item, apply, d, f, leftovers, link, listing, special
from grounds import Grounds

from casync_compat.errors import FileError
from casync_compat.fs import together
from casync_compat.fs.apply import placing
from casync_compat.streams.transfer import OrderedPool

Told = Callable[[Path, Item], tuple[list[str], FileError]]


def _apply(target: Path, top: Item, threads: int = 0, **options: bool) -> tuple[list[str], FileError]:
    """Write a tree in which names fall together; what was told, and the error in the end."""
    warnings: list[str] = []
    with pytest.raises(FileError) as caught:
        if threads:
            with OrderedPool(threads, depth=1) as pool:
                apply(target, top, pool=pool, warnings=warnings, **options)
        else:
            apply(target, top, warnings=warnings, **options)
    return warnings, caught.value


KINDS = ("nocase", "nocase-open")
"""On the second, no directory is our own."""


@pytest.fixture(params=[f"{kind} {where}" for kind in KINDS for where in ("missing", "existing", "within")])
def target(request: pytest.FixtureRequest, ground: Grounds) -> tuple[Path, Path]:
    """What is written to, and where in it the names are: a new directory, one that is there, a new one in that."""
    kind, where = request.param.split()
    at = ground("out", kind)
    if where == "missing":
        return at / "new", at / "new"
    return at, (at / "sub" if where == "within" else at)


def _tree(target: tuple[Path, Path], *children: Item) -> Item:
    """The children in the directory that is meant."""
    if target[0] == target[1]:
        return d(b"", *children)
    return d(b"", d(b"sub", *children))


def _lower(at: Path) -> dict[str, str]:
    return {name.lower(): contents for name, contents in listing(at).items()}


@pytest.mark.root
@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("probed", [True, False])
def test_files(
    target: tuple[Path, Path], threads: int, probed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two files stays, both are named, and everything else is there."""
    one, other = b"README", b"readme"
    if (
        not probed
    ):  # as on a file system whose ways the probe does not know, and that lists names as they were written
        monkeypatch.setattr(placing, "folds", lambda fd, temporary: False)
        one, other = other, one
    top = _tree(target, f(one, b"first"), f(b"other", b"more"), f(other, b"second"), f(b"z" * 9, b"9"))
    warnings, error = _apply(target[0], top, threads)
    assert _lower(target[1]) == {"readme": "first", "other": "more", "zzzzzzzzz": "9"}
    assert leftovers(target[0]) == []
    assert any("/README" in line and "/readme" in line for line in warnings), warnings
    assert f"/{one.decode()}" in str(error)
    assert error.path == os.fsencode(target[1]) + b"/" + other


@pytest.mark.root
def test_all_kinds(target: tuple[Path, Path]) -> None:
    """Whatever the two are: the first stays."""
    kinds: dict[str, Callable[[bytes], Item]] = {
        "f": lambda name: f(name, b"contents " + name),
        "l": lambda name: link(name, b"target-" + name),
        "d": lambda name: d(name, f(b"in-" + name, b"inner")),
        "p": lambda name: special(name, stat.S_IFIFO),
    }
    pairs = [(a, b) for a in kinds for b in kinds if a + b != "dd"]
    firsts = [kinds[a](f"{a}{b}-A".encode()) for a, b in pairs]
    seconds = [kinds[b](f"{a}{b}-a".encode()) for a, b in pairs]
    warnings, _ = _apply(target[0], _tree(target, *firsts, *seconds, f(b"last", b"of all")))
    found = _lower(target[1])
    assert found.pop("last") == "of all"
    expected = {}
    for a, b in pairs:
        name = f"{a}{b}-A"
        inner = {"f": f"contents {name}", "l": f"-> target-{name}", "d": "/", "p": "p"}[a]
        expected[name.lower()] = inner
        if a == "d":
            expected[f"{name}/in-{name}".lower()] = "inner"
    assert found == expected
    for a, b in pairs:
        assert any(f"/{a}{b}-A and " in line and f"/{a}{b}-a are" in line for line in warnings)


@pytest.mark.root
@pytest.mark.parametrize("again", [False, True])
def test_directories_become_one(target: tuple[Path, Path], again: bool) -> None:
    """What is in two directories goes into one, where nothing that the first has is replaced or deleted."""
    top = _tree(
        target,
        d(b"Dir", f(b"Same", b"first"), f(b"one", b"1"), d(b"Sub", f(b"x", b"x"))),
        d(
            b"dir",
            f(b"same", b"second"),
            f(b"two", b"2"),
            d(b"sub", f(b"y", b"y"), f(b"X", b"no")),
            d(b"new"),
        ),
        f(b"end"),
    )
    for _ in range(1 + again):
        warnings, _ = _apply(target[0], top)
        # By the names that were written: lowntfs-3g forgets other spellings of a file that was replaced.
        written = {
            "Dir/Same": "first",
            "Dir/one": "1",
            "Dir/Sub/x": "x",
            "dir/two": "2",
            "dir/sub/y": "y",
            "end": "",
        }
        assert {name: (target[1] / name).read_text() for name in written} == written
        assert sorted(map(str.lower, os.listdir(target[1] / "Dir"))) == ["new", "one", "same", "sub", "two"]
        for one, other in (
            ("Dir", "dir"),
            ("Dir/Same", "dir/same"),
            ("Dir/Sub", "dir/sub"),
            ("Dir/Sub/x", "dir/sub/X"),
        ):
            assert any(f"/{one} and " in line and f"/{other} are" in line for line in warnings), (
                one,
                warnings,
            )


@pytest.mark.root
def test_nothing_that_was_written_is_deleted(ground: Grounds) -> None:
    """A directory that lists names in lower case has what was written, and loses what the archive does not have."""
    target = ground("out", "nocase")
    (target / "Old").write_text("old")
    (target / "readme").write_text("before")
    (target / "Kept").mkdir()
    (target / "Kept" / "Inner").write_text("before")
    (target / "Kept" / "Gone").write_text("before")
    top = d(b"", d(b"KEPT", f(b"inner", b"new")), f(b"README", b"now"))
    assert not any("name" in line for line in apply(target, top))
    assert (target / "README").read_text() == "now"
    assert (target / "KEPT" / "inner").read_text() == "new"
    assert [sorted(map(str.lower, os.listdir(at))) for at in (target, target / "KEPT")] == [
        ["kept", "readme"],
        ["inner"],
    ]


@pytest.mark.root
def test_hard_links_are_names_of_their_own(ground: Grounds) -> None:
    """Two names of one inode in the target are two names, whatever case they have."""
    for kind in ("ext4", "nocase"):
        target = ground("out", kind)
        (target / "a").write_text("old")
        os.link(target / "a", target / "B")
        os.link(target / "a", target / "c")
        top = d(b"", f(b"B", b"two"), f(b"a", b"one"))
        assert not any("name" in line for line in apply(target, top))
        assert _lower(target) == {"a": "one", "b": "two"}


def test_what_is_written_under_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names fall together by their inode, whatever the reason is."""
    target = tmp_path / "out"
    target.mkdir()
    real = together.key_of

    def key_of(directory_fd: int, name: bytes) -> tuple[together.InodeKey, os.stat_result] | None:
        return real(directory_fd, b"README" if name == b"other spelling" else name)

    monkeypatch.setattr(together, "key_of", key_of)
    monkeypatch.setattr(placing, "key_of", key_of)
    warnings, error = _apply(target, d(b"", f(b"README", b"first"), f(b"other spelling", b"second")))
    assert listing(target) == {"README": "first"}
    assert "README and " in warnings[0]
    assert "other spelling" in warnings[0]
    assert error.path == os.fsencode(target / "other spelling")


@pytest.mark.root
def test_many_are_counted(ground: Grounds) -> None:
    """A line for each up to twenty, and the number in the end."""
    target = ground("out", "nocase")
    upper = [f(b"A%d" % n) for n in range(30)]
    lower = [f(b"a%d" % n) for n in range(30)]
    warnings, error = _apply(target, d(b"", *upper, *lower))
    assert sum("/A" in line and "/a" in line for line in warnings) == 20
    assert "29 more" in str(error)
