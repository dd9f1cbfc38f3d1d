"""`pycasync stat`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._common import archive_errors, arguments, open_tree, replay_mask, shifts, write_lines
from casync_compat.kinds import Kind
from casync_compat.verbs.stat import read_stat, stat_json, stat_lines


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, inside = arguments(options)
    mask = replay_mask(options)
    with archive_errors(source), open_tree(options, source) as tree:
        about = read_stat(tree.stream(os.fsencode(inside or "")))
        if options.json:
            write_lines([stat_json(about, mask=mask)])
        else:
            scanned = tree.kind is Kind.DIRECTORY
            write_lines(stat_lines(about, mask=mask, scanned=scanned, shifted=shifts(options)))
    return 0
