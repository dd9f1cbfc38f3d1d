"""How the values of options are read: yes and no, numbers, sizes, times, and words of which there are few.

They are what argparse calls types. None looks at anything but its text.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable

from casync_compat.chunker.params import parse_size
from casync_compat.errors import UsageError

__all__ = [
    "CACHE_CHECKS",
    "COMPARED",
    "LAYOUTS",
    "LEVELS",
    "environment_flag",
    "one_of",
    "parse_boolean",
    "parse_bytes",
    "parse_duration",
    "parse_file",
    "parse_jobs",
    "parse_level",
    "parse_rate",
]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_JOBS_DIGITS = 20
_MOST_JOBS = 1024
"""More threads than this only cost memory."""


def parse_boolean(text: str) -> bool:
    """casync's words for yes and no, in either case. :raises argparse.ArgumentTypeError: for any other"""
    lower = text.lower()
    if lower in ("1", "yes", "y", "true", "t", "on"):
        return True
    if lower in ("0", "no", "n", "false", "f", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")


def parse_jobs(text: str) -> int | None:
    """How many threads; None, for one a processor, where it is 0.

    :raises argparse.ArgumentTypeError: it is no such number
    """
    if not text.isascii() or not text.isdigit() or len(text) > _JOBS_DIGITS:
        raise argparse.ArgumentTypeError(
            f"invalid int value: {text!r}; use 1 or more, or 0 for one a processor"
        )
    return min(int(text), _MOST_JOBS) or None


def parse_duration(text: str) -> float:
    """Seconds: a number, perhaps with a fraction, and perhaps a unit of s, m, h, d or w.

    :raises argparse.ArgumentTypeError: it is no such time
    """
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([smhdw]?)", text.lower(), re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write seconds, or a number with s, m, h, d or w"
        )
    return float(found[1]) * _UNITS[found[2]]


def parse_file(text: str) -> str:
    """A path, which may not be empty. :raises argparse.ArgumentTypeError: it is"""
    if not text:
        raise argparse.ArgumentTypeError("the name of a file is missing; leave the option out for none")
    return text


def environment_flag(name: str) -> bool:
    """Whether an environment variable is set to yes. :raises UsageError: when it is neither yes nor no"""
    text = os.environ.get(name, "")
    if not text:
        return False
    try:
        return parse_boolean(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"${name}: {error}") from error


_NAMES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
LEVELS = (*_NAMES, "emergency", "critical", "error", "warn", *map(str, range(8)))
"""What `--log-level` takes: casync's words, worst first, its other words for four of them, and their numbers."""
COMPARED = ("content", "metadata")
LAYOUTS = ("packs", "objects")
CACHE_CHECKS = ("normal", "strict")


def parse_level(text: str) -> str:
    """One of `LEVELS`. :raises argparse.ArgumentTypeError: it is none"""
    if text not in LEVELS:
        raise argparse.ArgumentTypeError(f"unknown log level {text!r}; use one of: {', '.join(_NAMES)}")
    return text


def one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    """What reads one of two words, and raises `argparse.ArgumentTypeError` for any other."""

    def read(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"{text!r} is neither {' nor '.join(words)}")
        return text

    return read


def parse_rate(text: str) -> int:
    """Bytes a second, as casync reads them (`src/casync-tool.c`: a size, and not 0)."""
    try:
        rate = parse_size(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if rate == 0:
        raise argparse.ArgumentTypeError("a limit of 0 bytes a second lets nothing pass")
    return rate


def parse_bytes(text: str) -> int:
    """A size in bytes, as 500M. :raises argparse.ArgumentTypeError: it is no such size"""
    try:
        return parse_size(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
