"""The parser of one verb: argparse's, with errors that point to the help and a record of which options take a value."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

from casync_compat.errors import UsageError

__all__ = ["Parser", "wants_help"]

_COLUMNS = 80


def wants_help(words: Iterable[str]) -> bool:
    """Whether the help text may be asked for."""
    return any(word.startswith("--h") or (word[1:2] != "-" and "h" in word) for word in words)


class Parser(argparse.ArgumentParser):
    """Parser of one verb.

    :ivar takes_value: for each option, as `--store` and `-v`, whether it takes a value
    """

    def __init__(self, prog: str, summary: str, words: Sequence[str] | None = None) -> None:
        """Make one that knows no option but `--help`.

        :param summary: what the verb does, in one line
        :param words: the options that will be parsed. No others need be added, which takes half the time; no help
            text suffers, since where that may be asked for, all are. None: any
        """
        self.takes_value: dict[str, bool] = {}
        self._separated = False
        self._words = None if words is None or wants_help(words) else words
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(
            prog=prog,
            description=f"{summary[0].upper()}{summary[1:]}.",
            # Where no help is printed, the terminal's width is not looked up: that imports all of shutil, 4 ms.
            formatter_class=form if self._words is None else partial(form, width=_COLUMNS),
        )

    def add_argument(self, *names: Any, **keywords: Any) -> argparse.Action:
        """As argparse's, and takes note of which options take a value."""
        action = super().add_argument(*names, **keywords)
        self.takes_value |= dict.fromkeys(action.option_strings, action.nargs != 0)
        return action

    def print_help(self, file: Any = None) -> None:
        """As argparse's, which passes over what cannot be written."""
        (file or sys.stdout).write(self.format_help())

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """As argparse's, which before Python 3.13 loses values that are `--`: an option's, and a second argument's."""
        if "--" in arg_strings and action.nargs in (None, "?", "+"):
            if action.option_strings or self._separated:
                values = [self._get_value(action, text) for text in arg_strings]
                for value in values:
                    self._check_value(action, value)
                return values if action.nargs == "+" else values[0]
            self._separated = True
        return super()._get_values(action, arg_strings)

    def may_be_meant(self, flags: Iterable[str]) -> bool:
        """Whether one of the words to be parsed may name an option, if only by an abbreviation."""
        if self._words is None:
            return True
        return any(
            not flag.startswith("--") or any(flag.startswith(word.partition("=")[0]) for word in self._words)
            for flag in flags
        )

    def explain(self, usage: str, details: str = "") -> None:
        """Say how the arguments are written, and more than the summary about the verb."""
        self.usage = f"{self.prog} [OPTIONS] {usage}"
        self.description = f"{self.description} {details}".strip()

    def error(self, message: str) -> NoReturn:
        """What argparse calls when words make no sense. :raises UsageError: always"""
        raise UsageError(f"{message}; see `{self.prog} --help`")
