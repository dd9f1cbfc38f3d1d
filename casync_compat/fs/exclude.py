"""`.caexclude` files: which children of a directory stay out of the archive.

Rules in, decisions out; only `read_rules` looks at a file. Syntax and matching are casync's
(`src/camatch.c`), observed with casync 2: a rule with a slash anywhere is anchored where its file stands, one without
travels down; any matching `!` rule wins whatever the order; a leading period is only matched literally.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from casync_compat.errors import FileError, FormatError
from casync_compat.fs.glob import Glob, translate
from casync_compat.fs.readers import read_whole

__all__ = ["EXCLUDE_NAME", "MAX_FILE_SIZE", "Rule", "decide", "parse_rules", "read_rules"]

EXCLUDE_NAME = b".caexclude"
"""The file that says what is left out of an archive."""

MAX_FILE_SIZE = 16 << 20
"""Largest `.caexclude` file that is read, in bytes; ours, so that the file cannot fill the memory."""
_MAX_LINE = 65535
"""Longest line, in bytes (casync fails beyond it with ENOBUFS)."""


_MARK = b"\xef\xbb\xbf"


class _Kind(Enum):
    POSITIVE = "exclude"
    NEGATIVE = "keep"
    INNER = "directory on the way to a rule"


@dataclass(frozen=True, slots=True)
class Rule:
    """One component of a rule.

    :ivar glob: the component as written
    :ivar anchored: applies to children of this directory only
    :ivar dir_only: applies to directories only
    :ivar inner: rules for the children of directories that match, when this is not the last component
    """

    glob: bytes
    kind: _Kind
    anchored: bool
    dir_only: bool
    inner: tuple[Rule, ...] = ()
    pattern: Glob = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", translate(self.glob))


def _parse_line(line: bytes) -> Rule | None:
    """One rule; None when the line names no valid path."""
    negative = line.startswith(b"!")
    if negative:
        line = line[1:]
    anchored = b"/" in line
    dir_only = line.endswith(b"/")
    components = [part for part in line.split(b"/") if part]
    if not components or any(part in (b".", b"..") for part in components):
        return None
    kind = _Kind.NEGATIVE if negative else _Kind.POSITIVE
    rule = Rule(components[-1], kind, anchored, dir_only)
    for component in reversed(components[:-1]):
        rule = Rule(component, _Kind.INNER, anchored, True, (rule,))
    return rule


def parse_rules(data: bytes, path: bytes) -> list[Rule]:
    """The rules of a `.caexclude` file.

    :param path: the file, for messages
    Lines may end in CR LF, and the file may begin with a UTF-8 mark, as git takes them.

    :raises FormatError: for a line that is no rule (`/`, `!`, `a/../b`), with its offset
    """
    rules = []
    at = len(_MARK) if data.startswith(_MARK) else 0
    for raw in re.split(rb"[\n\0]", data[at:]):
        if len(raw) > _MAX_LINE:
            raise FormatError(f"exclude rule of {len(raw)} bytes is too long", path, at)
        line = raw.removesuffix(b"\r").strip(b" \t")
        if line and not line.startswith(b"#"):
            rule = _parse_line(line)
            if rule is None:
                text = line.decode("utf-8", "backslashreplace")
                raise FormatError(f"exclude rule {text!r} names no path", path, at)
            rules.append(rule)
        at += len(raw) + 1
    return rules


def read_rules(directory_fd: int, path: bytes) -> list[Rule]:
    """Read a directory's exclude file.

    :param path: for messages
    :raises FileError: when it cannot be read; `FormatError` when it is too large, or wrong
    """
    try:
        # A symlink is followed, as casync does; a fifo must not block.
        fd = os.open(
            EXCLUDE_NAME, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory_fd
        )
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise FileError(path, "read exclude rules", "it is not a regular file")
            data = read_whole(fd, MAX_FILE_SIZE, path)
        finally:
            os.close(fd)
    except OSError as error:
        raise FileError(path, "read exclude rules", error) from error
    return parse_rules(data, path)


def decide(rules: Sequence[Rule], name: bytes, is_dir: bool) -> tuple[bool, list[Rule]]:
    """Whether a child is excluded, and the rules that its own children inherit.

    :param is_dir: of the child itself; a symlink to a directory is none
    """
    below: list[Rule] = []
    excluded = kept = False
    for rule in rules:
        if is_dir and not rule.anchored:
            below.append(rule)
        if (rule.dir_only and not is_dir) or not rule.pattern.match(name):
            continue
        if rule.kind is _Kind.NEGATIVE:
            kept = True
        elif rule.kind is _Kind.POSITIVE:
            excluded = True
        else:
            below += rule.inner
    return excluded and not kept, below
