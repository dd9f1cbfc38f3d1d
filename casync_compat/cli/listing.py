"""`pycasync list`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._common import archive_errors, arguments, open_tree, replay_mask, write_lines
from casync_compat.lines import json_lines, list_lines

_PIECE = 256 << 10
"""Bytes read at a time; contents are passed over."""


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, inside = arguments(options)
    mask = replay_mask(options)
    with archive_errors(source), open_tree(options, source, contents=False) as tree:
        stream = tree.stream(os.fsencode(inside or ""), piece=_PIECE)
        if options.json:
            write_lines(json_lines(stream, recursive=options.recursive, mask=mask))
        else:
            write_lines(list_lines(stream, recursive=options.recursive))
    return 0
