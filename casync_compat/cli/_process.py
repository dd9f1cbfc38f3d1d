"""Whether the process is the command's own."""

from __future__ import annotations

__all__ = ["is_own", "run_begins"]

_own = False


def run_begins(*, own_process: bool) -> None:
    """To be told first. :param own_process: whether the process was started for this run, and did nothing before"""
    global _own
    _own = own_process


def is_own() -> bool:
    """Whether the process was started for this run, so that what it says of itself is true of the run."""
    return _own
