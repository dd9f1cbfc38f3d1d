"""The command line's options: one table, from which each verb's parser, its help and shell completion are made.

casync takes any option anywhere, before or after the verb, and ignores those that do not concern the verb; so does
this. A verb's `--help` shows only the options that matter to it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from casync_compat.errors import UsageError

__all__ = ["OPTIONS", "VERBS", "Verb", "find_verb", "parse_boolean", "parser_for", "split_verb"]


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: its module under `cli`, its arguments and its help."""

    name: str
    summary: str
    usage: str
    arguments: tuple[tuple[str, str], ...]
    examples: tuple[tuple[str, str], ...]
    description: str = ""


_STORE = ("--store=PATH is where chunks are; without it $CASYNC_STORE, else default.castr beside the index.",)

VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "make",
            "make an archive, or an index and chunks, from a directory, file or block device",
            "[OUTPUT] [INPUT]",
            (
                ("?", "output: .catar, .caidx or .caibx; - or nothing: standard output"),
                ("?", "input; default ."),
            ),
            (
                ("pycasync make etc.caidx /etc", "index etc.caidx, chunks in default.castr beside it"),
                ("pycasync make etc.catar /etc", "one plain archive"),
                ("pycasync make disk.caibx disk.img --store=/srv/chunks", "a disk image"),
                ("pycasync make -c home.caidx /home", "read only what changed since the last time"),
                ("pycasync make --with=unix --without=sockets x.catar .", "record less"),
            ),
            "Prints the digest of the archive or blob. " + _STORE[0],
        ),
        Verb(
            "extract",
            "restore an archive or index to a directory, file or block device",
            "[INPUT] [OUTPUT] [PATH INSIDE]",
            (
                ("?", "input: .catar, .caidx or .caibx; - or nothing: standard input"),
                ("?", "output; default ."),
                ("?", "path inside the archive"),
            ),
            (
                ("pycasync extract etc.caidx /tmp/etc", "the whole tree; what is not in it is removed"),
                ("pycasync extract --delete=no etc.caidx /tmp/etc", "keep what is not in it"),
                ("pycasync extract etc.caidx . ssh/sshd_config", "one file, as ./sshd_config"),
                (
                    "pycasync extract --seed=old.img new.caibx new.img",
                    "take from old.img what has not changed",
                ),
            ),
            _STORE[0],
        ),
        Verb(
            "list",
            "list the files in an archive, index or directory",
            "[INPUT] [PATH INSIDE]",
            (("?", "archive, index or directory; default ."), ("?", "path inside the archive")),
            (
                ("pycasync list etc.caidx", "modes and names"),
                ("pycasync list --json etc.caidx | jq .name", "one JSON object a line"),
            ),
        ),
        Verb(
            "mtree",
            "list an archive, index or directory in BSD mtree form",
            "[INPUT] [PATH INSIDE]",
            (("?", "archive, index or directory; default ."), ("?", "path inside the archive")),
            (("pycasync mtree etc.caidx > etc.mtree", "with a digest of every file"),),
        ),
        Verb(
            "stat",
            "show everything that is recorded about one file",
            "[INPUT] [PATH INSIDE]",
            (("?", "archive, index or directory; default ."), ("?", "path inside the archive")),
            (("pycasync stat etc.caidx passwd", "metadata, digest and hard link digest"),),
        ),
        Verb(
            "digest",
            "print the digest of an archive, blob, index or directory",
            "[INPUT] [PATH INSIDE]",
            (("?", "what to digest; default ."), ("?", "path inside the archive")),
            (
                ("pycasync digest /etc", "what `make` would print"),
                ("pycasync digest etc.caidx ssh", "of a part: the same as of the directory it was made from"),
            ),
        ),
        Verb(
            "gc",
            "remove chunks that no index needs any more",
            "INDEX...",
            (("+", "every index whose chunks are to stay"),),
            (("pycasync gc -n --store=/srv/chunks /srv/*.caidx", "say what would go"),),
            "Removes from the store every chunk that is in none of the indexes. Name all indexes that are to live.",
        ),
        Verb(
            "info",
            "describe an index: chunks, sizes, sharing, digest",
            "INDEX",
            (("1", "a .caidx or .caibx file"),),
            (
                ("pycasync info etc.caidx", "a short report"),
                ("pycasync info --json etc.caidx", "for programs"),
            ),
        ),
        Verb(
            "cat",
            "write one file of an archive, or a whole blob, to standard output",
            "INPUT [PATH INSIDE]",
            (("1", "archive or index"), ("?", "path inside; not for a blob index")),
            (("pycasync cat etc.caidx passwd", "fetches only the chunks it needs"),),
        ),
        Verb(
            "dump",
            "show an archive, index or chunk record by record",
            "FILE",
            (("1", "archive, index, chunk, or pack, pack index or recipe of an image; - is standard input"),),
            (
                ("pycasync dump etc.catar", "offset, type, size and every field"),
                ("pycasync dump --json etc.caidx | jq -r .fields.id", "one JSON object a line"),
            ),
            "Stops at the first record that is wrong, and says where it is and which rule it breaks.",
        ),
        Verb(
            "convert-index",
            "make a standard index and chunks from one made with other sizes or blake3",
            "INDEX OUTPUT",
            (("1", "a .caidx or .caibx file"), ("1", "the index to make")),
            (
                (
                    "pycasync convert-index disk.caibx for-casync.caibx",
                    "as `make` would have made it by default",
                ),
                (
                    "pycasync convert-index --extra-store=fast.castr --store=new.castr a.caidx b.caidx",
                    "two stores",
                ),
            ),
            "Chunks are read from --store and --extra-store, and the new ones go to --store.",
        ),
        Verb(
            "completion",
            "print a completion script for a shell",
            "bash|zsh|tcsh",
            (("1", "the shell"),),
            (
                (
                    "pycasync completion bash > ~/.local/share/bash-completion/completions/pycasync",
                    "install it",
                ),
            ),
        ),
    )
}

