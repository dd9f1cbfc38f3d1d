"""`pycasync gc`."""

from __future__ import annotations

import argparse

from casync_compat.cli._location import default_store, input_path, open_chunk_store
from casync_compat.cli._options import add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.ids import ChunkId
from casync_compat.streams.trees import load_index
from casync_compat.verbs.gc import collect_garbage

EXAMPLES = (("pycasync gc -n --store=/srv/chunks /srv/*.caidx", "say what would go"),)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "INDEX...",
        "Removes from the store every chunk that is in none of the indexes. Name all indexes that are to live.",
    )
    add_positional(parser, "indexes", "every index whose chunks are to stay", "+")
    add_options(parser, "--store", "--dry-run")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    paths: list[str] = options.indexes
    store = open_chunk_store(options.store or default_store(paths[0]))
    # All indexes are read before anything is removed: one that cannot be read must not cost its chunks.
    indexes = [load_index(input_path(path)) for path in paths]
    dry = options.dry_run

    def on_chunk(id_: ChunkId) -> None:
        print(f"{'Would remove' if dry else 'Removing'} chunk {id_}.cacnk.")

    result = collect_garbage(store, indexes, dry_run=dry, on_chunk=on_chunk if options.verbose else None)
    if options.verbose:
        print(f"Chunk store usage: {result.references} references, {result.needed} chunks")
    if dry:
        print(f"Would remove {result.removed} chunks, {result.remaining} chunks remaining.")
    elif options.verbose:
        print(
            f"Removed {result.removed} chunks, {result.directories} directories, {result.remaining} chunks remaining."
        )
    return 0
