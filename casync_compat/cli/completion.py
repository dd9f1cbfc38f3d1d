"""`pycasync completion`: scripts for shells, and the answers to what these ask."""

from __future__ import annotations

import argparse
import os
import sys

from casync_compat.cli._complete import SHELLS, answer, words_of
from casync_compat.cli._options import add_options, add_positional
from casync_compat.cli._parser import Parser, WrongWords

EXAMPLES = (
    ("pycasync completion bash > ~/.local/share/bash-completion/completions/pycasync", "install it"),
    ("pycasync completion zsh > ~/.zfunc/_pycasync", "in a directory of $fpath"),
    ("pycasync completion fish > ~/.config/fish/completions/pycasync.fish", "and for fish"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "bash|zsh|fish [-- WORD...]",
        "The scripts are also where shells look for them, below share/, where the package is installed. They ask this "
        "verb what may stand in place of the last word.",
    )
    add_positional(parser, "shell", "bash, zsh or fish")
    add_positional(parser, "words", "words: complete the last of these", "*")
    parser.add_argument("--line", metavar="TEXT", help="complete the last word of this command line")
    add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    shell: str = options.shell
    if shell not in SHELLS:
        raise WrongWords(f"no completion for {shell!r}; there is one for {', '.join(SHELLS)}")
    if options.line is None and not options.words:
        path = os.path.join(os.path.dirname(__file__), "completions", SHELLS[shell])
        with open(path, encoding="utf-8") as file:
            sys.stdout.write(file.read())
        return 0
    words, quoted = (options.words, False) if options.line is None else words_of(options.line)
    for line in answer(shell, words, quoted=quoted, breaks=os.environ.get("COMP_WORDBREAKS", "")):
        print(line)
    return 0
