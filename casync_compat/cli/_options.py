"""casync's options: one table, from which each verb's parser, its help and shell completion are made.

casync takes every option with every verb, and ignores those that do not concern it; so do the verbs here with options
that casync has. A verb's `--help` shows only the options that matter to it. The verbs of groups, as `oci`, take their
own.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from casync_compat.cli._parser import Parser
from casync_compat.cli._types import (
    CACHE_CHECKS,
    COMPARED,
    LAYOUTS,
    LEVELS,
    one_of,
    parse_boolean,
    parse_bytes,
    parse_duration,
    parse_file,
    parse_jobs,
    parse_level,
    parse_rate,
)

__all__ = [
    "NETWORK",
    "OPTIONS",
    "READING",
    "RESTORING_STATUS",
    "STORE_HELP",
    "TAKES_VALUE",
    "TREES",
    "Option",
    "add_general",
    "add_network",
    "add_options",
    "add_positional",
    "says_of_network",
]


class Option(NamedTuple):
    """One option: how it is written, its help, and what argparse is told of it."""

    flags: tuple[str, ...]
    help: str
    keywords: Mapping[str, Any] = MappingProxyType({})

    @property
    def name(self) -> str:
        """The name that its value has among the parsed options."""
        dest: str | None = self.keywords.get("dest")
        return dest or self.flags[-1].removeprefix("--").replace("-", "_")

    @property
    def default(self) -> Any:
        """Its value where it is not given."""
        return self.keywords.get("default", None if self.takes_value else False)

    @property
    def takes_value(self) -> bool:
        """Whether a value belongs to it."""
        return self.keywords.get("action") != "store_true"


def _bool(flag: str, help: str, default: bool) -> Option:
    word = "yes" if default else "no"
    keywords = {"type": parse_boolean, "default": default, "metavar": "yes|no"}
    return Option((flag,), f"{help} (default {word})", keywords)


def _value(flag: str, help: str, metavar: str, **keywords: Any) -> Option:
    return Option((flag,), help, {"metavar": metavar, **keywords})


def _many(flag: str, help: str, metavar: str, **keywords: Any) -> Option:
    return _value(flag, help, metavar, action="append", default=[], **keywords)


def _id_option(flag: str, help: str, metavar: str) -> Option:
    """Both land in one list, because the later of the two says whether ids are shifted at all."""
    return _many(flag, help, metavar, dest="id_shifts", type=lambda text: (flag, text))


def _flag(*flags: str, help: str) -> Option:
    return Option(flags, help, {"action": "store_true"})


_VERBOSE = _flag("-v", "--verbose", help="say more on standard error")
_QUIET = _flag("-q", "--quiet", help="no progress and no summary: only results, warnings and errors")
_LOG_LEVEL = Option(
    ("-l", "--log", "--log-level"),
    "err, warning (default), info (choices, second attempts, times), debug (requests and tracebacks)",
    {
        "dest": "log_level",
        "metavar": "LEVEL",
        "type": parse_level,
        "choices": LEVELS,
    },  # the choices are for completion
)


_LOG_FILE = _value(
    "--log-file",
    "write messages to this file, too: warnings, errors and what info tells",
    "FILE",
    type=parse_file,
)


class _LastIsPrimary(argparse.Action):
    """casync's rule for `--store` given several times: the last one is the primary, written to and asked first.

    The earlier ones are further stores to look for chunks in, in front of those of `--extra-store`.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        flag: str | None = None,
    ) -> None:
        if namespace.store is not None and "store_said" in namespace:  # not what is configured
            earlier: int = vars(namespace).get("earlier_stores", 0)
            further = list(namespace.extra_store)
            further.insert(earlier, namespace.store)
            namespace.extra_store = further
            namespace.earlier_stores = earlier + 1
        namespace.store = values
        namespace.store_said = True


