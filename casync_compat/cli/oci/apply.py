"""`pycasync oci apply`."""

from __future__ import annotations

import argparse
import json
import os
import sys

from casync_compat.cli._progress import human_size, tells
from casync_compat.cli.oci._common import at_work, references, tag_for
from casync_compat.cli.oci._options import add_image, add_json, add_progress, add_registry
from casync_compat.oci.apply import apply_delta
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.progress import Progress

EXAMPLES = (
    (
        "pycasync oci apply app-2.patch oci:images:app-2",
        "where app-1 is: app-2, with the digest that it had",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("patch", metavar="FILE", help="what `pycasync oci delta` made")
    add_image(parser, "target", "the image to make, where its base is")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only check, and say what would be done")
    add_registry(parser)
    add_json(parser)
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (target,) = references(options.target)
    tag = tag_for(target, target)
    done = 0
    with at_work(options, "applying") as (places, line):

        def on_blob(blob: Descriptor) -> None:
            nonlocal done
            done += blob.size
            if line.callback is not None:
                line.callback(Progress(done))

        applied = apply_delta(
            os.fsencode(options.patch),
            places.writable(target),
            tag,
            dry=options.dry_run,
            on_blob=on_blob,
        )
    if options.json:
        values = {
            **({"dry_run": True} if options.dry_run else {}),
            "digest": str(applied.root),
            "blobs": applied.blobs,
            "new": applied.new,
            "new_bytes": applied.new_bytes,
        }
        print(json.dumps(values))
    elif options.dry_run:
        print(f"Would write {applied.new} of {applied.blobs} blobs, {human_size(applied.new_bytes)}")
    else:
        print(applied.root)
        said = f"{applied.new} of {applied.blobs} blobs were new, {human_size(applied.new_bytes)}"
        if options.verbose or tells(options):
            print(said, file=sys.stderr)
    return 0
