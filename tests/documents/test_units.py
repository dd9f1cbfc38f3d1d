"""systemd takes the sample units, and finds them well closed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents.pasting import ROOT, command_lines
from filesystems import lacking

from casync_compat.cli._verbs import find_command, parser_of

UNITS = sorted((ROOT / "systemd").glob("*.*"), key=lambda path: path.name)
UNITS = [path for path in UNITS if path.suffix in (".service", ".socket", ".timer")]
EXPOSURE = {"pycasync-mount@.service": 70}
"""Tenths of systemd's points, of which ten is wide open; others have 40. Who mounts for all needs what root needs."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units with the program where it is here; those of no instance are given one."""
    if shutil.which("systemd-analyze") is None:
        lacking("systemd-analyze is not installed; .ci/setup installs it")
    for unit in UNITS:
        text = unit.read_text().replace(
            "/usr/local/bin/pycasync", str(Path(sys.executable).with_name("pycasync"))
        )
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_systemd_understands_them(installed: Path) -> None:
    """`systemd-analyze verify` has nothing to say."""
    assert len(UNITS) >= 6
    names = [str(installed / unit.name.replace("@.", "@home.")) for unit in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("unit", [unit.name for unit in UNITS if unit.suffix == ".service"])
def test_they_are_hardened(installed: Path, unit: str) -> None:
    """`systemd-analyze security` finds little that is open."""
    limit = EXPOSURE.get(unit, 40)
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={limit}", str(installed / unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


@pytest.mark.parametrize(
    "unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name
)
def test_their_commands_are_understood(unit: Path) -> None:
    """Verbs and options are there."""
    started = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    assert started
    for line in started:
        inner = line.partition("/usr/local/bin/")[2].rstrip("'")
        (words,) = command_lines(inner)
        command = find_command(words)
        assert command.verb is not None
        parser = parser_of(command.group, command.verb)
        for option in command.options:
            assert option.partition("=")[0] in parser.takes_value, option