_NETWORK = (
    _value("--ca-cert", "trust servers that these certificates vouch for, too", "FILE"),
    _value("--client-cert", "certificate to show to servers of stores, in PEM", "FILE"),
    _value("--client-key", "its key, if it is not in the same file", "FILE"),
    _flag("--trust-insecure", help="do not check certificates of servers"),
    _value(
        "--rate-limit-bps",
        "bytes a second to send and receive at most: 500K, 1.5M",
        "LIMIT",
        type=parse_rate,
    ),
    _value(
        "--encryption-key-file",
        "encrypt chunks, as desync does, with the key in it: 64 hexadecimal digits",
        "FILE",
    ),
    _value(
        "--encryption-algorithm",
        "xchacha20-poly1305 (default) or aes-256-gcm; without a file the key is $DESYNC_ENCRYPTION_KEY",
        "NAME",
    ),
    _value("--chunk-cache", "directory to keep chunks in that come from, or go, far away", "DIR"),
    _value("--chunk-cache-size", "what it may have at most: 500M, 10G", "BYTES", type=parse_bytes),
)

OPTIONS: tuple[Option, ...] = (
    _value(
        "--store",
        "chunk store to use; of several the last is written to and asked first, then the others in order",
        "PATH",
        action=_LastIsPrimary,
    ),
    _many("--extra-store", "further store to look for chunks in", "PATH"),
    *_NETWORK,
    _value("--chunk-size", "average chunk size, or all three", "[MIN:]AVG[:MAX]", default="auto"),
    _value(
        "--digest",
        "sha512-256 (default), sha256, or blake3, which casync and desync refuse",
        "NAME",
        default="default",
    ),
    _value("--compression", "of new chunks: zstd (default), xz, gzip", "NAME", default="default"),
    _value(
        "--layout",
        "of chunks in a store that has none: packs of many, as is usual in buckets, or objects, one each",
        "packs|objects",
        type=one_of(LAYOUTS),
        choices=LAYOUTS,
    ),
    _value("--what", "kind of input or output, when no suffix tells", "KIND"),
    _many("--with", "record or restore only this; repeatable; `help` lists all", "FLAG", dest="with_"),
    _many("--without", "leave this out; repeatable", "FLAG"),
    _bool("--exclude-nodump", "leave out files with the chattr +d flag", True),
    _bool("--exclude-submounts", "leave out what is mounted inside", False),
    _bool("--exclude-file", "obey .caexclude files", True),
    _id_option("--uid-shift", "shift user and group ids", "yes|SHIFT"),
    _id_option("--uid-range", "restrict user and group ids", "yes|RANGE"),
    _many(
        "--seed",
        "file or directory to take unchanged data from, or an index whose file lies beside it; repeatable",
        "PATH|INDEX[:FILE]",
    ),
    _bool("--seed-output", "take unchanged data from the output as it was", True),
    _flag(
        "-k",
        "--in-place",
        help="update the file of a blob where it is, writing only what differs; devices always are",
    ),
    _bool("--reflink", "share blocks with seeds where the file system can", True),
    _bool("--hardlink", "hard-link files that are the same in a seed", False),
    _bool("--punch-holes", "write zeros as holes", True),
    Option(
        ("--delete",),
        "remove what is not in the archive (default yes, where an output is given that is not /)",
        {"type": parse_boolean, "default": None, "metavar": "yes|no"},
    ),
    _value(
        "--compare",
        "what tells that a file is there already: content (default), or metadata: size, time, mode and owner",
        "content|metadata",
        type=one_of(COMPARED),
        choices=COMPARED,
        default="content",
    ),
    _bool("--undo-immutable", "clear the immutable flag of what is in the way", False),
    _flag(
        "--strict", help="fail at the first thing that cannot be read or restored, instead of leaving it out"
    ),
    _bool("--recursive", "list what is in directories too", True),
    _flag("--json", help="print JSON"),
    _flag("-n", "--dry-run", help="only say what would be done"),
    _flag("--yes", help="remove also what indexes need that lie beside the store and are not named"),
    _value(
        "--grace",
        "spare chunks that came within this time: 90, 15m, 24h, 7d (default 0)",
        "DURATION",
        type=parse_duration,
        default=0.0,
    ),
    _value(
        "--wait",
        "how long to wait for others who are at work in the store (default 60)",
        "SECONDS",
        type=parse_duration,
        default=60.0,
    ),
    Option(
        ("-j", "--jobs"),
        "threads to use (default, and 0: one a processor)",
        {"metavar": "N", "type": parse_jobs},
    ),
    _flag(
        "--verify-reused",
        help="read the chunks that the store has already, and replace those that are damaged",
    ),
    _bool("--stream-digest", "hash and print the digest of the whole stream", True),
    _value(
        "--cache",
        "directory to remember the tree in, so that what is unchanged is not read again; no digest is printed",
        "PATH",
    ),
    _value(
        "--cache-check",
        "what counts as unchanged: normal (default), by its times and all else that the kernel tells; or strict: read "
        "again, too, what a program may have changed through a mapping without a trace, that is what had changed "
        "within two minutes before the run that the cache is of, and what is on tmpfs",
        "normal|strict",
        type=one_of(CACHE_CHECKS),
        choices=CACHE_CHECKS,
        default="normal",
    ),
    _flag("-c", "--cache-auto", help="the same, in ~/.cache/pycasync"),
    _VERBOSE,
    _QUIET,
    _flag("--no-progress", help="draw no progress bar"),
    _LOG_LEVEL,
    _LOG_FILE,
    _flag("--background", help="return once it is at work; fusermount3 -u ends a mount, a signal all else"),
    _value("--socket", "Unix socket to serve the device on", "PATH", type=parse_file),
    _flag("--verify", help="mount it only if every chunk is there, and whole"),
    _flag(
        "--fetch", help="fetch meanwhile all that is not in --chunk-cache; a later mount goes on from there"
    ),
    _bool("--mkdir", "make the directory to mount on, if it is not there", True),
)

