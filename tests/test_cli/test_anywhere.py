"""Options anywhere on the command line: before the verb, before and after a group's name, behind all else."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casync_compat.cli import _verbs, oci
from casync_compat.cli._verbs import Command

from .conftest import Run

ALL = [("", verb) for verb in _verbs.VERBS] + [("oci", verb) for verb in oci.VERBS]
VALUES = ("x", "", "list", "oci", "ls", "cat", "gc", "--", "-v")
"""Names of verbs among them, which must not be taken for the verb."""


@cache
def options_of(group: str, verb: str) -> dict[str, bool]:
    """All options that a verb takes, and whether they take a value."""
    return _verbs.parser_of(group, verb).takes_value


for _group, _verb in ALL:
    options_of(_group, _verb)  # loads all modules, which takes a while, before examples are made


@st.composite
def lines(draw: st.DrawFn) -> tuple[list[str], Command]:
    """A command line with options strewn over it, and what it means."""
    group, verb = draw(st.sampled_from(ALL))
    takes_value = options_of(group, verb)
    arguments = draw(st.lists(st.sampled_from(("a", "", "-", "cat", "oci")), max_size=3))
    words: list[list[str]] = [[word] for word in (group, verb) if word] + [[word] for word in arguments]
    options: list[list[str]] = []
    for flag in draw(st.lists(st.sampled_from(sorted(takes_value)), max_size=3, unique=True)):
        value = draw(st.sampled_from(VALUES))
        if not takes_value[flag]:
            options.append([flag])
        elif draw(st.booleans()):
            options.append([flag, value])
        else:
            options.append([f"{flag}={value}" if flag.startswith("--") else f"{flag}{value or 'x'}"])
    places = sorted(draw(st.integers(0, len(words))) for _ in options)
    for place, option in reversed(list(zip(places, options, strict=True))):
        words.insert(place, option)
    return list(chain(*words)), Command(group, verb, list(chain(*options)), arguments)


@given(lines())
@settings(deadline=None)
def test_same_meaning_at_every_position(line: tuple[list[str], Command]) -> None:
    """Wherever options stand, verb, arguments and options are the same, and so is all that is made of them."""
    words, meant = line
    assert _verbs.find_command(words) == meant


@pytest.mark.parametrize(
    "words",
    [
        "-l debug oci ls oci:a",
        "-ldebug oci ls oci:a",
        "--log-level debug oci ls oci:a",
        "oci --log-level=debug ls oci:a",
        "oci -l debug ls oci:a",
        "oci ls -l debug oci:a",
        "oci ls oci:a --log-level debug",
        "--platform linux/arm64 -l debug oci ls oci:a",
        "--platform linux/arm64 oci --creds me:secret ls -l debug oci:a",
        "--recursive -l debug oci ls oci:a",
        "-vR oci -l debug ls oci:a",
        "--store ls oci -l debug ls oci:a",
    ],
)
def test_images(run: Run, words: str) -> None:
    """The verbs of images take options in front of all words, and between them."""
    result = run(*words.split())
    lines = result.err.decode().splitlines()
    assert result.status == 1
    assert any(line.startswith("Traceback") for line in lines)
    assert lines[-1] == "pycasync: oci:a: there is no image layout here"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--nonsense oci ls oci:a", "unrecognized arguments: --nonsense; see `pycasync oci ls --help`"),
        ("--delete=no oci ls oci:a", "unrecognized arguments: --delete=no; see `pycasync oci ls --help`"),
        ("--platform x oci covert", "unknown verb 'oci covert'; did you mean convert?"),
        ("--creds x oci", "no verb given; see `pycasync oci --help`"),
        ("x oci ls", "unknown verb 'x'; see `pycasync --help` for all there are"),
    ],
)
def test_what_makes_no_sense(fails: Callable[..., str], words: str, says: str) -> None:
    """Options that a verb does not have, and verbs that do not exist, are told as such wherever they stand."""
    assert fails(*words.split()) == says


@pytest.mark.parametrize(
    "words", ["oci ls --help", "--help oci ls", "oci -h ls", "help oci ls", "oci ls x -h"]
)
def test_help_on_images(ok: Run, words: str) -> None:
    """Help on a verb of a group comes wherever the option stands."""
    assert ok(*words.split()).out.startswith(b"usage: pycasync oci ls ")
