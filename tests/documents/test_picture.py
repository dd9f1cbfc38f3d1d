"""README's picture shows the session that its script plays."""

from __future__ import annotations

import importlib.util
from xml.etree import ElementTree

from documents.pasting import ROOT, command_lines

from casync_compat.cli._verbs import find_command

spec = importlib.util.spec_from_file_location("picture", ROOT / "docs" / "picture.py")
assert spec is not None
assert spec.loader is not None
picture = importlib.util.module_from_spec(spec)
spec.loader.exec_module(picture)


def test_the_picture_is_that_of_the_script() -> None:
    """It is a picture, and what is typed in it is what the script types, with verbs that are there."""
    drawn = ElementTree.parse(ROOT / "docs" / "terminal.svg").getroot()
    typed = [text.text or "" for text in drawn.iter("{http://www.w3.org/2000/svg}text") if text.get("class")]
    assert typed == [f"$ {command}" for command in picture.SESSION]
    for words in command_lines("\n".join(picture.SESSION)):
        assert find_command(words).verb is not None


def test_what_is_seen_of_a_line() -> None:
    """What was drawn over, or cleared, is not there at the end."""
    assert picture.seen("10 %\r20 %\r\x1b[Kdone\r\n\x1b[32mgreen\x1b[0m\r\n") == ["done", "green"]
