"""What `--dry-run` prints: lines that begin with `Would`, of a form that stays as it is.

    Would create etc.caidx
    Would store 3 of 12 chunks, 40960 bytes

Nothing is written.
"""

from __future__ import annotations

import os
from typing import TextIO

from casync_compat.cli._common import is_stream
from casync_compat.cli._location import in_registry, local_path
from casync_compat.errors import FileError, show_path
from casync_compat.streams.archive import MakeResult

__all__ = ["check_output", "dry_output", "tell_preview"]


def dry_output(output: str | None) -> bytes | None:
    """The local path of what would be made, None where it has none. :raises FileError: it cannot be made"""
    path = None if output is None or in_registry(output) else local_path(output)
    check_output(path)
    return path


def check_output(path: bytes | None) -> None:
    """Find out, without writing, what would keep a file from being made. :raises FileError: saying so"""
    if path is None:
        return
    if os.path.isdir(path):
        raise FileError(path, "create", "it is a directory")
    try:
        os.stat(os.path.dirname(path) or b".")
    except OSError as error:
        raise FileError(path, "create", error) from error


def tell_preview(output: str | None, result: MakeResult, to: TextIO) -> None:
    """Say what would be written."""
    if is_stream(output) or output is None:
        print("Would write to standard output", file=to)
    else:
        there = not in_registry(output) and os.path.lexists(local_path(output))
        verb = "replace" if there else "create"
        print(f"Would {verb} {show_path(os.fsencode(output))}", file=to)
    counts = result.chunks
    if counts is not None:
        print(f"Would store {counts.new} of {counts.total} chunks, {counts.new_bytes} bytes", file=to)
    else:
        print(f"Would write {result.size} bytes", file=to)
