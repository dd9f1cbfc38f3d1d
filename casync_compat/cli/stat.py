"""`pycasync stat`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._common import archive_errors, id_range, open_tree, replay_mask, shifts, write_lines
from casync_compat.cli._options import READING, TREES, add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.kinds import Kind
from casync_compat.verbs.stat import read_stat, stat_json, stat_lines

EXAMPLES = (("pycasync stat etc.caidx passwd", "metadata, digest and hard link digest"),)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("[INPUT] [PATH INSIDE]")
    add_positional(parser, "input", "archive, index or directory; default .", "?")
    add_positional(parser, "inside", "path inside the archive", "?")
    add_options(parser, *READING, *TREES, "--json", "--jobs")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, inside = options.input, options.inside
    mask = replay_mask(options)
    with archive_errors(source), open_tree(options, source) as tree:
        about = read_stat(tree.stream(os.fsencode(inside or "")))
        if options.json:
            write_lines(stat_json(about, mask=mask))
        else:
            scanned = tree.kind is Kind.DIRECTORY
            ids = id_range(options, tree.kind)
            write_lines(stat_lines(about, mask=mask, scanned=scanned, shifted=shifts(options), id_range=ids))
    return 0
