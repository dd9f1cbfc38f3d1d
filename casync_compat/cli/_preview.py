"""What `--dry-run` prints: lines that begin with `Would`, of a form that stays as it is.

    Would create etc.caidx
    Would store 3 of 12 chunks, 40960 bytes

    Would change etc/
    Would create etc/new
    Would delete etc/old
    Would fetch 4 chunks, 262144 bytes
    Would create 1, change 1 and delete 1 entries; 12 stay as they are

Paths of trees are those in the target, directories with a slash at the end. Nothing is written.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, TextIO

from casync_compat.cli._common import is_stream
from casync_compat.cli._location import is_remote, local_path, shown_name
from casync_compat.errors import FileError, show_path
from casync_compat.fs.apply.changes import Change
from casync_compat.streams.extraction import ExtractResult

if TYPE_CHECKING:
    from casync_compat.streams.archive import MakeResult

__all__ = ["Preview", "check_output", "dry_output", "tell_fetched", "tell_preview"]


class Preview:
    """Prints what an extraction would change, or collects it.

    :param as_json: print one object in the end, and nothing before
    """

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._counts: dict[str, int] = {"create": 0, "change": 0, "replace": 0, "delete": 0}
        self._changes: list[dict[str, str]] = []

    def __call__(self, change: Change) -> None:
        """Take a change."""
        self._counts[change.verb] += 1
        path = show_path(change.path) + ("/" if change.is_dir else "")
        if self._json:
            self._changes.append({"would": change.verb, "path": path})
        else:
            print(f"Would {change.verb} {path}")

    def tell(self, result: ExtractResult, summary: dict[str, object]) -> None:
        """Say it all in one line."""
        if self._json:
            print(json.dumps({"dry_run": True, **summary, "changes": self._changes}))
            return
        counts = [f"{verb} {count}" for verb, count in self._counts.items() if count]
        listed = " and ".join([", ".join(counts[:-1]), counts[-1]] if len(counts) > 1 else counts)
        tell_fetched(result, sys.stdout)
        entries = "entry" if sum(self._counts.values()) == 1 else "entries"
        stay = f"{result.unchanged} stay as they are"
        print(f"Would {listed} {entries}; {stay}" if counts else f"Would change nothing; {stay}")


def tell_fetched(result: ExtractResult, to: TextIO) -> None:
    """Say what would be fetched from stores, where that is anything."""
    if result.fetched:
        print(f"Would fetch {result.fetched} chunks, {result.fetched_bytes} bytes", file=to)


def dry_output(output: str | None) -> bytes | None:
    """The local path of what would be made, None where it has none. :raises FileError: it cannot be made"""
    path = None if output is None or is_remote(output) else local_path(output)
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
        there = not is_remote(output) and os.path.lexists(local_path(output))
        verb = "replace" if there else "create"
        print(f"Would {verb} {show_path(shown_name(output))}", file=to)
    counts = result.chunks
    if counts is not None:
        print(f"Would store {counts.new} of {counts.total} chunks, {counts.new_bytes} bytes", file=to)
    else:
        print(f"Would write {result.size} bytes", file=to)
