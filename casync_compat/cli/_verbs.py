"""All verbs: their names, what each does in a line, and how a command line leads to one of them.

Each verb is a module here, each of a group one in the group's package, imported when it is used. Such a module has
`EXAMPLES`, command lines with their meaning; `add_arguments(parser)`; and `run(options)`, which returns the exit
status. A group's package has `SUMMARY`, `VERBS`, `EXAMPLES` and `NOTE`, a paragraph at the end of each verb's help.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from itertools import chain, pairwise
from types import ModuleType
from typing import NamedTuple

from casync_compat.cli._options import OPTIONS, TAKES_VALUE, add_general
from casync_compat.cli._parser import Parser, WrongWords, columns, wrapped
from casync_compat.cli._types import LEVELS
from casync_compat.cli._words import Words, split

__all__ = [
    "GROUPS",
    "VERBS",
    "Command",
    "find_command",
    "group_help",
    "parser_of",
    "verb_module",
    "verbs_of",
]

VERBS = {
    "make": "make an archive, or an index and chunks, from a directory, file or block device",
    "extract": "restore an archive or index to a directory, file or block device",
    "list": "list the files in an archive, index or directory",
    "mtree": "list an archive, index or directory in BSD mtree form",
    "stat": "show everything that is recorded about one file",
    "digest": "print the digest of an archive, blob, index or directory",
    "verify": "check a chunk store, or an index against its store, a file, a device or a directory",
    "gc": "remove chunks that no index needs any more",
    "info": "describe an index: chunks, sizes, sharing, digest",
    "cat": "write one file of an archive, or a whole blob, to standard output",
    "mount": "mount an archive or index as a file system that fetches what is read",
    "mkdev": "serve an index of a blob as a network block device, which fetches what is read",
    "dump": "show an archive, index or chunk record by record",
    "convert-index": "make a standard index and chunks from one made with other sizes or blake3",
    "mirror": "keep a place of indexes, with their chunks, equal to another",
    "copy": "copy one index with its chunks, or one archive, from a place to another",
    "delta": "make an update file: the chunks that an index has and others have not",
    "apply": "use an update file: its chunks go into a store, and its index appears",
    "serve": "serve chunks, indexes and archives over HTTP, to casync, desync and browsers",
    "pull": "serve casync's protocol to a client that reads, on standard input and output",
    "push": "serve casync's protocol to a client that writes",
    "config": "show what is configured, and where each value is from",
    "self-check": "tell which native modules, libraries and kernel features are there",
    "completion": "print a completion script for a shell",
}
GROUPS = {
    "oci": "container images made of casync indexes",
    "store": "chunk stores as a whole: packs of many chunks, and back",
}

_MODULES = {"list": "listing"}
"""Verbs whose module has another name, lest it be taken for Python's own."""

_OWN = {"mirror": {"--delete": False}}
"""Options that take no value with a verb, though they take one with others."""


class Command(NamedTuple):
    """What a command line asks for.

    :ivar group: the group that the verb belongs to; empty for casync's own verbs
    :ivar verb: None when there is none
    :ivar options: options and their values
    :ivar arguments: all other words
    """

    group: str
    verb: str | None
    options: list[str]
    arguments: list[str]


def _group(name: str) -> ModuleType:
    return import_module(f"casync_compat.cli.{name}")


def verbs_of(group: str) -> dict[str, str]:
    """Verbs of a group, or casync's where it is empty, and what each does."""
    verbs: dict[str, str] = _group(group).VERBS if group else VERBS
    return verbs


def _title(group: str, verb: str) -> str:
    return f"{group} {verb}".strip()


def verb_module(group: str, verb: str) -> ModuleType:
    """The module of a verb that exists."""
    if group:
        return import_module(f"casync_compat.cli.{group}.{verb.replace('-', '_')}")
    return import_module(f"casync_compat.cli.{_MODULES.get(verb, verb.replace('-', '_'))}")


def parser_of(group: str, verb: str, words: Sequence[str] | None = None) -> Parser:
    """The parser of one verb, for what follows it.

    :param words: the options that it will parse; None for any
    :raises WrongWords: there is no such verb
    """
    _check(group, verb)
    module = verb_module(group, verb)
    parser = Parser(f"pycasync {_title(group, verb)}", verbs_of(group)[verb], words)
    parser.epilog = f"examples:\n{_columns_of(module.EXAMPLES, columns(), beside=False).rstrip()}"
    module.add_arguments(parser)
    if group:
        parser.usage = parser.usage or f"{parser.prog} [OPTIONS] {parser.arguments}".rstrip()
        parser.epilog += f"\n\n{_group(group).NOTE}"
        add_general(parser)
    return parser


def _check(group: str, verb: str) -> None:
    verbs = verbs_of(group)
    if verb in verbs:
        return
    from casync_compat.cli._elsewhere import advice

    all_ = {each: tuple(verbs_of(each)) for each in ("", *GROUPS)}
    raise WrongWords(f"unknown verb {_title(group, verb)!r}; {advice(group, verb, all_)}")


