"""How the rows of README.md are tried: the real command line, run from the outside, and trees compared to the bit."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from archives import Step, encode
from robustness.running import Outcome, Word, run, works

from catar import Node

__all__ = ["archive_of", "complete", "file", "restored", "said", "top"]

SECOND = 1_000_000_000


def said(outcome: Outcome) -> str:
    """What a run said on standard error, whole."""
    text = outcome.err.decode("utf-8", "surrogateescape")
    assert "Traceback" not in text, outcome
    assert "internal error" not in text, outcome
    return text


def complete(*words: Word, cwd: Path) -> str:
    """A run with status 0 that may warn. Returns what it said."""
    outcome = run(*words, cwd=cwd)
    assert outcome.status == 0, outcome
    return said(outcome)


def restored(
    tree: Path, at: Path, *options: str, suffix: str = "caidx", name: str = "out", kept: str = ""
) -> Path:
    """Archive a tree and extract it again, both without a complaint. Returns the new tree.

    :param options: of the extraction
    :param kept: what `make` says it kept out, if it does
    """
    line = complete("make", f"{name}.{suffix}", tree, cwd=at)
    assert line == (f"pycasync: kept out of the archive: {kept}\n" if kept else "")
    works("extract", f"{name}.{suffix}", name, *options, cwd=at)
    return at / name


def top(mode: int = 0o755) -> Node:
    """The top directory of an archive made by hand."""
    return Node(b"", stat.S_IFDIR | mode, uid=os.geteuid(), gid=os.getegid(), mtime=SECOND)


def file(name: bytes, **fields: object) -> Node:
    """A regular file of an archive made by hand; its owner is whoever runs the test."""
    return Node(
        name,
        stat.S_IFREG | 0o644,
        **{"uid": os.geteuid(), "gid": os.getegid(), "mtime": SECOND, **fields},  # type: ignore[arg-type]
    )


def archive_of(path: Path, steps: Iterable[Step]) -> None:
    """Write an archive made by hand."""
    path.write_bytes(encode(steps))
