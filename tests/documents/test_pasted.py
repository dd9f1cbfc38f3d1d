"""Every example in the documents works as it is pasted, in order, and says what the document says that it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from documents.pasting import ROOT, blocks, command_lines, paste
from interop.registries import free_port, running

from casync_compat.cli._parser import WrongWords
from casync_compat.cli._verbs import find_command, parser_of

PASTED = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
SETTING_UP = (".ci/", "pip install", "apt-get", "systemctl")
"""What changes the machine, and is what has been done before these tests run."""


@pytest.fixture
def ports(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, int]]:
    """Free ports for 8080 and 5000; a registry listens at the second where the document speaks of one."""
    with running(tmp_path / "registry") as registry:
        yield {"8080": free_port(), "5000": int(registry.host.partition(":")[2])}


@pytest.mark.parametrize(
    "name", [name for name in PASTED if any(b.kind == "sh" for b in blocks(ROOT / name))]
)
def test_examples_work_as_pasted(name: str, tmp_path: Path, ports: dict[str, int]) -> None:
    """One shell takes every block; where a block of output follows, its lines are in what was printed."""
    place = tmp_path / "place"
    place.mkdir()
    for pasted in paste(ROOT / name, place, ports, SETTING_UP):
        lines = iter(pasted.printed.splitlines())
        for expected in pasted.expected:
            assert any(line.startswith(expected) for line in lines), (
                f"{expected!r} is not in:\n{pasted.printed}"
            )


@pytest.mark.parametrize("name", [*PASTED, "CONTRIBUTING.md"])
def test_command_lines_are_understood(name: str) -> None:
    """Each verb and option that a block names is there, also in blocks that are forms to fill in."""
    for block in blocks(ROOT / name):
        if block.kind not in ("sh", "shell", "ini", "desktop"):
            continue
        for words in command_lines(block.text):
            if words[0] == "VERB":
                continue
            try:
                command = find_command(words)
                assert command.verb is not None, words
                parser = parser_of(command.group, command.verb)
                known = {word.partition("=")[0] for word in parser.takes_value}
            except WrongWords as error:
                pytest.fail(f"{name}: {' '.join(words)}: {error}")
            for option in command.options:
                if option.startswith("--"):
                    assert option.partition("=")[0] in known, f"{name}: {' '.join(words)}: {option}"
