"""`pycasync cat`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._common import archive_errors, arguments, open_tree, source_for
from casync_compat.cli._location import input_path
from casync_compat.errors import UsageError
from casync_compat.fs.standard import StandardOutput
from casync_compat.kinds import Kind
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream
from casync_compat.streams.trees import load_index


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, inside = arguments(options)
    assert source is not None
    kind = Kind.parse(options.what) if options.what else Kind.of_suffix(os.fsencode(source))
    if kind is Kind.BLOB_INDEX:
        if inside:
            raise UsageError("a blob has no paths inside")
        _cat_blob(options, source)
        return 0
    if not inside:
        raise UsageError("say which file: pycasync cat INPUT PATH")
    out = StandardOutput()
    with archive_errors(source), open_tree(options, source) as tree:
        archive = tree.archive()
        with archive.open(os.fsencode(inside)) as file:
            while piece := file.read(1 << 18):
                out.write(piece)
    return 0


def _cat_blob(options: argparse.Namespace, source: str) -> None:
    path = None if source == "-" else input_path(source)
    index = load_index(path)
    out = StandardOutput()
    with ChunkStream(ChunkFetcher(index, source_for(options, source), path), jobs=options.jobs) as stream:
        while data := stream.read():
            out.write(data)
