"""Where a run's messages go: warnings to standard error, and at levels below that what the library says of its work.

`--log-level` says how much is told, `--log-file` where to write it, with the time, beside. Logins in locators are taken
out of everything.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import suppress
from copy import copy
from io import TextIOWrapper
from typing import Any

from casync_compat.errors import FileError
from casync_compat.shown import without_login

__all__ = ["configure", "log_error", "talks", "warn", "warns"]

_LEVELS = {
    "emerg": logging.CRITICAL,
    "alert": logging.CRITICAL,
    "crit": logging.CRITICAL,
    "err": logging.ERROR,
    "warning": logging.WARNING,
    "notice": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
"""casync's words, worst first, and Python's levels."""
_OTHER_WORDS = {"emergency": "emerg", "critical": "crit", "error": "err", "warn": "warning"}

_ROOT = logging.getLogger("casync_compat")
"""Library and command; a program's own handlers are left alone."""
_handlers: list[logging.Handler] = []
_level = logging.WARNING


def _level_of(word: str) -> int:
    names = tuple(_LEVELS)
    name = names[int(word)] if word in map(str, range(len(names))) else _OTHER_WORDS.get(word, word)
    return _LEVELS.get(name, logging.WARNING)


class _Lines(logging.Formatter):
    """One line a message, and no login."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{moment}.{int(record.msecs):03}Z"

    def format(self, record: logging.LogRecord) -> str:
        record = copy(record)
        record.levelname = record.levelname.lower()
        return without_login(super().format(record))


class _ToTerminal(logging.StreamHandler[Any]):
    """Standard error, as it is when something is said. Warnings and errors come there by themselves."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            self.stream = sys.stderr
            super().emit(record)


class _ToFile(logging.FileHandler):
    """The file of `--log-file`. One that cannot be written any more, on a full disk say, is told of once."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._path = path

    def _open(self) -> TextIOWrapper:
        # A pipe that nobody reads is an error, not to be waited for.
        fd = os.open(self.baseFilename, _APPEND, 0o666)
        os.set_blocking(fd, True)
        return open(fd, "a", encoding=self.encoding, errors=self.errors)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        _ROOT.removeHandler(self)
        if self in _handlers:
            _handlers.remove(self)
            cause = error if isinstance(error, OSError) else str(error)
            warn(f"{FileError(self._path, 'write', cause)}; nothing more is logged")

    def close(self) -> None:
        with suppress(OSError):  # of what is still to be written, which was told of
            super().close()


_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def configure(level: str, path: str | None) -> None:
    """Begin a run.

    :param level: casync's word or number
    :param path: of the file to write to, at the end of what it has; None for none
    :raises FileError: it cannot be written
    """
    global _level
    while _handlers:
        handler = _handlers.pop()
        _ROOT.removeHandler(handler)
        handler.close()
    _level = _level_of(level) if level else logging.WARNING
    wanted = [_level]
    if _level < logging.WARNING and path is None:
        _add(_ToTerminal(), _level, "pycasync: %(levelname)s: %(message)s")
    if path is not None:
        wanted.append(min(_level, logging.INFO))
        try:
            file = _ToFile(path)
        except OSError as error:
            raise FileError(path, "write", error) from error
        _add(file, wanted[-1], "%(asctime)s %(levelname)s %(name)s: %(message)s")
    _ROOT.setLevel(min(wanted) if _handlers else logging.NOTSET)


def _add(handler: logging.Handler, level: int, form: str) -> None:
    handler.setLevel(level)
    handler.setFormatter(_Lines(form))
    _ROOT.addHandler(handler)
    _handlers.append(handler)


def warns() -> bool:
    """Whether warnings are told: not with `--log-level=err` and less."""
    return _level <= logging.WARNING


def talks() -> bool:
    """Whether lines at levels below warnings come to standard error."""
    return any(isinstance(handler, _ToTerminal) for handler in _handlers)


def warn(text: str) -> None:
    """Say a warning on standard error, and in the file."""
    text = without_login(text)
    if _handlers:
        _ROOT.warning("%s", text)
    if warns():
        print(f"pycasync: warning: {text}", file=sys.stderr)


def log_error(error: BaseException, text: str) -> None:
    """Write an error to the file, with its traceback at level debug."""
    if _handlers:
        _ROOT.error("%s", text, exc_info=error if _level <= logging.DEBUG else None)
