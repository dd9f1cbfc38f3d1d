"""`pycasync store explode`."""

from __future__ import annotations

import argparse

from casync_compat.cli._location import open_mixed, warn
from casync_compat.cli._progress import human_size, progress_line
from casync_compat.cli.store.pack import add_layout_options
from casync_compat.verbs.layout import explode_store

EXAMPLES = (("pycasync store explode /srv/default.castr", "back to what casync and desync read"),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("store", metavar="STORE", help="the chunk store")
    add_layout_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    store = open_mixed(options.store)
    with progress_line(options, "exploding") as line:
        done = explode_store(store, wait=options.wait, tell=line.above(warn), progress=line.callback)
    if not options.quiet:
        print(f"Gave {done.moved} chunks of {human_size(done.size)} files of their own.")
    return 1 if done.left else 0
