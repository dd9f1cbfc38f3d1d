"""`pycasync oci delete`."""

from __future__ import annotations

import argparse

from casync_compat.cli._parser import WrongWords
from casync_compat.cli.oci._common import opened, references
from casync_compat.cli.oci._options import add_image, add_registry
from casync_compat.oci.delete import delete_image

EXAMPLES = (
    ("pycasync oci delete oci:images:app", "then `pycasync oci gc oci:images` frees what only that needed"),
    ("pycasync oci delete docker://host/app@sha256:...", "in a registry that allows it"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.description = (
        f"{parser.description} In a layout only the tag goes. A registry deletes what the tag leads to, so that "
        "all other tags of the same image go, too: nothing is done where there are some, unless the image is named by "
        "its digest. Blobs stay until the registry collects them."
    )
    add_image(parser, "image", "the image, with its tag or digest, oci: or docker://")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be done")
    add_registry(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (image,) = references(options.image)
    if image.transport == "dir":
        raise WrongWords(f"{image}: such a directory is one image; remove it with rm -r")
    if image.target is None:
        raise WrongWords(f"{image}: name the tag or digest that is to go")
    with opened(options) as places:
        gone = delete_image(places.writable(image, change=True), image, dry_run=options.dry_run)
    print(f"{'Would delete' if options.dry_run else 'Deleted'} {image}, which is {gone.digest}")
    return 0
