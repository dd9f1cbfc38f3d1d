"""The words of a command line, told apart: verbs and arguments here, options and their values there.

Options stand anywhere before `--`, in front of the verb too, so which word is the verb depends on which options take
a value. Nothing is checked here: what is wrong with an option is for its parser to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["Words", "split"]


class Words(NamedTuple):
    """A command line, told apart.

    :ivar plain: verbs and arguments
    :ivar options: options, each followed by its value
    :ivar known: whether every option is one of those that were asked for
    """

    plain: list[str]
    options: list[str]
    known: bool


def _value_of_short(word: str, takes_value: Mapping[str, bool]) -> bool | None:
    """The same as `_value_follows` for short options, of which one word may hold several."""
    for at, letter in enumerate(word[1:], 2):
        takes = takes_value.get(f"-{letter}")
        if takes is None:
            return None
        if takes:
            return at == len(word)  # else the rest of the word is the value
    return False


def _value_follows(word: str, takes_value: Mapping[str, bool]) -> bool | None:
    """Whether the word after an option is its value; None when there is no such option."""
    if not word.startswith("--"):
        return _value_of_short(word, takes_value)
    name, equals, _ = word.partition("=")
    found = [name] if name in takes_value else [flag for flag in takes_value if flag.startswith(name)]
    if len(found) != 1:
        return None
    return takes_value[found[0]] and not equals


def split(words: Iterable[str], takes_value: Mapping[str, bool]) -> Words:
    """Tell words apart.

    :param takes_value: for each option, as `--store` and `-v`, whether it takes a value
    """
    plain: list[str] = []
    options: list[str] = []
    known = True
    rest = iter(words)
    for word in rest:
        if word == "--":
            plain += rest
        elif not word.startswith("-") or word == "-":
            plain.append(word)
        else:
            options.append(word)
            follows = _value_follows(word, takes_value)
            known = known and follows is not None
            if follows:
                options += [value for value in [next(rest, None)] if value is not None]
    return Words(plain, options, known)
