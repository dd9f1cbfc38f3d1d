"""`pycasync list` and `pycasync mtree`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._common import archive_errors, arguments, open_tree, replay_mask, shifts, write_lines
from casync_compat.listing import json_lines, list_lines, mtree_lines


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, inside = arguments(options)
    mask = replay_mask(options)
    contents = options.verb == "mtree"  # its lines have digests
    with archive_errors(source), open_tree(options, source, contents=contents) as tree:
        stream = tree.stream(os.fsencode(inside or ""))
        if options.verb == "mtree":
            write_lines(mtree_lines(stream, mask=mask, shifted=shifts(options)))
        elif options.json:
            write_lines(json_lines(stream, recursive=options.recursive, mask=mask))
        else:
            write_lines(list_lines(stream, recursive=options.recursive))
    return 0
