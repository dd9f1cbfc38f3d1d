"""`pycasync oci delta`."""

from __future__ import annotations

import argparse
import json
import os

from casync_compat.cli._parser import WrongWords
from casync_compat.cli._progress import human_size
from casync_compat.cli.oci._common import at_work, references
from casync_compat.cli.oci._options import add_json, add_progress, add_registry
from casync_compat.oci.delta import ImageDelta, Named, make_delta
from casync_compat.oci.places.opened import DEFAULT_TAG
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.progress import Progress

EXAMPLES = (
    (
        "pycasync oci delta oci:images:app-1 oci:images:app-2 -o app-2.patch",
        "what app-2 has and app-1 has not",
    ),
    ("pycasync oci delta --estimate oci:images:app-1 oci:images:app-2", "how large that would be"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="the images that are there where it will be used, and last the one that it leads to",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the update file to make")
    parser.add_argument(
        "--estimate", action="store_true", help="make nothing; print how much is new, from manifests alone"
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="the same")
    add_registry(parser)
    add_json(parser)
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    *bases, target = references(*options.images)
    estimate = options.estimate or options.dry_run
    if options.output in (None, "-") and not estimate:
        raise WrongWords("say with -o what file to make; standard output cannot be one")
    output = None if estimate else os.fsencode(options.output)
    done = 0
    with at_work(options, "packing") as (places, line):

        def on_blob(blob: Descriptor) -> None:
            nonlocal done
            done += blob.size
            if line.callback is not None:
                line.callback(Progress(done))

        made = make_delta(
            Named(places.readable(target), str(target), target.target),
            [Named(places.readable(base), str(base), base.target) for base in bases],
            output,
            target.tag or DEFAULT_TAG,
            on_blob=on_blob,
        )
    _tell(made, options.json)
    return 0


def _tell(made: ImageDelta, as_json: bool) -> None:
    if as_json:
        values = {
            "digest": str(made.root),
            "blobs": made.blobs,
            "blob_bytes": made.blob_bytes,
            "all_blobs": made.all_blobs,
            "all_bytes": made.all_bytes,
            "size": made.size,
        }
        print(json.dumps(values))
        return
    print(f"image:   {made.root}")
    print(f"new:     {made.blobs} of {made.all_blobs} blobs, {human_size(made.blob_bytes)}")
    if made.size is not None:
        print(f"file:    {human_size(made.size)}")
