"""The parser of one verb: argparse's, with errors that point to the help and a record of which options take a value."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from casync_compat.errors import UsageError
from catar.errors import UsageError as CatarUsageError

__all__ = ["Parser", "WrongWords", "by_words_alone", "columns", "wants_help", "wrapped"]

_COLUMNS = 80
_NARROWEST = 20
_HELP_AT = 26


def columns() -> int:
    """How wide text for standard output may be: the terminal, or 80 where there is none."""
    try:  # not shutil.get_terminal_size, which takes 4 ms to import
        return max(os.get_terminal_size(1).columns, _NARROWEST) if os.isatty(1) else _COLUMNS
    except OSError:
        return _COLUMNS


def wrapped(text: str, width: int) -> str:
    """Paragraphs, folded to a width; lines that are indented are code, and stay as they are."""
    import textwrap

    def paragraph(lines: list[str]) -> str:
        return textwrap.fill(" ".join(lines), width, break_long_words=False, break_on_hyphens=False)

    done: list[str] = []
    together: list[str] = []
    for line in [*text.split("\n"), ""]:
        if line and not line.startswith(" "):
            together.append(line)
            continue
        if together:
            done.append(paragraph(together))
            together = []
        done.append(line)
    return "\n".join(done[:-1])


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal, with an option's value named once: `-j, --jobs N`."""

    def __init__(self, prog: str) -> None:
        # Where no help is printed, argparse makes one, too, to write the program's name.
        super().__init__(prog, max_help_position=_HELP_AT, width=columns())

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join(f"{indent}{line}\n" for line in wrapped(text, width).split("\n")).rstrip("\n")

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action)
        if not action.option_strings and isinstance(action.metavar, str):  # it stands to the left already
            text = text.removeprefix(action.metavar).lstrip(":; ")
        return text

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


class WrongWords(UsageError):
    """The words on the command line are wrong, whatever the files are: a verb, an option, a value, their number."""


@contextmanager
def by_words_alone() -> Iterator[None]:
    """What is wrong within is wrong with the words: nothing but them is looked at there.

    :raises WrongWords: in place of a `UsageError`
    """
    try:
        yield
    except WrongWords:
        raise
    except (UsageError, CatarUsageError) as error:
        raise WrongWords(str(error)) from error


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
        super().__init__(
            prog=prog,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=_Help,
        )

    def add_argument(self, *names: Any, **keywords: Any) -> argparse.Action:
        """As argparse's, and takes note of which options take a value."""
        if keywords.get("nargs") == "*" and not names[0].startswith("-"):
            keywords.setdefault("default", [])  # or else it is told to be required where another is missing
        action = super().add_argument(*names, **keywords)
        self.takes_value |= dict.fromkeys(action.option_strings, action.nargs != 0)
        return action

    @property
    def arguments(self) -> str:
        """How the arguments are written: `IMAGE [PATH]`."""
        forms = {None: "{}", "?": "[{}]", "*": "[{}...]", "+": "{}..."}
        return " ".join(
            forms[action.nargs].format(action.metavar)
            for action in self._actions
            if not action.option_strings and (action.nargs is None or isinstance(action.nargs, str))
        )

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

    def option(self, flag: str) -> argparse.Action | None:
        """The option with a flag, if there is one."""
        return self._option_string_actions.get(flag)

    def shown_options(self) -> list[argparse.Action]:
        """The options that help shows."""
        return [one for one in self._actions if one.option_strings and one.help is not argparse.SUPPRESS]

    def positionals(self) -> list[argparse.Action]:
        """The arguments, in their order."""
        return [action for action in self._actions if not action.option_strings]

    def value_of(self, action: argparse.Action, text: str) -> Any:
        """What a text says of an option. :raises argparse.ArgumentError: it is no value of that"""
        value = self._get_value(action, text)
        self._check_value(action, value)
        return value

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
        """What argparse calls when words make no sense. :raises WrongWords: always"""
        raise WrongWords(f"{message}; see `{self.prog} --help`")
