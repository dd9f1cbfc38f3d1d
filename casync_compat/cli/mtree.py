"""`pycasync mtree`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._common import archive_errors, arguments, open_tree, replay_mask, shifts, write_lines
from casync_compat.verbs.mtree import manifest

_PIECE = 2 << 20
"""Bytes read at a time: many files at once can be hashed together."""


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, inside = arguments(options)
    mask = replay_mask(options)
    with archive_errors(source), open_tree(options, source) as tree:
        stream = tree.stream(os.fsencode(inside or ""), piece=_PIECE)
        write_lines(manifest(stream, mask=mask, shifted=shifts(options), jobs=options.jobs))
    return 0
