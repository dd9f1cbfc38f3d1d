"""`pycasync copy`."""

from __future__ import annotations

import argparse

from casync_compat.cli._common import jobs_at
from casync_compat.cli._location import index_location, warn
from casync_compat.cli._options import add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.cli._progress import progress_line
from casync_compat.cli.mirror import COPYING, RUNNING, STORES, Telling, add_source_store, stores, tell
from casync_compat.streams.leasing import writing
from casync_compat.verbs.mirror import copy_one

EXAMPLES = (
    ("pycasync copy https://example.com/etc.caidx etc.caidx", "the index, its chunks into default.castr"),
    ("pycasync copy disk.caibx s3://bucket/disk.caibx", "and what is here to a bucket"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "SOURCE TARGET",
        "Copies an index with the chunks that it needs and that are not there, or a plain archive. The index appears "
        f"when all its chunks are there. {STORES}",
    )
    add_positional(parser, "source", "SOURCE: an index or archive")
    add_positional(parser, "target", "TARGET: its name at the other place")
    add_source_store(parser)
    add_options(parser, *COPYING, *RUNNING)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, target = index_location(options.source), index_location(options.target)
    chunks, store = stores(options, options.source, options.target)
    with (
        writing(None if options.dry_run else store, "copy", wait=options.wait, tell=warn) as lease,
        progress_line(options, "copying", fetched="fetched") as line,
    ):
        result = copy_one(
            source,
            target,
            chunks,
            store,
            dry=options.dry_run,
            jobs=jobs_at(options, options.store or options.target),
            lease=lease,
            on_file=Telling(options, line),
            progress=line.callback,
        )
    tell(result, options)
    return 0
