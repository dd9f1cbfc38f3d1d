"""`pycasync gc`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._location import default_store, open_chunk_store, open_input, warn
from casync_compat.cli._options import NETWORK, add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.cli._process import is_own
from casync_compat.cli._progress import progress_line
from casync_compat.ids import ChunkId
from casync_compat.progress import human_size
from casync_compat.store import processes
from casync_compat.streams.inputs import load_index
from casync_compat.verbs.gc import collect_garbage, unnamed_message

EXAMPLES = (
    ("pycasync gc -n --store=/srv/chunks /srv/*.caidx /srv/*.caibx", "say what would go"),
    (
        "pycasync gc --grace=1d *.caidx *.caibx",
        "spare what came since yesterday, for whoever is not waited for",
    ),
    ("pycasync gc --yes last.caidx", "drop what only other indexes beside the store need"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "INDEX...",
        "Removes from the store every chunk that is in none of the indexes. Name all indexes that are to live, of "
        "trees (.caidx) and of blobs (.caibx). When others in the directory that holds the store would lose chunks, "
        "or cannot be read, nothing is removed without --yes. What appears there, or beside named ones, once this is "
        "started counts as named. Runs of pycasync that write to the store are waited for, "
        "also those of other machines; for stores that casync or desync fill meanwhile there is --grace.",
    )
    add_positional(parser, "indexes", "every index whose chunks are to stay", "+")
    add_options(parser, "--store", *NETWORK, "--dry-run", "--yes", "--wait", "--grace", "--no-progress")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    paths: list[str] = options.indexes
    store = open_chunk_store(options.store or default_store(paths[0]))
    if options.extra_store:
        warn(f"gc works on one store, {store.name}; the others are left as they are")
    # All indexes are read before anything is removed: one that cannot be read must not cost its chunks.
    indexes = (load_index(open_input(path)) for path in paths)
    dry = options.dry_run

    def on_chunk(id_: ChunkId) -> None:
        print(f"{'Would remove' if dry else 'Removing'} chunk {id_}.cacnk.")

    with progress_line(options, "collecting") as line:
        result = collect_garbage(
            store,
            indexes,
            progress=line.callback,
            dry_run=dry,
            ignore_unnamed=options.yes,
            grace=options.grace,
            wait=options.wait,
            named=map(os.fsencode, paths),
            began=processes.began()
            if is_own()
            else None,  # until then whoever named the indexes saw them all
            on_chunk=on_chunk if options.verbose else None,
            tell=line.above(warn),
        )
    if result.unnamed and dry and not options.yes:
        warn(unnamed_message(result.unnamed))
    if options.verbose:
        print(f"Chunk store usage: {result.references} references, {result.needed} chunks")
    spared = f", {result.spared} of them spared because they are young" if result.spared else ""
    if dry:
        print(f"Would remove {result.removed} chunks, {result.remaining} chunks remaining{spared}.")
    elif not options.quiet:
        print(
            f"Removed {result.removed} chunks, {result.directories} directories, "
            f"{result.remaining} chunks remaining{spared}."
        )
        print(f"Freed {human_size(result.freed)}.")
    return 0
