"""`pycasync list`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._common import archive_errors, open_tree, replay_mask, tell_losses, write_lines
from casync_compat.cli._location import warn
from casync_compat.cli._options import READING, TREES, add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.cli._progress import progress_line
from casync_compat.fs.losses import Losses
from casync_compat.lines import json_lines, list_lines

EXAMPLES = (
    ("pycasync list etc.caidx", "modes and names"),
    ("pycasync list --json etc.caidx | jq .name", "one JSON object a line"),
)

_PIECE = 256 << 10
"""Bytes read at a time; contents are passed over."""


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("[INPUT] [PATH INSIDE]")
    add_positional(parser, "input", "archive, index or directory; default .", "?")
    add_positional(parser, "inside", "path inside the archive", "?")
    add_options(parser, *READING, *TREES, "--recursive", "--json", "--jobs", "--no-progress")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, inside = options.input, options.inside
    mask = replay_mask(options)
    with archive_errors(source), progress_line(options, "listing") as line:
        losses = Losses(line.above(warn))
        with open_tree(options, source, contents=False, losses=losses) as tree:
            stream = tree.stream(os.fsencode(inside or ""), piece=_PIECE, on_chunk=line.on_chunk(tree.index))
            if options.json:
                lines = json_lines(stream, recursive=options.recursive, mask=mask)
            else:
                lines = list_lines(stream, recursive=options.recursive)
            write_lines(line.before(lines))
    return tell_losses(losses)
