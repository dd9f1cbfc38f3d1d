"""`pycasync oci checkout`."""

from __future__ import annotations

import argparse
import json
import sys

from casync_compat.cli._common import INCOMPLETE, left_out_json
from casync_compat.cli._location import local_path
from casync_compat.cli._progress import human_size
from casync_compat.cli.oci._common import at_work, references, tell_traffic, warn
from casync_compat.cli.oci._options import add_image, add_json, add_progress, add_reading, add_tree
from casync_compat.cli.oci._tree import image_tree
from casync_compat.oci.checkout import CheckoutOptions, CheckoutResult, Link, checkout

EXAMPLES = (
    (
        "pycasync oci checkout --file-store=/srv/files docker://host/app:2 root",
        "reflinks, or else hard links",
    ),
    (
        "pycasync oci checkout --file-store=/srv/files --link=hardlink oci:images:app root",
        "shares the page cache, too; do not write into the files",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "image", "the image, converted or plain")
    parser.add_argument("directory", metavar="DIR", help="the directory to make")
    parser.add_argument(
        "--file-store", metavar="PATH", required=True, help="the store of files; made when missing"
    )
    parser.add_argument(
        "--link",
        choices=[link.value for link in Link],
        default=Link.AUTO.value,
        help="how files are shared (default auto: the first of the others that works)",
    )
    add_tree(parser)
    add_reading(parser)
    add_json(parser)
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (reference,) = references(options.image)
    wanted = CheckoutOptions(
        Link.parse(options.link), rootless=options.rootless, verify=options.verify, strict=options.strict
    )
    store = local_path(options.file_store)
    with (
        at_work(options, "checking out") as (places, line),
        image_tree(options, places, reference) as image,
    ):
        result = checkout(
            image, local_path(options.directory), store, wanted, warn=warn, progress=line.callback
        )
        line.clear()
        if options.verbose:
            tell_traffic(places)
    if options.json:
        print(json.dumps(_summary(result)))
    elif options.verbose:
        print(
            f"{result.entries} entries, {human_size(result.size)}; {result.files} files by {result.link.value}, "
            f"{result.stored} new in the store, {human_size(result.fetched)} fetched",
            file=sys.stderr,
        )
    return INCOMPLETE if result.left_out else 0


def _summary(result: CheckoutResult) -> dict[str, object]:
    return {
        "link": result.link.value,
        "entries": result.entries,
        "size": result.size,
        "files": result.files,
        "stored": result.stored,
        "fetched": result.fetched,
        "replaced": result.replaced,
        "left_out": left_out_json(result.left_out),
    }
