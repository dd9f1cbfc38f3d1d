"""Makes `docs/terminal.svg`, README's picture of a first session: real commands, and what they say on a terminal.

    python docs/picture.py        # with `pycasync` in PATH, from the top of the checkout

Only what stays on the screen is drawn: a progress bar that was cleared is not. Nothing moves in it.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from fcntl import ioctl
from html import escape
from pathlib import Path
from termios import TIOCSWINSZ

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, ROWS = 96, 40
SESSION = (
    "pycasync make docs.caidx work",
    "du -sh work default.castr",
    "echo changed >>work/adr/README.md",
    "pycasync make docs-2.caidx work",
    "pycasync extract -n docs-2.caidx old",
    "pycasync verify default.castr",
    "pycasync delta docs.caidx docs-2.caidx -o update.patch",
    "pycasync cat docs-2.caidx adr/README.md | tail -n 1",
)
"""What is typed, where `work` is a copy of `docs` and `old` what it was before the change."""

_LINE, _WIDTH, _LEFT = 18, 8.4, 14
"""Pixels: from a line to the next, of a character, and what is free to the left."""


def on_a_terminal(command: str, directory: Path) -> list[str]:
    """Run a command of a shell on a pseudo-terminal; the lines that are to be seen there at its end."""
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environ = os.environ | {"TERM": "xterm", "HOME": str(directory)}
    running = subprocess.Popen(
        ["sh", "-c", command],
        cwd=directory,
        env=environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:
        pass  # how Linux says that nobody has the terminal open any more
    os.close(ours)
    if running.wait():
        raise SystemExit(f"{command}: status {running.returncode}: {said.decode(errors='replace')}")
    return seen(said.decode(errors="replace"))


def seen(said: str) -> list[str]:
    """What remains on the screen: a carriage return goes to the start of the line, and `ESC [ K` clears from there."""
    lines = []
    for line in said.replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part)
            shown = text if "\x1b[K" in part or "\x1b[2K" in part else text + shown[len(text) :]
        lines.append(shown.rstrip())
    while lines and not lines[-1]:
        lines.pop()
    return lines


def svg(lines: list[str]) -> str:
    """A picture of lines, those with `$` before them as typed."""
    folded = [line[at : at + COLUMNS] for line in lines for at in range(0, max(len(line), 1), COLUMNS)]
    width, height = round(COLUMNS * _WIDTH + 2 * _LEFT), len(folded) * _LINE + 48
    drawn = []
    for number, line in enumerate(folded):
        kind = ' class="typed"' if line.startswith("$ ") else ""
        drawn.append(f'<text x="{_LEFT}" y="{number * _LINE + 48}"{kind}>{escape(line)}</text>')
    dots = "".join(f'<circle cx="{18 + 18 * n}" cy="16" r="5" fill="#565f70"/>' for n in range(3))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="A first session with pycasync">\n'
        "<style>text{font:14px monospace;fill:#d7dce5;white-space:pre}.typed{fill:#8fd18f}</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#1c212b"/>{dots}\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def main() -> None:
    """Play the session in a directory of its own, and draw it."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        shutil.copytree(ROOT / "docs", place / "work", ignore=shutil.ignore_patterns("*.svg", "__pycache__"))
        shutil.copytree(place / "work", place / "old")
        lines: list[str] = []
        for command in SESSION:
            lines += [f"$ {command}", *on_a_terminal(command, place)]
    (ROOT / "docs" / "terminal.svg").write_text(svg(lines))


if __name__ == "__main__":
    sys.exit(main())
