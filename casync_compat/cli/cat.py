"""`pycasync cat`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._common import archive_errors, input_kind, open_tree, source_for
from casync_compat.cli._location import open_input
from casync_compat.cli._options import READING, add_options, add_positional
from casync_compat.cli._parser import Parser, WrongWords
from casync_compat.errors import UsageError
from casync_compat.fs.standard import StandardOutput
from casync_compat.kinds import Kind
from casync_compat.streams.filetree import ArchiveFiles
from casync_compat.streams.inputs import load_index, path_of
from casync_compat.verbs.cat import cat, cat_blob

EXAMPLES = (("pycasync cat etc.caidx passwd", "fetches only the chunks it needs"),)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("INPUT [PATH INSIDE]")
    add_positional(parser, "input", "archive or index")
    add_positional(parser, "inside", "path inside; not for a blob index", "?")
    add_options(parser, *READING, "--jobs")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, inside = options.input, options.inside
    assert source is not None
    kind = input_kind(options, source)
    if kind is Kind.BLOB_INDEX:
        if inside:
            raise UsageError("a blob has no paths inside")
        _cat_blob(options, source)
        return 0
    if not inside:
        raise WrongWords("say which file: pycasync cat INPUT PATH")
    out = StandardOutput()
    with archive_errors(source), open_tree(options, source) as tree:
        for piece in cat(ArchiveFiles(tree.archive(), tree.path), os.fsencode(inside)):
            out.write(piece)
    return 0


def _cat_blob(options: argparse.Namespace, source: str) -> None:
    where = None if source == "-" else open_input(source)
    store = source_for(options, source)
    index = load_index(where, store)
    out = StandardOutput()
    for piece in cat_blob(index, store, path_of(where), jobs=options.jobs):
        out.write(piece)
