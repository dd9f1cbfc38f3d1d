"""`pycasync oci gc`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._parser import WrongWords
from casync_compat.cli._progress import human_size
from casync_compat.cli.oci._common import references
from casync_compat.oci.gc import collect
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.spec.descriptor import BlobDigest

EXAMPLES = (("pycasync oci gc -n oci:images", "say what would go"),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("layout", metavar="LAYOUT", help="oci:DIRECTORY")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be done")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (reference,) = references(options.layout)
    if reference.transport != "oci" or reference.target is not None:
        raise WrongWords(f"{options.layout}: garbage is collected in a whole layout; write oci:DIRECTORY")
    dry = options.dry_run

    def on_blob(digest: BlobDigest, size: int) -> None:
        print(f"{'Would remove' if dry else 'Removing'} blob {digest} ({human_size(size)})")

    with Layout(os.fsencode(reference.place)) as layout:
        done = collect(layout, dry_run=dry, on_blob=on_blob if dry or options.verbose else None)
    verb = "Would remove" if dry else "Removed"
    if options.quiet and not dry:
        return 0
    print(
        f"{verb} {done.removed} blobs of {human_size(done.freed)} and {done.leftovers} temporary files, "
        f"{done.kept} blobs remaining."
    )
    return 0
