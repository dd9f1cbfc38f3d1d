"""`pycasync self-check`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from casync_compat import __version__
from casync_compat.cli._location import local_path
from casync_compat.cli._options import add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.verbs.self_check import Presence, check

EXAMPLES = (
    ("pycasync self-check", "all that there is, and what each thing is for"),
    ("pycasync self-check /srv", "what the file system of a directory can"),
)

_TITLES = {
    "native": "native modules",
    "library": "libraries",
    "program": "programs",
    "kernel": "kernel",
    "directory": "file system",
}


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "[DIRECTORY]",
        "Tells what is here, and how to get what is not. The exit status is 1 if something is missing without which "
        "nothing works.",
    )
    add_positional(
        parser, "directory", "directory: where to find out what its file system can; default .", "?"
    )
    add_options(parser, "--json")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    findings = list(check(local_path(options.directory or ".")))
    if options.json:
        python = ".".join(map(str, sys.version_info[:3]))
        print(json.dumps({"version": __version__, "python": python, "findings": list(map(asdict, findings))}))
    else:
        _tell(findings)
    return 1 if any(one.needed and not one.there for one in findings) else 0


def _tell(findings: Sequence[Presence]) -> None:
    print(f"pycasync {__version__}, Python {'.'.join(map(str, sys.version_info[:3]))}")
    width = max(len(one.name) for one in findings)
    for kind, title in _TITLES.items():
        print(f"\n{title}:")
        for one in findings:
            if one.kind == kind:
                use = f" ({one.use})" if one.use and not one.there else ""
                print(f"  {'yes' if one.there else 'no':<4} {one.name:<{width}}  {one.what}{use}".rstrip())
