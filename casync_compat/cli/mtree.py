"""`pycasync mtree`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._common import (
    archive_errors,
    id_range,
    open_tree,
    replay_mask,
    shifts,
    tell_losses,
    write_lines,
)
from casync_compat.cli._location import warn
from casync_compat.cli._options import READING, TREES, add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.cli._progress import progress_line
from casync_compat.fs.losses import Losses
from casync_compat.verbs.mtree import manifest

EXAMPLES = (("pycasync mtree etc.caidx > etc.mtree", "with a digest of every file"),)

_PIECE = 2 << 20
"""Bytes read at a time: many files at once can be hashed together."""


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("[INPUT] [PATH INSIDE]")
    add_positional(parser, "input", "archive, index or directory; default .", "?")
    add_positional(parser, "inside", "path inside the archive", "?")
    add_options(parser, *READING, *TREES, "--jobs", "--no-progress")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, inside = options.input, options.inside
    mask = replay_mask(options)
    with archive_errors(source), progress_line(options, "listing") as line:
        losses = Losses(line.above(warn))
        with open_tree(options, source, losses=losses) as tree:
            stream = tree.stream(os.fsencode(inside or ""), piece=_PIECE, on_chunk=line.on_chunk(tree.index))
            ids = id_range(options, tree.kind)
            lines = manifest(stream, mask=mask, shifted=shifts(options), id_range=ids, jobs=options.jobs)
            write_lines(line.before(lines))
    return tell_losses(losses)
