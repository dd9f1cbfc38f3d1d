"""`pycasync oci VERB`: container images. Each verb is a module here, imported when it is used.

Such a module has `SUMMARY`, one line; `EXAMPLES`, command lines with their meaning; `add_arguments(parser)`; and
`run(options)`, which returns the exit status.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from types import ModuleType
from typing import NoReturn, Protocol

from casync_compat.errors import UsageError

__all__ = ["SUMMARY", "VERBS", "fill", "run"]

SUMMARY = "container images made of casync indexes: convert, export, push, pull and more"
VERBS = (
    *("convert", "export", "push", "pull", "ls", "cat", "unpack", "checkout"),
    *("verify", "inspect", "stats", "repack", "gc"),
)
_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug", *map(str, range(8)))


class Settings(Protocol):
    """How errors are told; `casync_compat.cli` keeps it."""

    log_level: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def _module(verb: str) -> ModuleType:
    return import_module(f"casync_compat.cli.oci.{verb.replace('-', '_')}")


def _describe(parser: argparse.ArgumentParser, module: ModuleType) -> None:
    """Give a verb's parser its texts and arguments."""
    summary: str = module.SUMMARY
    shown = "\n".join(f"  {command}\n      {meaning}" for command, meaning in module.EXAMPLES)
    parser.description = f"{summary[0].upper()}{summary[1:]}."
    parser.epilog = (
        f"examples:\n{shown}\n\nImages are named oci:DIRECTORY[:TAG], docker-archive:FILE[:NAME:TAG] or "
        "docker://HOST/REPOSITORY[:TAG|@DIGEST]."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    module.add_arguments(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="say more on standard error")
    parser.add_argument(
        "-l",
        "--log-level",
        metavar="LEVEL",
        choices=_LEVELS,
        help="debug, info, warning, err; debug shows tracebacks",
    )


def fill(parser: argparse.ArgumentParser) -> None:
    """Make all verbs sub commands of a parser, for completion scripts."""
    verbs = parser.add_subparsers(dest="oci_verb")
    for verb in VERBS:
        module = _module(verb)
        _describe(verbs.add_parser(verb, help=module.SUMMARY), module)


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {_module(verb).SUMMARY}" for verb in VERBS)
    return (
        "usage: pycasync oci VERB [OPTIONS] [ARGUMENTS]\n\n"
        f"{SUMMARY[0].upper()}{SUMMARY[1:]}.\n\n"
        f"verbs:\n{verbs}\n\n"
        "examples:\n"
        "  pycasync oci convert docker://host/app:1 docker://host/app:1-casync   convert; plain tools go on working\n"
        "  pycasync oci export docker://host/app:1-casync oci:app:1              and back, to the bit\n\n"
        "`pycasync oci VERB --help` explains a verb and its options.\n"
    )


def run(words: list[str], settings: Settings) -> int:
    """Run a verb. Returns the exit status.

    :param words: what stood on the command line, without `oci`
    """
    verb = next((word for word in words if not word.startswith("-")), None)
    if verb is None:
        if any(word in ("-h", "--help") for word in words):
            sys.stdout.write(_help())
            return 0
        raise UsageError("no verb given; see `pycasync oci --help`")
    if verb not in VERBS:
        from difflib import get_close_matches

        close = get_close_matches(verb, VERBS, 1)
        hint = f"did you mean {close[0]}?" if close else "see `pycasync oci --help` for all there are"
        raise UsageError(f"unknown verb 'oci {verb}'; {hint}")
    rest = list(words)
    rest.remove(verb)
    module = _module(verb)
    parser = _Parser(prog=f"pycasync oci {verb}")
    _describe(parser, module)
    try:
        options = parser.parse_intermixed_args(rest)
    except SystemExit as done:  # argparse leaves this way after --help
        return int(done.code or 0)
    settings.log_level = options.log_level or settings.log_level
    status: int = module.run(options)
    return status