def _readings(words: Sequence[str], *, known: bool) -> Iterator[Command]:
    """The ways to read words as a verb with options of its own that find the verb in its place.

    Which word is the verb depends on which options take a value, and that on the verb.

    :param known: only those to which every option is known
    """
    for group in ("", *GROUPS):
        if group and group not in words:
            continue
        verbs = verbs_of(group)
        for verb in dict.fromkeys(word for word in words if word in verbs):
            takes_value = parser_of(group, verb).takes_value
            found = split(words if takes_value["-l"] else _level_spelled_out(words), takes_value)
            place = [group, verb] if group else [verb]
            if found.known >= known and found.plain[: len(place)] == place:
                yield Command(group, verb, found.options, found.plain[len(place) :])


def _level_spelled_out(words: Sequence[str]) -> Iterator[str]:
    """The same with `--log-level` for a `-l` that a level follows, for a verb where `-l` alone is something else."""
    for word, following in pairwise([*words, ""]):
        if word == "-l" and following in LEVELS:
            yield "--log-level"
        elif word.startswith("-l") and word[2:] in LEVELS:
            yield f"--log-level={word[2:]}"
        else:
            yield word


def _from_words(words: Words) -> Command:
    plain = words.plain
    at = 0
    if not words.known and plain and plain[0] not in VERBS:  # it may have been the value of an option
        at = next((number for number, word in enumerate(plain) if word in GROUPS), 0)
    group = plain[at] if plain and plain[at] in GROUPS else ""
    rest = [*plain[:at], *plain[at + 1 :]] if group else plain
    verb = rest.pop(at) if at < len(rest) else None
    return Command(group, verb, words.options, rest)


def find_command(words: Sequence[str]) -> Command:
    """What words ask for. The verb is the first word that is no option and no option's value.

    Words that make no sense are read as well as may be, so that the verb's own parser tells what is wrong.
    """
    found = split(words, TAKES_VALUE)
    if found.known and found.plain and found.plain[0] in VERBS:
        own = _OWN.get(found.plain[0])
        return _from_words(found if own is None else split(words, TAKES_VALUE | own))
    each = chain(_readings(words, known=True), _readings(words, known=False))
    return next(each, None) or _from_words(found)


def group_help(group: str) -> str:
    """The text of `pycasync --help`, or of a group's."""
    verbs = dict(verbs_of(group))
    if group:
        module = _group(group)
        summary: str = module.SUMMARY
        usage, about, examples = "VERB [OPTIONS]", f"{summary[0].upper()}{summary[1:]}", module.EXAMPLES
        end = f"`pycasync {group} VERB --help` explains a verb and its options."
    else:
        verbs |= {name: f"{about}; see `pycasync {name} --help`" for name, about in GROUPS.items()}
        usage, about, examples = "[OPTIONS] VERB", _ABOUT, _EXAMPLES
        end = "`pycasync VERB --help` explains a verb and its options. Options may stand anywhere."
    across = columns()
    return (
        f"usage: pycasync {_title(group, usage)} [ARGUMENTS]\n\n"
        f"{wrapped(about + '.', across)}\n\n"
        f"verbs:\n{_columns_of(verbs.items(), across)}\n"
        f"examples:\n{_columns_of(examples, across)}\n"
        f"{'' if group else _all_options(across)}{wrapped(end, across)}\n"
    )


_MOST_TO_THE_LEFT = 0.4
"""How much of a line words may take that are explained to the right of them."""


def _columns_of(rows: Iterable[tuple[str, str]], across: int, *, beside: bool = True) -> str:
    """Two columns, the second folded; below each other where the first is wide."""
    rows = list(rows)
    width = max(len(left) for left, _ in rows)
    beside = beside and width + 4 <= across * _MOST_TO_THE_LEFT
    indent = " " * (width + 4 if beside else 6)
    lines = []
    for left, right in rows:
        text = wrapped(right, across - len(indent)).replace("\n", f"\n{indent}")
        lines.append(f"  {left:<{width}}  {text}\n" if beside else f"  {left}\n{indent}{text}\n")
    return "".join(lines)


def _all_options(across: int) -> str:
    """casync's options and those beside them, and what `--with` and `--without` know, by name."""
    from catar.flags import OPTION_NAMES

    flags = [*(", ".join(option.flags) for option in OPTIONS), "-h, --help", "-V, --version"]

    def folded(title: str, words: Iterable[str]) -> str:
        text = wrapped("  ".join(words), across - 2).replace("\n", "\n  ")
        return f"{title}:\n  {text}\n\n"

    return folded("options", flags) + folded("flags for --with and --without", OPTION_NAMES)


_ABOUT = (
    "Archives of file trees, cut into chunks that are stored once: the formats and the command line of casync"
)
_EXAMPLES = (
    ("pycasync make etc.caidx /etc", "archive /etc: index etc.caidx, chunks in default.castr"),
    ("pycasync extract etc.caidx /tmp/etc", "and back"),
    ("pycasync list etc.caidx", "what is in it"),
)