TAKES_VALUE = {flag: option.takes_value for option in OPTIONS for flag in option.flags}
TAKES_VALUE |= {"-h": False, "--help": False, "-V": False, "--version": False}

NETWORK = tuple(option.flags[-1] for option in _NETWORK)
"""What concerns verbs that open stores."""
READING = ("--store", "--extra-store", *NETWORK)
"""What concerns verbs that read chunks."""
TREES = ("--what", "--with", "--without")
"""What concerns verbs that read or write trees."""

_WHERE_MEANT = (
    *("--dry-run", "--jobs", "--json", "--yes", "--grace", "--wait", "--strict", "--compare", "--in-place"),
    *("--layout", "--verify-reused", "--stream-digest", "--cache-check"),
)
"""Options that casync does not have, or that promise something: a verb that does not show them refuses them."""

RESTORING_STATUS = (
    "The exit status is 0 when everything is restored, 1 when that failed, and 3 when all is there but for attributes "
    "and entries that the target cannot hold, which are listed."
)
STORE_HELP = (
    "--store=PATH is where chunks are; without it $CASYNC_STORE, else default.castr beside the index."
)


def add_options(parser: Parser, *shown: str, but: str | None = None) -> None:
    """Let a verb of casync's take every option of the table that casync has, too, and those that concern it.

    :param shown: those that concern it, which its help shows
    :param but: one that it has a meaning of its own for
    """
    wanted = {*shown, "--verbose", "--quiet", "--log-level", "--log-file"}
    for option in OPTIONS:
        if option.flags[-1] == but:
            continue
        refused = option.flags[-1] in _WHERE_MEANT and option.flags[-1] not in wanted
        if refused or not parser.may_be_meant(option.flags):
            parser.set_defaults(**{option.name: option.default})
            continue
        help_ = option.help if option.flags[-1] in wanted else argparse.SUPPRESS
        parser.add_argument(*option.flags, help=help_, **option.keywords)


def add_general(parser: Parser) -> None:
    """The options that verbs of any group take; a short form that means something else there is left to that."""
    for option in (_VERBOSE, _QUIET, _LOG_LEVEL, _LOG_FILE):
        flags = [flag for flag in option.flags if flag not in parser.takes_value]
        parser.add_argument(*flags, help=option.help, **option.keywords)


def add_network(parser: argparse.ArgumentParser) -> None:
    """The options about connections, for a verb of a group."""
    for option in _NETWORK:
        parser.add_argument(*option.flags, help=option.help, **option.keywords)


def says_of_network(options: argparse.Namespace) -> bool:
    """Whether a command line has one of the options about connections."""
    return any(getattr(options, option.name, None) for option in _NETWORK)


def add_positional(parser: Parser, name: str, help: str, nargs: str | None = None) -> None:
    """An argument that is no option.

    :param help: what it is; the words before the first `:` or `;` stand for it in messages
    :param nargs: `?` where it may be left out, `+` where there may be several, `*` where both
    """
    keywords: dict[str, Any] = {} if nargs is None else {"nargs": nargs}
    parser.add_argument(name, help=help, metavar=help.split(":")[0].split(";")[0], **keywords)
