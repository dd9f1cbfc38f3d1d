"""What a key in authorized_keys may reach: paths beneath a directory, and words that are only read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casync_compat.cli._asked import VARIABLE, Wish, asked
from casync_compat.errors import FileError, UsageError
from casync_compat.locations.beneath import OutsideRoot, Root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "root-too").mkdir()
    (root / "within").symlink_to("deep")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "new-out").symlink_to(tmp_path / "outside" / "new")
    (root / "loop").symlink_to("loop")
    return root


@pytest.mark.parametrize(
    ("name", "leads"),
    [
        ("x", "x"),
        ("~/x", "x"),
        ("deep/../x", "x"),
        ("within/x", "deep/x"),
        ("{root}/deep/x", "deep/x"),
        ("http://host/x", "http:/host/x"),
        ("host:/x", "host:/x"),
        ("a|b", "a|b"),
        ("-x", "-x"),
    ],
)
def test_beneath(root: Path, name: str, leads: str) -> None:
    """Paths are taken from the directory, or lead there; what looks like a locator is a path as well."""
    assert Root(str(root)).path(name.format(root=root)) == os.fsencode(root / leads)


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "{root}",
        "../outside/x",
        "{root}-too/x",
        "{root}/../outside",
        "out",
        "out/x",
        "new-out",
        "within/../out/x",
        "within/../../outside/x",
        "/etc/passwd",
        "/",
        "//etc",
        "x\0y",
    ],
)
def test_outside(root: Path, name: str) -> None:
    """No path leads elsewhere: not by dots, nor by links, nor by a name that begins alike."""
    with pytest.raises(OutsideRoot):
        Root(str(root)).path(name.format(root=root))


def test_root_by_a_link(root: Path) -> None:
    """The directory itself may be named by a link; one that is not there is an error."""
    assert Root(str(root / "within")).path("x") == os.fsencode(root / "deep" / "x")
    with pytest.raises(FileError):
        Root(str(root / "none"))


@pytest.mark.parametrize(
    ("command", "wish"),
    [
        ("casync pull - - x.caidx x.castr", Wish("pull", None, "x.caidx", ("x.castr",))),
        ("casync push - x.catar - -", Wish("push", "x.catar", None, ())),
        ("casync pull - - - '/with space'", Wish("pull", None, None, ("/with space",))),
        ("casync --rate-limit-bps=1M pull - - - a b", Wish("pull", None, None, ("a", "b"), "1M")),
        ("/opt/pycasync pull - - - $HOME", Wish("pull", None, None, ("$HOME",))),
    ],
)
def test_what_clients_ask_for(command: str, wish: Wish) -> None:
    """The words of casync's and desync's clients are understood, and stand for themselves."""
    assert asked("pull", [], {VARIABLE: command}) == wish


@pytest.mark.parametrize(
    "command",
    [
        "",
        "cat /etc/passwd",
        "pull",
        "casync pull",
        "casync pull - - -",
        "casync pull - - - -",
        "casync pull /etc - - -",
        "casync pull - a b c",
        "casync --root=/ pull - - - x",
        "casync pull - - - 'x",
        "casync " + "x" * (1 << 17),
    ],
)
def test_what_makes_no_sense(command: str) -> None:
    """Anything else is refused in a line."""
    with pytest.raises(UsageError):
        asked("pull", [], {VARIABLE: command})


def test_words_of_the_command_go_first() -> None:
    """Where the key's command says what to serve, the client's words are not looked at."""
    words = ["-", "-", "x.caidx", "x.castr"]
    assert asked("pull", words, {VARIABLE: "cat /etc/passwd"}) == Wish("pull", None, "x.caidx", ("x.castr",))
