"""`pycasync oci unpack`."""

from __future__ import annotations

import argparse
import json
import sys

from casync_compat.cli._common import INCOMPLETE, left_out_json
from casync_compat.cli._location import local_path
from casync_compat.cli._parser import WrongWords
from casync_compat.cli._progress import human_size
from casync_compat.cli._types import parse_boolean
from casync_compat.cli.oci._common import at_work, references, tell_traffic, warn
from casync_compat.cli.oci._options import add_image, add_json, add_progress, add_reading, add_tree
from casync_compat.cli.oci._tree import image_tree
from casync_compat.oci.unpack import UnpackOptions, UnpackResult, unpack

EXAMPLES = (
    ("pycasync oci unpack docker://host/app:2 bundle && runc run -b bundle app", "start it"),
    ("pycasync oci unpack --rootless oci:images:app bundle", "for a container of an ordinary user"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "image", "the image, converted or plain")
    parser.add_argument("bundle", metavar="BUNDLE", help="the directory to make")
    add_tree(parser)
    parser.add_argument(
        "--acl",
        type=parse_boolean,
        default=False,
        metavar="yes|no",
        help="restore ACLs that layers have as text, by their numbers (default no, as other tools)",
    )
    parser.add_argument(
        "--using",
        choices=("kernel",),
        help="write no files: have the kernel mount the root (oci mount), with BUNDLE/overlay for what is written",
    )
    parser.add_argument("--file-store", metavar="PATH", help="with --using=kernel: the store of files")
    add_reading(parser)
    add_json(parser)
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (reference,) = references(options.image)
    if (options.using is None) != (options.file_store is None):
        raise WrongWords("--using=kernel and --file-store go together")
    wanted = UnpackOptions(
        rootless=options.rootless,
        verify=options.verify,
        acls=options.acl,
        strict=options.strict,
        kernel=local_path(options.file_store) if options.file_store is not None else None,
    )
    with (
        at_work(options, "unpacking") as (places, line),
        image_tree(options, places, reference) as image,
    ):
        result = unpack(image, local_path(options.bundle), wanted, warn=warn, progress=line.callback)
        line.clear()
        if options.verbose:
            print(f"{result.entries} entries, {human_size(result.size)}", file=sys.stderr)
            tell_traffic(places)
    if options.json:
        print(json.dumps(_summary(result)))
    return INCOMPLETE if result.left_out else 0


def _summary(result: UnpackResult) -> dict[str, object]:
    return {"entries": result.entries, "size": result.size, "left_out": left_out_json(result.left_out)}
