"""`pycasync info`."""

from __future__ import annotations

import argparse
import json
import os

from casync_compat.cli._common import source_for
from casync_compat.cli._location import default_store, is_remote, open_input
from casync_compat.cli._options import NETWORK, add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.cli._progress import human_size
from casync_compat.streams.inputs import load_index
from casync_compat.verbs.info import IndexInfo, describe
from catar.flags import flag_names

EXAMPLES = (("pycasync info etc.caidx", "a short report"), ("pycasync info --json etc.caidx", "for programs"))


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("INDEX")
    add_positional(parser, "index", "a .caidx or .caibx file")
    add_options(parser, "--store", *NETWORK, "--json")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    path: str = options.index
    index = load_index(None if path == "-" else open_input(path))
    store = options.store or default_store(path)
    known = options.store is not None or is_remote(store) or os.path.isdir(os.fsencode(store))
    info = describe(index, source_for(options, path) if known else None)
    if options.json:
        print(json.dumps(info.to_json()))
    else:
        print("\n".join(_lines(info)))
    return 0


def _lines(info: IndexInfo) -> list[str]:
    lines = [
        f"digest:       {info.digest}",
        f"features:     {' '.join(flag_names(info.feature_flags)) or 'none'} ({info.feature_flags:#x})",
        f"chunk sizes:  {info.chunk_size_min}:{info.chunk_size_avg}:{info.chunk_size_max}",
        f"size:         {info.size} ({human_size(info.size)})",
        f"chunks:       {info.chunks}, {info.smallest} to {info.largest} bytes",
        f"unique:       {info.unique}, {info.unique_size} bytes ({human_size(info.unique_size)})",
    ]
    if info.in_store is not None:
        lines.append(f"in the store: {info.in_store} of {info.unique} unique chunks")
    if info.chunks:
        lines.append("distribution:")
    for up_to, count in info.distribution:
        bar = "#" * max(1, round(50 * count / info.chunks))
        lines.append(f"  up to {human_size(up_to):>8}  {count:>8}  {bar}")
    return lines
