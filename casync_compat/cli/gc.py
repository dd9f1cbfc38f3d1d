"""`pycasync gc`."""

from __future__ import annotations

import argparse
import sys

from casync_compat.cli._location import default_store, input_path, open_chunk_store
from casync_compat.cli._options import add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.ids import ChunkId
from casync_compat.progress import human_size
from casync_compat.streams.trees import load_index
from casync_compat.verbs.gc import collect_garbage, unnamed_message

EXAMPLES = (
    ("pycasync gc -n --store=/srv/chunks /srv/*.caidx /srv/*.caibx", "say what would go"),
    ("pycasync gc --yes last.caidx", "drop what only other indexes beside the store need"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "INDEX...",
        "Removes from the store every chunk that is in none of the indexes. Name all indexes that are to live, of "
        "trees (.caidx) and of blobs (.caibx). When others in the directory that holds the store would lose chunks, "
        "or cannot be read, nothing is removed without --yes.",
    )
    add_positional(parser, "indexes", "every index whose chunks are to stay", "+")
    add_options(parser, "--store", "--dry-run", "--yes")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    paths: list[str] = options.indexes
    store = open_chunk_store(options.store or default_store(paths[0]))
    # All indexes are read before anything is removed: one that cannot be read must not cost its chunks.
    indexes = [load_index(input_path(path)) for path in paths]
    dry = options.dry_run

    def on_chunk(id_: ChunkId) -> None:
        print(f"{'Would remove' if dry else 'Removing'} chunk {id_}.cacnk.")

    result = collect_garbage(
        store,
        indexes,
        dry_run=dry,
        ignore_unnamed=options.yes,
        on_chunk=on_chunk if options.verbose else None,
    )
    if result.unnamed and dry and not options.yes:
        print(f"pycasync: warning: {unnamed_message(result.unnamed)}", file=sys.stderr)
    if options.verbose:
        print(f"Chunk store usage: {result.references} references, {result.needed} chunks")
    if dry:
        print(f"Would remove {result.removed} chunks, {result.remaining} chunks remaining.")
    else:
        print(
            f"Removed {result.removed} chunks, {result.directories} directories, {result.remaining} chunks remaining."
        )
        print(f"Freed {human_size(result.freed)}.")
    return 0
