"""`pycasync completion`: scripts for bash, zsh and tcsh, made by shtab from all parsers."""

from __future__ import annotations

import argparse

from casync_compat.cli._options import add_options, add_positional
from casync_compat.cli._parser import Parser, WrongWords
from casync_compat.cli._verbs import whole_parser
from casync_compat.errors import UsageError

EXAMPLES = (("pycasync completion bash > ~/.local/share/bash-completion/completions/pycasync", "install it"),)

_SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("bash|zsh|tcsh")
    add_positional(parser, "shell", "the shell")
    add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    shell: str = options.shell
    if shell not in _SHELLS:
        raise WrongWords(f"no completion for {shell!r}; there is one for {', '.join(_SHELLS)}")
    try:
        import shtab
    except ImportError as error:
        raise UsageError(
            "completion needs the Python package shtab: pip install 'pycasync[completion]'"
        ) from error
    print(shtab.complete(whole_parser(), shell))
    return 0
