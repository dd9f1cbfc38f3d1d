"""`pycasync convert-index`."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext

from casync_compat.chunker import ChunkSizes
from casync_compat.cli._common import archive_errors, input_kind, source_for
from casync_compat.cli._location import (
    default_store,
    index_output,
    name_of,
    open_chunk_store,
    open_input,
    warn,
)
from casync_compat.cli._options import READING, add_options, add_positional
from casync_compat.cli._parser import Parser, WrongWords
from casync_compat.cli._preview import dry_output, tell_preview
from casync_compat.cli._progress import progress_line
from casync_compat.compression import Compression
from casync_compat.ids import Digest
from casync_compat.kinds import Kind
from casync_compat.store.dry import DryStore
from casync_compat.streams.leasing import writing
from casync_compat.verbs.convert_index import convert_index

EXAMPLES = (
    ("pycasync convert-index disk.caibx for-casync.caibx", "as `make` would have made it by default"),
    ("pycasync convert-index --extra-store=fast.castr --store=new.castr a.caidx b.caidx", "two stores"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "INDEX OUTPUT", "Chunks are read from --store and --extra-store, and the new ones go to --store."
    )
    add_positional(parser, "index", "a .caidx or .caibx file")
    add_positional(parser, "output", "the index to make")
    add_options(
        parser,
        *READING,
        "--chunk-size",
        "--digest",
        "--compression",
        "--layout",
        "--dry-run",
        "--wait",
        "--jobs",
    )


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, output = options.index, options.output
    assert source is not None
    assert output is not None
    kind = input_kind(options, source)
    if kind is None or kind is not Kind.of_suffix(name_of(output)):
        raise WrongWords("both must be named alike: two .caidx or two .caibx files")
    store = open_chunk_store(
        options.store or default_store(output), Compression.parse(options.compression), options.layout
    )
    dry = options.dry_run
    sink = DryStore(store) if dry else store
    with (
        writing(sink, "convert-index", wait=options.wait, tell=warn) as lease,
        nullcontext(dry_output(output)) if dry else index_output(output) as path,
        archive_errors(source),
        progress_line(options, "converting") as line,
    ):
        result = convert_index(
            kind,
            open_input(source),
            os.fsencode(os.devnull) if dry or path is None else path,
            source_for(options, source),
            sink,
            digest=Digest.parse(options.digest),
            sizes=ChunkSizes.parse(options.chunk_size),
            jobs=options.jobs,
            lease=lease,
            progress=line.callback,
        )
    if dry:
        tell_preview(output, result, sys.stdout)
    else:
        print(result.digest)
    return 0
