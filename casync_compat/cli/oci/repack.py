"""`pycasync oci repack`."""

from __future__ import annotations

import argparse

from casync_compat.cli._progress import human_size
from casync_compat.cli.oci._common import at_work, references, tag_for, tell_traffic
from casync_compat.cli.oci._options import add_image, add_progress, add_registry
from casync_compat.oci.repack import Repacked, repack

EXAMPLES = (
    ("pycasync oci repack oci:images:app", "then `pycasync oci gc oci:images` takes the old packs away"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "image", "a converted image, oci: or docker://")
    add_registry(parser)
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (image,) = references(options.image)
    done: list[Repacked] = []
    with at_work(options, "repacking") as (places, line):
        to = places.writable(image, change=True)
        root = repack(to, tag_for(image, image), done.append, progress=line.callback)
        if options.verbose:
            tell_traffic(places)
    print(root.digest)
    for one in () if options.quiet else done:
        print(
            f"{one.packs_before} packs of {human_size(one.bytes_before)} became "
            f"{one.packs_after} of {human_size(one.bytes_after)}"
        )
    return 0
