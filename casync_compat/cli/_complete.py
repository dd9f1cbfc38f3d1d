"""What a word on the command line may be: for the scripts of shells, which ask at each press of the Tab key.

Everything is from the tables of verbs and options. Files, directories and tags of layouts are looked up here as well,
so that all shells offer the same. Nothing is fetched, and what cannot be read is not offered.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from casync_compat.cli._options import OPTIONS, TAKES_VALUE
from casync_compat.cli._parser import Parser
from casync_compat.cli._types import LEVELS, parse_boolean
from casync_compat.cli._verbs import GROUPS, find_command, parser_of, verbs_of
from casync_compat.errors import CasyncError
from casync_compat.kinds import Kind
from catar.flags import OPTION_NAMES

__all__ = ["SHELLS", "Candidate", "answer", "candidates", "words_of"]

SHELLS = {"bash": "pycasync", "zsh": "_pycasync", "fish": "pycasync.fish"}
"""Shells, and what their scripts are called where they look for them."""

_ARCHIVES = (".catar", ".caidx", ".caibx")
_INDEXES = (".caidx", ".caibx")
_SUFFIXES: Mapping[tuple[str, str], tuple[str, ...]] = {
    **{(verb, "input"): _ARCHIVES for verb in ("cat", "extract", "list", "mount", "mtree", "stat")},
    **{(verb, "index"): _INDEXES for verb in ("apply", "convert-index", "info")},
    **{(verb, "indexes"): _INDEXES for verb in ("delta", "gc")},
    ("verify", "checked"): _INDEXES,
}
"""Files that an argument is offered first; where there are none, all are."""

_SCHEMES = {
    "http://": "a web server",
    "https://": "a web server",
    "ssh://": "another casync",
    "sftp://": "files through ssh",
    "s3://": "a bucket",
    "gs://": "a bucket",
    "az://": "a bucket",
    "docker://": "a registry",
}
_TRANSPORTS = {
    "oci:": "a layout: oci:DIRECTORY[:TAG]",
    "docker://": "a registry: docker://HOST/REPOSITORY[:TAG]",
    "docker-archive:": "a file of docker save",
    "oci-archive:": "a tar of a layout",
    "dir:": "a directory of one image, as skopeo has it",
}
_IMAGES = frozenset({"image", "images", "source", "target", "layout", "base"})
"""Arguments and options of verbs about images that name one."""

_VALUES: Mapping[str, Sequence[str]] = {
    "with_": tuple(OPTION_NAMES),
    "without": tuple(OPTION_NAMES),
    "what": tuple(kind.value for kind in Kind),
    "digest": ("sha512-256", "sha256", "blake3"),
    "compression": ("zstd", "xz", "gzip"),
    "encryption_algorithm": ("xchacha20-poly1305", "aes-256-gcm"),
    "platform": ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/riscv64"),
    "log_level": LEVELS[:8],
    "shell": tuple(SHELLS),
}
_NO_FILES = frozenset({"inside", "path", "pattern", "patterns", "words", "command"})
"""Arguments that are no file here."""
_FILES = re.compile(r"PATH|FILE|DIR|STORE|PLACE|LAYER|OUTPUT|INDEX|LOCATOR")
_ODD = re.compile(r"([^\w@%+=:,./~-])")


class Candidate(NamedTuple):
    """What a word may be.

    :ivar text: the whole word; it ends with `/`, `=` or `:` where it goes on
    :ivar about: in a few words, for shells that show that
    """

    text: str
    about: str = ""


def words_of(line: str) -> tuple[list[str], bool]:
    """The words of a command line that is not ended, and whether the last one has an open quote; it may be empty."""
    for end in ("", '"', "'"):
        with suppress(ValueError):
            words = shlex.split(line + end)
            new = not end and (not line or line[-1].isspace()) and not line.endswith("\\ ")
            return [*words, ""] if new else words, bool(end)
    return [""], False


def answer(shell: str, words: list[str], *, quoted: bool = False, breaks: str = "") -> Iterator[str]:
    """What a shell's script reads: a candidate a line; behind a tab, for others than bash, what it is.

    :param words: as `candidates` takes them
    :param quoted: whether the last word has an open quote, so that bash need not be told what to quote
    :param breaks: characters at which bash takes words apart; it wants what is behind the last of them
    """
    found = candidates(words)
    cut = max((words[-1].rfind(sign) + 1 for sign in "=:" if sign in breaks), default=0)
    for one in found:
        if shell != "bash":
            yield f"{one.text}\t{one.about}" if one.about else one.text
        else:
            yield one.text[cut:] if quoted else _ODD.sub(r"\\\1", one.text[cut:])


def candidates(words: list[str]) -> list[Candidate]:
    """What the last of some words may be.

    :param words: the program's name, what follows, and what there is of the word to complete
    """
    *before, current = words[1:] or [""]
    command = find_command(before)
    known = command.verb is not None and command.verb in verbs_of(command.group)
    parser = parser_of(command.group, command.verb or "") if known else None
    takes_value = TAKES_VALUE if parser is None else parser.takes_value
    open_ = "--" not in before
    found: Iterable[Candidate]
    if open_ and before and _wants(before[-1], takes_value):
        found = _values(_option(parser, before[-1]), command.group, current)
    elif open_ and current.startswith("-"):
        option, equals, value = current.partition("=")
        found = _options(parser)
        if equals:
            values = _values(_option(parser, option), command.group, value)
            found = (Candidate(f"{option}={one.text}", one.about) for one in values)
    elif parser is None:
        found = _verbs(command.group) if command.verb is None else ()
    else:
        found = _arguments(parser, command.group, command.verb or "", len(command.arguments), current)
    return sorted({one.text: one for one in found if one.text.startswith(current)}.values())


def _wants(word: str, takes_value: Mapping[str, bool]) -> bool:
    """Whether a value follows a word."""
    if word.startswith("--"):
        return takes_value.get(word, False)
    return len(word) > 1 and word[0] == "-" and takes_value.get(f"-{word[-1]}", False)


def _option(parser: Parser | None, word: str) -> argparse.Action | None:
    flag = word if word.startswith("--") else f"-{word[-1]}"
    if parser is not None:
        return parser.option(flag)
    whole = Parser("pycasync", "any verb")
    for option in OPTIONS:
        if flag in option.flags:
            return whole.add_argument(*option.flags, help=option.help, **option.keywords)
    return None


def _first_words(help_: str | None) -> str:
    """The beginning of a help text, to stand beside a word."""
    return re.split(r"[:;(]", help_ or "")[0].split(", ")[0].strip()


def _verbs(group: str) -> Iterator[Candidate]:
    for verb, about in verbs_of(group).items():
        yield Candidate(verb, about)
    for name, about in {} if group else GROUPS.items():
        yield Candidate(name, about)


def _options(parser: Parser | None) -> Iterator[Candidate]:
    """Options that help shows; in their long form, with `=` where a value follows."""
    if parser is None:
        yield from (Candidate("--help", "what there is"), Candidate("--version", "of this program"))
        return
    for action in parser.shown_options():
        flag = action.option_strings[-1]
        yield Candidate(f"{flag}=" if action.nargs != 0 else flag, _first_words(action.help))


def _values(action: argparse.Action | None, group: str, current: str) -> Iterator[Candidate]:
    if action is None:
        return
    if action.dest in _VALUES:
        yield from map(Candidate, _VALUES[action.dest])
    elif action.choices is not None:
        yield from (Candidate(str(choice)) for choice in action.choices)
    elif action.type is parse_boolean:
        yield from (Candidate("yes"), Candidate("no"))
    elif group == "oci" and action.dest in _IMAGES:
        yield from _images(current)
    elif _FILES.search(str(action.metavar or "")):
        yield from _places(current, ())


def _arguments(parser: Parser, group: str, verb: str, number: int, current: str) -> Iterator[Candidate]:
    """What an argument may be. :param number: of those before it"""
    arguments = parser.positionals()
    if not arguments:
        return
    action = arguments[min(number, len(arguments) - 1)]
    if number >= len(arguments) and action.nargs not in ("+", "*"):
        return
    if action.dest in _VALUES:
        yield from map(Candidate, _VALUES[action.dest])
    elif group == "oci" and action.dest in _IMAGES:
        yield from _images(current)
    elif action.dest not in _NO_FILES:
        yield from _places(current, () if group else _SUFFIXES.get((verb, action.dest), ()))


def _places(current: str, suffixes: tuple[str, ...]) -> Iterator[Candidate]:
    """Files and directories, and, once something is written, schemes of locators."""
    if len(current) > 1:
        yield from (Candidate(scheme, about) for scheme, about in _SCHEMES.items())
    if "://" in current:
        return
    found = [one for one in _paths(current) if one.text.startswith(current)]
    wanted = [one for one in found if one.text.endswith(("/", *suffixes))]
    some = any(not one.text.endswith("/") for one in wanted)
    yield from wanted if suffixes and some else found


def _images(current: str) -> Iterator[Candidate]:
    transport, colon, rest = current.partition(":")
    if not colon:
        yield from (Candidate(text, about) for text, about in _TRANSPORTS.items())
        return
    if transport == "oci":
        directory, colon, _ = rest.rpartition(":")
        if colon:
            yield from (Candidate(f"oci:{directory}:{tag}") for tag in _tags(directory))
            return
        for one in _paths(rest):
            if one.text.endswith("/"):
                layout = os.path.exists(os.path.join(os.path.expanduser(one.text), "oci-layout"))
                yield Candidate(f"oci:{one.text.rstrip('/')}:" if layout else f"oci:{one.text}")
    elif transport in ("dir", "docker-archive", "oci-archive"):
        yield from (Candidate(f"{transport}:{one.text}") for one in _paths(rest))


def _tags(directory: str) -> list[str]:
    from casync_compat.oci.places.layout import Layout  # lazily, as is all that knows images

    try:
        with Layout(os.fsencode(os.path.expanduser(directory))) as layout:
            return layout.tags()
    except (CasyncError, OSError):
        return []


def _paths(current: str) -> Iterator[Candidate]:
    """Files and directories whose path may go on like this; hidden ones where a dot is written."""
    directory, slash, start = current.rpartition("/")
    with suppress(OSError), os.scandir(os.path.expanduser(directory + slash) or ".") as entries:
        for entry in entries:
            if entry.name.isprintable() and (start.startswith(".") or not entry.name.startswith(".")):
                yield Candidate(f"{directory}{slash}{entry.name}{'/' if entry.is_dir() else ''}")
