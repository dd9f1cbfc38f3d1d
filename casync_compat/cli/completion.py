"""`pycasync completion`: scripts for bash, zsh and tcsh, made by shtab from the option table."""

from __future__ import annotations

import argparse

from casync_compat.cli import oci
from casync_compat.cli._args import VERBS, parser_for
from casync_compat.errors import UsageError

_SHELLS = ("bash", "zsh", "tcsh")


def combined_parser() -> argparse.ArgumentParser:
    """One parser with a sub command for every verb, as shtab wants it."""
    parser = argparse.ArgumentParser(prog="pycasync", description="casync-compatible archiver")
    verbs = parser.add_subparsers(dest="verb")
    for verb in VERBS.values():
        verbs.add_parser(
            verb.name,
            help=verb.summary,
            parents=[parser_for(verb)],
            add_help=False,
            conflict_handler="resolve",
        )
    oci.fill(verbs.add_parser("oci", help=oci.SUMMARY))
    return parser


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    shell: str = options.argument0
    if shell not in _SHELLS:
        raise UsageError(f"no completion for {shell!r}; there is one for {', '.join(_SHELLS)}")
    try:
        import shtab
    except ImportError as error:
        raise UsageError(
            "completion needs the Python package shtab: pip install 'pycasync[completion]'"
        ) from error
    print(shtab.complete(combined_parser(), shell))
    return 0