_TREE = frozenset({"make", "extract", "list", "mtree", "stat", "digest"})
_READ = frozenset({"extract", "list", "mtree", "stat", "digest", "cat", "convert-index"})


@dataclass(frozen=True, slots=True)
class Option:
    """One option and the verbs whose help shows it."""

    flags: tuple[str, ...]
    help: str
    verbs: frozenset[str]
    keywords: dict[str, Any] = field(default_factory=dict)


def parse_boolean(text: str) -> bool:
    """casync's words for yes and no, in either case. :raises argparse.ArgumentTypeError: for any other"""
    lower = text.lower()
    if lower in ("1", "yes", "y", "true", "t", "on"):
        return True
    if lower in ("0", "no", "n", "false", "f", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")


def _bool(flag: str, help: str, verbs: Iterable[str], default: bool) -> Option:
    word = "yes" if default else "no"
    return Option(
        (flag,),
        f"{help} (default {word})",
        frozenset(verbs),
        {"type": parse_boolean, "default": default, "metavar": "yes|no"},
    )


def _value(flag: str, help: str, verbs: Iterable[str], metavar: str, **keywords: Any) -> Option:
    return Option((flag,), help, frozenset(verbs), {"metavar": metavar, **keywords})


def _id_option(flag: str, help: str, metavar: str) -> Option:
    """Both land in one list, because the later of the two says whether ids are shifted at all."""
    keywords: dict[str, Any] = {"action": "append", "default": [], "dest": "id_shifts"}
    return _value(flag, help, {"make", "extract"}, metavar, type=lambda text: (flag, text), **keywords)


def _level(text: str) -> str:
    if text not in _LEVELS and text not in map(str, range(8)):
        raise argparse.ArgumentTypeError(f"unknown log level {text!r}")
    return text


_COLUMNS = 80
_ENDS_IN_L = re.compile(r"-[chnv]*l")
_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_EVERY = frozenset(VERBS)

OPTIONS: tuple[Option, ...] = (
    _value("--store", "chunk store to use", _READ | {"make", "gc", "info"}, "PATH"),
    _value(
        "--extra-store", "further store to look for chunks in", _READ, "PATH", action="append", default=[]
    ),
    _value(
        "--chunk-size",
        "average chunk size, or all three",
        {"make", "convert-index"},
        "[MIN:]AVG[:MAX]",
        default="auto",
    ),
    _value(
        "--digest",
        "sha512-256 (default), sha256, or blake3, which casync and desync refuse",
        {"make", "digest", "convert-index"},
        "NAME",
        default="default",
    ),
    _value(
        "--compression",
        "of new chunks: zstd (default), xz, gzip",
        {"make", "convert-index"},
        "NAME",
        default="default",
    ),
    _value("--what", "kind of input or output, when no suffix tells", _TREE, "KIND"),
    _value(
        "--with",
        "record or restore only this; repeatable; `help` lists all",
        _TREE,
        "FLAG",
        action="append",
        default=[],
        dest="with_",
    ),
    _value("--without", "leave this out; repeatable", _TREE, "FLAG", action="append", default=[]),
    _bool("--exclude-nodump", "leave out files with the chattr +d flag", {"make", "digest"}, True),
    _bool("--exclude-submounts", "leave out what is mounted inside", {"make", "digest"}, False),
    _bool("--exclude-file", "obey .caexclude files", {"make", "digest"}, True),
    _id_option("--uid-shift", "shift user and group ids", "yes|SHIFT"),
    _id_option("--uid-range", "restrict user and group ids", "yes|RANGE"),
    _value(
        "--seed",
        "file or directory to take unchanged data from; repeatable",
        {"extract"},
        "PATH",
        action="append",
        default=[],
    ),
    _bool("--seed-output", "take unchanged data from the output as it was", {"extract"}, True),
    _bool("--reflink", "share blocks with seeds where the file system can", {"extract"}, True),
    _bool("--hardlink", "hard-link files that are the same in a seed", {"extract"}, False),
    _bool("--punch-holes", "write zeros as holes", {"extract"}, True),
    _bool("--delete", "remove what is not in the archive", {"extract"}, True),
    _bool("--undo-immutable", "clear the immutable flag of what is in the way", {"extract"}, False),
    _bool("--recursive", "list what is in directories too", {"list"}, True),
    Option(
        ("--json",),
        "print JSON",
        frozenset({"make", "list", "stat", "digest", "info", "dump"}),
        {"action": "store_true"},
    ),
    Option(("-n", "--dry-run"), "only say what would be done", frozenset({"gc"}), {"action": "store_true"}),
    _value(
        "--jobs", "threads to use (default: one a processor)", {"make", "extract", "digest"}, "N", type=int
    ),
    _bool("--stream-digest", "hash and print the digest of the whole stream", {"make"}, True),
    _value(
        "--cache",
        "directory to remember the tree in, so that what is unchanged is not read again; no digest is printed",
        {"make"},
        "PATH",
    ),
    Option(
        ("-c", "--cache-auto"),
        "the same, in ~/.cache/pycasync",
        frozenset({"make"}),
        {"action": "store_true"},
    ),
    Option(("-v", "--verbose"), "say more on standard error", _EVERY, {"action": "store_true"}),
    Option(
        ("--no-progress",),
        "draw no progress bar",
        frozenset({"make", "extract", "digest"}),
        {"action": "store_true"},
    ),
    _value("--log-level", "debug, info, warning, err; debug shows tracebacks", _EVERY, "LEVEL", type=_level),
    _value(
        "--rate-limit-bps", "accepted for casync's sake; local stores have no limit", frozenset(), "LIMIT"
    ),
    _bool("--mkdir", "accepted for casync's sake", frozenset(), True),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def _wants_help(words: Sequence[str]) -> bool:
    """Whether the help text may be asked for."""
    return any(word.startswith("--h") or (word[1:2] != "-" and "h" in word) for word in words)


def _flags(option: Option) -> tuple[str, ...]:
    return ("-l", *option.flags) if option.flags == ("--log-level",) else option.flags


def _may_be_meant(option: Option, words: Sequence[str]) -> bool:
    """Whether one of the words may name the option, if only by an abbreviation."""
    return any(
        not flag.startswith("--") or any(flag.startswith(word.partition("=")[0]) for word in words)
        for flag in _flags(option)
    )


def _default(option: Option) -> tuple[str, Any]:
    """The name that an option's value has, and its value where the option is not given."""
    keywords = option.keywords
    name = keywords.get("dest") or option.flags[-1].removeprefix("--").replace("-", "_")
    return name, keywords.get("default", False if keywords.get("action") == "store_true" else None)


def _add_options(parser: argparse.ArgumentParser, verb: str, words: Sequence[str] | None) -> None:
    for option in OPTIONS:
        if words is not None and not _may_be_meant(option, words):
            parser.set_defaults(**dict([_default(option)]))
            continue
        keywords = dict(option.keywords)
        keywords["help"] = option.help if verb in option.verbs else argparse.SUPPRESS
        parser.add_argument(*_flags(option), **keywords)


def parser_for(verb: Verb, words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of one verb, for the arguments without the verb itself.

    :param words: the options that it will parse, as `split_verb` gives them; it then knows those alone, which takes
        half the time, and no help text suffers: where that may be asked for, it knows all
    """
    if words is not None and _wants_help(words):
        words = None
    shown = "\n".join(f"  {command}\n      {meaning}" for command, meaning in verb.examples)
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog=f"pycasync {verb.name}",
        usage=f"pycasync {verb.name} [OPTIONS] {verb.usage}",
        description=f"{verb.summary[0].upper()}{verb.summary[1:]}. {verb.description}".strip(),
        epilog=f"examples:\n{shown}",
        # Where no help is printed, the terminal's width is not looked up: that imports all of shutil, 4 ms.
        formatter_class=form if words is None else partial(form, width=_COLUMNS),
    )
    for number, (count, help_) in enumerate(verb.arguments):
        keywords: dict[str, Any] = {} if count == "1" else {"nargs": count}
        parser.add_argument(
            f"argument{number}", help=help_, metavar=help_.split(":")[0].split(";")[0], **keywords
        )
    _add_options(parser, verb.name, words)
    return parser


def _needs_value(word: str) -> bool:
    """Whether the word after an option is its value."""
    if not word.startswith("--"):
        return _ENDS_IN_L.fullmatch(word) is not None  # the one short option that takes a value
    if "=" in word:
        return False
    found = [option for option in OPTIONS if word in option.flags]
    found = found or [option for option in OPTIONS if any(flag.startswith(word) for flag in option.flags)]
    return len(found) == 1 and found[0].keywords.get("action") != "store_true"


def split_verb(arguments: Sequence[str]) -> tuple[str | None, list[str], list[str]]:
    """Tell the verb, its arguments and the options apart; options stand anywhere before `--`.

    :returns: the verb, None when there is none; the words that are neither; the options with their values
    """
    plain: list[str] = []
    options: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            plain += words
        elif not word.startswith("-") or word == "-":
            plain.append(word)
        else:
            options.append(word)
            if _needs_value(word):
                options += [value for value in [next(words, None)] if value is not None]
    return (plain[0], plain[1:], options) if plain else (None, [], options)


def find_verb(name: str) -> Verb:
    """The verb of that name. :raises UsageError: when there is none"""
    verb = VERBS.get(name)
    if verb is None:
        from difflib import get_close_matches

        close = get_close_matches(name, [*VERBS, "oci"], 1)
        hint = f"; did you mean {close[0]}?" if close else "; see `pycasync --help` for all there are"
        raise UsageError(f"unknown verb {name!r}{hint}")
    return verb


def general_help() -> str:
    """The text of `pycasync --help`."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS.values())
    verbs += f"\n  {'oci':<{width}}  container images made of casync indexes; see `pycasync oci --help`"
    return (
        "usage: pycasync [OPTIONS] VERB [ARGUMENTS]\n\n"
        "Archives of file trees, cut into chunks that are stored once: the formats and the command line of casync.\n\n"
        f"verbs:\n{verbs}\n\n"
        "examples:\n"
        "  pycasync make etc.caidx /etc          archive /etc: index etc.caidx, chunks in default.castr\n"
        "  pycasync extract etc.caidx /tmp/etc   and back\n"
        "  pycasync list etc.caidx               what is in it\n\n"
        "`pycasync VERB --help` explains a verb and its options. Options may stand anywhere.\n"
    )


def environment_flag(name: str) -> bool:
    """Whether an environment variable is set to yes. :raises UsageError: when it is neither yes nor no"""
    text = os.environ.get(name, "")
    if not text:
        return False
    try:
        return parse_boolean(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"${name}: {error}") from error


def stderr_is_terminal() -> bool:
    """Whether a person may be watching standard error."""
    return sys.stderr.isatty()
