"""`pycasync store pack`."""

from __future__ import annotations

import argparse

from casync_compat.cli._location import open_input, open_mixed, warn
from casync_compat.cli._options import add_network
from casync_compat.cli._parser import WrongWords
from casync_compat.cli._progress import human_size, progress_line
from casync_compat.cli._types import parse_duration
from casync_compat.streams.inputs import load_index
from casync_compat.verbs.layout import pack_store, rebuild_store

EXAMPLES = (
    ("pycasync store pack s3://bucket/store disk.caibx", "what disk.caibx needs lies together, in its order"),
    ("pycasync store pack --rebuild /srv/default.castr", "make a lost index anew from the packs"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("store", metavar="STORE", help="the chunk store")
    parser.add_argument(
        "indexes", metavar="INDEX", nargs="*", help="whose chunks are to lie together; optional"
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="make the index of a packed store anew from its packs, and no more",
    )
    add_layout_options(parser)


def add_layout_options(parser: argparse.ArgumentParser) -> None:
    """What both verbs take."""
    parser.add_argument(
        "--wait",
        type=parse_duration,
        metavar="SECONDS",
        help="how long to wait for others who write (default 60)",
    )
    parser.add_argument("--no-progress", action="store_true", help="draw no progress bar")
    add_network(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    store = open_mixed(options.store)
    if options.rebuild:
        if options.indexes:
            raise WrongWords("--rebuild takes all chunks of all packs; name no index")
        count = rebuild_store(store, wait=options.wait, tell=warn)
        if not options.quiet:
            print(f"{count} chunks are in the index.")
        return 0
    indexes = [load_index(open_input(path)) for path in options.indexes]
    with progress_line(options, "packing") as line:
        done = pack_store(store, indexes, wait=options.wait, tell=line.above(warn), progress=line.callback)
    if not options.quiet:
        print(f"Put {done.moved} chunks of {human_size(done.size)} into packs.")
    return 1 if done.left else 0
