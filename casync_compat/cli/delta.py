"""`pycasync delta`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict

from casync_compat.cli._common import archive_errors, is_stream, source_for
from casync_compat.cli._location import default_store, index_output, is_remote, open_input
from casync_compat.cli._options import READING, STORE_HELP, add_options, add_positional
from casync_compat.cli._parser import Parser, WrongWords
from casync_compat.cli._preview import dry_output
from casync_compat.cli._progress import human_size, progress_line
from casync_compat.index import Index
from casync_compat.streams.inputs import load_index
from casync_compat.verbs.delta import DeltaResult, estimate_delta, make_delta

EXAMPLES = (
    ("pycasync delta v1.caidx v2.caidx -o v2.patch", "what v2 has and v1 has not; `pycasync apply` uses it"),
    ("pycasync delta v1.caidx v2.caidx v3.caidx -o v3.patch", "for places that have v1 and v2"),
    ("pycasync delta --estimate v1.caidx v2.caidx", "how large that would be"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "[BASE...] TARGET",
        "The last index is the one that the update leads to; the others are what is there where it will be used. The"
        " file is a tar, carried by whatever means, with all that the store there lacks."
        f" {STORE_HELP} --estimate needs no store.",
    )
    add_positional(parser, "indexes", "the bases, and the target: .caidx or .caibx files", "+")
    parser.add_argument("-o", "--output", metavar="FILE", help="the update file to make")
    parser.add_argument(
        "--estimate", action="store_true", help="make nothing; print how much is new, from the indexes alone"
    )
    add_options(parser, *READING, "--json", "--jobs", "--dry-run", "--no-progress")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    *names, target = options.indexes
    bases = [(os.fsencode(name), _index(name)) for name in names]
    index = _index(target)
    if options.estimate or options.dry_run:
        dry_output(options.output)
        store = options.store or default_store(target)
        known = options.store is not None or (not is_remote(store) and os.path.isdir(os.fsencode(store)))
        result = estimate_delta(
            index, [base for _, base in bases], source_for(options, target) if known else None
        )
        _tell(result, options.json)
        return 0
    if is_stream(options.output):
        raise WrongWords("say with -o what file to make; standard output cannot be one")
    with (
        index_output(options.output) as path,
        archive_errors(target),
        progress_line(options, "packing", fetched="packed") as line,
    ):
        assert path is not None
        result = make_delta(
            (os.fsencode(target), index),
            bases,
            path,
            source_for(options, target),
            jobs=options.jobs,
            progress=line.callback,
        )
    _tell(result, options.json)
    return 0


def _index(name: str) -> Index:
    return load_index(open_input(name))


def _tell(result: DeltaResult, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(result)))
        return
    share = f"{result.chunks} of {result.target_chunks} chunks"
    print(f"new:     {share}, {result.chunk_bytes} bytes ({human_size(result.chunk_bytes)})")
    if result.stored_bytes is not None:
        print(f"stored:  {result.stored_bytes} bytes ({human_size(result.stored_bytes)})")
    if result.size is not None:
        print(f"file:    {result.size} bytes ({human_size(result.size)})")
    sys.stdout.flush()
