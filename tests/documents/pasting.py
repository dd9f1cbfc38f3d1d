"""Runs what documents tell their readers to type, in the order in which it stands there.

In a document, a block of `sh` is pasted as it is, one of `python` is run where the shell is then, and a block of
`text` says what comes out of the one before it: each of its lines begins a line of the output, in that order. A block
of `shell` is a form to fill in (a host, a device): its words are checked and not run.

What is changed: the ports 8080 and 5000, which somebody else may have, and `sleep`, by which a reader waits for a
server: here it lasts until that listens.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ROOT", "Block", "Pasted", "blocks", "command_lines", "paste"]

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "== block"
_SECONDS = 120
_SLEEP = "sleep() {{ until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>&-; do command sleep 0.05; done; }}"


@dataclass(frozen=True)
class Block:
    """What is between two fences.

    :ivar kind: `sh`, `shell`, `python`, `text`, ...
    """

    kind: str
    text: str


@dataclass
class Pasted:
    """A block that was run.

    :ivar expected: lines that the document says come out
    :ivar printed: what came
    """

    block: Block
    expected: list[str] = field(default_factory=list)
    printed: str = ""


def blocks(document: Path) -> list[Block]:
    """All blocks of a document."""
    return [Block(*found) for found in _FENCE.findall(document.read_text())]


def command_lines(text: str, program: str = "pycasync") -> Iterator[list[str]]:
    """The words of each command line of `program` in a block, without what the shell itself takes."""
    for line in text.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(line, posix=True, punctuation_chars=True)
        reader.commenters = "#"
        reader.wordchars += ":=%@{}[]$!,^"
        words: list[str] = []
        for word in [*reader, ";"]:
            if set(word) <= set("();<>|&") and word:
                if words[:1] == [program]:
                    yield words[1:]
                words = ["", ""] if set(word) <= set("<>") else []  # what follows names a file
            elif words or word == program:
                words.append(word)
            elif word not in ("sudo", "exec", "time"):
                words = [""]


def paste(document: Path, place: Path, ports: dict[str, int], skip: tuple[str, ...] = ()) -> list[Pasted]:
    """Paste all blocks into one shell, in the checkout; what each printed.

    :param place: directory for what is temporary, and the home
    :param ports: what stands for 8080 and 5000
    :param skip: blocks with one of these words are passed over
    :raises AssertionError: a command failed
    """
    pasted: list[Pasted] = []
    for block in blocks(document):
        if block.kind == "text" and pasted:
            pasted[-1].expected.extend(block.text.splitlines())
        elif block.kind in ("sh", "python") and not any(word in block.text for word in skip):
            pasted.append(Pasted(block))
    script = [
        _SLEEP.format(port=ports["8080"]),
        "set -eu -o pipefail; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
    ]
    for number, each in enumerate(pasted):
        text = each.block.text
        for port, other in ports.items():
            text = re.sub(rf":{port}\b", f":{other}", text)
        if each.block.kind == "python":
            (place / f"block{number}.py").write_text(text)
            text = f"{sys.executable} {place}/block{number}.py"
        script.append(f"echo '{_MARK} {number}'\n{text}")
    (place / "tmp").mkdir()
    environ = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(place),
        "TMPDIR": str(place / "tmp"),
        "PYTHONSAFEPATH": "1",
        "LC_ALL": "C.UTF-8",
    }
    running = subprocess.Popen(
        ["bash", "-c", "\n".join(script)],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = running.communicate(timeout=_SECONDS)
    finally:
        with suppress(ProcessLookupError):  # nothing is left
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0, said
    parts = re.split(rf"^{_MARK} \d+\n", said, flags=re.MULTILINE)[1:]
    assert len(parts) == len(pasted), said
    for each, part in zip(pasted, parts, strict=True):
        each.printed = part
    return pasted
