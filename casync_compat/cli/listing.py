"""`pycasync list` and `pycasync mtree`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._common import archive_errors, arguments, open_tree, replay_mask, shifts, write_lines
from casync_compat.lines import json_lines, list_lines

_HASHED = 2 << 20
"""Bytes read at a time where contents count: many files at once can be hashed together."""
_PASSED = 256 << 10
"""The same where they are passed over."""


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, inside = arguments(options)
    mask = replay_mask(options)
    contents = options.verb == "mtree"  # its lines have digests
    with archive_errors(source), open_tree(options, source, contents=contents) as tree:
        stream = tree.stream(os.fsencode(inside or ""), piece=_HASHED if contents else _PASSED)
        if options.verb == "mtree":
            from casync_compat.verbs.mtree import manifest  # lazily: it needs threads, which list does not

            write_lines(manifest(stream, mask=mask, shifted=shifts(options), jobs=options.jobs))
        elif options.json:
            write_lines(json_lines(stream, recursive=options.recursive, mask=mask))
        else:
            write_lines(list_lines(stream, recursive=options.recursive))
    return 0
