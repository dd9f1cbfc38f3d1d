"""`pycasync apply`."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from dataclasses import asdict

from casync_compat.cli._common import jobs_for
from casync_compat.cli._location import (
    default_store,
    index_output,
    input_path,
    name_of,
    open_chunk_store,
    warn,
)
from casync_compat.cli._options import NETWORK, add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.cli._preview import dry_output
from casync_compat.cli._progress import human_size, progress_line
from casync_compat.compression import Compression
from casync_compat.streams.leasing import writing
from casync_compat.verbs.apply import ApplyResult, apply_delta

EXAMPLES = (
    ("pycasync apply --store=/srv/chunks v2.patch v2.caidx", "its chunks into the store, then the index"),
    ("pycasync apply -n v2.patch v2.caidx", "whether all is there that it builds upon"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "FILE INDEX",
        "FILE is what `pycasync delta` made. Nothing is written unless all of it is whole, and the store has all other"
        " chunks that the index needs. --store=PATH is where chunks go; without it $CASYNC_STORE, else default.castr"
        " beside the index.",
    )
    add_positional(parser, "patch", "an update file")
    add_positional(parser, "index", "the index to make")
    add_options(
        parser,
        "--store",
        *NETWORK,
        "--compression",
        "--layout",
        "--json",
        "--jobs",
        "--dry-run",
        "--wait",
        "--no-progress",
    )


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    index: str = options.index
    store = open_chunk_store(
        options.store or default_store(index), Compression.parse(options.compression), options.layout
    )
    patch = input_path(options.patch)
    dry = options.dry_run
    with (
        writing(None if dry else store, "apply", wait=options.wait, tell=warn) as lease,
        nullcontext(dry_output(index)) if dry else index_output(index) as path,
        progress_line(options, "applying") as line,
    ):
        result = apply_delta(
            patch,
            name_of(index) if path is None else path,
            store,
            lease=lease,
            dry=dry,
            jobs=jobs_for(options, index),
            progress=line.callback,
        )
    if not options.quiet or dry or options.json:
        _tell(result, index, dry, options.json)
    return 0


def _tell(result: ApplyResult, index: str, dry: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**({"dry_run": True} if dry else {}), **asdict(result)}))
    elif dry:
        print(f"Would store {result.new} of {result.chunks} chunks and write {index}")
    else:
        print(f"{result.new} of {result.chunks} chunks were new, {human_size(result.new_bytes)} stored")
